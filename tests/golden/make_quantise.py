"""Writes tests/golden/quantise.bin: float32 blocks and what the PyPI package `gguf` rounds them to.

Layout, little-endian: u32 blocks; blocks * 32 float32; then for Q8_0, Q4_0 and Q4_1 the package's bytes.
Needs: pip install gguf numpy. Run from the repository's root.
"""

import pathlib

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

rng = np.random.default_rng(11)
blocks = [rng.normal(0, 0.05, (200, 32)), rng.uniform(-3, 3, (100, 32)), rng.normal(0, 1, (40, 32)) * 1e-4]
special = np.zeros((16, 32))
special[1, 5] = 1
special[2, 31] = -1
special[3] = 0.25
special[4] = -7
special[5] = np.arange(32) - 16  # ties
special[6] = np.where(np.arange(32) % 2, 4, -4)  # equal magnitudes of both signs
special[7] = np.arange(32) / 2
special[8] = np.arange(-127, 129, 8) / 2
special[9] = 2.0 ** -np.arange(32)
special[10] = 1e-30
special[11, ::3] = 6e4
special[12] = rng.normal(0, 1, 32) * 3e-8  # scales that are f16 denormals
special[13] = 10 + rng.normal(0, 1e-3, 32)
special[14] = np.round(rng.normal(0, 40, 32))
special[15] = rng.normal(0, 1, 32) * 1e-6
x = np.concatenate([*blocks, special]).astype(np.float32)
out = [np.uint32(len(x)).tobytes(), x.tobytes()]
for kind in (T.Q8_0, T.Q4_0, T.Q4_1):
    out.append(quants.quantize(x, kind).tobytes())
pathlib.Path("tests/golden/quantise.bin").write_bytes(b"".join(out))
