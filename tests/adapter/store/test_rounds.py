"""A comparison of all records belongs to one process at a time; whoever comes second writes nothing."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case
from adapter.errors import Overtaken
from adapter.store.database import open_database
from adapter.store.rounds import Round, RoundBook
from tests.peers.postgresql import Postgresql

_NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_P1 = PatientId("p1")
_HELD = "update adjuvant_remembered set content = content where kind = 'round'"
_ENDED_BEFORE = "insert into adjuvant_remembered values ('x', 'round', 'last', '2026-03-01 2026-03-01T03:00:00+00:00')"
_BEGUN = "insert into adjuvant_remembered values ('x', 'round', 'current', 'night ')"
_WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"


@pytest.fixture
def book(tmp_path: Path) -> Iterator[RoundBook]:
    """An empty one, in a file."""
    engine = open_database(f"sqlite:///{tmp_path}/adjuvant.db")
    yield RoundBook(engine, "x")
    engine.dispose()


@pytest.fixture
def shared(postgresql: Postgresql) -> Iterator[Engine]:
    """A database of several workers."""
    engine = open_database(postgresql.create_database("rounds"))
    yield engine
    engine.dispose()


def test_a_round_that_another_ended_is_not_ended_again(book: RoundBook) -> None:
    """The slower one must not take the next night away from who has begun it."""
    ours = book.begin("monday")
    assert ours is not None
    book.end(ours, _NOW)
    assert book.begin("monday") is None
    tuesday = book.begin("tuesday")
    with pytest.raises(Overtaken):
        book.end(ours, _NOW)
    assert book.begin("wednesday") == tuesday == Round(name="tuesday", after="")


def test_a_round_that_was_asked_for_leaves_the_night_s_as_it_was(book: RoundBook) -> None:
    """`adjuvant reconcile` by day: the night's round is not due again for it, and the later of both is the last."""
    night = book.begin("2026-03-01")
    assert night is not None
    book.end(night, _NOW)
    asked = book.begin("asked-1")
    assert asked is not None
    book.end(asked, _NOW + timedelta(hours=3))
    assert book.begin("2026-03-01") is None
    assert book.begin("asked-1") is None
    assert book.ended() == _NOW + timedelta(hours=3)
    night = book.begin("2026-03-02")
    assert night is not None
    book.end(night, _NOW + timedelta(days=1))
    assert book.ended() == _NOW + timedelta(days=1)


def test_a_night_s_round_that_a_person_finishes_is_the_night_s(book: RoundBook) -> None:
    """Cut in the night, gone on with by `adjuvant reconcile`: then the night has nothing left to do."""
    assert book.begin("2026-03-01") is not None
    rest = book.begin("asked-1")
    assert rest == Round(name="2026-03-01", after="")
    book.end(rest, _NOW)
    assert book.begin("2026-03-01") is None
    assert book.begin("asked-1") == Round(name="asked-1", after="")


def test_a_book_of_before_knows_its_last_night(book: RoundBook, tmp_path: Path) -> None:
    """The key under which all rounds ended is now the night's: an upgrade by day reads no cohort again."""
    with closing(sqlite3.connect(tmp_path / "adjuvant.db")) as database, database:
        database.execute(_ENDED_BEFORE)
    assert book.begin("2026-03-01") is None
    assert book.ended() == datetime(2026, 3, 1, 3, tzinfo=UTC)


def test_who_was_overtaken_asks_for_nothing(book: RoundBook) -> None:
    """One comparison of one record, one case."""
    begun = book.begin("night")
    assert begun is not None
    book.compared(begun, _P1, "one", _P1, ask=False)
    with pytest.raises(Overtaken):
        book.compared(begun, _P1, "two", _P1, ask=True)
    assert book.digest(_P1) == "one"


@pytest.mark.real
@pytest.mark.timeout(300)
def test_of_two_workers_at_the_same_moment_one_goes_on(shared: Engine) -> None:
    """PostgreSQL: both have looked before either has written; one case is asked for, and the other worker is told."""
    book = RoundBook(shared, "x")
    begun = book.begin("night")
    assert begun is not None
    with ThreadPoolExecutor(2) as workers, shared.connect() as holder:
        holder.execute(text(_HELD))
        both: list[Future[Case | None]] = [
            workers.submit(book.compared, begun, _P1, "digest", _P1, ask=True) for _ in range(2)
        ]
        _wait_for(holder, waiting=2)
        holder.commit()
        ends = [one.exception(60) for one in both]
    assert sorted(type(end).__name__ for end in ends) == ["NoneType", "Overtaken"]
    assert book.begin("night") == Round(name="night", after="p1")


@pytest.mark.real
@pytest.mark.timeout(300)
def test_of_two_that_begin_at_the_same_moment_one_begins(shared: Engine) -> None:
    """PostgreSQL: the other is told, and finds the round when it looks again."""
    book = RoundBook(shared, "x")
    with ThreadPoolExecutor(1) as workers, shared.connect() as holder:
        holder.execute(text(_BEGUN))
        other = workers.submit(book.begin, "night")
        _wait_for(holder, waiting=1)
        holder.commit()
        assert isinstance(other.exception(60), Overtaken)
    assert book.begin("night") == Round(name="night", after="")


def _wait_for(connection: Connection, *, waiting: int) -> None:
    deadline = time.monotonic() + 60
    while connection.execute(text(_WAITING)).scalar_one() != waiting:
        assert time.monotonic() < deadline
        connection.execute(text("select pg_stat_clear_snapshot()"))
        time.sleep(0.05)
