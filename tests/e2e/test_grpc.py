"""gRPC with grpcio, over each transport: generated stubs, health, reflection, deadlines, cancellation, limits."""

import threading

import grpc
import pytest
from conftest import running
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

TRANSPORTS = ["grpc", "nghttp2"]


@pytest.fixture(scope="module", params=TRANSPORTS)
def server(request, tmp_path_factory):
    with running("--grpc-transport", request.param, log_path=tmp_path_factory.mktemp("server") / "log") as one:
        yield one


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.grpc_target) as one:
        yield one


@pytest.fixture
def stub(channel, stubs):
    return stubs[1].InferenceStub(channel)


def greedy(pb, **options):
    return pb.Sampling(temperature=0, **options)


def test_generate_equals_the_stream_and_http(stub, stubs, server):
    pb, _ = stubs
    request = pb.GenerateRequest(model="default", text="The capital of France is", sampling=greedy(pb, max_tokens=12))
    whole = stub.Generate(request, timeout=60)
    assert "Paris" in whole.choices[0].content
    text, tokens, ends = "", [], 0
    for event in stub.GenerateStream(request, timeout=60):
        if event.HasField("delta"):
            assert event.delta.index == len(tokens)
            text += event.delta.content
            tokens += event.delta.tokens
        ends += event.HasField("end")
    assert ends == 1
    assert text == whole.choices[0].content
    assert tokens == list(whole.choices[0].tokens)
    assert whole.usage.output_tokens == 12


def test_chat(stub, stubs):
    pb, _ = stubs
    chat = pb.ChatPrompt(messages=[pb.ChatMessage(role="user", content="Say hello.")])
    answer = stub.Generate(pb.GenerateRequest(model="default", chat=chat, sampling=greedy(pb, max_tokens=30)), timeout=60)
    assert answer.choices[0].content
    assert answer.choices[0].finish_reason in (pb.FINISH_REASON_STOP, pb.FINISH_REASON_LENGTH)


def test_tokenize_round_trip(stub, stubs):
    pb, _ = stubs
    text = "Grüße, 世界! 🙂 <|im_start|>"
    tokens = stub.Tokenize(pb.TokenizeRequest(model="default", text=text))
    assert b"".join(tokens.token_bytes).decode() == text
    assert stub.Detokenize(pb.DetokenizeRequest(model="default", tokens=tokens.tokens)).text == text
    plain = stub.Tokenize(pb.TokenizeRequest(model="default", text=text, parse_special=False))
    assert len(plain.tokens) > len(tokens.tokens)


def test_models(stub, stubs, server):
    pb, _ = stubs
    models = stub.ListModels(pb.ListModelsRequest()).models
    assert [m.id for m in models] == [server.model]
    assert "default" in models[0].aliases


@pytest.mark.parametrize(
    ("fields", "code", "word"),
    [
        ({"model": "nope", "text": "x"}, grpc.StatusCode.NOT_FOUND, "nope"),
        ({"model": "default"}, grpc.StatusCode.INVALID_ARGUMENT, "prompt"),
        ({"model": "default", "text": "word " * 9000}, grpc.StatusCode.INVALID_ARGUMENT, "allows"),
    ],
)
def test_errors(stub, stubs, fields, code, word):
    pb, _ = stubs
    with pytest.raises(grpc.RpcError) as error:
        stub.Generate(pb.GenerateRequest(**fields), timeout=60)
    assert error.value.code() == code
    assert word in error.value.details()


def test_out_of_range_sampling_names_the_field(stub, stubs):
    pb, _ = stubs
    with pytest.raises(grpc.RpcError) as error:
        stub.Generate(pb.GenerateRequest(model="default", text="x", sampling=pb.Sampling(temperature=-1)), timeout=60)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "temperature" in error.value.details()


def test_a_deadline_ends_the_row(stub, stubs, server):
    pb, _ = stubs
    request = pb.GenerateRequest(model="default", text="Tell me", sampling=greedy(pb, max_tokens=8000, ignore_eos=True))
    with pytest.raises(grpc.RpcError) as error:
        for _ in stub.GenerateStream(request, timeout=0.5):
            pass
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    server.wait_idle()


def test_a_message_over_the_limit_is_refused(stub, stubs):
    pb, _ = stubs
    with pytest.raises(grpc.RpcError) as error:
        stub.Generate(pb.GenerateRequest(model="default", text="x" * (17 << 20)), timeout=60)
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_health_check_and_watch(channel):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "sluice.v1.Inference"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as error:
        health.Check(health_pb2.HealthCheckRequest(service="nope"), timeout=10)
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_watch_sees_the_drain(start, transport):
    server = start("--grpc-transport", transport)
    seen = []
    with grpc.insecure_channel(server.grpc_target) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""), timeout=30)
        first = next(watch)
        assert first.status == health_pb2.HealthCheckResponse.SERVING
        hold = threading.Thread(target=hold_one_request, args=(server,))
        hold.start()
        server.wait_until(lambda m: m["sluice_running_sequences"] == 1, "a row runs")
        server.signal(15)
        for update in watch:
            seen.append(update.status)
            break
        hold.join()
    assert seen == [health_pb2.HealthCheckResponse.NOT_SERVING]
    assert server.wait() == 0


def hold_one_request(server):
    import json
    import urllib.request

    body = {"model": "default", "prompt": "Tell me", "max_tokens": 400, "ignore_eos": True}
    request = urllib.request.Request(
        f"{server.url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    answer = json.load(urllib.request.urlopen(request, timeout=120))
    assert answer["usage"]["completion_tokens"] == 400


def test_reflection(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    assert {"sluice.v1.Inference", "grpc.health.v1.Health"} <= set(database.get_services())
    descriptor = database.FindFileContainingSymbol("sluice.v1.GenerateRequest")
    assert "sluice/v1/inference.proto" in descriptor.name
