"""The PTX that nvcc makes of each function that kernels are written in does what the emulator does, bit for bit."""

import os
import pathlib
import re
import subprocess

import pytest

import ptx

FOLDER = pathlib.Path(__file__).parent
ROOT = FOLDER.parent.parent
NVCC, EMULATED = os.environ.get("SLUICE_NVCC", ""), os.environ.get("SLUICE_CONFORMANCE", "")
HEADERS = ("device.h", "matrix.h", "number.h")
SOURCE = (FOLDER / "conformance.cu").read_text()
NAMES = re.findall(r"SLUICE_KERNEL\(\w+\)\s+(\w+)\(", SOURCE)
MISSING = "the headers of CUDA are not there" if not EMULATED else "nvcc is not there" if not NVCC else ""
CASES = NAMES if not MISSING else [pytest.param("nvcc", marks=pytest.mark.skip(reason=MISSING))]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    out = tmp_path_factory.mktemp("ptx") / "conformance.ptx"
    flags = ["-std=c++20", "--fmad=false", "-I", str(ROOT), "-arch=compute_89", "-ptx"]
    subprocess.run([NVCC, *flags, "-o", str(out), str(FOLDER / "conformance.cu")], check=True, timeout=300)
    return out.read_text()


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    """By name: (blocks, threads, words read, words that came out)."""
    out = tmp_path_factory.mktemp("emulated") / "cases.txt"
    subprocess.run([EMULATED, "write", str(out)], check=True, timeout=300)
    cases = {}
    for line in out.read_text().splitlines():
        name, blocks, threads, num_in, _, *words = line.split()
        words = [int(w, 16) for w in words]
        cases[name] = (int(blocks), int(threads), words[: int(num_in)], words[int(num_in) :])
    return cases


@pytest.mark.parametrize("name", CASES)
def test_ptx_does_what_the_emulator_does(name, text, emulated):
    blocks, threads, given, wanted = emulated[name]
    memory = bytearray(b"".join(w.to_bytes(4, "little") for w in given))
    memory += bytes(-len(memory) % 16)
    out = len(memory)
    memory += bytes(4 * len(wanted))
    ptx.kernel(text, name).run(blocks, threads, memory, [0, out])
    got = [int.from_bytes(memory[i : i + 4], "little") for i in range(out, len(memory), 4)]
    wrong = [f"word {i}: {g:#x}, the emulator's is {w:#x}" for i, (g, w) in enumerate(zip(got, wanted)) if g != w]
    assert not wrong, f"{len(wrong)} of {len(wanted)} words differ: {wrong[:8]}"
    assert len(set(wanted)) > 4, "a case whose results are alike proves nothing"


@pytest.mark.parametrize("header", HEADERS)
def test_every_function_has_a_case(header):
    functions = set(re.findall(r"^SLUICE_DEVICE [\w<>]+ (\w+)\(", (ROOT / "kernels/cuda" / header).read_text(), flags=re.M))
    assert functions, "the headers have changed their form"
    missing = sorted(f for f in functions if not re.search(rf"\b{f}\b", SOURCE))
    assert not missing, f"no kernel of conformance.cu calls {', '.join(missing)}"


@pytest.mark.skipif(not EMULATED, reason="the headers of CUDA are not there")
def test_every_case_is_listed(emulated):
    assert sorted(emulated) == sorted(NAMES)
