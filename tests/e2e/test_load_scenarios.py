"""Four of the named load scenarios, small: what they check by themselves must hold. Their figures are nobody's business here."""

import json
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import ROOT, binary, model_path


@pytest.mark.parametrize(("name", "seconds"), [("overload-3x", 8), ("soak", 15), ("connections", 3), ("sse-1000-tls", 1)])
def test_a_scenario_keeps_its_promises(name: str, seconds: int, tmp_path: pathlib.Path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench/serve/scenarios.py"), "--scenario", name, "--seconds", str(seconds), "--quiet",
         "--binary", binary(), "--model", model_path(), "--out", str(tmp_path)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result, line = done.stdout.splitlines()
    checks = json.loads(result)["checks"]
    assert all(check["ok"] for check in checks.values()) and len(checks) >= 7
    assert line.startswith(f"{name}: ") and ("chunks per token" in line or name == "connections")
    if name == "overload-3x":
        assert checks["only expected errors"]["errors"]["http_429"] > 0
    if name == "connections":
        assert re.search(r": \d+ connections/s, \S+ us of server CPU each, \S+x raw send \(\S+ us\)", line), line
