"""What SREs do: probes, scrapes, signals, reloads, faults, bad settings."""

import http.client
import json
import pathlib
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
from conftest import ROOT, binary, model_path


def get(server, path: str):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def generate(server, max_tokens: int, out: dict):
    body = {"model": "default", "prompt": "Tell me", "max_tokens": max_tokens, "ignore_eos": True}
    request = urllib.request.Request(
        f"{server.url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            out["status"], out["body"] = response.status, json.load(response)
    except urllib.error.HTTPError as error:
        out["status"], out["body"], out["headers"] = error.code, json.load(error), error.headers
    except (OSError, http.client.HTTPException) as error:  # the server was ended under the request
        out["error"] = error


def in_background(server, max_tokens: int):
    out: dict = {}
    thread = threading.Thread(target=generate, args=(server, max_tokens, out))
    thread.start()
    return thread, out


def test_probes_and_version(server):
    for path in ("/health", "/livez", "/readyz"):
        response, _ = get(server, path)
        assert response.status == 200, path
    _, body = get(server, "/version")
    version = json.loads(body)
    assert version["backend"] == "cpu" and version["version"]


def test_the_metrics_page_parses_and_is_documented(server):
    _, body = get(server, "/metrics")
    documented = (ROOT / "docs/api/metrics.md").read_text()
    names = set(re.findall(r"^# TYPE (\S+)", body.decode(), re.MULTILINE))
    assert len(names) > 25
    for name in names:
        assert f"`{name}`" in documented, name


def test_vllm_names(start):
    server = start("--metrics-alias", "vllm")
    out: dict = {}
    generate(server, 5, out)
    samples = server.metrics()
    labels = f'{{model_name="{server.model}"}}'
    assert samples["vllm:generation_tokens_total" + labels] == 5
    assert samples["vllm:time_to_first_token_seconds_count" + labels] == 1
    assert samples["vllm:inter_token_latency_seconds_count" + labels] == 4
    assert samples["vllm:num_requests_running" + labels] == 0


def test_metrics_and_health_answer_while_the_engine_is_wedged(start):
    server = start("--plant-fault", "stall-step=3", "--stall-timeout-s", "0.5")
    thread, _ = in_background(server, 50)
    end = time.monotonic() + 20
    while get(server, "/readyz")[0].status == 200:
        assert time.monotonic() < end, "readiness never dropped"
        time.sleep(0.05)
    response, body = get(server, "/readyz")
    assert response.status == 503 and b"no progress" in body
    assert get(server, "/livez")[0].status == 200
    assert b"sluice_ready" in get(server, "/metrics")[1]
    server.process.kill()
    thread.join()


def test_threads_have_names(server):
    names = {task.read_text().strip() for task in pathlib.Path(f"/proc/{server.process.pid}/task").glob("*/comm")}
    assert {"io", "engine", "prepare", "grpc-events"} <= names


def test_sigterm_drains(start):
    server = start()
    thread, out = in_background(server, 600)
    server.wait_until(lambda m: m["sluice_running_sequences"] == 1, "a row runs")
    server.signal(signal.SIGTERM)
    end = time.monotonic() + 10
    while get(server, "/readyz")[0].status == 200:
        assert time.monotonic() < end
    refused: dict = {}
    generate(server, 5, refused)
    assert refused["status"] == 503
    assert int(refused["headers"]["Retry-After"]) >= 1
    thread.join()
    assert out["status"] == 200 and out["body"]["usage"]["completion_tokens"] == 600
    assert server.wait() == 0


def test_a_second_signal_ends_at_once(start):
    server = start()
    thread, _ = in_background(server, 8000)
    server.wait_until(lambda m: m["sluice_running_sequences"] == 1, "a row runs")
    server.signal(signal.SIGTERM)
    server.signal(signal.SIGINT)
    assert server.wait(10) != 0
    thread.join()


def test_a_failing_step_tells_the_truth_and_ends_the_process(start):
    server = start("--plant-fault", "fail-step=5")
    thread, out = in_background(server, 100)
    thread.join()
    assert out["status"] == 500
    assert "planted device error" in out["body"]["error"]["message"]
    response, body = get(server, "/livez")
    assert response.status == 503 and b"device error" in body
    assert server.wait() == 70


def test_logs_have_no_text_and_one_line_a_request(start):
    server = start("--log-format", "json", "--log-level", "trace")
    secret = "xyzzyplugh"
    body = {"model": "default", "messages": [{"role": "user", "content": secret * 3}], "max_tokens": 5, "stop": ["quux"]}
    request = urllib.request.Request(
        f"{server.url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "X-Request-ID": "req-42"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)["choices"][0]["message"]["content"]
        assert response.headers["X-Request-ID"] == "req-42"
    bad = body | {"temperature": "hot " + secret}
    request.data = json.dumps(bad).encode()
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=60)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    log = server.log()
    lines = [json.loads(line) for line in log.splitlines()]
    assert secret not in log and answer not in log
    assert any(line.get("request_id") == "req-42" for line in lines), lines


def run(*arguments: str, env: dict | None = None):
    return subprocess.run([binary(), *arguments], capture_output=True, text=True, timeout=120, env=env)


def test_settings_are_checked(tmp_path):
    assert run("serve", "--check-config").returncode == 0
    for arguments, word in [
        (["--http-port", "70000"], "--http-port"),
        (["--cpu-isa", "sse"], "avx512"),
        (["--tls-cert", "x.pem"], "tls-key"),
        (["--no-such-flag"], "no-such-flag"),
    ]:
        result = run("serve", "--check-config", *arguments)
        assert result.returncode != 0 and word in result.stdout + result.stderr, arguments
    file = tmp_path / "sluice.toml"
    file.write_text("http-port = 9001\nlog-level = 'debug'\n")
    assert run("serve", "--check-config", "--config", str(file)).returncode == 0
    file.write_text("htp-port = 9001\n")
    result = run("serve", "--check-config", "--config", str(file))
    assert result.returncode == 1 and "htp-port" in result.stderr
    result = run("serve", "--check-config", env={"SLUICE_MAX_ROWS": "0"})
    assert result.returncode == 1 and "SLUICE_MAX_ROWS" in result.stderr


def test_a_port_in_use_and_a_bad_model_are_one_sentence(server, tmp_path):
    result = run("serve", "--model", model_path(), "--http-port", str(server.port), "--grpc-port", "-1", "--kv-cache-mib", "64")
    assert result.returncode == 1 and str(server.port) in result.stderr
    result = run("serve", "--model", model_path(), "--http-port", "0", "--grpc-port", str(server.grpc_port), "--kv-cache-mib", "64")
    assert result.returncode == 1 and str(server.grpc_port) in result.stderr
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(20))
    result = run("serve", "--model", str(bad))
    assert result.returncode == 1 and "bad.gguf" in result.stderr and result.stderr.count("\n") == 1


def test_generated_documents_are_current():
    assert (ROOT / "docs/configuration.md").read_text() == run("config-doc").stdout
    assert run("metrics-doc").stdout in (ROOT / "docs/api/metrics.md").read_text()


def test_model_inspect():
    out = run("model", "inspect", model_path()).stdout
    for word in ("llama", "Q4_1", "Q8_0", "49152", "smollm", "8192"):
        assert word in out, out


def test_one_token_on_a_haswell(tmp_path):
    """No instruction beyond AVX2 on the way to a token: qemu has none to run it with."""
    result = subprocess.run(
        ["qemu-x86_64", "-cpu", "Haswell", binary(), "chat", "--model", model_path(), "--kv-cache-mib", "8", "--max-model-len", "64",
         "--threads", "1", "--max-step-tokens", "64"],
        input="Hi\n", capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip(), result.stderr
