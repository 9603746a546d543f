"""What nvcc makes of each kernel, for each architecture that a build has: registers, spills, shared memory, occupancy,
and, where cuobjdump is there, how often the instructions occur that a kernel's speed stands on.

    gates.py --nvcc NVCC [--cuobjdump CUOBJDUMP] --cache FOLDER                  prints the table
    gates.py ... --update-budget                                                and makes it the budget

budget.json is what gates_test.py compares with. A build's own objects serve, with what ptxas said of them, where it has
them; other compilations are kept in the cache under the hash of what they are made of.
"""

import argparse
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import subprocess
import tempfile

FOLDER = pathlib.Path(__file__).parent
ROOT = FOLDER.parent.parent
BUDGET = FOLDER / "budget.json"


@dataclasses.dataclass(frozen=True)
class Arch:
    """What a multiprocessor has: "CUDA C++ Programming Guide", technical specifications per compute capability."""

    warps: int
    blocks: int
    shared_bytes: int
    registers: int = 65536


ARCHS = {
    "sm_80": Arch(warps=64, blocks=32, shared_bytes=164 * 1024),
    "sm_89": Arch(warps=48, blocks=24, shared_bytes=100 * 1024),
    "sm_90": Arch(warps=64, blocks=32, shared_bytes=228 * 1024),
    "sm_100": Arch(warps=64, blocks=32, shared_bytes=228 * 1024),
}
FLAGS = ["-std=c++20", "-O3", "--fmad=false", "--expt-relaxed-constexpr", "-I", "."]
FLAGS += ["-Werror", "all-warnings", "-Xcompiler=-Wall,-Wextra,-Werror", "-Xptxas", "-v"]
for _arch in ARCHS:
    FLAGS += ["-gencode", f"arch={_arch.replace('sm', 'compute')},code={_arch}"]
FLAGS += ["-gencode", "arch=compute_80,code=compute_80"]
# By name in the table: the opcode's first part, and one that must be among the others.
OPCODES = {
    "LDG.128": ("LDG", "128"),
    "LDGSTS.128": ("LDGSTS", "128"),
    "LDSM": ("LDSM", None),
    "HMMA": ("HMMA", None),
    "IMMA": ("IMMA", None),
    "QMMA": ("QMMA", None),
    "BAR": ("BAR", None),
    "LDL": ("LDL", None),
    "STL": ("STL", None),
}


def round_up(n, to):
    return -(-n // to) * to


def occupancy(arch, threads, registers, shared_bytes):
    """Per cent of the multiprocessor's warps that can be there at once, dynamic shared memory left aside."""
    has = ARCHS[arch]
    warps = round_up(threads, 32) // 32
    by_registers = has.registers // 4 // round_up(max(registers, 1) * 32, 256) * 4 // warps
    by_shared = has.shared_bytes // (round_up(shared_bytes, 128) + 1024)
    blocks = min(has.warps // warps, has.blocks, by_registers, by_shared)
    return 100 * blocks * warps // has.warps


def run(command, **more):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, **more)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def plain_name(mangled, demangled):
    """Without namespaces, parameters and what nvcc adds to make names unique."""
    name = re.sub(r"\(anonymous namespace\)::|_(GLOBAL__N_|INTERNAL)_*\w+::", "", demangled)
    name = re.sub(r"\b(sluice|cuda)::", "", name)
    name = re.sub(r"^(void|static void) ", "", name)
    depth = 0
    for i, c in enumerate(name):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            return name[:i]
    return name or mangled


class Compiler:
    """objects: a build's folder of <stem>.o and <stem>.ptxas, what ptxas said; without it nvcc is run."""

    def __init__(self, nvcc, cuobjdump, cache, objects=None):
        self.nvcc, self.cuobjdump, self.cache = nvcc, cuobjdump, pathlib.Path(cache)
        self.objects = pathlib.Path(objects) if objects else None
        self.cache.mkdir(parents=True, exist_ok=True)
        self.pool, self.jobs = concurrent.futures.ThreadPoolExecutor(os.cpu_count()), {}
        self.version = re.search(r"release (\S+),", run([nvcc, "--version"]))[1]

    @staticmethod
    def sources():
        return sorted(p.relative_to(ROOT) for p in (ROOT / "kernels/cuda").glob("*.cu"))

    @staticmethod
    def made_of(source):
        """The file and what it includes of ours, as bytes."""
        files, todo = {}, [pathlib.Path(source)]
        while todo:
            file = todo.pop()
            if file not in files and (ROOT / file).exists():
                files[file] = (ROOT / file).read_bytes()
                todo += [pathlib.Path(i.decode()) for i in re.findall(rb'^#include "(.*)"', files[file], flags=re.M)]
        return b"".join(files[file] for file in sorted(files))

    def compile(self, source):
        """The file's kernels by architecture and name."""
        key = [self.version, *FLAGS, str(source), str(bool(self.cuobjdump)), pathlib.Path(__file__).read_text()]
        digest = hashlib.sha256("\0".join(key).encode())
        if self.objects:
            built, said = self.objects / f"{source.stem}.o", (self.objects / f"{source.stem}.ptxas").read_text()
            digest.update(built.read_bytes() + said.encode())
        else:
            digest.update(self.made_of(source))
        kept = self.cache / f"{source.stem}-{digest.hexdigest()[:24]}.json"
        if kept.exists():
            return json.loads(kept.read_text())
        with tempfile.TemporaryDirectory() as tmp:
            if not self.objects:
                built = f"{tmp}/out.o"
                said = run([self.nvcc, *FLAGS, "-c", "-o", built, source])
            tables = self.tables(built, said)
        with tempfile.NamedTemporaryFile("w", dir=self.cache, delete=False) as new:
            new.write(json.dumps(tables))
        os.replace(new.name, kept)
        return tables

    def tables(self, built, said):
        """What ptxas said of a file's kernels, and what cuobjdump says of the object it became."""
        threads, opcodes = {}, {}
        if self.cuobjdump:
            ptx = run([self.cuobjdump, "-ptx", built])
            threads = {m[1]: int(m[2]) for m in re.finditer(r"\.entry (\w+)\((?:[^{]*?)\.maxntid (\d+)", ptx)}
            opcodes = self.opcodes(built)
        found = {arch: {} for arch in ARCHS}
        for part in said.split("Compiling entry function '")[1:]:
            name, arch = re.match(r"(\w+)' for '(\w+)'", part).groups()
            shared = re.search(r"(\d+) bytes smem", part)
            kernel = {
                "registers": int(re.search(r"Used (\d+) registers", part)[1]),
                "spills": sum(map(int, re.findall(r"(\d+) bytes spill", part))),
                "shared": int(shared[1]) if shared else 0,
            }
            if self.cuobjdump:
                kernel["occupancy"] = occupancy(arch, threads[name], kernel["registers"], kernel["shared"])
                kernel |= opcodes[arch][name]
            found[arch][name] = kernel
        mangled = sorted({name for kernels in found.values() for name in kernels})
        plain = dict(zip(mangled, run(["c++filt"], input="\n".join(mangled)).splitlines())) if mangled else {}
        return {
            arch: {plain_name(name, plain[name]): kernel for name, kernel in kernels.items()} for arch, kernels in found.items()
        }

    def opcodes(self, built):
        counts = {arch: {} for arch in ARCHS}
        for code in re.split(r"^\s*code for ", run([self.cuobjdump, "-sass", built]), flags=re.M)[1:]:
            arch = code.split()[0]
            for part in re.split(r"^\s*Function : ", code, flags=re.M)[1:]:
                # /*0010*/  @!P0 LDG.E.128.CONSTANT R4, ...
                used = [m[1].split(".") for m in re.finditer(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", part, flags=re.M)]
                counts[arch][part.split()[0]] = {
                    name: sum(o[0] == first and (other is None or other in o[1:]) for o in used)
                    for name, (first, other) in OPCODES.items()
                }
        return counts

    def start(self):
        """Begins; the slowest files first."""
        for source in sorted(self.sources(), key=lambda s: -(ROOT / s).stat().st_size):
            self.jobs[source] = self.pool.submit(self.compile, source)

    def all(self, arch):
        """{"file.cu Kernel": numbers}; waits."""
        return {
            f"{source.name} {name}": kernel for source in self.sources() for name, kernel in self.jobs[source].result()[arch].items()
        }


NEVER = ("spills", "LDL", "STL")
NOT_MORE = ("registers", "shared", "BAR")
NOT_LESS = ("occupancy", "LDG.128", "LDGSTS.128", "LDSM", "HMMA", "IMMA", "QMMA")


def worse(kernel, allowed):
    """What of a kernel's numbers is worse than it may be."""
    found = [f"{n} is {kernel[n]}, never allowed" for n in NEVER if kernel.get(n, 0) != 0]
    if allowed is None:
        return [*found, "is not in the budget"]
    for n, count in kernel.items():  # instructions are not there without cuobjdump; the budget leaves zeros out
        limit = allowed.get(n, 0)
        if n in NOT_MORE and count > limit:
            found.append(f"{n} is {count}, at most {limit} allowed")
        if n in NOT_LESS and count < limit:
            found.append(f"{n} is {count}, at least {limit} wanted")
    return found


def write_budget(version, tables):
    lines = []
    for arch, kernels in tables.items():
        kernels = {name: {n: v for n, v in kernel.items() if v and n not in NEVER} for name, kernel in kernels.items()}
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(kernel)}" for name, kernel in sorted(kernels.items()))
        lines.append(f" {json.dumps(arch)}: {{\n{rows}\n }}")
    BUDGET.write_text(f'{{"nvcc": {json.dumps(version)},\n' + ",\n".join(lines) + "\n}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvcc", required=True)
    parser.add_argument("--cuobjdump")
    parser.add_argument("--cache", required=True)
    parser.add_argument("--update-budget", action="store_true")
    args = parser.parse_args()
    if args.update_budget and not args.cuobjdump:
        parser.error("a budget needs cuobjdump")
    compiler = Compiler(args.nvcc, args.cuobjdump, args.cache)
    compiler.start()
    tables = {arch: compiler.all(arch) for arch in ARCHS}
    for arch, kernels in tables.items():
        for name, kernel in sorted(kernels.items()):
            print(arch, name, ", ".join(f"{n} {v}" for n, v in kernel.items() if v or n in ("registers", "occupancy")))
    if args.update_budget:
        write_budget(compiler.version, tables)


if __name__ == "__main__":
    main()
