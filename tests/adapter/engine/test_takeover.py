"""Signs of life do not stop for a database that is away for a moment; what the dead left is told by the process tests.

The takeover itself is proven with real processes, killed for real: tests/integration/test_engine_kill.py and
test_engine_postgresql.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dbos import error as engine_error
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from adapter.domain.ids import PatientId
from adapter.engine.queue import QUEUE, CaseQueue, QueueOptions
from adapter.engine.takeover import Heartbeat, Takeover
from adapter.errors import StoreUnavailable
from adapter.store.ledger import Ledger
from adapter.store.workers import WorkerRegister
from tests.adapter.engine.test_queue import Work, database


class Pulse:
    """Counts beats and looks; fails where told, as told."""

    def __init__(self, failing: range = range(0), error: Exception | None = None) -> None:
        self.beats = 0
        self.looks = 0
        self._failing = failing
        self._error = error or OperationalError("insert", {}, Exception("server closed the connection"))
        self._five = threading.Event()

    def beat(self) -> None:
        """The database may be away."""
        self.beats += 1
        if self.beats >= 5:
            self._five.set()
        if self.beats in self._failing:
            raise self._error

    def look(self) -> int:
        """Nobody is dead."""
        self.looks += 1
        return 0

    def wait_for_five(self) -> bool:
        """Whether five beats came in ten seconds."""
        return self._five.wait(10)


@pytest.fixture
def logs() -> Iterator[list[object]]:
    """What was logged."""
    with capture_logs() as captured:
        yield captured  # type: ignore[misc]  # a list of dictionaries is a list of objects


def test_it_looks_before_it_waits_and_stops_when_told() -> None:
    """What a dead predecessor left is taken over before the first new case; after the exit nothing beats."""
    pulse = Pulse()
    with Heartbeat(pulse.beat, pulse.look, every_seconds=0.01):
        assert pulse.looks >= 1
        assert pulse.wait_for_five()
    counted = pulse.beats
    threading.Event().wait(0.1)
    assert pulse.beats == counted
    assert not {"adjuvant-heartbeat", "adjuvant-takeover"} & {thread.name for thread in threading.enumerate()}


@pytest.mark.fault("F-27")
def test_a_database_that_is_away_for_a_moment_does_not_end_it(logs: list[object]) -> None:
    """F-27: two beats are lost and said so, the third comes."""
    pulse = Pulse(failing=range(2, 4))
    with Heartbeat(pulse.beat, pulse.look, every_seconds=0.01):
        assert pulse.wait_for_five()
    assert [entry["error"].split()[0] for entry in logs] == ["OperationalError"] * 2  # type: ignore[index]


@pytest.mark.fault("F-27")
def test_a_database_that_cuts_the_first_look_does_not_end_the_start(logs: list[object]) -> None:
    """Breach: what is there took longer to take over than PostgreSQL lets a transaction idle, and no worker came up."""
    pulse, cut = Pulse(), iter([True])

    def look() -> int:
        if next(cut, False):
            raise StoreUnavailable("the database cannot be used now")
        return pulse.look()

    with Heartbeat(pulse.beat, look, every_seconds=0.01):
        assert pulse.wait_for_five()
    assert pulse.looks >= 1
    assert len(logs) == 1


@pytest.mark.parametrize("error", [engine_error.DBOSException("Jane Specimen"), RuntimeError("Jane Specimen")])
def test_no_error_ends_it(logs: list[object], error: Exception) -> None:
    """A worker that takes cases and is silent would look dead: the engine's own errors, and bugs, are lost beats too.

    Law 8: class and place are told, not the message.
    """
    pulse = Pulse(failing=range(2, 4), error=error)
    with Heartbeat(pulse.beat, pulse.look, every_seconds=0.01):
        assert pulse.wait_for_five()
    assert len(logs) == 2
    assert str(logs[0]).count(f"{type(error).__name__} at test_takeover.py:") == 1
    assert "Specimen" not in str(logs)


def test_a_look_that_takes_long_holds_up_no_beat() -> None:
    """Breach: the engine waited inside a look for a database that was away, and the worker fell silent."""
    pulse, first, go = Pulse(), iter([True]), threading.Event()

    def look() -> int:
        if not next(first, False):  # the one before anything beats
            go.wait(10)
        return pulse.look()

    with Heartbeat(pulse.beat, look, every_seconds=0.01):
        assert pulse.wait_for_five()
        assert pulse.looks == 1
        go.set()


def test_it_tells_how_long_it_is_silent() -> None:
    """By the last beat that was given, not by the last that was tried."""
    pulse = Pulse(failing=range(2, 10_000))
    with Heartbeat(pulse.beat, pulse.look, every_seconds=0.01) as heart:
        assert pulse.wait_for_five()
        first = heart.silent_seconds
        threading.Event().wait(0.1)
        assert heart.silent_seconds >= first + 0.1


@pytest.mark.fault("F-01")
@pytest.mark.parametrize("goes_on", [True, False])
def test_a_case_taken_over_is_said_in_the_log(tmp_path: Path, logs: list[object], goes_on: bool) -> None:
    """Law: of which dead worker, by ids. Breach: a worker died, its cases went on, and nobody could see it."""
    with database(tmp_path) as engine:
        ledger, register = Ledger(engine, lambda: datetime.now(UTC)), WorkerRegister(engine)
        # the quiet time keeps the queue's own hands off the case
        with CaseQueue(engine, Work(ledger), QueueOptions(quiet_seconds=3600), register) as queue:
            case = ledger.request(PatientId("p1"))
            queue.enqueue(case)
            takeover = Takeover(
                register,
                executor_id="1-us",
                queue=QUEUE,
                may_continue=lambda _id, _steps: goes_on,
                in_hand=frozenset,
            )
            with engine.begin() as connection:
                connection.execute(text("update workflow_status set status = 'PENDING', executor_id = '1-dead'"))
            assert takeover.take_over() == 1
    said = [entry for entry in logs if entry.get("worker")]  # type: ignore[attr-defined]
    ids = {"case": "p1:1", "worker": "1-dead", "left_in_order": False, "log_level": "warning"}
    closed = {"event": "case closed: too many workers died in one step of it", "finished_steps": 0}
    assert said == [{**ids, **({"event": "case taken over"} if goes_on else closed)}]


class OnceAway(WorkerRegister):
    """A register whose database is away when it is asked for the second time."""

    asked = 0

    def living(self, executor_id: str) -> frozenset[str]:
        """As the register says, but once."""
        self.asked += 1
        if self.asked == 2:
            raise StoreUnavailable("the database cannot be used now")
        return super().living(executor_id)


@pytest.mark.fault("F-49")
def test_cases_of_an_older_version_are_looked_for_until_they_are_ended(tmp_path: Path) -> None:
    """Breach: the store went away in the middle of it, and what was left waited for a version that never comes."""
    with database(tmp_path) as engine:
        ledger = Ledger(engine, lambda: datetime.now(UTC))
        with CaseQueue(engine, Work(ledger), QueueOptions(quiet_seconds=3600), WorkerRegister(engine)) as queue:
            case = ledger.request(PatientId("p1"))
            queue.enqueue(case)
            with engine.begin() as connection:
                connection.execute(text("update workflow_status set application_version = '0'"))
            takeover = Takeover(
                OnceAway(engine), executor_id="1-us", queue=QUEUE, may_continue=lambda *_: True, in_hand=frozenset
            )
            with pytest.raises(StoreUnavailable):
                takeover.take_over()
            assert not queue.failed(case)
            takeover.take_over()
            assert queue.failed(case)
