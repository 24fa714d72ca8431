"""The same engine on PostgreSQL: two workers share the cases, and the living one finishes what the dead one had."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, create_engine, text

from tests.peers.postgresql import Postgresql

_ROOT = Path(__file__).parents[2]
_PATIENTS = 6


def _worker(folder: Path, url: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.fakes.slow_cases", str(folder), str(_PATIENTS), "1.0", "", url]
    return subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _joined(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("select count(*) from adjuvant_worker")).scalar_one())


def test_a_living_worker_takes_over_from_a_dead_one(tmp_path: Path, postgresql: Postgresql) -> None:
    """Kill -9 one of two: within thirty seconds every case is settled, once, only steps in flight repeated."""
    server = create_engine(postgresql.url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("create database takeover"))
    server.dispose()
    url = postgresql.url.rpartition("/")[0] + "/takeover"
    engine = create_engine(url)
    trace = tmp_path / "trace"
    workers = [_worker(tmp_path, url)]
    _wait_until(
        trace.exists
    )  # the first asks for the patients; a second that asked too would make revisions of its own
    workers.append(_worker(tmp_path, url))
    _wait_until(lambda: _joined(engine) == 2)
    workers[0].send_signal(signal.SIGKILL)
    workers[0].communicate()
    killed = time.monotonic()
    output, _ = workers[1].communicate(timeout=60)
    seconds = time.monotonic() - killed

    with engine.connect() as connection:
        states = connection.execute(text("select case_id, state, detail from adjuvant_case")).all()
    engine.dispose()
    assert output == "idle\n"
    assert seconds < 30
    whole = ("skipped", "gather retrieve decide deliver")
    assert {case: (state, detail) for case, state, detail in states} == {f"p{n}:1": whole for n in range(_PATIENTS)}
    ends = Counter(line for line in trace.read_text().splitlines() if line.endswith("end"))
    assert len(ends) == 4 * _PATIENTS
    assert sum(ends.values()) <= 4 * _PATIENTS + 2  # two workers a process: at most two steps were in flight
