"""`adjuvant run --role`: one process watches, two work, on one PostgreSQL with one vault between them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import create_engine, text

from adapter.rooms import opened_ledger
from adapter.sandbox.hospital import SandboxHospital
from adapter.sandbox.patients import simulate_courses
from adapter.terminology import load_terminology
from tests.faults.hospitals import PretendHospital
from tests.faults.workers import Worker
from tests.peers.postgresql import Postgresql

_PATIENTS = 6


def test_one_watches_and_two_work(tmp_path: Path, postgresql: Postgresql) -> None:
    """Every patient is settled, the workers share the cases, and all three stop within ten seconds of SIGTERM."""
    server = create_engine(postgresql.url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("create database roles"))
    server.dispose()
    url = postgresql.url.rpartition("/")[0] + "/roles"
    courses = simulate_courses(_PATIENTS, seed=7, today=datetime(2026, 1, 1, tzinfo=UTC))
    with SandboxHospital(courses, load_terminology()) as sandbox:
        sandbox.unfold()
        hospital = PretendHospital(sandbox)
        sites = [Worker(number, hospital, tmp_path, url, hospital.base_url) for number in range(3)]
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "adapter", "run", "--config", str(site.config), "--role", role],
                stderr=subprocess.DEVNULL,
            )
            for site, role in zip(sites, ("watch", "work", "work"), strict=True)
        ]
        try:
            deadline = time.monotonic() + 240
            with opened_ledger(sites[0].settings) as ledger:
                while len([entry for entry in ledger.list_cases() if entry.settled]) < _PATIENTS:
                    assert time.monotonic() < deadline
                    assert all(process.poll() is None for process in processes)
                    time.sleep(0.2)
        finally:
            asked = time.monotonic()
            for process in processes:
                process.send_signal(signal.SIGTERM)
            codes = [process.wait(30) for process in processes]
    assert codes == [0, 0, 0]
    assert time.monotonic() - asked < 10
    engine = create_engine(url)
    with engine.connect() as connection:
        workers = connection.execute(text("select distinct executor_id from dbos.workflow_status")).all()
    engine.dispose()
    assert len(workers) == 2
