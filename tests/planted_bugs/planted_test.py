"""What `./dev test --planted` would stumble over, told by every run: planting itself takes an hour."""

import pathlib
import sys

import pytest

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))
import planted  # noqa: E402


@pytest.mark.parametrize("patch", sorted(FOLDER.glob("*.patch")), ids=lambda patch: patch.stem)
def test_each_bug_changes_todays_kernels(patch):
    bug = planted.read_patch(patch)
    assert bug.files
    for path, text in bug.files.items():
        assert text != (planted.ROOT / path).read_text(), path


def test_survivors_are_mutations_of_today():
    names = {bug.name for bug in planted.mutations()}
    assert len(names) >= 50
    assert planted.explained_survivors().keys() <= names
