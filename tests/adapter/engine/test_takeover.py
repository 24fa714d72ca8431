"""Signs of life do not stop for a database that is away for a moment; what the dead left is told by the process tests.

The takeover itself is proven with real processes, killed for real: tests/integration/test_engine_kill.py and
test_engine_postgresql.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from adapter.engine.takeover import Heartbeat


class Pulse:
    """Counts beats and looks; fails where told."""

    def __init__(self, failing: range = range(0)) -> None:
        self.beats = 0
        self.looks = 0
        self._failing = failing
        self._five = threading.Event()

    def beat(self) -> None:
        """The database may be away."""
        self.beats += 1
        if self.beats >= 5:
            self._five.set()
        if self.beats in self._failing:
            raise OperationalError("insert", {}, Exception("server closed the connection"))

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
    assert [entry["error"] for entry in logs] == ["OperationalError"] * 2  # type: ignore[index]
