"""Promise 1: clients that vanish at any moment leave nothing behind; a planted leak is seen."""

import contextlib
import json
import random
import socket
import struct
import threading
import time

import grpc

LIFECYCLES = 2000  # HTTP; gRPC adds a quarter as many
THREADS = 8


def request_bytes(stream: bool, max_tokens: int, n: int = 1, repeats: int = 1) -> bytes:
    body = json.dumps(
        {
            "model": "default",
            "prompt": "Once upon a time " * repeats,
            "max_tokens": max_tokens,
            "stream": stream,
            "ignore_eos": True,
            "n": n,
        }
    ).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def vanish(sock: socket.socket, how: str):
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif how == "half":
        sock.shutdown(socket.SHUT_WR)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def one_lifecycle(server, rng: random.Random):
    data = request_bytes(rng.random() < 0.8, rng.choice([1, 2, 8, 4000]), rng.choice([1, 1, 3]), rng.choice([1, 1, 40]))
    sock = server.connect()
    point = rng.random()
    if point < 0.15:
        sock.sendall(data[: rng.randrange(1, len(data))])  # in the middle of the request
    else:
        sock.sendall(data)
        if point < 0.5:
            pass  # before the answer
        else:
            sock.settimeout(rng.choice([0.005, 0.05, 0.5]))  # an unstreamed answer may be long in coming
            with contextlib.suppress(TimeoutError):
                for _ in range(rng.randrange(1, 6)):  # in the middle of it
                    if not sock.recv(rng.choice([1, 64, 4096])):
                        break
    vanish(sock, rng.choice(["close", "reset", "half"]))


def test_clients_killed_at_random_points_leave_nothing(server):
    failures = []

    def worker(seed: int):
        rng = random.Random(seed)
        try:
            for _ in range(LIFECYCLES // THREADS):
                one_lifecycle(server, rng)
        except OSError as error:  # reported below, with its seed
            failures.append((seed, error))

    orphans = []
    done = threading.Event()

    def audit():
        while not done.is_set():
            orphans.append(server.metrics()["sluice_orphaned_requests"])
            time.sleep(0.02)

    auditor = threading.Thread(target=audit)
    auditor.start()
    threads = [threading.Thread(target=worker, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    auditor.join()
    assert not failures
    assert len(orphans) > 10 and set(orphans) == {0.0}
    samples = server.wait_idle()
    ended = {k: v for k, v in samples.items() if k.startswith("sluice_requests_total{")}
    assert sum(v for k, v in ended.items() if "cancelled" in k) > 100, ended


def test_grpc_calls_cancelled_at_random_points_leave_nothing(server, stubs):
    pb, pb_grpc = stubs
    rng = random.Random(11)
    with grpc.insecure_channel(server.grpc_target) as channel:
        stub = pb_grpc.InferenceStub(channel)
        for _ in range(LIFECYCLES // 4):
            request = pb.GenerateRequest(
                model="default", text="Tell me a story", sampling=pb.Sampling(max_tokens=4000, ignore_eos=True)
            )
            call = stub.GenerateStream(request)
            for _ in range(rng.randrange(0, 4)):
                next(call)
            call.cancel()
    server.wait_idle()


def test_the_channel_that_dies_ends_its_calls(server, stubs):
    pb, pb_grpc = stubs
    channel = grpc.insecure_channel(server.grpc_target, options=[("grpc.use_local_subchannel_pool", 1)])
    request = pb.GenerateRequest(model="default", text="Tell me", sampling=pb.Sampling(max_tokens=4000, ignore_eos=True))
    calls = [pb_grpc.InferenceStub(channel).GenerateStream(request) for _ in range(5)]
    for call in calls:
        next(call)
    server.wait_until(lambda m: m["sluice_running_sequences"] == 5, "five rows run")
    channel.close()
    server.wait_idle()


def test_a_vanished_client_frees_its_row_within_a_step(server):
    sock = server.connect()
    sock.sendall(request_bytes(True, 4000))
    server.wait_until(lambda m: m["sluice_running_sequences"] == 1, "the row runs")
    sock.recv(4096)
    steps = server.metrics()["sluice_steps_total"]
    vanish(sock, "reset")
    samples = server.wait_until(lambda m: m["sluice_running_sequences"] == 0, "the row is free")
    # Scrapes and scheduling take their time on a busy machine; the row must be gone long before its 4,000 tokens.
    assert samples["sluice_steps_total"] - steps < 400
    server.wait_idle()


def test_a_planted_leak_reads_one(start):
    server = start("--plant-fault", "leak-row")
    sock = server.connect()
    sock.sendall(request_bytes(True, 4000))
    sock.recv(4096)
    vanish(sock, "reset")
    server.wait_until(lambda m: m["sluice_orphaned_requests"] == 1, "the audit sees the leak")


def test_every_request_ends_exactly_once(start):
    """Over a mix of answers, vanished clients, deadlines and refusals."""
    server = start("--max-waiting-requests", "4", "--max-rows", "2")
    rng = random.Random(5)
    socks = []
    for _ in range(40):
        sock = server.connect()
        data = request_bytes(True, rng.choice([3, 200]))
        if rng.random() < 0.3:
            data = data.replace(b"Host: t\r\n", b"Host: t\r\nx-request-timeout-ms: 50\r\n")
        sock.sendall(data)
        socks.append(sock)
    for i, sock in enumerate(socks):
        if i % 3 == 0:
            vanish(sock, "close")
    for i, sock in enumerate(socks):
        if i % 3:
            data = b""
            while b"[DONE]" not in data and b'"error"' not in data:
                chunk = sock.recv(65536)
                assert chunk, data[-300:]
                data += chunk
            sock.close()
    samples = server.wait_idle()

    def total(prefix: str) -> float:
        return sum(v for k, v in samples.items() if k.startswith(prefix))

    answered = total('sluice_http_requests_total{code="200"') + total('sluice_http_requests_total{code="429"')
    answered += total('sluice_http_requests_total{code="504"')
    vanished = total('sluice_http_requests_total{code="499"')
    assert answered + vanished == 40
    assert answered >= 26 and vanished <= 14
    # A client that was gone before its request was taken has neither; every other request has exactly one.
    ended = total("sluice_requests_total{") + total("sluice_refused_requests_total{")
    assert answered <= ended <= 40
