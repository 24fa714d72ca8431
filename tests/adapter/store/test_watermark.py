"""The watermark moves together with the cases it stands for, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import OperationalError

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case, Watermark
from adapter.errors import StoreUnavailable
from adapter.store.database import open_database
from adapter.store.ledger import Ledger
from adapter.store.watermark import WatermarkStore

_P1, _P2 = PatientId("p1"), PatientId("p2")
_FIRST = Watermark(time=datetime(2026, 3, 1, 12, 0, tzinfo=UTC))
_SECOND = Watermark(time=_FIRST.time + timedelta(minutes=5))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty database."""
    opened = open_database(f"sqlite:///{tmp_path / 'adjuvant.db'}")
    yield opened
    opened.dispose()


@pytest.fixture
def feed(engine: Engine) -> WatermarkStore:
    """The feed of one server."""
    return WatermarkStore(engine, "http://127.0.0.1:8080/fhir")


def test_before_the_first_poll_there_is_none(feed: WatermarkStore) -> None:
    """None means: read everything."""
    assert feed.read() is None
    assert feed.remembered() == ({}, {})


def test_cases_and_watermark_are_stored_together(engine: Engine, feed: WatermarkStore) -> None:
    """Every changed patient once, in one transaction with the watermark and what the next poll must know."""
    cases = feed.advance(_FIRST, [_P2, _P1, _P1], people={_P1: _P1, _P2: _P1}, hashes={"Observation/o1": "ab"})
    assert cases == (Case(patient_id=_P1, revision=1), Case(patient_id=_P2, revision=1))
    assert set(Ledger(engine, lambda: _FIRST.time).unsettled_cases()) == set(cases)
    assert feed.read() == _FIRST
    assert feed.remembered() == ({_P1: _P1, _P2: _P1}, {"Observation/o1": "ab"})


@pytest.mark.fault("F-26")
def test_the_last_good_poll_is_told_by_the_database_s_clock(engine: Engine, feed: WatermarkStore) -> None:
    """Law: every process knows when any of them last looked, and how long ago. Breach: the server's clock, or ours."""
    assert feed.last_poll() is None
    feed.advance(_FIRST, [], people={}, hashes={})
    last = WatermarkStore(engine, "http://127.0.0.1:8080/fhir").last_poll()
    assert last is not None
    assert abs(last.at - datetime.now(UTC)) < timedelta(seconds=5)
    assert timedelta(0) <= last.age < timedelta(seconds=5)
    with engine.begin() as connection:
        connection.execute(text("update adjuvant_watermark set polled = datetime('now', '-1 hours')"))
    older = feed.last_poll()
    assert older is not None
    assert abs(older.age - timedelta(hours=1)) < timedelta(seconds=5)
    assert WatermarkStore(engine, "http://127.0.0.1:8081/fhir").last_poll() is None


@pytest.mark.fault("F-27")
@pytest.mark.parametrize("table", ["adjuvant_patient", "adjuvant_remembered", "adjuvant_watermark"])
def test_a_failure_in_the_middle_moves_neither(engine: Engine, feed: WatermarkStore, table: str) -> None:
    """F-27: whichever write fails, nothing of the poll stays: the next poll reads the same changes again."""
    feed.advance(_FIRST, [], people={}, hashes={})

    def fail(connection: object, cursor: object, statement: str, *_rest: object) -> None:
        if table in statement and not statement.startswith("SELECT"):
            raise OperationalError(statement, {}, Exception("disk I/O error"))

    event.listen(engine, "before_cursor_execute", fail)
    with pytest.raises(StoreUnavailable):
        feed.advance(_SECOND, [_P1], people={_P1: _P1}, hashes={})
    event.remove(engine, "before_cursor_execute", fail)
    assert feed.read() == _FIRST
    assert Ledger(engine, lambda: _FIRST.time).unsettled_cases() == ()
    assert feed.remembered() == ({}, {})


def test_what_left_the_cohort_is_forgotten(feed: WatermarkStore) -> None:
    """The next poll compares with the last one only."""
    feed.advance(_FIRST, [], people={_P1: _P1, _P2: _P2}, hashes={"a": "1", "b": "2"})
    feed.advance(_SECOND, [], people={_P2: _P1}, hashes={"b": "3"})
    assert feed.remembered() == ({_P2: _P1}, {"b": "3"})
    assert feed.read() == _SECOND


def test_another_server_starts_afresh(engine: Engine, feed: WatermarkStore) -> None:
    """A server's clock means nothing on another."""
    feed.advance(_FIRST, [], people={_P1: _P1}, hashes={})
    other = WatermarkStore(engine, "http://127.0.0.1:8081/fhir")
    assert (other.read(), other.remembered()) == (None, ({}, {}))


def test_a_second_change_of_a_waiting_patient_waits_with_the_first(feed: WatermarkStore) -> None:
    """At most one case waits per patient: a further poll asks for the same revision."""
    first = feed.advance(_FIRST, [_P1], people={}, hashes={})
    assert feed.advance(_SECOND, [_P1], people={}, hashes={}) == first
