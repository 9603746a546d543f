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
    assert version["isa"].endswith("sm_90 deterministic")
    text = complete(server, prompt, tokens)
    server.stop()
    cpu = start("--backend", "cpu")
    assert version_of(cpu)["backend_reason"] == "backend is cpu"
    assert complete(cpu, prompt, tokens) == text


def test_a_model_that_does_not_fit_is_refused_with_the_arithmetic(emulated):
    command = [emulated, "serve", "--model", model_path(), "--backend", "cuda", "--deterministic"]
    command += ["--gpu-memory-fraction", "0.05"]
    run = subprocess.run(command + ["--http-port", "0"], capture_output=True, timeout=120)
    assert run.returncode == 1
    assert b"MiB for weights" in run.stderr and b"MiB of memory are available" in run.stderr


def test_auto_says_why_it_is_not_cuda(start):
    version = version_of(start())
    assert version["backend"] == "cpu" and version["backend_reason"].startswith("no CUDA: "), json.dumps(version)
