"""Writes traces a.jsonl and b.jsonl beside this file, the ones that fit.py measures: the same bytes every time."""

import json
import pathlib
import random

FOLDER = pathlib.Path(__file__).resolve().parent / "traces"


def write(name: str, seed: int, count: int, rate: float, prompt: tuple[int, int], output: tuple[int, int], shared: int) -> None:
    """`count` requests at `rate` a second, lengths uniform; half of them begin with one of 3 pieces of `shared` tokens."""
    rng = random.Random(seed)
    at, lines = 0.0, []
    for _ in range(count):
        at += rng.expovariate(rate)
        line = {"at_s": round(at, 3), "prompt_tokens": rng.randint(*prompt), "output_tokens": rng.randint(*output)}
        if shared and rng.random() < 0.5:
            line |= {"prefix": [rng.randrange(3)], "prefix_tokens": shared}
        lines.append(json.dumps(line) + "\n")
    (FOLDER / f"{name}.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    write("a", seed=1, count=40, rate=4.0, prompt=(16, 400), output=(8, 96), shared=0)
    write("b", seed=2, count=40, rate=3.0, prompt=(200, 900), output=(24, 64), shared=128)
