"""Greedy and seeded answers are the same alone, among neighbours, after preemption, with and without a prefix hit."""

import concurrent.futures
import json
import urllib.request

PROMPTS = [
    ("The history of mathematics begins", {"temperature": 0}),
    ("Dear Sir or Madam,", {"temperature": 1.0, "seed": 99}),
    ("def fibonacci(n):", {"temperature": 0.8, "seed": 5, "top_k": 40, "top_p": 0.95}),
    ("Once upon a time", {"temperature": 1.0, "seed": 3, "min_p": 0.05, "repetition_penalty": 1.2, "presence_penalty": 0.5}),
]


def complete(server, prompt: str, max_tokens: int = 48, **options):
    body = {"model": "default", "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True, **options}
    request = urllib.request.Request(
        f"{server.url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    return json.load(urllib.request.urlopen(request, timeout=300))["choices"][0]["text"]


def alone(server):
    return [complete(server, prompt, **options) for prompt, options in PROMPTS]


def among_neighbours(server, neighbours: int = 31):
    with concurrent.futures.ThreadPoolExecutor(neighbours + len(PROMPTS)) as pool:
        noise = [pool.submit(complete, server, f"Noise number {i} " * (1 + i % 9), 64, temperature=1.0) for i in range(neighbours)]
        answers = [pool.submit(complete, server, prompt, **options) for prompt, options in PROMPTS]
        result = [answer.result() for answer in answers]
        for one in noise:
            one.result()
    return result


def test_alone_equals_among_31_neighbours(start):
    server = start()
    expected = alone(server)
    assert len(set(expected)) == len(expected)
    assert among_neighbours(server) == expected


def test_equal_after_preemption(start):
    expected = alone(start())
    # 64 blocks of 16 tokens: a few sequences at a time; the others are preempted and computed again.
    small = start("--kv-cache-mib", "23", "--max-model-len", "512", "--max-step-tokens", "37")
    assert among_neighbours(small) == expected
    assert small.metrics()["sluice_preemptions_total"] > 0


def test_equal_with_and_without_a_prefix_hit(start):
    server = start()
    cold = start("--prefix-cache=false")
    prompt = "In the beginning there was a very long preamble that repeats. " * 8
    first = complete(server, prompt, temperature=0)
    assert complete(server, prompt, temperature=0) == first  # a hit
    assert server.metrics()["sluice_prefix_cache_hits_tokens_total"] > 0
    assert complete(cold, prompt, temperature=0) == first
    assert complete(cold, prompt, temperature=0) == first
    assert cold.metrics()["sluice_prefix_cache_hits_tokens_total"] == 0


def test_equal_for_any_chunking_threads_and_isa(start):
    expected = alone(start())
    assert alone(start("--max-step-tokens", "3", "--max-rows", "2", "--threads", "1")) == expected
    assert alone(start("--cpu-isa", "avx2")) == expected


def test_equal_after_a_restart(start):
    assert alone(start()) == alone(start())
