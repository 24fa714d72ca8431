"""Nothing leaves the hospital: the inference library is told so before it loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_prediction_leaves_no_trace_in_the_home_folder(tmp_path: Path) -> None:
    """Onnxruntime keeps a device id and events for its vendor in HOME, unless it was switched off in time."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "adapter", "model", "verify"]
    subprocess.run(command, check=True, timeout=120, cwd=root, env={"HOME": str(tmp_path)}, capture_output=True)
    assert list(tmp_path.rglob("*")) == []
