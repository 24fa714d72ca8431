"""Which code and which packages made a bundle, as far as the machine that trains can tell."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

UNKNOWN = "unknown"
_ROOT = Path(__file__).parents[1]
_LOCK = "requirements/train.txt"
# what a bundle is made by; bundles themselves come later than the code
_CODE = ("training", "inference/*.py", "adapter", "mappings", _LOCK)
_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCode:
    """commit: hexadecimal, `+changed` where the files differ from it. committed: when it was made, ISO 8601, UTC.

    lock_sha256: of the file that locks every package of the training environment by hash. Each is `unknown` where the
    code lies in no repository or comes without its lock, as an installed package does.
    """

    commit: str
    committed: str
    lock_sha256: str


def source_code(root: Path = _ROOT) -> SourceCode:
    """What git and the lock say of the code in root."""
    lock = root / _LOCK
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *_CODE)
    seconds = _git(root, "show", "--no-patch", "--format=%ct")
    return SourceCode(
        commit=f"{commit}+changed" if commit and changed else commit or UNKNOWN,
        committed=f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%dT%H:%M:%SZ}" if seconds else UNKNOWN,
        lock_sha256=hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else UNKNOWN,
    )


def _git(root: Path, *arguments: str) -> str | None:
    """What git answers; None where there is no git, or no repository of ours."""
    if not (root / ".git").exists():  # a repository further up is somebody else's
        return None
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
