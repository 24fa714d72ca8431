"""Ticks come at their pace whatever the wall clock does; what must not come late does not come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from adapter.ticks import Ticks

_HOUR, _YEAR = timedelta(hours=1), timedelta(days=365)
_DAY = 86_400
_PATIENCE = 10.0  # with a loaded machine


class Clock:
    """A wall clock that is wrong by so much; APScheduler reads the right one."""

    def __init__(self, wrong_by: timedelta) -> None:
        """wrong_by: until it is put right."""
        self.wrong_by = wrong_by

    def __call__(self) -> datetime:
        """What it shows."""
        return datetime.now(UTC) + self.wrong_by


class Job:
    """Counts its calls."""

    def __init__(self) -> None:
        """Not called yet."""
        self.calls = 0
        self._called = threading.Event()

    def __call__(self) -> None:
        """One more."""
        self.calls += 1
        if self.calls >= 2:
            self._called.set()

    def came_twice(self) -> bool:
        """Whether it did, in time."""
        return self._called.wait(_PATIENCE)


@contextmanager
def _stepped(step: timedelta, plan: Callable[[Ticks], None]) -> Iterator[None]:
    """The clock is stepped between the planning of the jobs and their first run."""
    clock, stopping = Clock(-step), threading.Event()
    ticks = Ticks(clock)
    plan(ticks)
    clock.wrong_by = timedelta(0)
    thread = threading.Thread(target=ticks.run_until, args=(stopping,))
    thread.start()
    yield
    stopping.set()
    thread.join(_PATIENCE)
    assert not thread.is_alive()


@pytest.mark.fault("F-26")
@pytest.mark.parametrize("step", [-_HOUR, -_YEAR, timedelta(0), _HOUR, _YEAR])
def test_no_step_of_the_clock_stops_a_tick(step: timedelta) -> None:
    """F-26: put back by an hour, a scheduler that goes by the wall clock calls nothing for an hour."""
    job = Job()
    with _stepped(step, lambda ticks: ticks.every(0.2, job, after=0)):
        assert job.came_twice()


@pytest.mark.fault("F-26")
def test_a_year_ahead_makes_one_tick(caplog: pytest.LogCaptureFixture) -> None:
    """F-26: not 6.3 million that were missed; and what must not come late, because it removes, is not due by it."""
    often, daily = Job(), Job()

    def plan(ticks: Ticks) -> None:
        ticks.every(5.0, often, after=0)
        ticks.every(_DAY, daily, after=0, latest=_DAY)

    with _stepped(_YEAR, plan):
        threading.Event().wait(1.0)
    assert (often.calls, daily.calls) == (1, 0)
    assert "was missed by 365 days" in caplog.text


def test_a_tick_that_is_late_comes_all_the_same() -> None:
    """APScheduler drops what is a second late unless told otherwise: of a daily tick that is a day."""
    job = Job()
    with _stepped(timedelta(seconds=30), lambda ticks: ticks.every(_DAY, job, after=0, latest=_DAY)):
        threading.Event().wait(1.0)
    assert job.calls == 1
