"""Health means progress: every stage that hangs turns readiness off within two seconds, and nothing else does."""

import http.client
import json
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc


def serving(server) -> bool:
    with grpc.insecure_channel(server.grpc_target) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        return answer.status == health_pb2.HealthCheckResponse.SERVING


def post(server, body: dict):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=120)
    try:
        connection.request("POST", "/v1/completions", json.dumps({"model": "default"} | body), {"Content-Type": "application/json"})
        return connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def in_background(target, *arguments):
    threading.Thread(target=target, args=arguments, daemon=True).start()


def seconds_until_not_serving(server) -> float:
    """From the moment that the stage hangs, which the log tells."""
    end = time.monotonic() + 60
    while "planted_stall" not in server.log():
        assert time.monotonic() < end, "nothing hangs"
        time.sleep(0.01)
    begin = time.monotonic()
    while serving(server):
        assert time.monotonic() - begin < 20, "readiness never dropped"
        time.sleep(0.02)
    return time.monotonic() - begin


LIMIT = 2.5  # two seconds, and what a busy machine adds
LONG = {"prompt": "Tell me", "max_tokens": 100, "ignore_eos": True}


# The stall of a step begins a few steps after the request.
@pytest.mark.parametrize("fault", ["stall-step=5", "stall-prepare=1", "stall-io=3"])
def test_a_stage_that_hangs_turns_readiness_off(start, fault):
    server = start("--plant-fault", fault)
    assert serving(server)
    in_background(post, server, LONG)
    seconds = seconds_until_not_serving(server)
    server.process.kill()
    print(f"{fault}: {seconds:.2f} s")
    # A step may take four times what it took at worst; on a busy machine that is more than two seconds.
    assert seconds < (6 if fault.startswith("stall-step") else LIMIT)


def test_the_event_pump_of_grpc_is_a_stage(start, stubs):
    pb, pb_grpc = stubs
    server = start("--plant-fault", "stall-pump=3")

    def call():
        with grpc.insecure_channel(server.grpc_target) as channel:
            try:
                pb_grpc.InferenceStub(channel).Generate(pb.GenerateRequest(model="default", text="Tell me"), timeout=60)
            except grpc.RpcError:
                pass

    in_background(call)
    assert seconds_until_not_serving(server) < LIMIT
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    connection.request("GET", "/readyz")
    response = connection.getresponse()
    assert response.status == 503 and b"no progress: gRPC events" in response.read()
    connection.close()
    server.process.kill()


def test_neither_idling_nor_a_long_prefill_is_a_stall(start):
    """A step of 2,048 tokens takes longer than the timeout, which is set far below it."""
    server = start("--max-step-tokens", "2048", "--stall-timeout-s", "0.3")
    time.sleep(1.5)
    assert serving(server), "idle"
    post(server, LONG | {"max_tokens": 8})  # what a token takes is measured now
    done = threading.Event()

    def prefill():
        post(server, {"prompt": [100 + i % 900 for i in range(4096)], "max_tokens": 1})
        done.set()

    in_background(prefill)
    while not done.is_set():
        assert serving(server)
        time.sleep(0.05)
    duration = [v for k, v in server.metrics().items() if k.startswith("sluice_step_duration_seconds_sum")][0]
    assert duration > 0.6, "the prefill was no long one"
