"""Adds up what the test stages wrote into one line, and fails on failures and unlisted skips.

CTest writes one case a test; a test that runs pytest writes its own cases beside it (pytest_*.xml), and a
sanitizer run of a GoogleTest binary likewise (asan_*.xml): those count case by case.
"""

import argparse
import pathlib
import sys
import xml.etree.ElementTree as ET


def cases(path: pathlib.Path):
    """Yields (name, 'passed' | 'failed' | 'skipped', message) for each case of a JUnit file."""
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        yield str(path), "failed", f"unreadable result file: {error}"
        return
    for case in root.iter("testcase"):
        name = f"{case.get('classname', '')}.{case.get('name', '')}".strip(".")
        failure = case.find("failure")
        if failure is None:
            failure = case.find("error")
        skipped = case.find("skipped")
        if failure is not None or case.get("status") == "fail":
            text = (failure.get("message") or failure.text or "") if failure is not None else ""
            yield name, "failed", text
        elif skipped is not None or case.get("status") in ("disabled", "notrun") or case.get("result") == "skipped":
            yield name, "skipped", (skipped.get("message") or skipped.text or "") if skipped is not None else ""
        else:
            yield name, "passed", ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("--expected-skips", type=pathlib.Path, required=True)
    args = parser.parse_args()
    expected = {
        line.split("#")[0].strip()
        for line in args.expected_skips.read_text().splitlines()
        if line.split("#")[0].strip()
    }
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    problems = []
    files = sorted(args.results.glob("*.xml"))
    pytest_names = {path.stem.removeprefix("pytest_") for path in files if path.stem.startswith("pytest_")}
    for path in files:
        for name, outcome, message in cases(path):
            ctest_name = name.split(".")[-1]
            if path.stem == "ctest" and ctest_name.removeprefix("py/") in pytest_names and outcome == "passed":
                continue  # its cases are counted from its own file
            if path.stem.startswith("asan_"):
                name = f"{path.stem}: {name}"
            if outcome == "skipped":
                listed = any(name.endswith(skip) for skip in expected)
                print(f"skipped: {name}: {message.strip()[:200]}")
                if not listed:
                    problems.append(f"skip not listed in {args.expected_skips}: {name}")
            if outcome == "failed":
                problems.append(f"failed: {name}: {message.strip().splitlines()[0][:300] if message.strip() else ''}")
            counts[outcome] += 1
    for log in sorted(args.results.glob("asan_*.log")):
        if not log.with_suffix(".xml").exists():
            problems.append(f"failed: {log.stem} ended without a result; see {log}")
            counts["failed"] += 1
    if not any(path.stem == "ctest" for path in files):
        problems.append(f"no tests ran; see {args.results / 'ctest.log'}")
    for problem in problems:
        print(problem)
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
