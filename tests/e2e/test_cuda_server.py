"""The server on the CUDA backend: the whole of it, except that kernels run thread by thread on the CPU."""

import json
import os
import subprocess
import urllib.request

import pytest
from conftest import model_path


@pytest.fixture
def emulated(monkeypatch) -> str:
    path = os.environ.get("SLUICE_EMULATED_BINARY")
    if not path:
        pytest.skip("sluice_emulated was not built: there are no CUDA headers")
    monkeypatch.setenv("SLUICE_BINARY", path)
    return path


def version_of(server) -> dict:
    with urllib.request.urlopen(f"{server.url}/version", timeout=10) as response:
        return json.load(response)


def complete(server, prompt: str, max_tokens: int) -> str:
    body = {"model": "default", "prompt": prompt, "max_tokens": max_tokens, "temperature": 0}
    request = urllib.request.Request(
        f"{server.url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as response:
        return json.load(response)["choices"][0]["text"]


def test_it_answers_as_the_cpu_backend_does(start, emulated):
    prompt, tokens = "The capital of France is", 3
    server = start("--backend", "cuda", "--deterministic", "--kv-cache-mib", "8", "--max-rows", "4")
    version = version_of(server)
    assert version["backend"] == "cuda" and version["backend_reason"] == "backend is cuda"
    assert version["isa"].endswith("sm_90 fp8 w8a8 deterministic")
    text = complete(server, prompt, tokens)
    server.stop()
    cpu = start("--backend", "cpu")
    assert version_of(cpu)["backend_reason"] == "backend is cpu"
    assert complete(cpu, prompt, tokens) == text


def test_three_devices_that_share_a_model_answer_as_the_cpu_backend_does(start, emulated):
    prompt, tokens = "The capital of France is", 3
    flags = ["--backend", "cuda", "--tensor-parallel-size", "3", "--kv-cache-mib", "8", "--max-rows", "4"]
    server = start(*flags)  # SmolLM2 has 9 query heads and 3 KV heads
    assert version_of(server)["isa"].endswith("sm_90 fp8 w8a8 tp 3")
    text = complete(server, prompt, tokens)
    server.stop()
    assert complete(start("--backend", "cpu"), prompt, tokens) == text


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--backend", "cuda", "--tensor-parallel-size", "2"], b"9 query heads and 3 KV heads; 2 ranks cannot share"),
        (["--backend", "cuda", "--tensor-parallel-size", "9"], b"from gpu-device 0 on there are 4 usable devices"),
        (["--backend", "cpu", "--tensor-parallel-size", "3"], b"tensor-parallel-size is 3; the CPU backend allows 1"),
    ],
)
def test_ranks_that_cannot_share_a_model_are_refused(emulated, flags, reason):
    command = [emulated, "serve", "--model", model_path(), "--http-port", "0", *flags]
    run = subprocess.run(command, capture_output=True, timeout=120)
    assert run.returncode == 1
    assert reason in run.stderr, run.stderr


def test_a_model_that_does_not_fit_is_refused_with_the_arithmetic(emulated):
    command = [emulated, "serve", "--model", model_path(), "--backend", "cuda", "--deterministic"]
    command += ["--gpu-memory-fraction", "0.05"]
    run = subprocess.run(command + ["--http-port", "0"], capture_output=True, timeout=120)
    assert run.returncode == 1
    assert b"MiB for weights" in run.stderr and b"MiB of memory are available" in run.stderr


def test_auto_says_why_it_is_not_cuda(start):
    version = version_of(start())
    assert version["backend"] == "cpu" and version["backend_reason"].startswith("no CUDA: "), json.dumps(version)


def test_a_kv_cache_of_int8_is_another_model_and_the_cpu_backend_has_none(start, emulated):
    server = start("--backend", "cuda", "--kv-cache-dtype", "int8", "--kv-cache-mib", "8", "--max-rows", "4")
    version = version_of(server)
    assert version["model_hash"].endswith("-kv-int8")
    assert complete(server, "The capital of France is", 2).strip()
    server.stop()
    for dtype, says in (("int8", b"kv-cache-dtype is int8; the cpu backend allows auto and f16"), ("fp9", b"none of auto, f16")):
        command = [emulated, "serve", "--model", model_path(), "--backend", "cpu", "--kv-cache-dtype", dtype]
        run = subprocess.run(command + ["--http-port", "0"], capture_output=True, timeout=120)
        assert run.returncode != 0 and says in run.stderr
