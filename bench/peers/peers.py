"""The same work on Sluice, llama.cpp and OpenVINO GenAI: same weights, threads and machine, in one interleaved run.

Greedy tokens are compared first; then single-stream decode, a 512-token prefill and decode of 16 rows, each a median
of at least five rounds in which every engine takes its turn. Prints a table and writes JSON with --json.
"""

import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent

GREEDY_PROMPT = "The sky is blue because the light of the sun"

WORK = {
    "decode, 1 row": "decode 1 128 128",
    "prefill, 512 tokens": "prefill 512",
    "decode, 16 rows": "decode 16 128 48",
}


class Worker:
    def __init__(self, name: str, command: list[str]):
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.description = self.read()

    def read(self) -> dict:
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"{self.name} ended with {self.process.wait()}")
            if line.startswith("{"):
                return json.loads(line)

    def ask(self, line: str) -> dict:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()


def machine(threads: int) -> dict:
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    flags = next(line for line in open("/proc/cpuinfo") if line.startswith("flags"))
    pages = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "cpu": cpu,
        "avx512_vnni": " avx512_vnni" in flags,
        "kernel": platform.release(),
        "threads": threads,
        "transparent_hugepage": pages.read_text().strip() if pages.exists() else "?",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", required=True, help="the bench_model program")
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engines", default="sluice,llama,openvino")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    if "sluice" not in args.engines.split(","):
        parser.error("--engines must name sluice")
    commands = {"sluice": [args.bench, args.model, str(args.threads)]}
    for peer in ("llama", "openvino"):
        commands[peer] = [sys.executable, str(HERE / "workers.py"), peer, args.model, str(args.threads)]
    workers = [Worker(name, commands[name]) for name in args.engines.split(",")]
    facts = machine(args.threads)
    print(json.dumps(facts))
    for worker in workers:
        print(f"{worker.name}: {json.dumps(worker.description)}")

    prompt = next(w for w in workers if w.name == "sluice").ask("tokenize " + GREEDY_PROMPT)["tokens"]
    greedy = {w.name: w.ask("greedy 32 " + " ".join(map(str, prompt)))["tokens"] for w in workers}
    for name, tokens in greedy.items():
        same = next((i for i, (a, b) in enumerate(zip(tokens, greedy[workers[0].name])) if a != b), len(tokens))
        print(f"greedy tokens, {name}: {same} of {len(tokens)} equal to {workers[0].name}'s before the first difference")

    rates: dict[str, dict[str, list[float]]] = {work: {w.name: [] for w in workers} for work in WORK}
    for worker in workers:  # warm-up, not counted
        for line in WORK.values():
            worker.ask(line)
    for _ in range(max(5, args.rounds)):
        for work, line in WORK.items():
            for worker in workers:
                answer = worker.ask(line)
                rates[work][worker.name].append(answer["tokens"] / answer["seconds"])
    print(f"\n| tokens/s, median [min..max] of {max(5, args.rounds)} | " + " | ".join(w.name for w in workers) + " | Sluice / best peer |")
    print("|---|" + "---|" * (len(workers) + 1))
    for work, by_engine in rates.items():
        cells = [f"{statistics.median(r):,.0f} [{min(r):,.0f}..{max(r):,.0f}]" for r in by_engine.values()]
        others = [statistics.median(r) for name, r in by_engine.items() if name != "sluice"]
        ratio = statistics.median(by_engine["sluice"]) / max(others) if others else float("nan")
        print(f"| {work} | " + " | ".join(cells) + f" | {ratio:.2f} |")
    if args.json:
        args.json.write_text(json.dumps({"machine": facts, "engines": {w.name: w.description for w in workers}, "rates": rates}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
