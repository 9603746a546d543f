"""gpu_serve.py SLUICE MODEL: serves the model on CUDA, sends streams at once, prints tokens/s and latencies as JSON."""

import concurrent.futures
import http.client
import json
import re
import statistics
import subprocess
import sys
import time

STREAMS = (1, 8, 32, 128)
TOKENS = 128


def stream(port: int) -> tuple[float, float, int]:
    """Seconds to the first token, seconds in all, tokens."""
    body = {"model": "default", "prompt": "Tell me a long story.", "max_tokens": TOKENS, "ignore_eos": True, "stream": True}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    begin = time.monotonic()
    connection.request("POST", "/v1/completions", json.dumps(body | {"stream_options": {"include_usage": True}}))
    response = connection.getresponse()
    first, tokens = 0.0, 0
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        first = first or time.monotonic() - begin
        usage = json.loads(line[6:]).get("usage")
        if usage:
            tokens = usage["completion_tokens"]
    connection.close()
    return first, time.monotonic() - begin, tokens


def main() -> None:
    sluice, model = sys.argv[1:]
    command = [sluice, "serve", "--model", model, "--backend", "cuda", "--http-port", "0", "--grpc-port", "-1"]
    server = subprocess.Popen([*command, "--max-rows", str(max(STREAMS))], stdout=subprocess.PIPE, text=True)
    try:
        ready = server.stdout.readline()
        found = re.search(r"://[^:]+:(\d+)", ready)
        if not found:
            sys.exit(f"gpu_serve: the server did not get ready: {ready!r}")
        port, results = int(found[1]), []
        stream(port)
        for count in STREAMS:
            begin = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(count) as pool:
                done = list(pool.map(lambda _: stream(port), range(count)))
            seconds = time.monotonic() - begin
            results.append(
                {
                    "streams": count,
                    "tokens_per_s": sum(tokens for _, _, tokens in done) / seconds,
                    "ttft_ms_median": statistics.median(first for first, _, _ in done) * 1e3,
                    "tpot_ms_median": statistics.median((all_ - first) / (tokens - 1) for first, all_, tokens in done) * 1e3,
                }
            )
        json.dump({"model": model.rsplit("/", 1)[-1], "tokens": TOKENS, "runs": results}, sys.stdout, indent=1)
    finally:
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    main()
