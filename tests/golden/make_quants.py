"""Writes quants.bin: blocks of random bytes of every quantised GGUF type, and what the package `gguf` reads in them.

Needs numpy and gguf (0.19.0 made the committed file). Run: python make_quants.py   (from any folder)
Format, little-endian: "SLQB", u32 version 1, u32 number of types; then for each type its length-prefixed (u8) name,
u32 elements, u32 bytes, the bytes, the elements as f32. The f16 numbers of a block are random finite halves of any
size; among them subnormals, the largest and both zeros. All other bytes are random as they come.
"""
import importlib.metadata
import pathlib
import struct

import gguf
import numpy

TYPES = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"]
# Byte offsets of a block's f16 numbers.
HALFS = {"Q4_1": [0, 2], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
EXTREMES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF, 0xFBFF, 0x3C00, 0x0400]
ELEMENTS = 2560


def blocks(rng, name):
    elements, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    count = ELEMENTS // elements
    data = rng.integers(0, 256, (count, size), dtype=numpy.uint8)
    for at in HALFS.get(name, [0]):
        halfs = rng.integers(0, 0x7C00, count).astype(numpy.uint16) | (rng.integers(0, 2, count) << 15).astype(numpy.uint16)
        some = rng.permutation(count)[:len(EXTREMES)]
        halfs[some] = EXTREMES[:len(some)]
        data[:, at:at + 2] = halfs.astype("<u2").view(numpy.uint8).reshape(count, 2)
    return data


def main():
    rng = numpy.random.default_rng(20250101)
    out = [b"SLQB", struct.pack("<II", 1, len(TYPES))]
    for name in TYPES:
        data = blocks(rng, name)
        values = gguf.quants.dequantize(data.reshape(-1), gguf.GGMLQuantizationType[name]).astype("<f4").reshape(-1)
        assert len(values) == ELEMENTS and numpy.isfinite(values).all(), name
        out.append(struct.pack("<B", len(name)) + name.encode())
        out.append(struct.pack("<II", len(values), data.size) + data.tobytes() + values.tobytes())
    path = pathlib.Path(__file__).with_name("quants.bin")
    path.write_bytes(b"".join(out))
    print(path.name, path.stat().st_size, "bytes, gguf", importlib.metadata.version("gguf"))


if __name__ == "__main__":
    main()
