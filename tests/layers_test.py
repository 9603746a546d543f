"""The folders' include directions and a few promises about the tree, read from the sources."""

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent

# folder -> the folders it may include from (design: everything may include base; apps may include everything).
ALLOWED = {
    "api": set(),
    "base": set(),
    "metrics": {"api"},
    "tokenizer": {"api"},
    "template": {"api"},
    "step": {"api"},
    "kernels": set(),
    "model": {"kernels", "api"},
    "scheduler": {"step", "api"},
    "executor": {"step", "model", "kernels", "api"},
    "engine": {"scheduler", "step", "tokenizer", "api", "metrics"},
    "service": {"engine", "scheduler", "tokenizer", "template", "api", "metrics"},
    "net": {"api"},
    "http": {"net", "api", "metrics"},
    "rpc": {"net", "api", "metrics"},
    "load": {"executor"},
}

INCLUDE = re.compile(r'^\s*#include\s+"([^"]+)"', re.MULTILINE)

def sources():
    for folder in ("include", "src", "kernels", "bench/serve"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".h", ".cc"):
                yield path


def layer_of(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).parts
    if parts[0] == "include":
        return "api"
    if parts[0] == "bench":
        return "load"
    return "kernels" if parts[0] == "kernels" else parts[1]


def layer_of_include(include: str) -> str:
    if include.startswith("bench/serve/"):
        return "load"
    first = include.split("/")[0]
    return "api" if first == "sluice" else first


def test_include_directions():
    known = set(ALLOWED) | {"apps"}
    wrong = []
    for path in sources():
        layer = layer_of(path)
        if layer == "apps":
            continue
        for include in INCLUDE.findall(path.read_text()):
            target = layer_of_include(include)
            if include.startswith("sluice/v1/"):
                target = layer if layer in ("rpc", "load") else "proto"
            if target in known | {"proto"} and target not in ALLOWED[layer] | {layer, "base"}:
                wrong.append(f"{path.relative_to(ROOT)} includes {include}")
    assert not wrong, "\n".join(wrong)


def test_cmake_edges_are_the_same_table():
    text = (ROOT / "CMakeLists.txt").read_text()
    edges = {}
    for name, _, deps in re.findall(r"^sluice_layer\((\w+)\s+([^\s)]+)\s*([^)]*)\)", text, re.MULTILINE):
        edges[name] = set(deps.split()) - {"proto"}
    parts = [name for name in edges if name.startswith("kernels_")]
    for part in parts:
        edges["kernels"] |= edges.pop(part) - {"kernels", *parts}
    for name, deps in edges.items():
        assert deps <= ALLOWED[name], f"{name} links {deps - ALLOWED[name]}, which it may not include"


def test_scheduler_and_executor_never_meet():
    for path in sources():
        includes = INCLUDE.findall(path.read_text())
        if layer_of(path) == "scheduler":
            assert not any(i.startswith("executor/") for i in includes), path
        if layer_of(path) == "executor":
            assert not any(i.startswith("scheduler/") for i in includes), path


def test_scheduler_is_pure():
    banned = re.compile(r"\b(float|double|std::thread|mutex|absl::Now|std::chrono|Log\(|std::hash|absl::Hash)\b")
    for path in sorted((ROOT / "src/scheduler").glob("*")):
        code = re.sub(r"//[^\n]*", "", path.read_text())
        found = banned.search(code)
        assert not found, f"{path.name}: {found.group(0)}"


def test_environment_is_read_in_apps_only():
    for path in sources():
        if layer_of(path) != "apps":
            assert "getenv(" not in path.read_text(), path


def test_features_are_switched_in_cmake_not_by_ifdef():
    for path in sources():
        if path.name == "form.h" or "kernels/cpu/isa/" in str(path):
            continue  # one file, three forms
        assert not re.search(r"#\s*if(def)?\s.*SLUICE_", path.read_text()), path


def test_no_file_is_named_after_nothing():
    for path in sources():
        assert path.stem not in ("utils", "util", "helpers", "common", "manager", "misc"), path


def test_every_header_has_a_guard_and_includes_what_is_its_own():
    for path in sources():
        if path.suffix == ".h":
            assert "#pragma once" in path.read_text(), path


def test_format():
    files = [str(p) for p in sources()] + [str(p) for p in sorted((ROOT / "tests").rglob("*.cc"))]
    result = subprocess.run(["clang-format-19", "--dry-run", "--Werror", *files], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr[:2000]
