"""Embeddings, reranking and scores through the real clients: openai and grpcio, over tiny BERT folders and MiniLM."""

import json
import os
import pathlib
import struct
import urllib.error
import urllib.request

import grpc
import openai
import pytest
from conftest import ROOT, running
from tokenizers import Tokenizer

GOLDEN = pathlib.Path(ROOT) / "tests" / "golden"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "sluice" / "models"
MINILM = CACHE / "all-MiniLM-L6-v2"


def serve(folder, tmp_path_factory):
    return running(model=str(folder), log_path=tmp_path_factory.mktemp("embed") / "log")


@pytest.fixture(scope="module")
def cls(tmp_path_factory):
    with serve(GOLDEN / "families" / "bert-cls", tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="module")
def cross(tmp_path_factory):
    with serve(GOLDEN / "families" / "bert-score", tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    if not (MINILM / "model.safetensors").exists():
        pytest.skip("all-MiniLM-L6-v2 is not cached")
    with serve(MINILM, tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    with running("--embedding-pooling", "last", log_path=tmp_path_factory.mktemp("embed") / "log") as server:
        yield server


def client_of(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0)


def post(server, path, body):
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5


def test_openai_gets_the_vectors_of_transformers_as_floats_and_as_base64(cls):
    cases = json.loads((GOLDEN / "families" / "bert-cls" / "expected.json").read_text())
    tokens = [case["tokens"] for case in cases]
    client = client_of(cls)
    floats = client.embeddings.create(model="default", input=tokens, encoding_format="float")
    packed = client.embeddings.create(model="default", input=tokens, encoding_format="base64")
    plain = client.embeddings.create(model="default", input=tokens)  # the client asks for base64 and decodes it
    for case, a, b, c in zip(cases, floats.data, packed.data, plain.data, strict=True):
        assert cosine(a.embedding, case["vector"]) > 0.99999
        assert abs(sum(x * x for x in a.embedding) - 1) < 1e-5
        assert c.embedding == pytest.approx(a.embedding, abs=0, rel=1e-7)
        import base64

        assert struct.unpack(f"<{len(a.embedding)}f", base64.b64decode(b.embedding)) == pytest.approx(a.embedding, rel=1e-7)
    assert floats.usage.prompt_tokens == sum(map(len, tokens))
    assert [d.index for d in floats.data] == list(range(len(cases)))


def test_a_batch_gives_the_same_vectors_as_single_calls(cls):
    client = client_of(cls)
    texts = ["a", "hello world", "abc " * 5, "z", "one two three four"]
    together = client.embeddings.create(model="default", input=texts, encoding_format="float")
    for text, entry in zip(texts, together.data, strict=True):
        alone = client.embeddings.create(model="default", input=text, encoding_format="float")
        assert alone.data[0].embedding == entry.embedding


def test_a_decoder_embeds_by_its_last_token(decoder):
    client = client_of(decoder)
    long = " ".join(f"The {i}th sentence of a long text is about rivers." for i in range(120))  # several chunks
    texts = ["Paris is the capital of France.", "The capital of France is Paris.", "for (int i = 0; i < n; ++i)", long]
    together = client.embeddings.create(model="default", input=texts, encoding_format="float")
    vectors = [d.embedding for d in together.data]
    assert {len(v) for v in vectors} == {576}
    for text, vector in zip(texts, vectors, strict=True):  # alone, and from the prefix cache
        assert client.embeddings.create(model="default", input=text, encoding_format="float").data[0].embedding == vector
    assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2])
    with pytest.raises(openai.BadRequestError, match="embeddings"):
        client.completions.create(model="default", prompt="x")


def test_dimensions_cut_and_normalise(cls):
    client = client_of(cls)
    whole = client.embeddings.create(model="default", input="hello", encoding_format="float").data[0].embedding
    cut = client.embeddings.create(model="default", input="hello", dimensions=4, encoding_format="float").data[0].embedding
    assert len(cut) == 4
    assert cosine(cut, whole[:4]) > 1 - 1e-9
    assert abs(sum(x * x for x in cut) - 1) < 1e-5


def test_inputs_are_cut_as_the_tokenizers_package_cuts_them(minilm):
    reference = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    reference.no_padding()
    text = "a text of many words, " * 100
    for limit in (3, 17, -1):
        reference.enable_truncation(256 if limit < 0 else limit)
        ids = reference.encode(text).ids
        body = {"model": "default", "encoding_format": "float"}
        cut = post(minilm, "/v1/embeddings", body | {"input": text, "truncate_prompt_tokens": limit})
        whole = post(minilm, "/v1/embeddings", body | {"input": ids})
        assert cut["usage"]["total_tokens"] == len(ids)
        assert cut["data"][0]["embedding"] == whole["data"][0]["embedding"]


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"input": "x", "dimensions": 33}, "dimensions", "dimensions is 33; the model allows 1 to 32"),
        ({"input": ["a", [4] * 41]}, "input", "input 1 has 41 tokens; the model allows 40"),
        ({"input": [[60]]}, "input", "input 0 has token 60; the vocabulary has tokens 0 to 59"),
        ({"input": ["a"] * 2049}, "input", "there are 2049 inputs; at most 2048 are allowed"),
    ],
)
def test_refusals_say_what_and_which(cls, body, param, message):
    with pytest.raises(openai.BadRequestError) as error:
        client_of(cls).embeddings.create(model="default", extra_body=body, input=body["input"])
    assert error.value.body["param"] == param
    assert error.value.body["message"] == message


def test_a_call_of_the_most_inputs_is_answered_and_leaves_nothing(cls):
    before = cls.metrics()["sluice_embedded_inputs_total"]
    answer = client_of(cls).embeddings.create(model="default", input=["abc"] * 2048)
    assert len(answer.data) == 2048
    cls.wait_idle()
    assert cls.metrics()["sluice_embedded_inputs_total"] == before + 2048


def test_each_model_does_one_thing(cls, cross):
    with pytest.raises(openai.BadRequestError) as error:
        client_of(cls).chat.completions.create(model="default", messages=[{"role": "user", "content": "x"}])
    assert "makes embeddings; it generates no text" in error.value.body["message"]
    with pytest.raises(openai.BadRequestError) as error:
        client_of(cross).embeddings.create(model="default", input="x")
    assert "scores pairs of texts; it makes no embeddings" in error.value.body["message"]


def test_a_cross_encoder_reranks(cross):
    documents = ["abc", "hello world", "z z z", "abc"]
    answer = post(cross, "/v1/rerank", {"model": "default", "query": "hello", "documents": documents, "top_n": 3})
    scores = post(cross, "/v1/score", {"model": "default", "text_1": "hello", "text_2": documents})["data"]
    by_index = {entry["index"]: entry["score"] for entry in scores}
    assert by_index[0] == by_index[3]
    found = [entry["relevance_score"] for entry in answer["results"]]
    assert found == sorted(found, reverse=True) and len(found) == 3
    for entry in answer["results"]:
        assert entry["relevance_score"] == by_index[entry["index"]]
        assert entry["document"]["text"] == documents[entry["index"]]
        assert 0 < entry["relevance_score"] < 1


def test_grpc_gives_the_same_vectors(cls, stubs):
    pb, pb_grpc = stubs
    texts = ["hello", "abc abc"]
    expected = client_of(cls).embeddings.create(model="default", input=texts, encoding_format="float")
    with grpc.insecure_channel(cls.grpc_target) as channel:
        stub = pb_grpc.InferenceStub(channel)
        answer = stub.Embed(pb.EmbedRequest(model="default", inputs=[pb.EmbedInput(text=t) for t in texts]), timeout=60)
        for vector, entry in zip(answer.vectors, expected.data, strict=True):
            assert list(vector.values) == pytest.approx(entry.embedding, rel=1e-7)
        with pytest.raises(grpc.RpcError) as error:
            stub.Embed(pb.EmbedRequest(model="default"), timeout=60)
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_minilm_gives_the_vectors_of_transformers(minilm):
    golden = json.loads((GOLDEN / "minilm.json").read_text())
    client = client_of(minilm)
    answer = client.embeddings.create(model="default", input=golden["texts"], encoding_format="float")
    worst = min(cosine(d.embedding, v) for d, v in zip(answer.data, golden["vectors"], strict=True))
    print(f"worst cosine {worst:.9f}")
    assert worst > 0.999999
    for text, entry in zip(golden["texts"], answer.data, strict=True):
        alone = client.embeddings.create(model="default", input=text, encoding_format="float")
        assert alone.data[0].embedding == entry.embedding


def test_kserve_gives_the_same_vectors(cls):
    import numpy as np
    import tritonclient.grpc as triton

    texts = ["hello world", "a longer text about rivers"]
    expected = [item["embedding"] for item in post(cls, "/v1/embeddings", {"model": "default", "input": texts})["data"]]
    tensor = triton.InferInput("text_input", [2], "BYTES")
    tensor.set_data_from_numpy(np.array([t.encode() for t in texts], dtype=np.object_))
    with triton.InferenceServerClient(cls.grpc_target) as client:
        assert [t.name for t in client.get_model_metadata("default").outputs] == ["embedding"]
        vectors = client.infer("default", [tensor]).as_numpy("embedding")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, np.array(expected), rtol=1e-6)
