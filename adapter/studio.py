"""Training, evaluation and scoring run as processes of their own: the service never imports what needs torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from adapter.errors import BadSettings

_NEEDED = ("training", "torch", "sksurv", "onnxscript")
_ASK = "import importlib.util, sys; print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name) is None])"


def start_training(module: str, arguments: Sequence[str], python: Path | None) -> int:
    """Run a module that trains or evaluates; returns its exit status. Its progress goes where ours goes.

    python: the interpreter of the training environment, ours by default. Raises BadSettings naming what it lacks.
    """
    interpreter = str(python or sys.executable)
    missing = _missing(interpreter)
    if missing:
        raise BadSettings(
            f"no training environment: {interpreter} lacks {', '.join(missing)}. Build one with `make train-setup` or "
            "install adjuvant with its extra `train` into one, and name its interpreter with --python"
        )
    return _run([interpreter, "-m", module, *arguments])


def start_scoring(arguments: Sequence[str]) -> int:
    """Score a table with our own interpreter, which needs no torch; returns the exit status."""
    return _run([sys.executable, "-m", "training.score", *arguments])


def _missing(interpreter: str) -> list[str]:
    try:
        asked = subprocess.run(  # noqa: S603 - the interpreter is the caller's own choice
            [interpreter, "-c", _ASK, *_NEEDED], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise BadSettings(f"--python {interpreter} is no Python interpreter") from error
    return asked.stdout.split()


def _run(command: Sequence[str]) -> int:
    return subprocess.run(command, check=False).returncode  # noqa: S603 - as above
