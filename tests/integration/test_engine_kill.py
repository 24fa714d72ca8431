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
_WHOLE = f"skipped test {' '.join(_STEPS)}"


def _start(folder: Path, patients: int = 2, seconds: float = 0.15, trouble: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.fakes.slow_cases", str(folder), str(patients), str(seconds), trouble]
    return subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)


def _states(folder: Path) -> dict[str, str]:
    """Each case's state, reason and detail."""
    database = sqlite3.connect(folder / "adjuvant.db")
    rows = database.execute("select case_id, state, reason, detail from adjuvant_case").fetchall()
    database.close()
    return {case_id: " ".join(rest) for case_id, *rest in rows}


def _wait_for_line(trace: Path, wanted: str, child: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120  # of patience with a loaded machine, no bar
    while not (trace.exists() and wanted in trace.read_text()):
        assert child.poll() is None, "the process ended before the line came"
        assert time.monotonic() < deadline, f"no line {wanted}"
        time.sleep(0.005)


def _finish(folder: Path) -> None:
    child = _start(folder)
    output, _ = child.communicate(timeout=180)
    assert output.endswith("idle\n")


@pytest.mark.fault("F-01")
@pytest.mark.parametrize("moment", [f"{step} {edge}" for step in _STEPS for edge in ("begin", "end")])
def test_a_killed_service_continues_where_it_was(tmp_path: Path, moment: str) -> None:
    """Kill -9 in or after any step: finished steps are not repeated, only the one in flight may be, nothing is lost."""
    child = _start(tmp_path)
    _wait_for_line(tmp_path / "trace", f"p0:1 {moment}", child)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    _finish(tmp_path)

    cases = _states(tmp_path)
    assert cases == {"p0:1": _WHOLE, "p1:1": _WHOLE}
    begun = Counter((tmp_path / "trace").read_text().splitlines())
    assert all(begun[f"{case} {step} end"] in {1, 2} for case in cases for step in _STEPS)
    repeated = [line for line, count in begun.items() if line.endswith("begin") and count > 1]
    assert len([line for line in repeated if line.startswith("p0")]) <= 1


def _stop(child: subprocess.Popen[str]) -> float:
    """SIGTERM; returns the seconds until the process was gone, which it must be with exit code 0."""
    asked = time.monotonic()
    child.send_signal(signal.SIGTERM)
    output, _ = child.communicate(timeout=30)
    assert (output, child.returncode) == ("stopped\n", 0)
    return time.monotonic() - asked


@pytest.mark.fault("F-02")
def test_a_service_asked_to_stop_stops_within_ten_seconds(tmp_path: Path) -> None:
    """F-02: SIGTERM under load: steps in flight finish, no other begins, and the next service goes on after them."""
    child = _start(tmp_path, patients=6, seconds=0.3)
    _wait_for_line(tmp_path / "trace", "p0:1 gather begin", child)
    assert _stop(child) < 10
    _finish(tmp_path)
    assert _states(tmp_path) == {f"p{number}:1": _WHOLE for number in range(6)}
    begun = Counter((tmp_path / "trace").read_text().splitlines())
    assert set(begun.values()) == {1}


@pytest.mark.fault("F-02")
def test_a_case_that_waits_for_a_peer_is_not_given_up_when_the_service_stops(tmp_path: Path) -> None:
    """F-02: the wait is cut short, the case has no outcome, and the next service tries again: nobody need look."""
    child = _start(tmp_path, patients=1, trouble="unreachable")
    _wait_for_line(tmp_path / "trace", "p0:1 retrieve begin", child)
    assert _stop(child) < 10
    assert _states(tmp_path) == {"p0:1": "running  "}
    _finish(tmp_path)
    assert _states(tmp_path) == {"p0:1": _WHOLE}
    assert (tmp_path / "trace").read_text().count("p0:1 gather begin") == 1


@pytest.mark.fault("F-02")
def test_a_step_that_hangs_does_not_hold_the_exit(tmp_path: Path) -> None:
    """F-02: after its time the process goes all the same; the case is repeated from its last checkpoint."""
    child = _start(tmp_path, patients=1, trouble="hang")
    _wait_for_line(tmp_path / "trace", "p0:1 retrieve begin", child)
    assert _stop(child) < 10
    _finish(tmp_path)
    assert _states(tmp_path) == {"p0:1": _WHOLE}


@pytest.mark.fault("F-28")
def test_a_case_that_kills_its_worker_three_times_is_closed_and_the_others_go_on(tmp_path: Path) -> None:
    """F-28: a poison case ends as a dead letter with its reason; at the fourth start the service lives."""
    for _ in range(3):
        child = _start(tmp_path, patients=3, seconds=0.01, trouble="crash")
        child.communicate(timeout=180)
        assert child.returncode == 70
    child = _start(tmp_path, patients=3, seconds=0.01, trouble="crash")
    output, _ = child.communicate(timeout=180)
    assert output.endswith("idle\n")  # after what the log says of it
    assert _states(tmp_path) == {
        "p0:1": "dead-letter worker-crashed after step 2",
        "p1:1": _WHOLE,
        "p2:1": _WHOLE,
    }
