"""`sluice bench latency` and `sluice bench throughput` on the real model, small."""

import json
import pathlib
import signal
import subprocess
import time

import pytest
from conftest import binary, model_path


def bench(what: str, *flags: str, expect: int = 0) -> tuple[dict, str]:
    """The JSON result and what was printed."""
    model = [] if "--model" in flags else ["--model", model_path()]
    command = [binary(), "bench", what, *model, "--kv-cache-mib", "128", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == expect, f"exit {done.returncode}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
    return (json.loads(done.stdout) if done.stdout.startswith("{") else {}), done.stdout + done.stderr


def is_ordered(latency: dict) -> bool:
    ordered = [latency[name] for name in ("min", "p10", "p50", "p90", "max")]
    return ordered == sorted(ordered) and ordered[0] > 0


def test_latency_of_a_batch_has_exact_counts_and_a_cold_cache():
    result, _ = bench("latency", "--batch", "3", "--prompt-tokens", "20", "--output-tokens", "6", "--iterations", "4",
                      "--warmup", "1", "--json", "-")  # fmt: skip
    assert result["schema"] == "sluice.bench.latency/1" and not result["simulated"]
    assert result["requests"]["completed"] == 12 and result["requests"]["failed"] == 0
    assert result["tokens"]["prompt"] == 12 * 20 and result["tokens"]["output"] == 12 * 6
    assert result["tokens"]["cached_prompt"] == 0
    counts = {name: result["latency_ms"][name]["count"] for name in ("ttft", "tpot", "e2e", "batch")}
    assert counts == {"ttft": 12, "tpot": 12, "e2e": 12, "batch": 4}
    for name in counts:
        assert is_ordered(result["latency_ms"][name]), result["latency_ms"][name]
    latency = result["latency_ms"]
    assert latency["ttft"]["min"] < latency["e2e"]["min"] and latency["e2e"]["max"] <= latency["batch"]["max"]


def test_shared_beginnings_are_cached_if_asked_for():
    result, _ = bench("latency", "--prompt-tokens", "4", "--output-tokens", "2", "--iterations", "3", "--warmup", "1",
                         "--prefix-groups", "1", "--prefix-tokens", "64", "--json", "-")  # fmt: skip
    assert result["tokens"]["prompt"] == 3 * 68
    assert result["tokens"]["cached_prompt"] == 3 * 64


def test_throughput_answers_all_though_the_queue_is_short(tmp_path: pathlib.Path):
    file = tmp_path / "result.json"
    _, text = bench("throughput", "--requests", "20", "--prompt-tokens", "uniform:8,16", "--output-tokens", "5",
                    "--max-waiting-requests", "3", "--max-rows", "4", "--json", str(file))  # fmt: skip
    result = json.loads(file.read_text())
    assert result["schema"] == "sluice.bench.throughput/1"
    assert result["requests"]["completed"] == 20
    assert result["tokens"]["output"] == 100
    assert result["refusals"] > 0
    assert result["prefix_cache"]["query_tokens"] >= result["prefix_cache"]["hit_tokens"] >= result["tokens"]["cached_prompt"] > 0
    assert 0 < result["kv"]["peak_referenced_blocks"] <= result["kv"]["blocks"]
    rates, seconds = result["rates"], result["window_s"]
    assert abs(rates["output_tokens_per_s"] - 100 / seconds) < 1e-6 * rates["output_tokens_per_s"]
    assert abs(rates["total_tokens_per_s"] - (100 + result["tokens"]["prompt"]) / seconds) < 1e-6 * rates["total_tokens_per_s"]
    assert text.splitlines()[-1].startswith("throughput: ") and "total tokens/s; KV at most" in text


def test_prompts_of_a_file_keep_their_lengths(tmp_path: pathlib.Path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "one", "max_tokens": 3}\n{"prompt": "two", "max_tokens": 5}\n')
    result, _ = bench("throughput", "--requests", "4", "--prompts", "jsonl", "--prompt-file", str(file), "--endpoint",
                      "completions", "--json", "-")  # fmt: skip
    assert result["tokens"]["output"] == 16
    assert result["requests"]["completed"] == 4


@pytest.mark.parametrize("what", ["latency", "throughput"])
def test_a_simulation_says_so_in_every_line(what: str):
    flags = ["--backend", "sim", "--output-tokens", "4", *(["--requests", "5"] if what == "throughput" else [])]
    _, text = bench(what, *flags)
    assert all(line.startswith("simulated ") for line in text.splitlines()) and text
    assert bench(what, *flags, "--json", "-")[0]["simulated"] is True


@pytest.mark.parametrize(
    ("what", "flags", "status", "message"),
    [
        ("latency", ["--max-rows", "0"], 1, "max-rows"),
        ("latency", ["--model", "/nowhere.gguf"], 1, "/nowhere.gguf"),
        ("latency", ["--prompt-tokens", "9000"], 2, "context_length_exceeded"),
        ("throughput", ["--prompt-tokens", "many"], 1, "none of N"),
        ("throughput", ["--prompts", "jsonl", "--prompt-file", "/nowhere"], 1, "cannot be read"),
        ("throughput", ["--requests", "2", "--output-tokens", "9000"], 2, "2 x context_length_exceeded"),
    ],
)
def test_what_fails_is_named_and_has_its_exit_status(what: str, flags: list[str], status: int, message: str):
    assert message in bench(what, *flags, expect=status)[1]


def test_a_flag_out_of_range_is_refused_by_name():
    done = subprocess.run([binary(), "bench", "latency", "--batch", "0"], capture_output=True, text=True, timeout=20)
    assert done.returncode not in (0, 2) and "--batch" in done.stdout + done.stderr


def test_an_interrupted_run_still_reports(tmp_path: pathlib.Path):
    file = tmp_path / "result.json"
    run = subprocess.Popen(
        [binary(), "bench", "throughput", "--model", model_path(), "--kv-cache-mib", "128", "--requests", "100000",
         "--output-tokens", "400", "--json", str(file)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(3)
    run.send_signal(signal.SIGINT)
    text = run.communicate(timeout=30)[0]
    assert run.returncode == 2
    result = json.loads(file.read_text())
    assert "the run was interrupted" in result["doubts"] and "interrupted" in text
    assert set(result["errors"]) == {"interrupted"}
