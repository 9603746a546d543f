"""`sluice bench serve` against servers of known behaviour, good and bad, and against the real one."""

import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import threading
import time

import numpy
import pytest
from conftest import binary


def bench(*flags: str, expect: int = 0, timeout: float = 120) -> dict:
    """Runs the load generator; its JSON result."""
    command = [binary(), "bench", "serve", "--json", "-", "--quiet", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == expect, f"exit {done.returncode}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
    return json.loads(done.stdout) if done.stdout.startswith("{") else {"stderr": done.stderr}


class RawSend:
    def __init__(self, *flags: str):
        self.process = subprocess.Popen([binary(), "bench", "raw-send", *flags], stdout=subprocess.PIPE, text=True)
        self.url = re.search(r"ready at (\S+)", self.process.stdout.readline()).group(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=20) == 0
        self.process.stdout.close()


def near(value: float, wanted: float, part: float = 0.01) -> bool:
    return abs(value - wanted) <= part * wanted


def quantiles_from_buckets(buckets, qs):
    """A sample with the buckets' middles, for numpy."""
    middles = numpy.array([(begin + end) / 2 for begin, end, _ in buckets])
    values = numpy.repeat(middles, [count for _, _, count in buckets])
    return numpy.quantile(values, qs, method="inverted_cdf")


def test_percentiles_of_a_server_of_known_timing_are_right_to_one_percent():
    """The server's first token comes 300 to 1,300 ms after the request, and every further one 100 ms later: delays at which
    1 % is more than a busy machine's jitter. Should it stall, one more attempt is made; wrong arithmetic fails twice."""
    with RawSend("--first-ms", "300", "--first-spread-ms", "1000", "--step-ms", "100") as server:
        for attempt in range(3):
            result = bench("--url", server.url, "--arrivals", "constant", "--rate", "100", "--requests", "200",
                           "--duration-s", "0", "--output-tokens", "11")  # fmt: skip
            assert result["requests"]["completed"] == 200
            exact = numpy.concatenate([300 + 1000 * numpy.arange(100) / 99] * 2)
            latency = result["latency_ms"]
            wanted = {q: numpy.quantile(exact, q, method="inverted_cdf") for q in (0.5, 0.9, 0.95, 0.99)}
            got = {q: latency["ttft"][f"p{int(q * 100)}"] for q in wanted}
            right = all(near(got[q], wanted[q]) for q in wanted)
            right &= near(latency["itl"]["p50"], 100) and near(latency["tpot"]["p99"], 100)
            right &= near(latency["e2e"]["p90"], wanted[0.9] + 1000)
            if right:
                break
        else:
            raise AssertionError(f"wanted {wanted}, got {got}, {latency['itl']['p50']}, {latency['tpot']['p99']}")
    for name in ("ttft", "itl", "tpot", "e2e"):
        one = latency[name]
        values = quantiles_from_buckets(one["buckets"], [0.5, 0.9, 0.99])
        assert sum(count for _, _, count in one["buckets"]) == one["count"]
        for q, value in zip(("p50", "p90", "p99"), values, strict=True):
            assert near(one[q], value), (name, q)
    assert result["wire"]["data_lines"] == 200 * (11 + 3)  # tokens, finish, usage, [DONE]
    assert result["tokens"]["chunks_per_token"] == 1


def test_a_stall_of_the_server_shows_in_an_open_loop():
    """One request a 20 ms; the server process is stopped for a second. All that were due meanwhile have waited."""
    with RawSend("--step-ms", "1") as server:
        flags = ["--url", server.url, "--arrivals", "constant", "--rate", "50", "--duration-s", "4", "--output-tokens", "2"]
        stall = threading.Timer(1.5, lambda: os.kill(server.process.pid, signal.SIGSTOP))
        go_on = threading.Timer(2.5, lambda: os.kill(server.process.pid, signal.SIGCONT))
        stall.start(), go_on.start()
        result = bench(*flags)
    # A quarter of the requests were due in the stall, with waits from 0 to 1 s evenly.
    assert result["requests"]["scheduled"] in range(195, 201)
    assert 400 < result["latency_ms"]["ttft"]["p90"] < 800
    assert result["latency_ms"]["ttft"]["max"] > 900


class BadServer:
    """Answers every connection with `answer`, byte for byte; "hang" never answers."""

    def __init__(self, answer: bytes | str, then_close: bool = True):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.answer, self.then_close, self.open = answer, then_close, []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(client)
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client: socket.socket):
        try:
            if self.answer == "rude":
                client.close()
                return
            client.recv(65536)
            if self.answer == "hang":
                return
            client.sendall(self.answer)
            if self.then_close:
                client.shutdown(socket.SHUT_WR)
                client.recv(65536)
                client.close()
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        for client in self.open:
            client.close()


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("hang", "timeout"),
        ("rude", "closed_early"),
        (STREAM + TOKEN, "no_done"),
        (STREAM.replace(b"Connection: close", b"Content-Length: 9999") + TOKEN, "closed_early"),
        (b"\x00\x01\x02 nonsense\r\n\r\n", "malformed_http"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000, "head_too_large"),
        (STREAM + b"data: {broken\n\ndata: [DONE]\n\n", "malformed_event"),
        (STREAM + b"data: " + b"x" * (3 << 20), "line_too_long"),
        (STREAM + TOKEN + b'data: {"error":{"message":"no luck"}}\n\ndata: [DONE]\n\n', "error_event"),
        (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 9\r\n\r\nqueue ful", "http_429"),
    ],
)
def test_a_bad_server_is_reported_by_kind(answer, kind):
    with BadServer(answer) as server:
        result = bench("--url", server.url, "--model", "m", "--rate", "50", "--requests", "5", "--duration-s", "5",
                       "--timeout-s", "1", expect=2, timeout=30)  # fmt: skip
    failed = {name: error["count"] for name, error in result["errors"].items()}
    if kind == "closed_early":  # a reset is as good as a close
        failed = {"closed_early": sum(failed.get(name, 0) for name in ("closed_early", "connection_failed"))}
    assert failed == {kind: 5}
    if kind == "http_429":
        assert result["errors"][kind]["example"] == "queue ful"


def test_nobody_listens_is_an_error_of_each_request_and_ends():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    begin = time.monotonic()
    result = bench("--url", f"http://127.0.0.1:{port}", "--model", "m", "--concurrency", "4", "--duration-s", "1", expect=2)
    assert time.monotonic() - begin < 20
    assert set(result["errors"]) == {"connect_refused"}
    # A user whose request failed pauses for 100 ms: no storm.
    assert result["errors"]["connect_refused"]["count"] <= 4 * 11
    assert "nobody listens" in bench("--url", f"http://127.0.0.1:{port}", expect=1)["stderr"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--protocol", "kserve", "--endpoint", "chat"], "endpoint is of protocol openai"),
        (["--protocol", "grpc", "--extra-body", "{}"], "extra-body is of protocol openai and kserve"),
        (["--no-stream"], "no-stream is of protocol kserve"),
        (["--protocol", "kserve", "--extra-body", "[1]", "--model", "m"], "no JSON object"),
        (["--url", "ftp://127.0.0.1"], "scheme"),
        (["--url", "http://127.0.0.1:99999"], "port"),
        (["--slo", "speed=1ms"], "none of ttft"),
        (["--find-max-rate"], "needs slo"),
        (["--concurrency", "1", "--rate", "2"], "closed loop"),
        (["--duration-s", "0"], "when to end"),
        (["--warmup-s", "30"], "below duration"),
        (["--prompts", "jsonl", "--prompt-file", "/nowhere", "--model", "m"], "cannot be read"),
        (["--prompt-tokens", "many", "--model", "m"], "none of N"),
        (["--max-connections", "1000000", "--model", "m"], "open files"),
        (["--check-script", "--no-seed"], "seed"),
        (["--extra-body", "[1]", "--model", "m"], "no JSON object"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(flags, message):
    assert message in bench(*flags, expect=1)["stderr"]


def test_the_most_connections_are_kept_to_and_the_wait_counts():
    """10 requests at once over 2 connections, 200 ms each: the last ones wait 800 ms."""
    with RawSend("--first-ms", "200", "--step-ms", "1") as server:
        result = bench("--url", server.url, "--arrivals", "constant", "--rate", "1000", "--requests", "10", "--duration-s", "0",
                       "--output-tokens", "1", "--max-connections", "2")  # fmt: skip
    assert result["requests"]["max_in_flight"] == 2
    assert result["connections"]["max_waiting"] == 8
    assert result["latency_ms"]["ttft"]["max"] > 950
    assert any("waited for one of 2 connections" in doubt for doubt in result["doubts"])


def test_slow_requests_stay_out_of_the_latencies():
    with RawSend("--step-ms", "2") as server:
        result = bench("--url", server.url, "--concurrency", "8", "--requests", "40", "--duration-s", "0",
                       "--output-tokens", "40", "--slow-fraction", "0.3", "--slow-pause-s", "0.1")  # fmt: skip
    slow = result["requests"]["slow_on_purpose"]
    assert 4 <= slow <= 22
    assert result["requests"]["completed"] == 40
    assert result["latency_ms"]["e2e"]["count"] == 40 - slow


def test_find_max_rate_compare_and_the_html_report(tmp_path: pathlib.Path):
    """At most 20 connections of 100 ms each: 200 requests/s is the most."""
    page, first, second = tmp_path / "a.html", tmp_path / "a.json", tmp_path / "b.json"
    with RawSend("--first-ms", "98", "--step-ms", "1") as server:
        common = [binary(), "bench", "serve", "--quiet", "--url", server.url, "--output-tokens", "2", "--max-connections", "20"]
        done = subprocess.run(
            [*common, "--find-max-rate", "--slo", "ttft=300ms", "--rate", "50", "--arrivals", "constant",
             "--duration-s", "2", "--json", str(first), "--html", str(page)],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        subprocess.run([*common, "--rates", "20,40", "--duration-s", "1", "--json", str(second)], check=True, capture_output=True)
    result = json.loads(first.read_text())
    assert 100 <= result["max_rate"] <= 250, done.stderr
    assert len(result["tries"]) == done.stderr.count("requests/s:")
    assert [one["rate"] for one in json.loads(second.read_text())["tries"]] == [20, 40]
    text = page.read_text()
    assert text.count("<svg") == 2 + 4 + 4
    assert "http" not in text.replace(server.url, "").replace("http-equiv", "").split("</style>")[0]
    compared = subprocess.run(
        [binary(), "bench", "serve", "--compare", str(first), str(second), "--html", str(page)], capture_output=True, text=True
    )
    assert compared.returncode == 0 and "TTFT p99" in compared.stdout
    assert "Side by side" in page.read_text()


def test_an_interrupted_run_still_reports():
    with RawSend("--first-ms", "500", "--step-ms", "1") as server:
        run = subprocess.Popen(
            [binary(), "bench", "serve", "--json", "-", "--quiet", "--url", server.url, "--rate", "20", "--duration-s", "100"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert not select.select([run.stdout], [], [], 2)[0]
        run.send_signal(signal.SIGINT)
        result = json.loads(run.communicate(timeout=20)[0])
    assert "the run was interrupted" in result["doubts"]
    assert result["requests"]["completed"] > 0


@pytest.fixture(scope="module")
def real(server):
    return server


def test_the_real_server_in_both_loops_and_over_both_routes(real):
    for flags in (["--concurrency", "2"], ["--rate", "20"], ["--rate", "20", "--endpoint", "completions"]):
        result = bench("--url", real.url, *flags, "--requests", "6", "--duration-s", "60", "--prompt-tokens", "12",
                       "--output-tokens", "5")  # fmt: skip
        assert result["requests"]["completed"] == 6, result["errors"]
        assert result["tokens"]["output"] == 30
        assert 12 * 6 <= result["tokens"]["prompt"] <= 60 * 6
        assert result["tokens"]["chunks_per_token"] <= 1
        assert result["latency_ms"]["ttft"]["count"] == 6
    real.wait_idle()


def test_conversations_of_several_turns_grow_and_reuse_their_prefix(real):
    result = bench("--url", real.url, "--concurrency", "1", "--requests", "4", "--duration-s", "60", "--turns", "4",
                   "--prompt-tokens", "60", "--output-tokens", "8")  # fmt: skip
    assert result["requests"]["completed"] == 4, result["errors"]
    # Turns 1 to 4 hold about 60, 130, 200 and 270 tokens; all but the new ones are cached.
    assert result["tokens"]["prompt"] > 550
    assert result["tokens"]["cached_prompt"] > 200


def test_a_shared_prefix_is_cached(real):
    result = bench("--url", real.url, "--concurrency", "1", "--requests", "6", "--duration-s", "60", "--prefix-groups", "1",
                   "--prefix-tokens", "100", "--prompt-tokens", "4", "--output-tokens", "2")  # fmt: skip
    assert result["requests"]["completed"] == 6, result["errors"]
    assert result["tokens"]["cached_prompt"] >= 5 * 80


def test_a_refusal_of_the_real_server_is_counted(real):
    result = bench("--url", real.url, "--concurrency", "1", "--requests", "2", "--duration-s", "10", "--output-tokens", "5",
                   "--extra-body", '{"top_p": 7}', expect=2)  # fmt: skip
    assert result["errors"]["http_400"]["count"] == 2
    assert "top_p" in result["errors"]["http_400"]["example"]


def test_grpc_calls_share_connections(real):
    result = bench("--url", real.url, "--protocol", "grpc", "--grpc-port", str(real.grpc_port), "--grpc-connections", "2",
                   "--concurrency", "4", "--requests", "8", "--duration-s", "60", "--output-tokens", "5", "--turns", "2",
                   "--prompt-tokens", "12")  # fmt: skip
    assert result["requests"]["completed"] == 8, result["errors"]
    assert result["connections"]["opened"] == 2
    assert result["tokens"]["output"] == 40
    assert result["tokens"]["chunks"] <= 40
    real.wait_idle()


def test_grpc_failures_are_reported_by_kind_and_leave_nothing(real):
    common = ["--url", real.url, "--protocol", "grpc", "--concurrency", "2", "--requests", "4", "--duration-s", "20"]
    grpc_port = str(real.grpc_port)

    def kinds(*flags: str) -> dict[str, int]:
        return {kind: error["count"] for kind, error in bench(*common, *flags, expect=2)["errors"].items()}

    assert kinds("--grpc-port", grpc_port, "--model", "nonesuch") == {"grpc_5": 4}
    assert kinds("--grpc-port", grpc_port, "--timeout-s", "0.3", "--output-tokens", "400") == {"timeout": 4}
    assert set(kinds("--grpc-port", str(real.port))) <= {"closed_early", "connection_failed", "malformed_http2"}
    with BadServer(b"\x00\x00\x04\x08\x00\x00\x00\x00\x01" + b"\xff" * 500) as bad:
        port = bad.url.rsplit(":", 1)[1]
        assert set(kinds("--grpc-port", port)) <= {"closed_early", "connection_failed", "malformed_http2", "stream_reset"}
    real.wait_idle()


@pytest.mark.parametrize("flags", [[], ["--no-stream"]], ids=["stream", "whole"])
def test_kserve_tells_what_the_server_did(real, flags):
    result = bench("--url", real.url, "--protocol", "kserve", "--grpc-port", str(real.grpc_port), *flags, "--concurrency", "4",
                   "--requests", "8", "--duration-s", "60", "--output-tokens", "5", "--prompt-tokens", "12",
                   "--extra-body", '{"top_k": 1}')  # fmt: skip
    assert result["requests"]["completed"] == 8, result["errors"]
    assert result["tokens"]["output"] == 40
    assert result["tokens"]["chunks"] <= (8 if flags else 40)
    assert result["finish_reasons"] == {"length": 8}
    real.wait_idle()


def test_kserve_failures_are_reported_by_kind(real):
    common = ["--url", real.url, "--protocol", "kserve", "--grpc-port", str(real.grpc_port), "--concurrency", "2",
              "--requests", "4", "--duration-s", "20"]  # fmt: skip
    for flags in ([], ["--no-stream"]):
        errors = bench(*common, *flags, "--model", "nonesuch", expect=2)["errors"]
        assert {kind: error["count"] for kind, error in errors.items()} == {"grpc_5": 4}
        errors = bench(*common, *flags, "--extra-body", '{"top_p": 7}', expect=2)["errors"]
        assert "top_p" in errors["grpc_3"]["example"]
    assert set(bench(*common, "--timeout-s", "0.3", "--output-tokens", "400", expect=2)["errors"]) == {"timeout"}
    real.wait_idle()


def make_certificate(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_tls_is_checked_unless_told_otherwise(start, tmp_path: pathlib.Path):
    cert, key = make_certificate(tmp_path)
    server = start("--tls-cert", str(cert), "--tls-key", str(key))
    common = ["--model", "default", "--concurrency", "2", "--requests", "4", "--duration-s", "30", "--output-tokens", "5",
              "--prompt-tokens", "12"]  # fmt: skip
    for url, flags in ((server.url, ["--tls-ca", str(cert)]), (server.url.replace("127.0.0.1", "localhost"), ["--tls-ca", str(cert)]),
                       (server.url, ["--tls-insecure"])):  # fmt: skip
        assert bench("--url", url, *flags, *common)["requests"]["completed"] == 4
    grpc = ["--protocol", "grpc", "--grpc-port", str(server.grpc_port), "--tls-ca", str(cert)]
    assert bench("--url", server.url, *grpc, *common)["requests"]["completed"] == 4
    assert set(bench("--url", server.url, *common, expect=2)["errors"]) == {"tls_failed"}
