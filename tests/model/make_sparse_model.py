"""Writes a GGUF file with the shape of a 7B Llama in Q4_0 and no content: its tensor data is a hole in the file.

For measuring what loading takes. Usage: make_sparse_model.py OUT.gguf [layers]
"""

import struct
import sys

DIM, FFN, VOCAB, HEADS, KV_HEADS = 4096, 11008, 32000, 32, 32
F32, Q4_0 = 0, 2


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def main(path, layers):
    strings = [text(f"t{i}") for i in range(VOCAB)]
    metadata = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("tokenizer.ggml.model") + struct.pack("<I", 8) + text("gpt2"),
        text("tokenizer.ggml.pre") + struct.pack("<I", 8) + text("smollm"),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, VOCAB) + b"".join(strings),
    ]
    numbers = {"embedding_length": DIM, "feed_forward_length": FFN, "block_count": layers, "context_length": 4096,
               "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS}
    metadata += [text("llama." + key) + struct.pack("<II", 4, value) for key, value in numbers.items()]
    metadata.append(text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5))
    metadata.append(text("tokenizer.ggml.eos_token_id") + struct.pack("<II", 4, 2))

    kv = DIM // HEADS * KV_HEADS
    tensors = [("token_embd.weight", [DIM, VOCAB]), ("output.weight", [DIM, VOCAB]), ("output_norm.weight", [DIM])]
    for i in range(layers):
        tensors += [(f"blk.{i}.{name}.weight", shape) for name, shape in {
            "attn_norm": [DIM], "attn_q": [DIM, DIM], "attn_k": [DIM, kv], "attn_v": [DIM, kv],
            "attn_output": [DIM, DIM], "ffn_norm": [DIM], "ffn_gate": [DIM, FFN], "ffn_up": [DIM, FFN],
            "ffn_down": [FFN, DIM]}.items()]
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)) + b"".join(metadata)
    offset = 0
    for name, shape in tensors:
        kind = F32 if len(shape) == 1 else Q4_0
        out += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        out += struct.pack("<IQ", kind, offset)
        size = shape[0] * 4 if kind == F32 else shape[0] * shape[1] // 32 * 18
        offset += (size + 31) // 32 * 32
    with open(path, "wb") as file:
        file.write(out)
        file.truncate((len(out) + 31) // 32 * 32 + offset)
    print(f"{path}: {(len(out) + offset) >> 20} MiB")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 32)
