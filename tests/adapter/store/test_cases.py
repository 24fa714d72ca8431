"""A case's state moves by single statements, so that no two writers can lose each other's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case, Skipped
from adapter.store.cases import begin_step, count_crash, mark_started, request_case, settle
from adapter.store.database import open_database
from adapter.store.ledger import Ledger
from tests.peers.postgresql import Postgresql

_P1 = PatientId("p1")
_NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty database."""
    opened = open_database(f"sqlite:///{tmp_path / 'adjuvant.db'}")
    yield opened
    opened.dispose()


def ask_from_many_threads(engine: Engine) -> set[Case]:
    """Sixteen askers at once, as a poll, a command and a hook may be; nobody fails."""
    asked: list[Case] = []
    together = threading.Barrier(16)

    def ask() -> None:
        together.wait()
        with Session(engine) as session:
            case = request_case(session, _P1)
            session.commit()
        asked.append(case)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 16
    return set(asked)


def test_many_who_ask_at_once_ask_for_one_case(engine: Engine) -> None:
    """The first request of a new patient, sixteen times at once: one row, one revision, no error."""
    assert ask_from_many_threads(engine) == {Case(patient_id=_P1, revision=1)}


def test_many_who_ask_at_once_ask_for_one_case_on_postgresql(postgresql: Postgresql) -> None:
    """The same statements on the other database."""
    engine = open_database(postgresql.create_database("cases"))
    assert ask_from_many_threads(engine) == {Case(patient_id=_P1, revision=1)}
    ledger = Ledger(engine, lambda: _NOW)
    ledger.record(Case(patient_id=_P1, revision=1), Skipped(reason="r", detail=""), "d" * 64)
    assert [(entry.state, entry.started) for entry in ledger.list_cases()] == [("skipped", _NOW)]
    assert ledger.request(_P1).revision == 2
    assert [entry.state for entry in ledger.list_cases()] == ["waiting", "skipped"]
    engine.dispose()


def test_what_waits_is_listed(engine: Engine) -> None:
    """A person asks what is waiting: it has a line, without a start, above what has begun."""
    ledger = Ledger(engine, lambda: _NOW)
    ledger.record(ledger.request(_P1), Skipped(reason="r", detail=""))
    ledger.request(_P1)
    assert [(entry.case_id, entry.state, entry.started) for entry in ledger.list_cases()] == [
        ("p1:2", "waiting", None),
        ("p1:1", "skipped", _NOW),
    ]
    assert ledger.counts()["waiting"] == 1


def test_a_forgotten_case_does_not_come_back(engine: Engine) -> None:
    """What settles after it was forgotten stays forgotten, and no id is used twice."""
    ledger = Ledger(engine, lambda: _NOW)
    ledger.record(ledger.request(_P1), Skipped(reason="r", detail=""))
    assert ledger.forget(_P1) == 1
    with Session(engine) as session:
        settle(session, Case(patient_id=_P1, revision=1), Skipped(reason="late", detail=""), case_file=None, at=_NOW)
        session.commit()
    assert ledger.list_cases() == ()
    assert ledger.request(_P1).revision == 2


def test_what_is_open_is_not_forgotten(engine: Engine) -> None:
    """A case that waits or runs settles first: forgetting never leaves work that nobody lists."""
    ledger = Ledger(engine, lambda: _NOW)
    case = ledger.request(_P1)
    assert ledger.forget(_P1) == 0
    assert ledger.unsettled_cases() == (case,)


@pytest.mark.fault("F-28")
def test_getting_further_starts_the_count_of_crashes_again(engine: Engine) -> None:
    """F-28: only a case that dies at one point again and again is poison; one that moves on was in bad company."""
    case = Case(patient_id=_P1, revision=1)

    def died_in_step(finished: int) -> int:
        begin_step(session, case, finished)
        return count_crash(session, case, finished)

    with Session(engine) as session:
        mark_started(session, case, _NOW)
        assert [died_in_step(steps) for steps in (1, 1, 2, 2, 2)] == [1, 2, 1, 2, 3]
        assert count_crash(session, Case(patient_id=PatientId("p9"), revision=1), 1) == 0


@pytest.mark.fault("F-28")
def test_a_case_that_only_waited_on_a_dead_worker_is_not_suspected(engine: Engine) -> None:
    """F-28: a worker that dies before it begins a step of the case, or dies again before, says nothing of the case."""
    case = Case(patient_id=_P1, revision=1)
    with Session(engine) as session:
        mark_started(session, case, _NOW)
        assert count_crash(session, case, 1) == 0
        begin_step(session, case, 1)
        assert [count_crash(session, case, 1) for _ in range(3)] == [1, 1, 1]
