"""Fits a simulated device to a server that really computes, on trace A, and holds its prediction of trace B against the measurement.

    python bench/engine/fit.py --binary build/release/sluice --model FILE.gguf --out OUT.json

Both traces run against `sluice serve --backend cpu` over HTTP, in turns, A beside B, as often as --rounds says. The server's trace log has what each step did and when it
ended; the device's numbers are those whose step times fit the ones of A best, in least squares. Then `sluice bench replay` predicts A and B.
"""

import argparse
import concurrent.futures
import datetime
import itertools
import json
import math
import pathlib
import re
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

FOLDER = pathlib.Path(__file__).resolve().parent
MASK = (1 << 64) - 1
HOST_SECONDS = 0.02


def mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def prompt_of(request: dict, number: int, vocab: int) -> list[int]:
    """Tokens that are shared where the trace says so; none of the first 1,000, where special ones are."""
    pieces, size = request.get("prefix", []), request.get("prefix_tokens", 16)
    tokens = []
    for i in range(request["prompt_tokens"]):
        shared = i // size < len(pieces)
        stream = mix(1 + pieces[i // size]) if shared else ~mix(number + (1 << 32)) & MASK
        tokens.append(1000 + mix((stream + (i % size if shared else i)) & MASK) % (vocab - 1000))
    return tokens


class Server:
    def __init__(self, args):
        self.log = tempfile.NamedTemporaryFile(prefix="sluice-fit-", suffix=".log")
        command = [args.binary, "serve", "--model", args.model, "--backend", "cpu", "--threads", str(args.threads)]
        command += ["--http-port", "0", "--grpc-port", "-1", "--log-level", "trace", "--log-format", "json", *settings(args)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.url = re.search(r"http://\S+", self.process.stdout.readline()).group(0)

    def steps(self) -> list[dict]:
        """The steps so far. Time between two of them is the host's and counts as the second's, unless it is so long that nobody
        was there to be computed."""
        lines = pathlib.Path(self.log.name).read_text().splitlines()
        steps = [step for step in map(json.loads, lines) if step.get("event") == "step"]
        ends = [datetime.datetime.fromisoformat(step["time"].replace("Z", "+00:00")).timestamp() for step in steps]
        for before, end, step in zip(ends, ends[1:], steps[1:]):
            if end - before - step["seconds"] < HOST_SECONDS:
                step["seconds"] = max(step["seconds"], end - before)
        return steps

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


def settings(args) -> list[str]:
    return ["--max-rows", str(args.max_rows), "--max-step-tokens", str(args.max_step_tokens), "--kv-cache-mib", "512"]


def send(url: str, request: dict, tokens: list[int], began: float) -> dict:
    """One request, at its time: seconds to the first token and to the end."""
    time.sleep(max(0.0, began + request["at_s"] - time.monotonic()))
    due = began + request["at_s"]
    body = {"model": "default", "prompt": tokens, "max_tokens": request["output_tokens"], "stream": True, "ignore_eos": True,
            "temperature": 0}
    http = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    first = None
    with urllib.request.urlopen(http, timeout=600) as answer:
        for line in answer:
            if first is None and line.startswith(b"data: {"):
                first = time.monotonic()
    return {"ttft": first - due, "end": time.monotonic() - began}


def measure(args, trace: list[dict]) -> dict:
    server = Server(args)
    try:
        prompts = [prompt_of(request, i, args.vocab) for i, request in enumerate(trace)]
        send(server.url, {"at_s": 0, "output_tokens": 2}, [2000] * 8, time.monotonic())  # pages and threads are there
        skip = len(server.steps())
        began = time.monotonic() + 0.2
        with concurrent.futures.ThreadPoolExecutor(len(trace)) as pool:
            results = list(pool.map(lambda pair: send(server.url, pair[0], pair[1], began), zip(trace, prompts)))
        ttft = [r["ttft"] for r in results]
        seconds = max(r["end"] for r in results) - trace[0]["at_s"]
        return {"seconds": seconds, "output_tokens_per_s": sum(r["output_tokens"] for r in trace) / seconds,
                "ttft_mean_s": statistics.mean(ttft), "ttft_p50_s": statistics.median(ttft), "steps": server.steps()[skip:]}
    finally:
        server.stop()


def sizes_of(args) -> dict:
    """The numbers of ModelShape (src/executor/step_time.h) for a dense model, as `sluice model inspect` prints them."""
    text = subprocess.run([args.binary, "model", "inspect", args.model], capture_output=True, text=True, check=True).stdout

    def number(pattern: str) -> float:
        return float(re.search(pattern, text, re.MULTILINE).group(1))

    layers, dim, ffn = number(r"^layers +(\d+)"), number(r"^model dim +(\d+)"), number(r"^FFN dim +(\d+)")
    heads, kv_heads = number(r"^heads +(\d+) query"), number(r"(\d+) KV, \d+ elements each")
    head_dim, vocab = number(r"(\d+) elements each"), number(r"^vocabulary +(\d+)")
    elements, mib = number(r"^tensors +\d+ with (\d+)"), number(r"^tensors .* in ([\d.]+) MiB")
    q, kv = heads * head_dim, kv_heads * head_dim
    return {"layer_parameters": layers * (dim * (q + 2 * kv) + q * dim + 3 * dim * ffn), "head_parameters": vocab * dim,
            "weight_byte": mib * 2**20 / elements, "kv_token_bytes": 4 * layers * kv, "attended_flops": 4 * layers * q}


# Not token_s: a token's products cost the same, and which of the two it is would be left to chance.
OVERHEADS = ("step_s", "row_s")


def roofline(s: dict, step: dict, bandwidth: float, peak: float, attention_peak: float) -> float:
    """Seconds of a step without the overheads: the three maxima of src/executor/step_time.h."""
    layers, head, weight_byte = s["layer_parameters"], s["head_parameters"], s["weight_byte"]
    products = max(layers * weight_byte / bandwidth, 2 * layers * step["tokens"] / peak)
    if step["outputs"] > 0:
        products += max(head * weight_byte / bandwidth, 2 * head * step["outputs"] / peak)
    kv = (step["context_tokens"] + step["tokens"]) * s["kv_token_bytes"] / bandwidth
    return products + max(kv, step["attended"] * s["attended_flops"] / attention_peak)


def counts(step: dict) -> tuple[float, float]:
    return 1.0, step["outputs"]


def solve(a: list[list[float]], b: list[float]) -> list[float]:
    """x of a x = b, by elimination; a is positive definite."""
    n = len(b)
    rows = [list(row) + [right] for row, right in zip(a, b)]
    for i in range(n):
        for j in range(i + 1, n):
            factor = rows[j][i] / rows[i][i]
            rows[j] = [x - factor * y for x, y in zip(rows[j], rows[i])]
    x = [0.0] * n
    for i in reversed(range(n)):
        x[i] = (rows[i][n] - sum(rows[i][j] * x[j] for j in range(i + 1, n))) / rows[i][i]
    return x


def overheads_of(s: dict, steps: list[dict], *rates: float) -> tuple[float, dict]:
    """The overheads, none negative, that leave the least squares of errors. Steps count alike, however long they took: weights
    made of measured times would count the slow ones less, and the sum of all times would come out too small."""
    rest = [step["seconds"] - roofline(s, step, *rates) for step in steps]
    columns = [counts(step) for step in steps]
    gram = [[sum(c[i] * c[j] for c in columns) for j in range(2)] for i in range(2)]
    right = [sum(c[i] * r for c, r in zip(columns, rest)) for i in range(2)]
    whole = sum(r * r for r in rest)
    best = (whole, {})
    for chosen in itertools.chain.from_iterable(itertools.combinations(range(2), n) for n in range(1, 3)):
        x = solve([[gram[i][j] for j in chosen] for i in chosen], [right[i] for i in chosen])
        error = whole - sum(right[i] * value for i, value in zip(chosen, x))
        if min(x) >= 0 and error < best[0]:
            best = (error, {OVERHEADS[i]: value for i, value in zip(chosen, x)})
    return best


def descend(error, start: tuple[float, ...]) -> tuple[float, list[float]]:
    """The least error near `start`, by steps of a factor in one number at a time, which shrink as nothing gets better."""
    at, factor = list(start), 2.0
    best = error(at)
    while factor > 1.005:
        tries = [at[:i] + [at[i] * by] + at[i + 1 :] for i in range(len(at)) for by in (factor, 1 / factor)]
        found, where = min((error(x), x) for x in tries)
        if found < best:
            best, at = found, where
        else:
            factor = math.sqrt(factor)
    return best, at


def fit(s: dict, steps: list[dict]) -> dict:
    """Bandwidth and the peaks of products and of attention, with the overheads that fit each best. The errors have several
    valleys, so the search sets out from several places."""
    starts = itertools.product((1e10, 1e11), (1e11, 1e12), (3e10, 3e11))
    _, rates = min(descend(lambda x: overheads_of(s, steps, *x)[0], start) for start in starts)
    overheads = overheads_of(s, steps, *rates)[1]
    device = {"bandwidth": rates[0], "peak": rates[1], "attention_peak": rates[2], **dict.fromkeys(OVERHEADS, 0.0), **overheads}
    errors = []
    for step in steps:
        predicted = roofline(s, step, *rates) + sum(device[name] * count for name, count in zip(OVERHEADS, counts(step)))
        errors.append(abs(predicted / step["seconds"] - 1))
    return device | {"steps": len(steps), "median_relative_error_of_steps": statistics.median(errors)}


def device_file(device: dict, path: pathlib.Path) -> None:
    top = max(device["peak"], device["attention_peak"])
    path.write_text(
        "# Fitted by bench/engine/fit.py; what else is in it is in its results.\n"
        f'name = "fitted"\nmemory-bytes = 8_000_000_000\nbandwidth-bytes-per-s = {device["bandwidth"]:.4g}\nbandwidth-efficiency = 1\n'
        f'flops-per-s = {top:.4g}\nflops-efficiency = {device["peak"] / top:.4g}\n'
        f'attention-efficiency = {device["attention_peak"] / top:.4g}\nstep-s = {device["step_s"]:.4g}\nlayer-s = 0\n'
        f'token-s = 0\nrow-s = {device["row_s"]:.4g}\nmax-steps-in-flight = 1\n'
    )


def predict(args, name: str, device: pathlib.Path) -> dict:
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [args.binary, "bench", "replay", "--trace", str(FOLDER / "traces" / f"{name}.jsonl"), "--sim-device", str(device)]
        command += ["--model", args.model, "--json", out.name, *settings(args)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        result = json.loads(pathlib.Path(out.name).read_text())
    return {"seconds": result["seconds"], "output_tokens_per_s": result["output_tokens_per_s"], "ttft_mean_s": result["ttft_s"]["mean"],
            "ttft_p50_s": result["ttft_s"]["p50"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--device-out", type=pathlib.Path, default=pathlib.Path("fitted.toml"))
    parser.add_argument("--runs-out", type=pathlib.Path, help="also write what was measured, with every step")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-rows", type=int, default=16)
    parser.add_argument("--max-step-tokens", type=int, default=256)
    parser.add_argument("--vocab", type=int, default=49152)
    args = parser.parse_args()
    traces = {name: [json.loads(line) for line in (FOLDER / "traces" / f"{name}.jsonl").read_text().splitlines()] for name in "ab"}
    runs = {name: [] for name in traces}
    for _ in range(args.rounds):
        for name, trace in traces.items():
            runs[name].append(measure(args, trace))
            print(name, {key: round(value, 4) for key, value in runs[name][-1].items() if key != "steps"}, flush=True)
    if args.runs_out:
        args.runs_out.write_text(json.dumps(runs))
    device = fit(sizes_of(args), [step for run in runs["a"] for step in run["steps"]])
    device_file(device, args.device_out)
    out = {"device": device, "rounds": args.rounds, "settings": settings(args), "threads": args.threads}
    for name in traces:
        measured = {key: statistics.mean(run[key] for run in runs[name]) for key in runs[name][0] if key != "steps"}
        predicted = predict(args, name, args.device_out)
        error = {key: predicted[key] / measured[key] - 1 for key in measured}
        out[name] = {"measured": measured, "each": [{k: v for k, v in run.items() if k != "steps"} for run in runs[name]],
                     "predicted": predicted, "error": error}
        print(name, "predicted/measured - 1:", {key: f"{value:+.1%}" for key, value in error.items()})
    args.out.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
