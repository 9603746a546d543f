#!/usr/bin/env python3
"""Makes the golden results of a model with an independent implementation: transformers' LlamaForCausalLM in float32 on
the weights that the same GGUF file holds, dequantised by the gguf package. By hand, not in CI: torch is gigabytes.

  pip install torch transformers accelerate gguf numpy
  make.py --model FILE.gguf                     writes greedy.txt and teacher.bin beside this script
  make.py --model FILE.gguf --prompts FILE --out DIR    the same for other prompts

greedy.txt, for each prompt: "prompt IDS", "output IDS" (64 greedy tokens, end-of-text ignored), "gap VALUES" (logit of
the best token minus that of the second best, at each output position).

teacher.bin, little-endian: "SLTF", u32 version 1, u32 segments, u32 k = 32; for each segment u32 n, u32 tokens[n], then
for each position u16 token[k] (version 2: u32), f32 logprob[k]: the k most probable next tokens after tokens[0..position], descending.
"""
import argparse
import hashlib
import pathlib
import struct

import torch
import transformers

TOP_K = 32
NUM_OUTPUT = 64
LICENCE_TOKENS = 1100
SAMPLE_TOKENS = 90
HERE = pathlib.Path(__file__).parent


def load(path):
    kind = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(**kind, dtype=torch.float32).eval()
    return model, transformers.AutoTokenizer.from_pretrained(**kind)


def read_prompts(path, tokenizer):
    for line in path.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        kind, text = line.split(" ", 1)
        text = text.replace("\\n", "\n")
        if kind == "chat":
            message = [{"role": "user", "content": text}]
            text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        elif kind != "plain":
            raise SystemExit(f"{path}: a line begins with {kind!r}; 'plain' or 'chat' is needed")
        yield tokenizer(text, add_special_tokens=False).input_ids


@torch.no_grad()
def logits_of(model, ids):
    return model(torch.tensor([ids])).logits[0]


@torch.no_grad()
def generate(model, ids, count, choose):
    """count tokens after ids, each chosen from the logits row."""
    cache, step, out = None, ids, []
    for _ in range(count):
        result = model(torch.tensor([step]), past_key_values=cache, use_cache=True)
        cache = result.past_key_values
        out.append(choose(result.logits[0, -1]))
        step = [out[-1]]
    return out


def write_greedy(model, prompts, header, path):
    with path.open("w") as file:
        file.write(header)
        for ids in prompts:
            gaps = []

            def choose(row):
                best = torch.topk(row, 2)
                gaps.append(float(best.values[0] - best.values[1]))
                return int(best.indices[0])

            output = generate(model, ids, NUM_OUTPUT, choose)
            file.write(f"prompt {' '.join(map(str, ids))}\noutput {' '.join(map(str, output))}\n")
            file.write(f"gap {' '.join(f'{gap:.4f}' for gap in gaps)}\n")


@torch.no_grad()
def sample(model, ids, total, copies):
    """Continuations of ids to `total` tokens each, at temperature 1, all in one batch."""
    out, cache, step = [list(ids) for _ in range(copies)], None, torch.tensor([ids] * copies)
    while len(out[0]) < total:
        result = model(step, past_key_values=cache, use_cache=True)
        cache = result.past_key_values
        step = torch.multinomial(torch.softmax(result.logits[:, -1].double(), -1), 1)
        for row, token in zip(out, step[:, 0].tolist()):
            row.append(token)
    return out


def make_segments(model, tokenizer, prompts):
    """A licence text, and texts that the model itself writes at temperature 1: high entropy."""
    licence = pathlib.Path("/usr/share/common-licenses/Apache-2.0").read_text()
    yield tokenizer(licence, add_special_tokens=False).input_ids[:LICENCE_TOKENS]
    torch.manual_seed(1)
    for ids in (prompts[1], prompts[5]):
        yield from sample(model, ids, SAMPLE_TOKENS, 8)


def write_teacher(model, segments, path, top_k=TOP_K, token_type="<u2"):
    """token_type "<u4" makes version 2."""
    with path.open("wb") as file:
        file.write(b"SLTF" + struct.pack("<III", 1 if token_type == "<u2" else 2, len(segments), top_k))
        for ids in segments:
            file.write(struct.pack(f"<I{len(ids)}I", len(ids), *ids))
            best = torch.topk(torch.log_softmax(logits_of(model, ids).double(), -1), top_k)
            for tokens, logprobs in zip(best.indices.numpy(), best.values.numpy()):
                file.write(tokens.astype(token_type).tobytes() + logprobs.astype("<f4").tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--prompts", type=pathlib.Path, default=HERE / "prompts.txt")
    parser.add_argument("--out", type=pathlib.Path, default=HERE)
    parser.add_argument("--teacher-only", action="store_true", help="leave greedy.txt as it is")
    args = parser.parse_args()
    model, tokenizer = load(args.model)
    prompts = list(read_prompts(args.prompts, tokenizer))
    digest = hashlib.sha256(args.model.read_bytes()).hexdigest()
    header = (f"# {args.model.name} sha256 {digest}\n"
              f"# by torch {torch.__version__}, transformers {transformers.__version__}, float32\n")
    if not args.teacher_only:
        write_greedy(model, prompts, header, args.out / "greedy.txt")
    if len(prompts) > 5:
        write_teacher(model, list(make_segments(model, tokenizer, prompts)), args.out / "teacher.bin")


if __name__ == "__main__":
    main()
