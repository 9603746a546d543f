"""A server on a simulated device: everything but the forward pass is real."""

import json
import re
import subprocess
import urllib.request

import pytest
from conftest import ROOT, binary, model_path, running

SHAPE = ("--backend", "sim", "--sim-device", "h100", "--model-shape", "llama-3.1-8b")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    with running(*SHAPE, "--kv-cache-mib", "4096", log_path=tmp_path_factory.mktemp("simulated") / "log") as one:
        yield one


def post(server, path: str, body: dict) -> dict:
    request = urllib.request.Request(
        f"{server.url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    return json.load(urllib.request.urlopen(request, timeout=60))


def script_text() -> str:
    header = (ROOT / "src/executor/script_text.h").read_text()
    return re.search(r'R"\((.*?)\)"', header, re.DOTALL).group(1)


def script_of(server) -> list[int]:
    return post(server, "/tokenize", {"model": "default", "prompt": script_text(), "add_special_tokens": False})["tokens"]


def streamed(server, **fields):
    """The chunks of a streamed completion."""
    body = {"model": "default", "prompt": "Once", "stream": True, **fields}
    request = urllib.request.Request(
        f"{server.url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        for line in answer:
            if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
                yield json.loads(line[6:])


def test_says_everywhere_that_it_is_simulated(simulated):
    version = json.load(urllib.request.urlopen(f"{simulated.url}/version"))
    assert version["backend"] == "sim"
    assert version["isa"] == "simulated h100, llama-3.1-8b"
    metrics = simulated.metrics()
    assert metrics["sluice_simulated"] == 1
    assert any(key.startswith("sluice_build_info{") and 'backend="sim"' in key for key in metrics)
    assert " simulated device=" in simulated.log()


@pytest.mark.parametrize("seed", [0, 7, 2**63])
def test_each_choice_says_the_script_from_its_seed_on(simulated, seed):
    script = script_of(simulated)
    answer = post(
        simulated, "/v1/completions", {"model": "default", "prompt": "Once", "max_tokens": 400, "seed": seed, "n": 3}
    )
    for choice in answer["choices"]:
        begin = seed + choice["index"]
        tokens = [script[(begin + i) % len(script)] for i in range(400)]
        text = post(simulated, "/detokenize", {"model": "default", "tokens": tokens})["prompt"]
        assert choice["text"] == text
        assert choice["finish_reason"] == "length"


def test_streams_the_script_in_order(simulated):
    text = "".join(chunk["choices"][0]["text"] for chunk in streamed(simulated, max_tokens=200, seed=0) if chunk["choices"])
    assert len(text) > 400 and script_text().startswith(text)


def test_takes_the_time_of_the_device(simulated):
    # 16 GB at 80 % of 3.35 TB/s are 6 ms a step; a card of 100 steps a second would be another one.
    before = simulated.metrics()
    post(simulated, "/v1/completions", {"model": "default", "prompt": "Once", "max_tokens": 50, "seed": 0})
    after = simulated.metrics()
    steps = after["sluice_steps_total"] - before["sluice_steps_total"]
    name = "sluice_simulated_device_busy_seconds_total"
    assert 0.0055 < (after[name] - before[name]) / steps < 0.0065


def test_stop_strings_and_prefix_hits_are_real(simulated):
    prompt = "The quick brown fox jumps over the lazy dog. " * 20
    body = {"model": "default", "prompt": prompt, "max_tokens": 100, "seed": 0, "stop": " river"}
    first = post(simulated, "/v1/completions", body)
    assert first["choices"][0]["text"] == "The mill stood where the"
    assert first["choices"][0]["finish_reason"] == "stop"
    again = post(simulated, "/v1/completions", body)
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] >= 16


def test_a_client_that_goes_frees_its_row(simulated):
    chunks = streamed(simulated, max_tokens=5000, seed=0)
    for _ in range(10):
        next(chunks)
    chunks.close()
    simulated.wait_idle()


def test_settings_are_refused_by_name(tmp_path):
    def refused(*flags: str) -> str:
        command = [binary(), "serve", "--model", model_path(), "--http-port", "0", "--grpc-port", "-1", *flags]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 1
        return result.stderr

    assert "sim-device and model-shape are for backend sim" in refused("--backend", "cpu", "--sim-device", "h100")
    assert 'sim-device "h9" is neither a file nor one of a100 h100' in refused("--backend", "sim", "--sim-device", "h9")
    # 70 billion weights of 2 bytes do not fit.
    message = refused("--backend", "sim", "--model-shape", "llama-3.1-70b")
    assert "llama-3.1-70b: the model needs 134" in message


def test_replay_gives_the_same_bytes(tmp_path):
    trace = tmp_path / "trace.jsonl"
    lines = [
        {"at_s": i * 0.05, "prompt_tokens": 100 + i % 7 * 300, "output_tokens": 20 + i % 90, "prefix": [i % 3], "prefix_tokens": 64}
        for i in range(500)
    ]
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def replay(name: str) -> str:
        command = [binary(), "bench", "replay", "--trace", str(trace), "--json", str(tmp_path / name), "--cost-per-hour", "3"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        return result.stdout

    table = replay("one")
    assert table == replay("two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert table.startswith("simulated: h100, llama-3.1-8b")
    results = json.loads((tmp_path / "one").read_text())
    assert results["simulated"] is True
    assert results["completed"] == 500
    assert results["cached_tokens"] > 0
    assert results["cost_per_million_output_tokens"] > 0


def test_replay_refuses_a_hostile_trace(tmp_path):
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"at_s":0,"prompt_tokens":1e30,"output_tokens":1}\n')
    result = subprocess.run([binary(), "bench", "replay", "--trace", str(trace)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "line 1: prompt_tokens must be a whole number" in result.stderr
