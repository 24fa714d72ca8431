"""F-01, F-02: a service killed at any moment continues where it was; every case settles, once."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.real  # real processes, killed for real: too slow for the fast tests
_ROOT = Path(__file__).parents[2]
_STEPS = ("gather", "retrieve", "decide", "deliver")


def _start(folder: Path, patients: int = 2, seconds: float = 0.15) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.fakes.slow_cases", str(folder), str(patients), str(seconds)]
    return subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)


def _wait_for_line(trace: Path, wanted: str, child: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 20
    while not (trace.exists() and wanted in trace.read_text()):
        assert child.poll() is None, "the process ended before the line came"
        assert time.monotonic() < deadline, f"no line {wanted}"
        time.sleep(0.005)


def _finish(folder: Path) -> None:
    child = _start(folder)
    output, _ = child.communicate(timeout=60)
    assert output.endswith("idle\n")


@pytest.mark.parametrize("moment", [f"{step} {edge}" for step in _STEPS for edge in ("begin", "end")])
def test_a_killed_service_continues_where_it_was(tmp_path: Path, moment: str) -> None:
    """Kill -9 in or after any step: finished steps are not repeated, only the one in flight may be, nothing is lost."""
    child = _start(tmp_path)
    _wait_for_line(tmp_path / "trace", f"p0:1 {moment}", child)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    _finish(tmp_path)

    with sqlite3.connect(tmp_path / "adjuvant.db") as database:
        cases = dict(database.execute("select case_id, detail from adjuvant_case where state = 'skipped'").fetchall())
    database.close()
    assert cases == {"p0:1": " ".join(_STEPS), "p1:1": " ".join(_STEPS)}
    begun = Counter((tmp_path / "trace").read_text().splitlines())
    assert all(begun[f"{case} {step} end"] in {1, 2} for case in cases for step in _STEPS)
    repeated = [line for line, count in begun.items() if line.endswith("begin") and count > 1]
    assert len([line for line in repeated if line.startswith("p0")]) <= 1


def test_a_service_asked_to_stop_stops_within_ten_seconds(tmp_path: Path) -> None:
    """SIGINT under load: the process ends by itself, and the next one finishes the work."""
    child = _start(tmp_path, patients=6, seconds=0.3)
    _wait_for_line(tmp_path / "trace", "p0:1 gather begin", child)
    asked = time.monotonic()
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=15)
    assert time.monotonic() - asked < 10
    _finish(tmp_path)
    with sqlite3.connect(tmp_path / "adjuvant.db") as database:
        settled = database.execute("select count(*) from adjuvant_case where state = 'skipped'").fetchone()
    database.close()
    assert settled == (6,)
