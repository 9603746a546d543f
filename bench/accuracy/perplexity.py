"""Perplexity, full-vocabulary KL and top-1 agreement on the licence texts of /usr/share/common-licenses.

  ./dev build dump_logits
  python bench/accuracy/perplexity.py --dump-logits build/release/bench/dump_logits --model FILE.gguf
  (torch, transformers, accelerate, gguf, sentencepiece; by hand, not in CI: torch is gigabytes)

The oracle is transformers in float32 on the weights that the same GGUF file holds, dequantised by the gguf package. The
texts are cut into windows of 512 tokens, each behind the token that begins a text where the model has one. Both read the
same ids. The result goes to results.json beside this script, one entry a model.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys

import numpy
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
FOLDER = pathlib.Path("/usr/share/common-licenses")
TEXTS = {
    "GPL-3": "3972dc9744f6499f0f9b2dbf76696f2ae7ad8af9b23dde66d6af86c9dfb36986",
    "GPL-2": "8177f97513213526df2cf6184d8ff986c675afb514d4e68a404010521b880643",
    "LGPL-2.1": "dc626520dcd53a22f727af3ee42c770e56c97a64fe3adb063799d8ab032fe551",
    "LGPL-3": "e3a994d82e644b03a792a930f574002658412f62407f5fee083f2555c5f23118",
    "GFDL-1.3": "110535522396708cea37c72a802c5e7e81391139f5f7985631c93ef242b206a4",
    "Apache-2.0": "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30",
}
WINDOW = 512


def windows(tokenizer) -> list[list[int]]:
    ids = []
    for name, digest in TEXTS.items():
        data = (FOLDER / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise SystemExit(f"{FOLDER / name} has not the expected SHA-256")
        ids += tokenizer(data.decode(), add_special_tokens=False).input_ids
    begin = [tokenizer.bos_token_id] if tokenizer("a").input_ids[0] == tokenizer.bos_token_id else []
    size = WINDOW - len(begin)
    return [begin + ids[i : i + size] for i in range(0, len(ids) - size + 1, size)]


class Ours:
    def __init__(self, program: str, model: str, threads: int, vocab: int):
        self.vocab = vocab
        self.process = subprocess.Popen([program, model, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def logits(self, ids: list[int]) -> torch.Tensor:
        self.process.stdin.write((" ".join(map(str, ids)) + "\n").encode())
        self.process.stdin.flush()
        size = len(ids) * self.vocab * 4
        data = bytearray(self.process.stdout.read(size))
        if len(data) != size:
            raise SystemExit(f"dump_logits ended with {self.process.wait()}")
        return torch.from_numpy(numpy.frombuffer(data, numpy.float32).reshape(-1, self.vocab))


@torch.no_grad()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dump-logits", required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    source = {"pretrained_model_name_or_path": str(args.model.parent), "gguf_file": args.model.name}
    oracle = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32).eval()
    texts = windows(transformers.AutoTokenizer.from_pretrained(**source))
    ours = Ours(args.dump_logits, str(args.model), args.threads, oracle.config.vocab_size)
    nll = {"ours": 0.0, "oracle": 0.0}
    kl, same, positions, predicted = 0.0, 0, 0, 0
    for number, ids in enumerate(texts, 1):
        theirs, mine = oracle(torch.tensor([ids])).logits[0], ours.logits(ids)
        for begin in range(0, len(ids), 64):  # in double, a few rows at a time
            p = torch.log_softmax(theirs[begin : begin + 64].double(), -1)
            q = torch.log_softmax(mine[begin : begin + 64].double(), -1)
            kl += float((p.exp() * (p - q)).sum())
            same += int((p.argmax(-1) == q.argmax(-1)).sum())
            positions += len(p)
            targets = torch.tensor(ids[begin + 1 : begin + 65])
            rows = torch.arange(len(targets))
            predicted += len(targets)
            nll["oracle"] -= float(p[rows, targets].sum())
            nll["ours"] -= float(q[rows, targets].sum())
        if number % 10 == 0 or number == len(texts):
            print(f"window {number} of {len(texts)}: mean KL {kl / positions:.3e}", file=sys.stderr, flush=True)
    perplexity = {name: float(numpy.exp(total / predicted)) for name, total in nll.items()}
    result = {
        "sha256": hashlib.sha256(args.model.read_bytes()).hexdigest(),
        "texts": TEXTS,
        "tokens": positions,
        "perplexity": perplexity["ours"],
        "oracle_perplexity": perplexity["oracle"],
        "perplexity_difference_percent": 100 * (perplexity["ours"] / perplexity["oracle"] - 1),
        "mean_kl": kl / positions,
        "top1_percent": 100 * same / positions,
        "oracle": f"transformers {transformers.__version__}, torch {torch.__version__}, float32",
    }
    print(json.dumps(result, indent=1))
    path = HERE / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results[args.model.stem] = result
    path.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
