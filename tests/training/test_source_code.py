"""What a bundle says of the code that made it is asked of git, or said to be unknown; never guessed."""

from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path

from training.source_code import UNKNOWN, source_code


def _repository(root: Path) -> None:
    (root / "training").mkdir()
    (root / "training" / "fit.py").write_text("one = 1\n")
    (root / "requirements").mkdir()
    (root / "requirements" / "train.txt").write_text("torch==2.13.0\n")
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "--quiet"], ["add", "--all"], [*identity, "commit", "--quiet", "--message", "one"]):
        subprocess.run(["git", "-C", str(root), *arguments], check=True)


def test_a_clean_tree_is_its_commit(tmp_path: Path) -> None:
    """And the time is the commit's, not the clock's: twice the same."""
    _repository(tmp_path)
    told = source_code(tmp_path)
    assert len(told.commit) == 40
    assert datetime.fromisoformat(told.committed).tzinfo is not None
    assert told == source_code(tmp_path)
    assert told.lock_sha256 != UNKNOWN


def test_a_changed_tree_says_so(tmp_path: Path) -> None:
    """Breach: a bundle that names a commit whose code is not the one that made it."""
    _repository(tmp_path)
    (tmp_path / "training" / "fit.py").write_text("one = 2\n")
    assert source_code(tmp_path).commit.endswith("+changed")


def test_without_a_repository_nothing_is_claimed(tmp_path: Path) -> None:
    """An installed package: the commit of whatever repository lies further up is not ours."""
    _repository(tmp_path)
    told = source_code(tmp_path / "training")
    assert (told.commit, told.committed, told.lock_sha256) == (UNKNOWN, UNKNOWN, UNKNOWN)
