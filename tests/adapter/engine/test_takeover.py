"""Signs of life do not stop for a database that is away for a moment; what the dead left is told by the process tests.

The takeover itself is proven with real processes, killed for real: tests/integration/test_engine_kill.py and
test_engine_postgresql.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from dbos import error as engine_error
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from adapter.engine.takeover import Heartbeat


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
    assert "adjuvant-heartbeat" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.fault("F-27")
def test_a_database_that_is_away_for_a_moment_does_not_end_it(logs: list[object]) -> None:
    """F-27: two beats are lost and said so, the third comes."""
    pulse = Pulse(failing=range(2, 4))
    with Heartbeat(pulse.beat, pulse.look, every_seconds=0.01):
        assert pulse.wait_for_five()
    assert [entry["error"].split()[0] for entry in logs] == ["OperationalError"] * 2  # type: ignore[index]


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


def test_it_tells_how_long_it_is_silent() -> None:
    """By the last beat that was given, not by the last that was tried."""
    pulse = Pulse(failing=range(2, 10_000))
    with Heartbeat(pulse.beat, pulse.look, every_seconds=0.01) as heart:
        assert pulse.wait_for_five()
        first = heart.silent_seconds
        threading.Event().wait(0.1)
        assert heart.silent_seconds >= first + 0.1
