#!/usr/bin/env python3
"""Makes tiny Hugging Face folders with quantised weights, and what other implementations compute from them. By hand, not
in CI: torch is gigabytes.

  pip install torch transformers safetensors numpy compressed-tensors gptqmodel     (0.20.0 and 7.7.0 made the files)
  make_quantised_folders.py [NAME...]   writes quantised/NAME/{config.json,model.safetensors,golden.bin,samples.bin}

Weights are rounded here, to the nearest. Who packs and who dequantises them in float32:
  compressed-tensors   its own compress and decompress. That release has no act-order any more: there the codes are
                       unpacked by the package, and W[n, k] = scale[n, g_idx[k]] * code[n, k], as release 0.9 had it
  gptq                 gptqmodel's TorchLinear packs and dequantises; format 1 stores the zero points less one
  awq                  packed here in the order of AutoAWQ's GEMM layer (0 2 4 6 1 3 5 7); gptqmodel dequantises
  fp8                  torch casts; transformers' finegrained_fp8 dequantises
golden.bin: as in make_families.py, by transformers in float32 on the dequantised weights. samples.bin, little-endian:
"SLQS", u32 version 1, u32 matrices; then for each u8 length, its name in GGUF, u32 samples, and for each u32 row,
u32 column, f32 weight, f32 scale.
"""
import json
import pathlib
import struct
import sys

import numpy
import torch
import transformers
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import save_file
from transformers.integrations import finegrained_fp8

HERE = pathlib.Path(__file__).parent
NUM_TOKENS, NUM_SAMPLES, VOCAB = 40, 48, 128
POSITIONS = (0, 7, 16, 39)
SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": VOCAB, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GGUF = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def codes_of(weight, bits, group, symmetric, scale_type):
    """Codes [N, K], scales and zeros [N, G] of a float32 weight: q = W / scale + zero, all codes from 0."""
    n, k = weight.shape
    grouped = weight.reshape(n, k // group, group)
    top = 2**bits - 1
    if symmetric:
        scale = grouped.abs().amax(-1) / (top // 2 + 0.5)
        zero = torch.full_like(scale, 2 ** (bits - 1))
    else:
        low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=0)
        scale = (high - low) / top
        zero = torch.round(-low / scale).clamp(1, top)  # format 1 of GPTQ cannot say 0
    scale = scale.to(scale_type).float()
    codes = torch.round(grouped / scale[..., None] + zero[..., None]).clamp(0, top)
    return codes.reshape(n, k).to(torch.int32), scale, zero.to(torch.int32)


# Each returns the tensors of a layer by suffix, its weight in float32, and its scale at every element.


def fp8(weight, block=None, per_row=False, static=False):
    n, k = weight.shape
    bn, bk = block or ((1, k) if per_row else (n, k))
    scale = torch.empty(-(-n // bn), -(-k // bk))
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            scale[i, j] = weight[i * bn:(i + 1) * bn, j * bk:(j + 1) * bk].abs().max() / 448
    wide = scale.repeat_interleave(bn, 0)[:n].repeat_interleave(bk, 1)[:, :k]
    codes = (weight / wide).to(torch.float8_e4m3fn)
    if block:
        value = finegrained_fp8._dequantize_fp8_weight(codes, scale, list(block), torch.float32)
        return {"weight": codes, "weight_scale_inv": scale}, value, wide
    value = finegrained_fp8._dequantize_fp8_weight(codes, scale, None, torch.float32)
    tensors = {"weight": codes, "weight_scale": scale if per_row else scale.reshape([])}
    if static:
        tensors["input_scale"] = torch.tensor(0.25)
    return tensors, value, wide


def compressed(weight, args, kind, index=None):
    """kind: a format of compressed-tensors; index: the group of each column, by act-order."""
    n, k = weight.shape
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**args | {"actorder": None}))
    if args["type"] == "float":
        tensors, _, wide = fp8(weight, args.get("block_structure"), args["strategy"] == "channel")
        scale = tensors.get("weight_scale_inv", tensors.get("weight_scale")).to(torch.bfloat16).float()
        scale = scale.reshape(1) if args["strategy"] == "tensor" else scale
        if "block_structure" in args:
            bn, bk = args["block_structure"]
            wide = scale.repeat_interleave(bn, 0)[:n].repeat_interleave(bk, 1)[:, :k]
        else:
            wide = scale.reshape(-1, 1).expand(n, k)
        state = {"weight": weight, "weight_scale": scale}
    else:
        group = args.get("group_size") or k
        order = torch.argsort(index, stable=True) if index is not None else torch.arange(k)
        source = weight[:, order] if args["strategy"] != "tensor" else weight.reshape(1, -1)
        _, scale, zero = codes_of(source, args["num_bits"], group if args["strategy"] != "tensor" else n * k,
                                  args["symmetric"], torch.bfloat16)
        zero = (zero - 2 ** (args["num_bits"] - 1)).to(torch.int8)
        state = {"weight": weight, "weight_scale": scale}
        if not args["symmetric"]:
            state["weight_zero_point"] = zero
        wide = scale.expand(n, -1).repeat_interleave(k // scale.shape[1], 1)
    if index is not None:
        wide = scale[:, index]
        codes = torch.round(weight / wide).clamp(-8, 7).to(torch.int8)
        tensors = {"weight_packed": pack_to_int32(codes, 4), "weight_shape": torch.tensor([n, k]),
                   "weight_scale": scale, "weight_g_idx": index.to(torch.int32)}
        value = unpack_from_int32(tensors["weight_packed"], 4, (n, k)).double() * scale[:, index].double()
        value = value.float()
    else:
        compressor = BaseCompressor.get_value_from_registry(kind)
        tensors = compressor.compress(state, scheme)
        value = compressor.decompress(tensors, scheme)["weight"].float()
    tensors["weight_scale"] = tensors["weight_scale"].to(torch.bfloat16)
    return tensors, value, wide


def gptq(weight, bits, group, symmetric, v2, act_order):
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear

    n, k = weight.shape
    size = group if group > 0 else k
    index = torch.arange(k) // size
    if act_order:
        index = index[torch.randperm(k, generator=torch.Generator().manual_seed(k + n))]
    order = torch.argsort(index, stable=True)
    _, scale, zero = codes_of(weight[:, order], bits, size, symmetric, torch.float16)
    linear = torch.nn.Linear(k, n, bias=False)
    linear.weight.data = weight
    layer = TorchLinear(bits=bits, group_size=group, sym=symmetric, desc_act=act_order, in_features=k, out_features=n)
    layer.pack_original(linear, scale, zero.float().to(torch.int32), index.to(torch.int32))
    layer.scales = layer.scales.float()  # else it multiplies in float16
    layer.eval()
    value = layer.dequantize_weight().T.contiguous().float()
    zeros = layer.qzeros.clone()
    if not v2:
        zeros -= 0x11111111 if bits == 4 else 0x01010101
    tensors = {"qweight": layer.qweight, "qzeros": zeros, "scales": layer.scales.half(), "g_idx": index.to(torch.int32)}
    return tensors, value, scale[:, index]


def awq(weight, group):
    from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

    codes, scale, zero = codes_of(weight, 4, group, False, torch.float16)

    def pack(columns):  # [K or G, N]
        words = torch.zeros(columns.shape[0], columns.shape[1] // 8, dtype=torch.int32)
        for i, j in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
            words |= columns[:, j::8] << (4 * i)
        return words

    tensors = {"qweight": pack(codes.T), "qzeros": pack(zero.T), "scales": scale.T.contiguous().half()}
    value = dequantize_gemm(tensors["qweight"], tensors["qzeros"], scale.T.contiguous(), 4, group).T.contiguous()
    return tensors, value.float(), scale.repeat_interleave(group, 1)


def ct_args(strategy, bits=8, kind="int", symmetric=True, **more):
    return {"num_bits": bits, "type": kind, "strategy": strategy, "symmetric": symmetric} | more


def ct_config(kind, *groups):
    return {
        "quant_method": "compressed-tensors", "format": kind, "ignore": ["lm_head", "re:.*router"],
        "quantization_status": "compressed", "kv_cache_scheme": None, "config_groups": {
            f"group_{i}": {"targets": ["Linear"], "input_activations": None, "output_activations": None, "weights": args}
            | ({"format": own} if own else {}) for i, (args, own) in enumerate(groups)}}  # fmt: skip


def ct(kind, args, model="Llama", index=None, **extra):
    def make(_, weight):
        columns = weight.shape[1]
        groups = None
        if index:
            groups = torch.arange(columns) // args["group_size"]
            groups = groups[torch.randperm(columns, generator=torch.Generator().manual_seed(columns))]
        return compressed(weight, args, kind, groups)
    return model, extra, ct_config(kind, (args, None)), make


def ct_mixed():
    floats, ints = ct_args("channel", kind="float"), ct_args("group", 4, group_size=32)
    config = ct_config("mixed-precision", (floats, "float-quantized"), (ints, "pack-quantized"))

    def make(name, weight):
        return compressed(weight, floats, "float-quantized") if "attn" in name else compressed(weight, ints, "pack-quantized")
    return "Llama", {}, config, make


def gptq_folder(bits=4, group=32, symmetric=True, v2=False, act_order=False, model="Llama"):
    config = {"quant_method": "gptq", "bits": bits, "group_size": group, "sym": symmetric, "desc_act": act_order,
              "checkpoint_format": "gptq_v2" if v2 else "gptq"}
    return model, {}, config, lambda _, w: gptq(w, bits, group, symmetric, v2, act_order)


EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "decoder_sparse_step": 1}
FOLDERS = {
    "fp8_blocks": ("Qwen3", {}, {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [48, 48]},
                   lambda _, w: fp8(w, (48, 48))),
    "fp8_tensor": ("Llama", {}, {"quant_method": "fp8", "activation_scheme": "static"}, lambda _, w: fp8(w, static=True)),
    "ct_fp8_rows": ct("float-quantized", ct_args("channel", kind="float"), "Qwen2"),
    "ct_fp8_blocks": ct("float-quantized", ct_args("block", kind="float", block_structure=[32, 32])),
    "ct_int8_rows": ct("int-quantized", ct_args("channel")),
    "ct_int8_zeros": ct("int-quantized", ct_args("channel", symmetric=False)),
    "ct_pack4": ct("pack-quantized", ct_args("group", 4, group_size=32)),
    "ct_pack4_zeros": ct("pack-quantized", ct_args("group", 4, symmetric=False, group_size=32), "Phi3"),
    "ct_pack4_actorder": ct("pack-quantized", ct_args("group", 4, group_size=32, actorder="group"), index=True),
    "ct_pack8_rows": ct("pack-quantized", ct_args("channel", 8)),
    "ct_pack4_experts": ct("pack-quantized", ct_args("group", 4, group_size=32), "Qwen3Moe", **EXPERTS),
    "ct_mixed": ct_mixed(),
    "awq": ("Qwen2", {}, {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True,
                          "modules_to_not_convert": None}, lambda _, w: awq(w, 32)),
    "gptq4": gptq_folder(),
    "gptq4_rows_actorder": gptq_folder(group=-1, act_order=True),
    "gptq4_actorder": gptq_folder(act_order=True),
    "gptq4_zeros": gptq_folder(symmetric=False),
    "gptq4_zeros_v2": gptq_folder(symmetric=False, v2=True, model="Qwen2"),
    "gptq8": gptq_folder(bits=8),
    "gptq8_actorder": gptq_folder(bits=8, act_order=True),
}  # fmt: skip


def draw(key, shape, generator):
    noise = torch.randn(shape, generator=generator)
    if "norm" in key:
        return (1 + 0.3 * noise).to(torch.bfloat16).float()
    scale = 0.5 if key.endswith("bias") else 0.7 if "embed" in key else 1.3 / shape[-1] ** 0.5
    return (scale * noise).to(torch.bfloat16).float()


def gguf_name(module):
    layer, _, rest = module.removeprefix("model.layers.").partition(".")
    if ".experts." in rest:
        expert, _, part = rest.partition(".experts.")[2].partition(".")
        return f"blk.{layer}.{GGUF['mlp.' + part]}.{expert}.weight"
    return f"blk.{layer}.{GGUF[rest]}.weight"


def file_tensors(name, parameter):
    """A parameter under the names of the file: some versions of transformers stack experts in memory."""
    if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
        return {name: parameter}
    stem, kind = name.rsplit(".", 1)
    out = {}
    for e, expert in enumerate(parameter):
        parts = zip(("gate_proj", "up_proj"), expert.chunk(2)) if kind == "gate_up_proj" else [("down_proj", expert)]
        out |= {f"{stem}.{e}.{part}.weight": values for part, values in parts}
    return out


def make(name):
    kind, extra, quantisation, quantise = FOLDERS[name]
    config = getattr(transformers, kind + "Config")(**(SIZES | extra), attn_implementation="eager")
    model = getattr(transformers, kind + "ForCausalLM")(config).eval()
    generator = torch.Generator().manual_seed(sum(name.encode()))
    random = numpy.random.default_rng(sum(name.encode()))
    file, samples, num_matrices = {}, b"", 0
    for key, parameter in sorted(model.named_parameters()):
        parameter.data.copy_(draw(key, parameter.shape, generator))
        for tensor, values in file_tensors(key, parameter.data).items():
            if "_proj" not in tensor or not tensor.endswith(".weight"):
                file[tensor] = values.to(torch.bfloat16).contiguous()
                continue
            module = tensor.removesuffix(".weight")
            parts, dequantised, scale = quantise(module, values.clone())
            assert dequantised.shape == values.shape, (tensor, dequantised.shape)
            assert ((dequantised - values).abs() <= 16.5 * scale.abs() + 1e-6).all(), tensor
            values.copy_(dequantised)  # into the model
            file |= {f"{module}.{suffix}": part.contiguous() for suffix, part in parts.items()}
            label = gguf_name(module).encode()
            samples += struct.pack("<B", len(label)) + label + struct.pack("<I", NUM_SAMPLES)
            for _ in range(NUM_SAMPLES):
                row, column = (int(random.integers(0, size)) for size in values.shape)
                samples += struct.pack("<IIff", row, column, dequantised[row, column], scale[row, column])
            num_matrices += 1
    folder = HERE / "quantised" / name
    folder.mkdir(parents=True, exist_ok=True)
    config.architectures = [kind + "ForCausalLM"]
    text = json.loads(config.to_json_string(use_diff=False)) | {"quantization_config": quantisation}
    kept = set(SIZES) | set(extra) | {"architectures", "rope_parameters", "quantization_config", "model_type",
                                      "norm_topk_prob", "num_local_experts", "attention_bias", "hidden_act", "mlp_only_layers"}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in text.items() if k in kept}, indent=1) + "\n")
    save_file(file, folder / "model.safetensors", metadata={"format": "pt"})
    tokens = random.integers(0, VOCAB, NUM_TOKENS).tolist()
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0].float().numpy()
    golden = b"SLFG" + struct.pack("<II", 1, NUM_TOKENS) + struct.pack(f"<{NUM_TOKENS}I", *tokens)
    golden += struct.pack("<II", len(POSITIONS), logits.shape[1])
    for position in POSITIONS:
        golden += struct.pack("<I", position) + logits[position].astype("<f4").tobytes()
    (folder / "golden.bin").write_bytes(golden)
    (folder / "samples.bin").write_bytes(b"SLQS" + struct.pack("<II", 1, num_matrices) + samples)
    total = sum(p.stat().st_size for p in folder.iterdir())
    print(f"{name}: {num_matrices} matrices, logits up to {abs(logits).max():.2f}, {total} bytes", flush=True)


if __name__ == "__main__":
    for one in sys.argv[1:] or FOLDERS:
        make(one)
