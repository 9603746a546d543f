"""Texts to vectors on Sluice's server, sentence-transformers and ONNX Runtime: same folder, threads and machine.

Sluice is its whole server: JSON in, base64 vectors out over HTTP, one request a round. The peers are called in this
process and tokenize there too; ONNX Runtime runs torch's export of the model over batches of 32 texts of like
length, as sentence-transformers makes them. Vectors are compared first; then the engines take turns, a median of at
least five rounds each.
"""

import argparse
import base64
import http.client
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import torch

from peers import machine

LICENCE = pathlib.Path("/usr/share/common-licenses/GPL-3")
WORK = {"64 texts of 8 words": (64, 8), "64 texts of 24 words": (64, 24), "64 texts of 96 words": (64, 96), "32 texts of 130 words": (32, 130)}
BATCH = 32


def texts(count: int, words: int) -> list[str]:
    """Stretches of an English text, of mixed lengths around `words`."""
    all_words = LICENCE.read_text().split()
    lengths = [max(1, words * (50 + 100 * (i * 7 % 11) // 10) // 100) for i in range(count)]
    return [" ".join(all_words[i * 37 : i * 37 + n]) for i, n in enumerate(lengths)]


class Sluice:
    def __init__(self, binary: str, model: str, threads: int):
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        command = [binary, "serve", "--model", model, "--http-port", "0", "--grpc-port", "0", "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port())
        self.model = pathlib.Path(model).name

    def port(self) -> int:
        for _ in range(300):
            ready = re.search(r"http://[^:]+:(\d+)", pathlib.Path(self.log.name).read_text())
            if ready:
                return int(ready.group(1))
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError("the server did not start: " + pathlib.Path(self.log.name).read_text())

    def post(self, path: str, body: dict) -> dict:
        self.connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        answer = json.loads(self.connection.getresponse().read())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def encode(self, batch: list[str]) -> numpy.ndarray:
        answer = self.post("/v1/embeddings", {"model": self.model, "input": batch, "encoding_format": "base64"})
        self.tokens = answer["usage"]["total_tokens"]
        return numpy.stack([numpy.frombuffer(base64.b64decode(d["embedding"]), numpy.float32) for d in answer["data"]])


class SentenceTransformers:
    def __init__(self, model: str):
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(model, device="cpu")

    def encode(self, batch: list[str]) -> numpy.ndarray:
        return self.model.encode(batch, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)


class OnnxRuntime:
    def __init__(self, model: str, threads: int, folder: str):
        import onnxruntime
        from tokenizers import Tokenizer
        from transformers import AutoModel

        path = str(pathlib.Path(folder) / "model.onnx")
        encoder = AutoModel.from_pretrained(model, dtype=torch.float32, attn_implementation="eager").eval()
        example = torch.ones(2, 7, dtype=torch.int64)
        padded = example.clone()
        padded[1, 5:] = 0  # a mask of ones alone would be left out of the export
        names = ["input_ids", "attention_mask", "token_type_ids"]
        inputs = dict(zip(names, (example, padded, example * 0)))
        torch.onnx.export(
            encoder, (), path, kwargs=inputs, input_names=names, output_names=["states"],
            dynamic_shapes={n: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for n in names}, verbose=False,
        )  # fmt: skip
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(str(pathlib.Path(model) / "tokenizer.json"))
        self.tokenizer.enable_truncation(256)
        self.tokenizer.enable_padding()

    def encode(self, batch: list[str]) -> numpy.ndarray:
        order = sorted(range(len(batch)), key=lambda i: -len(batch[i]))
        out = [None] * len(batch)
        for begin in range(0, len(order), BATCH):
            part = order[begin : begin + BATCH]
            encoded = self.tokenizer.encode_batch([batch[i] for i in part])
            ids = numpy.array([e.ids for e in encoded], numpy.int64)
            mask = numpy.array([e.attention_mask for e in encoded], numpy.int64)
            (states,) = self.session.run(["states"], {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0})
            pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
            for i, vector in zip(part, pooled / numpy.linalg.norm(pooled, axis=1, keepdims=True)):
                out[i] = vector
        return numpy.stack(out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sluice", required=True, help="the sluice program")
    parser.add_argument("--model", required=True, help="folder of an encoder that pools by mean")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if args.threads > 1 else "false"
    folder = tempfile.TemporaryDirectory()
    sluice = Sluice(args.sluice, args.model, args.threads)
    engines = {
        "Sluice over HTTP": sluice,
        "sentence-transformers": SentenceTransformers(args.model),
        "ONNX Runtime": OnnxRuntime(args.model, args.threads, folder.name),
    }
    try:
        print(json.dumps(machine(args.threads)))
        compared = texts(*WORK["64 texts of 24 words"])
        ours = sluice.encode(compared)
        for name, engine in engines.items():
            print(f"smallest cosine to {name}: {(ours * engine.encode(compared)).sum(1).min():.9f}")
        rounds = max(5, args.rounds)
        print(f"\n| tokens/s, median [min..max] of {rounds} | " + " | ".join(engines) + " | Sluice / best peer |")
        print("|---|" + "---|" * (len(engines) + 1))
        for work, (count, words) in WORK.items():
            batch = texts(count, words)
            rates: dict[str, list[float]] = {name: [] for name in engines}
            for turn in range(rounds + 1):  # the first is the warm-up
                for name, engine in engines.items():
                    begin = time.perf_counter()
                    engine.encode(batch)
                    if turn > 0:
                        rates[name].append(sluice.tokens / (time.perf_counter() - begin))
            medians = [statistics.median(r) for r in rates.values()]
            cells = [f"{statistics.median(r):,.0f} [{min(r):,.0f}..{max(r):,.0f}]" for r in rates.values()]
            print(f"| {work} ({sluice.tokens / count:.0f} tokens each) | " + " | ".join(cells) + f" | {medians[0] / max(medians[1:]):.2f} |")
    finally:
        sluice.process.terminate()
        sluice.process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
