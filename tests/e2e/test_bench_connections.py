"""Connections beside the requests of `sluice bench serve`: new ones at a rate, idle ones, and what `raw-send` does with them."""

import pathlib
import socket

import pytest
from test_bench_serve import BadServer, RawSend, bench, make_certificate


def test_raw_send_answers_livez_and_closes_if_asked_to():
    with RawSend() as server:
        port = int(server.url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as kept:
            for _ in range(2):
                kept.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = kept.recv(4096)
                assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b'"reason":""}') and b"close" not in answer
                head, body = answer.split(b"\r\n\r\n")
                assert f"Content-Length: {len(body)}".encode() in head
            kept.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: kept.recv(4096), b""))  # until it is closed
            assert b"\r\nConnection: close\r\n" in answer and answer.count(b"HTTP/1.1") == 1


def test_raw_send_puts_a_stream_interval_into_a_chunk():
    with RawSend("--step-ms", "2") as server:
        result = bench("--url", server.url, "--concurrency", "2", "--requests", "6", "--duration-s", "0", "--output-tokens",
                       "20", "--extra-body", '{"stream_interval": 8}')  # fmt: skip
    assert result["tokens"]["output"] == 120 and result["tokens"]["chunks"] == 6 * 3
    assert result["latency_ms"]["itl"]["p50"] > 15


# 20 requests in the warm-up and about 60 in the 1.5 s after it; as many connections.
OPENED = ["--arrivals", "constant", "--rate", "40", "--duration-s", "2", "--warmup-s", "0.5", "--output-tokens", "1",
          "--prompt-tokens", "4", "--connection-rate", "40"]  # fmt: skip


def check_opened(result: dict):
    opened, scheduled = result["new_connections"], result["requests"]["scheduled"]
    assert scheduled > 50 and abs(opened["answered"] - scheduled) <= 1 and opened["failed"] == 0
    assert opened["latency_ms"]["count"] == opened["answered"]
    assert 0 < opened["latency_ms"]["min"] <= opened["latency_ms"]["p50"] <= opened["latency_ms"]["max"]


def test_new_connections_are_counted_beside_the_requests(server):
    with RawSend("--step-ms", "1") as raw:
        for url in (raw.url, server.url):
            check_opened(bench("--url", url, *OPENED))
    server.wait_idle()


@pytest.mark.parametrize(
    ("answer", "then_close", "kind"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno", True, "http_503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", False, "not_closed"),
        (b"\x00\x01 nonsense\r\n\r\n", True, "malformed_http"),
        ("hang", True, "timeout"),
        ("rude", True, "closed_early"),
    ],
)
def test_new_connections_fail_by_kind(answer, then_close, kind):
    with BadServer(answer, then_close) as server:
        opened = bench("--url", server.url, "--model", "m", "--concurrency", "1", "--duration-s", "1", "--connection-rate", "20",
                       "--timeout-s", "1", expect=2, timeout=30)["new_connections"]  # fmt: skip
    assert opened["answered"] == 0 and opened["failed"] in range(19, 22)
    assert {name: error["count"] for name, error in opened["errors"].items()} == {kind: opened["failed"]}


def test_connections_over_tls(start, tmp_path: pathlib.Path):
    cert, key = make_certificate(tmp_path)
    server = start("--tls-cert", str(cert), "--tls-key", str(key))
    common = ["--model", "default", "--tls-ca", str(cert)]
    held = bench("--url", server.url, *common, "--concurrency", "2", "--requests", "4", "--duration-s", "30", "--output-tokens",
                 "5", "--prompt-tokens", "12", "--idle-connections", "30")  # fmt: skip
    assert held["connections"]["idle_open"] == 30 and held["requests"]["completed"] == 4
    check_opened(bench("--url", server.url, *common, *OPENED))
    with RawSend("--tls-cert", str(cert), "--tls-key", str(key)) as raw:
        assert raw.url.startswith("https://")
        check_opened(bench("--url", raw.url, *common, *OPENED))
