#!/usr/bin/env python3
"""Makes gemma3/teacher.bin: next-token distributions of Gemma3-270M by an independent implementation, transformers in
float32 on the weights that the same GGUF file holds, dequantised by the gguf package. By hand, not in CI.

  pip install torch transformers accelerate gguf numpy sentencepiece
  make_gemma3.py --model gemma-3-270m-q4_k_m.gguf

teacher.bin as make.py describes it, but version 2: u32 token[k], k = 16. Every segment begins with the <bos> token. The
first is longer than the 512 tokens that the local layers see.
"""
import argparse
import pathlib

import torch

import make

TOP_K = 16
LICENCE_TOKENS = 800
SAMPLE_TOKENS = 64
STARTS = ("Once upon a time, in a village by the sea,", "def fibonacci(n):\n")


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    args = parser.parse_args()
    model, tokenizer = make.load(args.model)
    licence = pathlib.Path("/usr/share/common-licenses/Apache-2.0").read_text()
    segments = [tokenizer(licence).input_ids[:LICENCE_TOKENS]]
    torch.manual_seed(1)
    for start in STARTS:
        segments += make.sample(model, tokenizer(start).input_ids, SAMPLE_TOKENS, 4)
    if any(ids[0] != tokenizer.bos_token_id for ids in segments):
        raise SystemExit("a segment does not begin with <bos>")
    logprobs = torch.log_softmax(make.logits_of(model, segments[0]).double(), -1)
    targets = torch.tensor(segments[0][1:])
    print(f"perplexity of the licence: {torch.exp(-logprobs[torch.arange(len(targets)), targets].mean()):.3f}")
    folder = make.HERE / "gemma3"
    folder.mkdir(exist_ok=True)
    make.write_teacher(model, segments, folder / "teacher.bin", TOP_K, "<u4")


if __name__ == "__main__":
    main()
