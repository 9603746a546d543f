"""Plants bugs in the shipping kernels and asks whether the kernel tests notice.

planted.py --build DIR PATCHES...   each folder's or file's patches, one after the other
planted.py --build DIR --mutate     each barrier, wait, fence, lane guard and mask deleted in turn

A patch begins with `Kind: ...` and `Tests: GTEST_FILTER` (optional) lines. It is applied to a copy
of the kernels; only what it changes is compiled again, and linked with the rest of the build into
test_cuda_checked and test_cuda. A bug is noticed when one of them fails. The unchanged kernels must
pass, and `survivors.txt` must name every mutation that survives, with the reason.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
KERNELS = "kernels/cuda"
BINARIES = {"checked": "test_cuda_checked", "fast": "test_cuda"}
LIBRARIES = {"checked": "sluice_kernels_cuda_checked.dir", "fast": "sluice_kernels_cuda_emulated.dir"}
# The wrappers are what kernels are written in; deleting from them is another test's business.
WRAPPERS = {"device.h", "matrix.h", "number.h", "launch.h"}
MIN_NOTICED = 0.95
# Tests of single kernels: whole models take minutes in the checked build.
KERNEL_TESTS = "*Kernels.*"
# As Finding::ToString writes it.
FINDING = re.compile(r"(?P<site>kernels/[\w./]+:\d+): (?P<kind>[a-z ]+): kernel (?P<kernel>\w+), block")


@dataclasses.dataclass
class Bug:
    name: str
    kind: str
    tests: str
    files: dict[str, str]  # path -> new text


@dataclasses.dataclass
class Verdict:
    noticed: bool
    text: str


class Build:
    """Compiles changed kernels with the commands of an existing build folder."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.commands = {}
        for entry in json.loads((folder / "compile_commands.json").read_text()):
            path = pathlib.Path(entry["file"])
            words = shlex.split(entry["command"])
            entry["output"] = words[words.index("-o") + 1]
            if path.suffix == ".cu":
                for which, library in LIBRARIES.items():
                    if library in entry["output"]:
                        self.commands[which, path.name] = entry
        self.links = {which: self._link_command(target) for which, target in BINARIES.items()}
        self.dependencies = {key: self._dependencies(entry) for key, entry in self.commands.items()}

    def _ninja(self, *arguments: str) -> str:
        return subprocess.run(["ninja", "-C", self.folder, *arguments], check=True, capture_output=True, text=True).stdout

    def _link_command(self, target: str) -> list[str]:
        last = self._ninja("-t", "commands", target).rstrip().splitlines()[-1]
        return [word for word in shlex.split(last) if word not in (":", "&&")]

    def _dependencies(self, entry: dict) -> set[str]:
        listed = self._ninja("-t", "deps", entry["output"]).splitlines()
        paths = {(self.folder / line.strip()).resolve() for line in listed[1:]} | {pathlib.Path(entry["file"])}
        return {str(path.relative_to(ROOT)) for path in paths if path.is_relative_to(ROOT)}

    def make(self, which: str, bug: Bug, scratch: pathlib.Path) -> pathlib.Path | str:
        """The test binary with the bug, or what the compiler said."""
        objects = {}
        for (kind, name), entry in self.commands.items():
            if kind != which or not self.dependencies[kind, name] & set(bug.files):
                continue
            output = scratch / f"{which}-{name}.o"
            words = shlex.split(entry["command"])
            at = words.index("-o")
            words[at + 1] = str(output)
            words[words.index(entry["file"])] = str(scratch / KERNELS / name)
            compiler = next(i for i, word in enumerate(words) if word.startswith("-"))
            words[compiler:compiler] = [f"-I{scratch}"]
            failed = subprocess.run([*words, "-w"], cwd=entry["directory"], capture_output=True, text=True)
            if failed.returncode != 0:
                return failed.stderr
            objects[entry["output"]] = str(output)
        if not objects:
            return "the bug changes nothing that is compiled"
        binary = scratch / BINARIES[which]
        words = [objects.get(word, word) for word in self.links[which]]
        words[words.index("-o") + 1] = str(binary)
        subprocess.run(words, cwd=self.folder, check=True, capture_output=True)
        return binary


def run_tests(binary: pathlib.Path, tests: str, seconds: int) -> Verdict:
    environment = {**os.environ, "SLUICE_SOURCE_DIR": str(ROOT), "GTEST_FAIL_FAST": "1"}
    try:
        run = subprocess.run([binary, "--gtest_brief=1", f"--gtest_filter={tests}"], cwd=ROOT, env=environment,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds)
    except subprocess.TimeoutExpired:
        return Verdict(True, f"no end within {seconds} s")
    output = run.stdout.decode(errors="replace")
    if run.returncode == 0:
        ran = re.search(r"^\[  PASSED  \] (\d+) test", output, re.MULTILINE)
        if ran is None or ran[1] == "0":
            raise SystemExit(f"planted: no test matches {tests}")
        return Verdict(False, "-")
    finding = FINDING.search(output)
    if finding:
        return Verdict(True, f"{finding['kind']} at {finding['site']}")
    return Verdict(True, "crash" if run.returncode < 0 else "wrong result")


def try_bug(build: Build, bug: Bug, seconds: int, both: bool) -> dict[str, Verdict]:
    verdicts = {}
    with tempfile.TemporaryDirectory(prefix="planted-", dir=build.folder) as folder:
        scratch = pathlib.Path(folder)
        shutil.copytree(ROOT / KERNELS, scratch / KERNELS)
        for path, text in bug.files.items():
            (scratch / path).write_text(text)
        for which in BINARIES:
            binary = build.make(which, bug, scratch)
            if isinstance(binary, str):
                raise SystemExit(f"planted: {bug.name} does not compile:\n{binary}")
            verdicts[which] = run_tests(binary, bug.tests, seconds)
            if verdicts[which].noticed and not both:
                break
    return verdicts


def read_patch(path: pathlib.Path) -> Bug:
    text = path.read_text()
    fields = dict(re.findall(r"^(Kind|Tests): (.+)$", text, re.MULTILINE))
    if "Kind" not in fields:
        raise SystemExit(f"planted: {path} has no line `Kind: ...`")
    names = re.findall(r"^\+\+\+ b/(\S+)", text, re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        for name in names:
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, scratch / name)
        done = subprocess.run(["patch", "-p1", "-s", "--no-backup-if-mismatch", "-d", folder], input=text, text=True,
                              capture_output=True)
        if done.returncode != 0:
            raise SystemExit(f"planted: {path} does not apply: {done.stdout}{done.stderr}")
        files = {name: (scratch / name).read_text() for name in names}
    return Bug(path.stem, fields["Kind"], fields.get("Tests", KERNEL_TESTS), files)


# What is deleted, and what stands there instead.
MUTATIONS = [
    ("block barrier", re.compile(r"\bSyncBlock\(\);"), ";"),
    ("named barrier", re.compile(r"\bSyncSome<[^>]*>\(\);"), ";"),
    ("warp barrier", re.compile(r"\bSyncWarp\([^()]*\);"), ";"),
    ("wait for copies", re.compile(r"\bWaitForCopies<[^>]*>\(\);"), ";"),
    ("fence", re.compile(r"\bFence\(\);"), ";"),
    ("lane guard", re.compile(r"\bif \((?:lane|thread|warp|ThreadIndex\(\)\.x)(?: % 32)? == 0\)"), "if (true)"),
    ("lane guard", re.compile(r"\bif \((?:lane|thread|warp|ThreadIndex\(\)\.x)(?: % 32)? != 0\) return;"), ";"),
    ("lane mask", re.compile(r"(?<=[(,] )\w*[mM]ask\b(?=\))"), "kFullMask"),
]


def mutations() -> list[Bug]:
    bugs = []
    for path in sorted((ROOT / KERNELS).iterdir()):
        if path.suffix not in (".cu", ".h") or path.name in WRAPPERS:
            continue
        text = path.read_text()
        for kind, pattern, replacement in MUTATIONS:
            for i, match in enumerate(pattern.finditer(text)):
                line_begin = text.rfind("\n", 0, match.start()) + 1
                if "//" in text[line_begin:match.start()]:
                    continue
                function = re.findall(r"^(?:SLUICE_DEVICE|SLUICE_KERNEL)[^;{]*?(\w+)\(", text[:match.start()], re.MULTILINE)
                name = f"{path.name}: {function[-1] if function else '?'}: {match[0]} {i + 1}"
                changed = text[:match.start()] + replacement + text[match.end():]
                bugs.append(Bug(name, kind, KERNEL_TESTS, {f"{KERNELS}/{path.name}": changed}))
    return bugs


def explained_survivors() -> dict[str, str]:
    path = pathlib.Path(__file__).with_name("survivors.txt")
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split(" -- ", 1) for line in lines)


def check_sound_kernels(build: Build, seconds: int) -> None:
    for which, name in BINARIES.items():
        verdict = run_tests(build.folder / "tests" / name, KERNEL_TESTS, seconds)
        if verdict.noticed:
            raise SystemExit(f"planted: the unchanged kernels fail in {name}: {verdict.text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--timeout", type=int, default=300, metavar="SECONDS")
    parser.add_argument("--mutate", action="store_true")
    parser.add_argument("--first", action="store_true", help="only the first binary that notices, the checked one if it does")
    parser.add_argument("--only", default="", metavar="REGEX", help="of the bugs' names")
    parser.add_argument("patches", type=pathlib.Path, nargs="*")
    arguments = parser.parse_args()

    bugs = mutations() if arguments.mutate else []
    for path in arguments.patches:
        bugs += [read_patch(p) for p in (sorted(path.glob("*.patch")) if path.is_dir() else [path])]
    bugs = [bug for bug in bugs if re.search(arguments.only, bug.name)]
    if not bugs:
        raise SystemExit("planted: there is nothing to plant")
    build = Build(arguments.build.resolve())
    check_sound_kernels(build, arguments.timeout)

    unnoticed = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        runs = [pool.submit(try_bug, build, bug, arguments.timeout, not (arguments.mutate or arguments.first)) for bug in bugs]
        for bug, run in zip(bugs, runs):
            verdicts = run.result()
            print(f"{bug.name} [{bug.kind}]: " + "; ".join(f"{which}: {v.text}" for which, v in verdicts.items()), flush=True)
            if not any(verdict.noticed for verdict in verdicts.values()):
                unnoticed.append(bug.name)

    kinds = {bug.kind for bug in bugs}
    print(f"planted: {len(bugs) - len(unnoticed)} of {len(bugs)} bugs of {len(kinds)} kinds were noticed")
    if not arguments.mutate:
        sys.exit(f"planted: not noticed: {', '.join(unnoticed)}" if unnoticed else 0)
    explained = explained_survivors()
    for name in unnoticed:
        print(f"survived: {name} -- {explained.get(name, 'NOT EXPLAINED')}")
    if any(name not in explained for name in unnoticed):
        sys.exit("planted: a mutation survives that survivors.txt does not explain")
    if len(unnoticed) > (1 - MIN_NOTICED) * len(bugs) and not arguments.only:
        sys.exit(f"planted: fewer than {MIN_NOTICED:.0%} of the mutations were noticed")


if __name__ == "__main__":
    main()
