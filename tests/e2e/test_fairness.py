"""Tenants, limits and overload at a real server: who is refused, why, when to come back, and what a flood costs others."""

import concurrent.futures
import hashlib
import http.client
import json
import multiprocessing
import os
import random
import signal
import statistics
import threading
import time

import grpc
import pytest

KEYS = {"polite": "key-of-polite", "greedy": "key-of-greedy"}


def write_keys(folder) -> str:
    path = folder / "keys"
    path.write_text("".join(f"{t} {hashlib.sha256(k.encode()).hexdigest()} {t}\n" for t, k in KEYS.items()))
    return str(path)


def complete(host: str, port: int, tenant: str, body: dict, headers: dict | None = None):
    """(status, headers, body, seconds to the first byte of the answer's body)."""
    connection = http.client.HTTPConnection(host, port, timeout=120)
    try:
        begin = time.monotonic()
        all_headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEYS[tenant]}"} | (headers or {})
        connection.request("POST", "/v1/completions", json.dumps({"model": "default"} | body), all_headers)
        response = connection.getresponse()
        first = response.read(1)
        ttft = time.monotonic() - begin
        rest = response.read()
        text = first + rest
        return response.status, response.headers, json.loads(text) if text.startswith(b"{") else text, ttft
    finally:
        connection.close()


SHORT = {"prompt": "Hi", "max_tokens": 1}


def retry_info(error: grpc.RpcError) -> float:
    """Seconds of the google.rpc.RetryInfo in grpc-status-details-bin, read by descriptors made here."""
    from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory

    pool = descriptor_pool.DescriptorPool()
    for known in (any_pb2, duration_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(name="google/rpc/x.proto", package="google.rpc", syntax="proto3")
    file.dependency.extend(["google/protobuf/any.proto", "google/protobuf/duration.proto"])
    status = file.message_type.add(name="Status")
    status.field.add(name="code", number=1, type=5, label=1)
    status.field.add(name="message", number=2, type=9, label=1)
    status.field.add(name="details", number=3, type=11, label=3, type_name=".google.protobuf.Any")
    retry = file.message_type.add(name="RetryInfo")
    retry.field.add(name="retry_delay", number=1, type=11, label=1, type_name=".google.protobuf.Duration")
    pool.Add(file)
    make = lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))()  # noqa: E731
    (raw,) = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
    details = make("google.rpc.Status")
    details.ParseFromString(raw)
    assert (details.code, details.message) == (error.code().value[0], error.details())
    (found,) = details.details
    assert found.type_url == "type.googleapis.com/google.rpc.RetryInfo"
    info = make("google.rpc.RetryInfo")
    info.ParseFromString(found.value)
    return info.retry_delay.seconds + info.retry_delay.nanos / 1e9


def test_limits_of_tenants_name_themselves_and_say_when_to_come_back(start, stubs, tmp_path):
    tenants = tmp_path / "tenants.toml"
    tenants.write_text("[[tenant]]\nname = 'greedy'\nmax-requests-per-s = 0.001\n")
    server = start("--api-keys-file", write_keys(tmp_path), "--tenants-file", str(tenants))
    assert complete(server.host, server.port, "greedy", SHORT)[0] == 200
    status, headers, body, _ = complete(server.host, server.port, "greedy", SHORT)
    assert status == 429 and body["error"]["code"] == "requests_per_second"
    assert body["error"]["type"] == "rate_limit_error" and 1 <= int(headers["Retry-After"]) <= 1000
    assert complete(server.host, server.port, "polite", SHORT)[0] == 200
    refusals = sorted(complete(server.host, server.port, "greedy", SHORT)[3] for _ in range(50))
    print(f"a refusal takes {1000 * refusals[25]:.2f} ms, connection included")

    pb, pb_grpc = stubs
    with grpc.insecure_channel(server.grpc_target) as channel, pytest.raises(grpc.RpcError) as refused:
        request = pb.GenerateRequest(model="default", text="Hi")
        pb_grpc.InferenceStub(channel).Generate(
            request, metadata=[("authorization", f"Bearer {KEYS['greedy']}")], timeout=20
        )
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 0 < retry_info(refused.value) <= 1000

    metrics = server.metrics()
    labels = f'limit="requests_per_second",model_name="{server.model}",tenant="greedy"'
    assert metrics[f"sluice_tenant_refused_requests_total{{{labels}}}"] == 52
    assert not any('tenant="polite"' in key for key in metrics)

    tenants.write_text("[[tenant]]\nname = 'greedy'\nmax-requests-per-s = many\n")
    server.signal(signal.SIGHUP)
    time.sleep(0.3)
    assert complete(server.host, server.port, "greedy", SHORT)[0] == 429, "a broken file changes nothing"
    tenants.write_text("[[tenant]]\nname = 'greedy'\n")
    server.signal(signal.SIGHUP)
    end = time.monotonic() + 10
    while complete(server.host, server.port, "greedy", SHORT)[0] != 200:
        assert time.monotonic() < end, "the new rules never counted"
        time.sleep(0.05)


def test_a_tenants_share_of_the_queue_leaves_room_for_others(start, tmp_path):
    server = start(
        "--api-keys-file", write_keys(tmp_path), "--max-rows", "1", "--max-waiting-requests", "8", "--plant-fault", "stall-step=3"
    )  # fmt: skip
    long = {"prompt": "Tell me", "max_tokens": 400, "ignore_eos": True}
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(complete(server.host, server.port, "greedy", long)), daemon=True)
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    server.wait_until(lambda m: m["sluice_refused_requests_total"] > 0 if "sluice_refused_requests_total" in m else False, "refused")
    deadline = time.monotonic() + 10
    while not results:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    status, headers, body, _ = results[0]
    assert status == 429 and body["error"]["code"] == "queue_share" and int(headers["Retry-After"]) >= 1
    before = server.metrics()["sluice_waiting_sequences"]
    threading.Thread(target=lambda: complete(server.host, server.port, "polite", SHORT), daemon=True).start()
    time.sleep(0.5)
    labels = f'model_name="{server.model}",reason="queue_full"'
    assert f"sluice_refused_requests_total{{{labels}}}" not in server.metrics(), f"polite was refused; {before} waited"
    server.process.kill()


DEVICE = """
name = "slow"
memory-bytes = 85_899_345_920
bandwidth-bytes-per-s = 300e9
flops-per-s = 121e12
bandwidth-efficiency = 0.8
flops-efficiency = 0.4
step-s = 1e-3
layer-s = 5e-6
token-s = 0
row-s = 1e-6
"""


def flood(host: str, port: int, stop):
    """What a hundred clients of one tenant send, again as soon as they are refused or answered."""
    os.nice(10)
    body = {"prompt": [7] * 2000, "max_tokens": 30, "ignore_eos": True}

    def client():
        while not stop.is_set():
            try:
                status = complete(host, port, "greedy", body)[0]
            except (OSError, http.client.HTTPException):
                return
            time.sleep(0.5 if status == 429 else 0)

    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        for _ in range(100):
            pool.submit(client)


def ttfts(server, tokens: int, count: int) -> list[float]:
    rng = random.Random(tokens)
    out = []
    for _ in range(count):
        body = {"prompt": [rng.randrange(100, 1000) for _ in range(tokens)], "max_tokens": 2, "ignore_eos": True, "stream": True}
        status, _, answer, ttft = complete(server.host, server.port, "polite", body)
        assert status == 200, answer
        out.append(ttft)
        time.sleep(rng.uniform(0, 0.5))
    return sorted(out)


@pytest.mark.parametrize("steps_in_flight", [1, 2])
def test_a_flood_costs_another_tenant_no_more_than_a_chunk_a_step_in_flight(start, tmp_path, steps_in_flight):
    """A chunk of the flood's comes with the rows that it generates: a tenth more is allowed for those. Should the machine
    stall, two more attempts are made."""
    device = tmp_path / "slow.toml"
    device.write_text(f"{DEVICE}max-steps-in-flight = {steps_in_flight}\n")
    server = start(
        "--backend", "sim", "--sim-device", str(device), "--model-shape", "llama-3.1-8b", "--api-keys-file", write_keys(tmp_path),
        "--prefix-cache=false", "--kv-cache-mib", "8192",
    )  # fmt: skip
    # The last chunk, of max-step-tokens, of such prompts as the flood's.
    chunk = statistics.median(ttfts(server, 2000, 5)) - statistics.median(ttfts(server, 2000 - 512, 5))
    alone = ttfts(server, 40, 10)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    attacker = context.Process(target=flood, args=(server.host, server.port, stop))
    attacker.start()
    try:
        server.wait_until(lambda m: m["sluice_waiting_sequences"] > 40, "the flood is there", 60)
        for _ in range(3):
            flooded = ttfts(server, 40, 30)
            raised = flooded[-1] - alone[-1]
            print(f"chunk {chunk:.3f} s; longest TTFT alone {alone[-1]:.3f} s, flooded {flooded[-1]:.3f} s: {raised / chunk:.2f} chunks")
            if raised <= 1.1 * steps_in_flight * chunk:
                break
        metrics = server.metrics()
    finally:
        stop.set()
        server.process.kill()
        attacker.join(30)
        attacker.kill()
    assert metrics["sluice_running_sequences"] > 5
    assert raised <= 1.1 * steps_in_flight * chunk
