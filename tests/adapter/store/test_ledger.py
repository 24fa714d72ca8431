"""What became of each case: written once, one waiting at most, and never a value of a patient."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlmodel import Session

from adapter.domain.ids import PatientId, ResourceVersion
from adapter.domain.outcome import Abstained, Case, DeadLetter, Delivered, Settled, Skipped, WriteReceipt
from adapter.store.database import open_database
from adapter.store.ledger import Ledger

_P1 = PatientId("p1")
_NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_DELIVERED = Delivered(
    receipt=WriteReceipt(
        assessment_id="a" * 32, versions=(ResourceVersion("RiskAssessment", "ra-1", "1"),), written=True
    )
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty database."""
    opened = open_database(f"sqlite:///{tmp_path / 'adjuvant.db'}")
    yield opened
    opened.dispose()


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    """Its ledger, at a clock that stands still."""
    return Ledger(engine, lambda: _NOW)


def start(engine: Engine, ledger: Ledger, case: Case) -> None:
    """As the engine's first transaction does."""
    with Session(engine) as session:
        ledger.mark_started(session, case)
        session.commit()


def settle(engine: Engine, ledger: Ledger, case: Case, settled: Settled, case_file: str | None = None) -> None:
    """As the engine's last transaction does."""
    with Session(engine) as session:
        ledger.settle(session, case, settled, case_file)
        session.commit()


def test_the_oldest_waiting_case_is_known(engine: Engine, ledger: Ledger) -> None:
    """By the database's clock, from the first request; what runs waits no more."""
    assert ledger.oldest_waiting() is None
    before = datetime.now(UTC).replace(microsecond=0)
    first = ledger.request(_P1)
    asked = ledger.oldest_waiting()
    assert asked is not None
    assert before <= asked <= datetime.now(UTC)
    ledger.request(_P1)
    assert ledger.oldest_waiting() == asked
    start(engine, ledger, first)
    assert ledger.oldest_waiting() is None


def test_endings_are_counted_by_reason(engine: Engine, ledger: Ledger) -> None:
    """What a monitor alarms on: codes and numbers."""
    for patient, reason in (("p1", "peer-timeout"), ("p2", "peer-timeout"), ("p3", "step-crashed")):
        case = ledger.request(PatientId(patient))
        start(engine, ledger, case)
        settle(engine, ledger, case, DeadLetter(reason=reason, detail="x"))
    ledger.request(_P1)
    assert ledger.endings() == {("dead-letter", "peer-timeout"): 2, ("dead-letter", "step-crashed"): 1}


def test_many_requests_make_one_waiting_case(ledger: Ledger) -> None:
    """300 changes before work begins are one piece of work."""
    asked = {ledger.request(_P1) for _ in range(300)}
    assert asked == {Case(patient_id=_P1, revision=1)} == set(ledger.unsettled_cases())


def test_a_change_during_work_makes_the_next_revision(engine: Engine, ledger: Ledger) -> None:
    """What arrives after the record was read is not lost: one further look, however many changes."""
    first = ledger.request(_P1)
    start(engine, ledger, first)
    assert ledger.counts()["waiting"] == 0
    assert {ledger.request(_P1).revision for _ in range(10)} == {2}
    settle(engine, ledger, first, Skipped(reason="r", detail=""))
    assert ledger.unsettled_cases() == (Case(patient_id=_P1, revision=2),)


@settings(max_examples=25)  # each example is a database of its own, synced to disk
@given(st.lists(st.sampled_from(["request", "start", "settle"]), max_size=30))
def test_at_most_one_case_waits_and_none_is_lost(steps: list[str]) -> None:
    """Whatever the order of changes and work: a request after the last start is open until a start follows."""
    engine = open_database("sqlite://")
    ledger = Ledger(engine, lambda: _NOW)
    open_since = False
    running: Case | None = None
    for step in steps:
        if step == "request":
            ledger.request(_P1)
            open_since = True
        elif step == "start" and ledger.counts()["waiting"]:
            running = ledger.unsettled_cases()[-1]  # of one patient, in order of revision
            start(engine, ledger, running)
            open_since = False
        elif step == "settle" and running:
            settle(engine, ledger, running, Skipped(reason="r", detail=""))
        assert ledger.counts()["waiting"] == int(open_since)
    engine.dispose()


def test_starting_again_after_a_crash_changes_nothing(engine: Engine, ledger: Ledger) -> None:
    """The engine may replay a transaction of a settled case; it stays settled."""
    case = ledger.request(_P1)
    start(engine, ledger, case)
    settle(engine, ledger, case, _DELIVERED)
    start(engine, ledger, case)
    assert ledger.counts()["delivered"] == 1
    assert ledger.unsettled_cases() == ()


def test_a_case_is_settled_once(engine: Engine, ledger: Ledger) -> None:
    """The first outcome stands, whatever a late worker says."""
    case = ledger.request(_P1)
    start(engine, ledger, case)
    settle(engine, ledger, case, _DELIVERED, "d" * 64)
    settle(engine, ledger, case, DeadLetter(reason="too-late", detail=""))
    entry = ledger.find_case(case.case_id)
    assert entry is not None
    assert (entry.state, entry.case_file, entry.settled) == ("delivered", "d" * 64, _NOW)
    assert entry.resources == ("RiskAssessment/ra-1/_history/1",)
    assert ledger.find_deliveries("a" * 32) == (entry,)


def test_an_assessment_is_found_by_its_newest_case_that_can_be_replayed(engine: Engine, ledger: Ledger) -> None:
    """Breach: the first case that delivered it counted, decided under settings of then, or without a case file by now.

    Three cases delivered it; that of the newest has no case file any more.
    """
    for file in ("d" * 64, "e" * 64, None):
        case = ledger.request(_P1)
        start(engine, ledger, case)
        settle(engine, ledger, case, _DELIVERED, file)
    assert [entry.revision for entry in ledger.find_deliveries("a" * 32)] == [2, 1, 3]
    assert ledger.find_deliveries("b" * 32) == ()


@pytest.mark.parametrize(
    ("settled", "state"),
    [
        (_DELIVERED, "delivered"),
        (Abstained(reason="r", detail="d"), "abstained"),
        (Skipped(reason="r", detail="d"), "skipped"),
        (DeadLetter(reason="r", detail="d"), "dead-letter"),
    ],
)
def test_every_outcome_is_a_terminal_state(engine: Engine, ledger: Ledger, settled: Settled, state: str) -> None:
    """Law 6: four ends and no other; counts show each, and what waits and runs."""
    case = ledger.request(_P1)
    start(engine, ledger, case)
    assert ledger.counts()["running"] == 1
    settle(engine, ledger, case, settled)
    assert {name: count for name, count in ledger.counts().items() if count} == {state: 1}


def test_a_case_that_ended_outside_the_queue_is_written_down(ledger: Ledger) -> None:
    """The engine gave the workflow up before it could begin: it is closed, and the next one is free."""
    case = ledger.request(_P1)
    ledger.record(case, DeadLetter(reason="engine-gave-up", detail="ERROR"))
    assert ledger.unsettled_cases() == ()
    assert [entry.state for entry in ledger.list_cases(state="dead-letter")] == ["dead-letter"]
    assert ledger.request(_P1).revision == 2


def test_a_long_detail_is_cut(engine: Engine, ledger: Ledger) -> None:
    """PostgreSQL refuses what SQLite silently takes: the detail fits its column."""
    ledger.record(ledger.request(_P1), Abstained(reason="r", detail="x" * 5000))
    assert [len(entry.detail) for entry in ledger.list_cases()] == [500]


def test_lists_are_newest_first_and_filtered(ledger: Ledger) -> None:
    """What a person looks for stands on top."""
    for patient in (_P1, _P1, PatientId("p2")):
        ledger.record(ledger.request(patient), Skipped(reason="r", detail=""))
    assert [entry.revision for entry in ledger.list_cases(patient_id="p1")] == [2, 1]
    assert ledger.list_cases(state="delivered") == ()
    assert ledger.find_case("p9:1") is None


def _dead_letters(ledger: Ledger) -> list[str]:
    """Those that wait for a person, as the list has them; the counts agree."""
    listed = sorted(entry.case_id for entry in ledger.list_standing_cases(state="dead-letter"))
    assert ledger.counts()["dead-letter"] == len(listed)
    return listed


def test_a_dead_letter_waits_for_a_person_until_there_is_another_look(engine: Engine, ledger: Ledger) -> None:
    """Law: asked for again it is off the list; where that ends as one too it is on it, once; nobody else's is touched.

    What ended how often stays counted.
    """
    for patient in (_P1, PatientId("p2")):
        ledger.record(ledger.request(patient), DeadLetter(reason="peer-timeout", detail="x"))
    assert _dead_letters(ledger) == ["p1:1", "p2:1"]
    second = ledger.request(_P1)
    assert _dead_letters(ledger) == ["p2:1"]
    start(engine, ledger, second)
    assert _dead_letters(ledger) == ["p2:1"]
    settle(engine, ledger, second, DeadLetter(reason="peer-timeout", detail="x"))
    assert _dead_letters(ledger) == ["p1:2", "p2:1"]
    ledger.record(ledger.request(_P1), Skipped(reason="r", detail=""))
    assert _dead_letters(ledger) == ["p2:1"]
    assert [entry.case_id for entry in ledger.list_standing_cases()] == ["p1:3", "p2:1"]
    assert len(ledger.list_cases()) == 4
    assert ledger.endings()["dead-letter", "peer-timeout"] == 3


def test_a_look_that_began_before_answers_no_dead_letter(engine: Engine) -> None:
    """Law: no dead letter is hidden that nobody has looked at. Breach: an older revision that ran last was.

    `assess --landmark` takes the next revision while a case waits, and ends before that one begins.
    """
    times = iter(_NOW + timedelta(minutes=minute) for minute in range(9))
    ledger = Ledger(engine, lambda: next(times))
    waiting = ledger.request(_P1)
    ledger.record_apart(_P1, _DELIVERED, None)
    ledger.record(waiting, DeadLetter(reason="peer-timeout", detail="x"))
    assert _dead_letters(ledger) == ["p1:1"]


def test_a_forgotten_patient_leaves_no_case_and_frees_the_case_files(ledger: Ledger) -> None:
    """Forgetting removes the cases; their files are no longer pointed to, so the vault's purge removes them."""
    ledger.record(ledger.request(_P1), Skipped(reason="r", detail=""), "d" * 64)
    assert ledger.case_files() == {"d" * 64}
    assert ledger.forget(_P1) == 1
    assert (ledger.list_cases(), ledger.case_files()) == ((), frozenset())


def test_no_table_has_a_column_for_a_value_of_a_patient(ledger: Ledger, tmp_path: Path) -> None:
    """Law 8: ids, digests, states and times only; a new column must be added here to be allowed."""
    connection = sqlite3.connect(tmp_path / "adjuvant.db")
    tables = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
    columns = {f"{table}.{row[1]}" for table in tables for row in connection.execute(f"pragma table_info({table})")}
    connection.close()
    case = "case_id patient_id revision state reason detail assessment_id case_file resources started settled "
    case += "crashes crashed_after begun_after asked"
    assert columns == {
        "alembic_version.version_num",
        *(f"adjuvant_worker.{name}" for name in ("executor_id", "seen", "left", "place")),
        *(f"adjuvant_patient.{name}" for name in ("patient_id", "requested", "started")),
        *(f"adjuvant_case.{name}" for name in case.split()),
        *(f"adjuvant_watermark.{name}" for name in ("feed", "time", "polled")),
        *(f"adjuvant_remembered.{name}" for name in ("feed", "kind", "key", "content")),
    }
