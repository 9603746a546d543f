#!/usr/bin/env python3
"""Makes a tiny random model of each decoder family as a Hugging Face folder, and its logits by an independent
implementation: transformers in float32 on the folder's own bfloat16 weights. By hand, not in CI: torch is gigabytes.

  pip install torch transformers safetensors numpy
  make_families.py [NAME...]        writes families/NAME/{config.json,model.safetensors,golden.bin} beside this script

golden.bin, little-endian: "SLFG", u32 version 1, u32 n, u32 token[n], u32 m, u32 vocabulary, then m times u32 position,
f32 logit[vocabulary]: the logits after token[0..position]. The sequence is longer than any window, so that every layer
with one forgets, and longer than any model's original context.
"""
import json
import pathlib
import struct
import sys

import numpy
import torch
import transformers

HERE = pathlib.Path(__file__).parent
NUM_TOKENS = 72
POSITIONS = (0, 7, 15, 16, 31, 47, 71)
WINDOW = 16

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 24, "decoder_sparse_step": 1}
PATTERN = ["sliding_attention", "sliding_attention", "full_attention"]


def rope(theta=10000.0, **scaling):
    return {"rope_type": "default", "rope_theta": theta} | scaling


FAMILIES = {
    "llama": ("Llama", {"tie_word_embeddings": False, "num_key_value_heads": 1}),
    "llama_linear": ("Llama", {"rope_parameters": rope(rope_type="linear", factor=4.0)}),
    "llama3": ("Llama", {"rope_parameters": rope(
        500000.0, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32)}),
    "mistral": ("Mistral", {"sliding_window": WINDOW}),
    "mixtral": ("Mixtral", {"num_local_experts": 5, "num_experts_per_tok": 2, "intermediate_size": 40}),
    "qwen2": ("Qwen2", {}),
    "qwen2moe": ("Qwen2Moe", EXPERTS | {"shared_expert_intermediate_size": 40, "norm_topk_prob": False}),
    "qwen3": ("Qwen3", {"head_dim": 32}),
    "qwen3_yarn": ("Qwen3", {"head_dim": 16, "rope_parameters": rope(
        1000000.0, rope_type="yarn", factor=4.0, original_max_position_embeddings=32)}),
    "qwen3moe": ("Qwen3Moe", EXPERTS | {"head_dim": 16, "norm_topk_prob": True, "mlp_only_layers": [1]}),
    "gemma": ("Gemma", {"head_dim": 32, "num_key_value_heads": 1}),
    "gemma2": ("Gemma2", {
        "head_dim": 16, "sliding_window": WINDOW, "query_pre_attn_scalar": 24,
        "attn_logit_softcapping": 4.0, "final_logit_softcapping": 6.0}),
    "gemma3": ("Gemma3Text", {
        "head_dim": 32, "num_hidden_layers": 3, "sliding_window": WINDOW, "query_pre_attn_scalar": 32,
        "layer_types": PATTERN, "rope_parameters": {
            "full_attention": rope(1000000.0, rope_type="linear", factor=8.0), "sliding_attention": rope()}}),
    "phi3": ("Phi3", {"sliding_window": WINDOW}),
    "phi3_longrope": ("Phi3", {"original_max_position_embeddings": 32, "partial_rotary_factor": 0.75,
                               "head_dim": 16, "rope_parameters": rope(
        rope_type="longrope", original_max_position_embeddings=32, partial_rotary_factor=0.75,
        short_factor=[1.0 + 0.1 * i for i in range(6)], long_factor=[1.0 + 0.9 * i for i in range(6)])}),
}


def draw(model, name):
    """Weights large enough that every part of the model shows in the logits."""
    generator = torch.Generator().manual_seed(sum(name.encode()))
    for key, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in key:
            # Gemma's files hold w where 1 + w is meant.
            one = 0.0 if "Gemma" in type(model).__name__ else 1.0
            value = one + 0.3 * noise
        elif key.endswith("bias"):
            value = 0.5 * noise
        elif "embed" in key:
            value = 0.7 * noise
        else:
            value = 1.3 * noise / parameter.shape[-1] ** 0.5
        parameter.data.copy_(value.to(torch.bfloat16).to(torch.float32))


def make(name):
    kind, extra = FAMILIES[name]
    config_class = getattr(transformers, kind + "Config")
    model_class = getattr(transformers, kind.removesuffix("Text") + "ForCausalLM")
    config = config_class(**(SIZES | extra), attn_implementation="eager")
    model = model_class(config).eval()
    draw(model, name)
    folder = HERE / "families" / name
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    loaded = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    random = numpy.random.default_rng(sum(name.encode()))
    tokens = random.integers(0, SIZES["vocab_size"], NUM_TOKENS).tolist()
    with torch.no_grad():
        logits = loaded(torch.tensor([tokens])).logits[0].float().numpy()
    out = b"SLFG" + struct.pack("<II", 1, NUM_TOKENS) + struct.pack(f"<{NUM_TOKENS}I", *tokens)
    out += struct.pack("<II", len(POSITIONS), logits.shape[1])
    for position in POSITIONS:
        out += struct.pack("<I", position) + logits[position].astype("<f4").tobytes()
    (folder / "golden.bin").write_bytes(out)
    sizes = {p.name: p.stat().st_size for p in folder.iterdir()}
    print(f"{name}: logits up to {abs(logits).max():.2f}, deviation {logits.std():.2f}; {json.dumps(sizes)}")


if __name__ == "__main__":
    for family in sys.argv[1:] or FAMILIES:
        make(family)
