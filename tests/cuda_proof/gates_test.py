"""Kernels compile without a warning for every architecture and are as good as the budget says (gates.py)."""

import json
import os

import pytest

import gates

NVCC, CUOBJDUMP = os.environ.get("SLUICE_NVCC", ""), os.environ.get("SLUICE_CUOBJDUMP", "")
ARCHS = list(gates.ARCHS) if NVCC else [pytest.param("nvcc", marks=pytest.mark.skip(reason="nvcc is not there"))]


@pytest.fixture(scope="module")
def compiler():
    objects = os.environ.get("SLUICE_CUDA_OBJECTS") if CUOBJDUMP else None
    compiler = gates.Compiler(NVCC, CUOBJDUMP, os.environ["SLUICE_GATES_CACHE"], objects)
    compiler.start()
    return compiler


@pytest.mark.parametrize("arch", ARCHS)
def test_kernels_compile_without_a_warning(arch, compiler):
    assert compiler.all(arch)


@pytest.mark.parametrize("arch", ARCHS)
def test_kernels_are_within_the_budget(arch, compiler):
    budget = json.loads(gates.BUDGET.read_text())
    if compiler.version != budget["nvcc"]:
        pytest.skip(f"nvcc is {compiler.version}, the budget is of {budget['nvcc']}")
    problems = [
        f"{name}: {problem}"
        for name, kernel in compiler.all(arch).items()
        for problem in gates.worse(kernel, budget[arch].get(name))
    ]
    assert not problems, "\n".join([*problems, "if that is meant to be: ./dev gates --update-budget"])


@pytest.mark.parametrize("arch", ARCHS)
def test_instructions_are_counted(arch, compiler):
    if not CUOBJDUMP:
        pytest.skip("cuobjdump is not there")
    kernels = compiler.all(arch)
    assert all("LDG.128" in kernel for kernel in kernels.values())
    assert any(kernel["HMMA"] > 0 for kernel in kernels.values())


# From NVIDIA's cuda_occupancy.h.
@pytest.mark.parametrize(
    "arch, threads, registers, shared, wanted",
    [
        ("sm_80", 256, 32, 0, 100),
        ("sm_80", 256, 64, 0, 50),
        ("sm_80", 256, 65, 0, 37),
        ("sm_90", 128, 74, 18432, 37),
        ("sm_89", 256, 40, 0, 100),
        ("sm_89", 32, 16, 0, 50),
        ("sm_80", 128, 32, 40000, 25),
    ],
)
def test_occupancy_is_the_toolkits(arch, threads, registers, shared, wanted):
    assert gates.occupancy(arch, threads, registers, shared) == wanted


def test_what_is_worse_than_the_budget_is_named():
    allowed = {"registers": 32, "spills": 0, "shared": 64, "occupancy": 100, "LDG.128": 4, "HMMA": 2, "BAR": 1, "STL": 0}
    assert gates.worse(allowed, allowed) == []
    assert gates.worse(allowed | {"registers": 30, "LDG.128": 5}, allowed) == []
    for worse in ({"registers": 33}, {"spills": 4}, {"shared": 65}, {"occupancy": 99}, {"LDG.128": 3}, {"HMMA": 1}, {"BAR": 2}, {"STL": 1}):
        (problem,) = gates.worse(allowed | worse, allowed)
        assert next(iter(worse)) in problem
    assert gates.worse(allowed, None) == ["is not in the budget"]
    assert len(gates.worse(allowed | {"STL": 1}, allowed | {"STL": 1})) == 1, "a budget cannot allow local memory"


@pytest.mark.parametrize(
    "demangled, wanted",
    [
        ("sluice::cuda::(anonymous namespace)::RmsNormKernel(sluice::cuda::RmsNormArgs)", "RmsNormKernel"),
        ("void sluice::cuda::_GLOBAL__N__a2_9_norm_cu_94::K<(sluice::cuda::F)2, 8>(sluice::cuda::A)", "K<(F)2, 8>"),
    ],
)
def test_a_kernels_name_is_plain(demangled, wanted):
    assert gates.plain_name("", demangled) == wanted
