"""Checks `sluice model convert` on a Hugging Face folder against other people's readers. Run by hand.

Usage: check_convert.py SLUICE_BINARY FOLDER. Needs: pip install gguf safetensors numpy ml_dtypes; llama-cpp-python if it is to load
the result too.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import ml_dtypes  # noqa: F401  gives numpy bfloat16
import numpy as np
from safetensors import safe_open

NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down"}


def pairs_from_halves(weight, head_dim):
    """Rows of every head from (0, h/2, 1, h/2 + 1, ...)."""
    heads = weight.reshape(-1, 2, head_dim // 2, weight.shape[-1])
    return heads.swapaxes(1, 2).reshape(weight.shape)


def main(binary, folder):
    config = json.loads((folder / "config.json").read_text())
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    with tempfile.TemporaryDirectory() as out:
        path = f"{out}/plain.gguf"
        subprocess.run([binary, "model", "convert", folder, path], check=True)
        reader = gguf.GGUFReader(path)
        arch = reader.fields["general.architecture"].contents()
        tensors = {t.name: t for t in reader.tensors}
        checked = 0
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, "np") as source:
                for name in source.keys():
                    layer, _, rest = name.removeprefix("model.layers.").partition(".")
                    role = NAMES.get(rest.removesuffix(".weight"))
                    if role is None or not name.endswith(".weight"):
                        continue
                    weight = source.get_tensor(name).astype(np.float32)
                    if arch == "llama" and role in ("attn_q", "attn_k"):
                        weight = pairs_from_halves(weight, head_dim)
                    made = tensors[f"blk.{layer}.{role}.weight"]
                    values = gguf.quants.dequantize(made.data, made.tensor_type)
                    assert np.array_equal(values.reshape(weight.shape), weight), name
                    checked += 1
        print(f"{arch}: {len(tensors)} tensors read, {checked} matrices equal")
        for kind in ("q8_0", "q4_0", "q4_1"):
            path = f"{out}/{kind}.gguf"
            subprocess.run([binary, "model", "convert", folder, path, "--quantize", kind], check=True)
            made = {t.name: t for t in gguf.GGUFReader(path).tensors}["blk.0.ffn_up.weight"]
            plain = gguf.quants.dequantize(tensors[made.name].data, tensors[made.name].tensor_type)
            expected = gguf.quants.quantize(plain.astype(np.float32), made.tensor_type)
            assert np.array_equal(made.data, expected), kind
            print(f"{kind}: equal to what the gguf package rounds to")
            try:
                import llama_cpp
            except ImportError:
                continue
            model = llama_cpp.Llama(path, n_ctx=64, verbose=False)
            model.eval([1, 2, 3])
            print(f"{kind}: llama.cpp loads it")


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
