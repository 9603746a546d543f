"""The Open Inference Protocol with NVIDIA's tritonclient, over each transport."""

import json
import queue

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from conftest import running
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

PROMPT = "The capital of France is"


@pytest.fixture(scope="module", params=["grpc", "nghttp2"])
def server(request, tmp_path_factory):
    with running("--grpc-transport", request.param, log_path=tmp_path_factory.mktemp("server") / "log") as one:
        yield one


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(server.grpc_target) as one:
        yield one


def tensor(name, values):
    array = np.array(values)
    if array.dtype.kind in "US":
        array = array.astype(np.bytes_).astype(np.object_)
    one = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    one.set_data_from_numpy(array)
    return one


def sampling(**options):
    return tensor("sampling_parameters", [json.dumps(options)])


def text_of(result):
    return result.as_numpy("text_output")[0].decode()


class Stream:
    """What comes back over one stream, in order."""

    def __init__(self, client):
        self.client, self.results = client, queue.Queue()
        client.start_stream(callback=lambda result, error: self.results.put((result, error)))

    def send(self, *inputs, request_id="1", **options):
        self.client.async_stream_infer("default", list(inputs), request_id=request_id, **options)

    def next(self):
        return self.results.get(timeout=60)

    def answer(self):
        """The messages up to the last of a request that has the stream to itself."""
        results = []
        while True:
            result, error = self.next()
            assert error is None, error
            results.append(result)
            if result.get_response().parameters["triton_final_response"].bool_param:
                return results


def test_health_and_metadata(client, server):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("default") and client.is_model_ready(server.model, "1")
    assert not client.is_model_ready("nope") and not client.is_model_ready("default", "2")
    assert client.get_server_metadata().name == "sluice"
    metadata = client.get_model_metadata("default")
    assert metadata.name == server.model
    assert {t.name: t.datatype for t in metadata.inputs}["text_input"] == "BYTES"
    assert [t.name for t in metadata.outputs] == ["text_output"]


def test_infer_equals_the_stream_and_the_openai_api(client, server):
    import urllib.request

    body = {"model": "default", "prompt": PROMPT, "max_tokens": 12, "temperature": 0}
    request = urllib.request.Request(
        f"{server.url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    expected = json.load(urllib.request.urlopen(request, timeout=60))["choices"][0]["text"]
    inputs = [tensor("text_input", [PROMPT]), sampling(max_tokens=12, temperature=0)]
    whole = client.infer("default", inputs, request_id="7")
    assert text_of(whole) == expected
    assert whole.get_response().id == "7"
    assert whole.get_response().parameters["finish_reason"].string_param == "length"
    assert whole.get_response().parameters["output_tokens"].int64_param == 12

    stream = Stream(client)
    stream.send(*inputs, tensor("stream", [True]))
    pieces = stream.answer()
    assert len(pieces) > 1
    assert "".join(map(text_of, pieces)) == expected
    stream.send(*inputs)  # without "stream": one message
    (one,) = stream.answer()
    assert text_of(one) == expected


def test_the_tensors_of_tensorrt_llm(client):
    """Options as tensors of their own, with a batch dimension."""
    inputs = [
        tensor("text_input", [[PROMPT]]),
        tensor("max_tokens", np.array([[6]], np.int32)),
        tensor("temperature", np.array([[0]], np.float32)),
        tensor("stop", ["Paris"]),
    ]
    result = client.infer("default", inputs)
    assert "Paris" not in text_of(result)
    assert result.get_response().parameters["finish_reason"].string_param == "stop"


def test_an_empty_last_message(client):
    stream = Stream(client)
    inputs = [tensor("text_input", [PROMPT]), sampling(max_tokens=3, temperature=0), tensor("stream", [True])]
    stream.send(*inputs, enable_empty_final_response=True)
    results = stream.answer()
    assert results[-1].as_numpy("text_output") is None
    assert all(r.as_numpy("text_output") is not None for r in results[:-1])


def test_requests_of_one_stream_run_side_by_side(client):
    stream = Stream(client)
    long = [tensor("text_input", [PROMPT]), sampling(max_tokens=200, ignore_eos=True), tensor("stream", [True])]
    stream.send(*long, request_id="long")
    stream.next()
    stream.send(tensor("text_input", ["x"]), sampling(max_tokens=1), request_id="short")
    ids = []
    while True:
        result, error = stream.next()
        assert error is None, error
        ids.append(result.get_response().id)
        last = result.get_response().parameters["triton_final_response"].bool_param
        if last and ids[-1] == "long":
            break
    assert "short" in ids and ids[-1] == "long"


def test_errors(client):
    with pytest.raises(InferenceServerException, match="nope") as error:
        client.infer("nope", [tensor("text_input", ["x"])])
    assert error.value.status() == "StatusCode.NOT_FOUND"
    with pytest.raises(InferenceServerException, match="temperature"):
        client.infer("default", [tensor("text_input", ["x"]), sampling(temperature=-1)])
    with pytest.raises(InferenceServerException, match="no input or parameter bad_words"):
        client.infer("default", [tensor("text_input", ["x"]), tensor("bad_words", ["y"])])
    stream = Stream(client)
    stream.send(tensor("text_input", ["word " * 9000]))
    _, error = stream.next()
    assert "allows" in error.message()
    stream.send(tensor("text_input", ["x"]), sampling(max_tokens=1))  # the stream goes on
    assert len(stream.answer()) == 1


def test_a_client_that_goes_frees_its_rows(client, server):
    stream = Stream(client)
    for i in range(3):
        stream.send(
            tensor("text_input", [PROMPT]), sampling(max_tokens=4000, ignore_eos=True), tensor("stream", [True]), request_id=str(i)
        )
    stream.next()
    client.stop_stream(cancel_requests=True)
    server.wait_idle()


def test_a_timeout_is_a_deadline(client, server):
    stream = Stream(client)
    long = [tensor("text_input", [PROMPT]), sampling(max_tokens=8000, ignore_eos=True)]
    stream.send(*long, timeout=300_000)
    _, error = stream.next()
    assert "deadline" in error.message()
    server.wait_idle()


def described(server):
    """The server's own description of inference.proto, by reflection."""
    with grpc.insecure_channel(server.grpc_target) as channel:
        question = reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (answer,) = stub.ServerReflectionInfo(iter([question]))
    for data in answer.file_descriptor_response.file_descriptor_proto:
        file = descriptor_pb2.FileDescriptorProto.FromString(data)
        if file.package == "inference":
            return file
    raise AssertionError("reflection has no inference.proto")


def fields_of(message):
    """Every field below a descriptor, by path: number, type, label."""
    own = {f.name: (f.number, f.type, f.label) for f in message.field}
    for nested in message.nested_type:
        own |= {f"{nested.name}.{name}": value for name, value in fields_of(nested).items()}
    return own


def test_the_messages_are_those_of_triton(server):
    theirs = descriptor_pb2.FileDescriptorProto()
    service_pb2.DESCRIPTOR.CopyToProto(theirs)
    theirs = {m.name: fields_of(m) for m in theirs.message_type}
    ours = {m.name: fields_of(m) for m in described(server).message_type}
    assert ours and ours == {name: theirs[name] for name in ours}
