"""`adjuvant run --role`: one process watches, two work, on one PostgreSQL with one vault between them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, text

from adapter.rooms import opened_ledger
from adapter.sandbox.hospital import SandboxHospital
from adapter.sandbox.patients import FAMILY_NAME, simulate_courses
from adapter.terminology import load_terminology
from tests.faults.hospitals import PretendHospital
from tests.faults.workers import Worker
from tests.peers.postgresql import Postgresql

_PATIENTS = 6


@pytest.mark.fault("F-02", "F-37")
def test_one_watches_and_two_work(tmp_path: Path, postgresql: Postgresql) -> None:
    """Every patient is settled, the workers share the cases, and all three stop in order.

    Law 8, F-37: no table, of the engine or of ours, holds a name, a birth date or an identifier of a patient.
    """
    url = postgresql.create_database("roles")
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
            for process in processes:
                process.send_signal(signal.SIGTERM)
            codes = [process.wait(30) for process in processes]
    assert codes == [0, 0, 0]
    engine = create_engine(url)
    with engine.connect() as connection:
        workers = connection.execute(text("select distinct executor_id from dbos.workflow_status")).all()
        stored = _everything(connection)
    engine.dispose()
    assert len(workers) == 2
    assert str(sandbox.patients[0]) in stored
    for course in courses:
        person = course.record.person
        born = person.birth.midpoint.date().isoformat() if person.birth else "no birth date"
        assert [one for one in (FAMILY_NAME, born, *(i.value for i in person.identifiers)) if one in stored] == []


def _everything(connection: Connection) -> str:
    """Every row of every table, the engine's and ours."""
    tables = connection.execute(
        text("select table_schema, table_name from information_schema.tables where table_schema in ('dbos', 'public')")
    ).all()
    assert len(tables) > 15
    rows = [
        str(row)
        for schema, table in tables
        for row in connection.execute(text(f'select * from "{schema}"."{table}"'))  # noqa: S608 (the database's own names)
    ]
    return "\n".join(rows)
