"""cmake --install: the binary runs from there, and find_package(sluice) builds a program that embeds it."""

import pathlib
import subprocess

from conftest import binary, model_path

SOURCE = pathlib.Path(__file__).resolve().parents[2]


def run(*command) -> str:
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout


def test_an_installed_sluice_is_found_by_cmake_and_embeds(tmp_path):
    prefix, build = tmp_path / "prefix", tmp_path / "build"
    run("cmake", "--install", pathlib.Path(binary()).parent, "--prefix", prefix)
    assert run(prefix / "bin" / "sluice", "--version").strip()
    run("cmake", "-S", SOURCE / "docs/examples/embed", "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Release")
    run("cmake", "--build", build)
    said = run(build / "embed", model_path(), "The capital of France is")
    assert "Paris" in said
    served = [f.name for f in (prefix / "include/sluice").iterdir()]
    assert "create.h" in served and "service.h" in served
