"""When the service looks again: a step of the wall clock neither stops its ticks nor makes them many (fault F-26).

APScheduler 3.11 keeps the next run of a job as a time of the wall clock. Put back by an hour, it calls nothing for an
hour; put ahead by a year, it lists every run that was missed: 6.3 million at five seconds, which took 10 s and 370 MB.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

_WATCH_SECONDS = 1.0


class _Every(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Counted from now, not from the tick before: however many were missed, one is due."""

    def __init__(self, seconds: float) -> None:
        self.interval = timedelta(seconds=seconds)

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
        """Named by APScheduler."""
        return now + self.interval


class Ticks:
    """Calls jobs every so often, each in a thread, none beside itself."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        """clock: the wall clock, which APScheduler reads as well."""
        self._clock = clock
        self._scheduler = BackgroundScheduler(timezone=UTC)

    def every(self, seconds: float, job: Callable[[], object], *, after: float, latest: int | None = None) -> None:
        """Call the job so many seconds after now, and again and again.

        latest: how many seconds late it may be and is still called; None: however late.
        """
        self._scheduler.add_job(
            job,
            _Every(seconds),
            next_run_time=self._clock() + timedelta(seconds=after),
            misfire_grace_time=latest,
            max_instances=1,
            coalesce=True,
        )

    def run_until(self, stopping: threading.Event) -> None:
        """Call the jobs, and watch the clock, until asked to stop; a job that runs then is not waited for."""
        self._scheduler.start()
        try:
            while not stopping.wait(_WATCH_SECONDS):
                self._keep_pace()
        finally:
            self._scheduler.shutdown(wait=False)

    def _keep_pace(self) -> None:
        """A next run further away than its interval was set before the clock was put back: set it anew."""
        now = self._clock()
        far = [job for job in self._scheduler.get_jobs() if job.next_run_time - now > _most(job.trigger.interval)]
        for job in far:
            job.modify(next_run_time=now + job.trigger.interval)
        if far:
            structlog.get_logger().warning("the clock was put back", jobs=len(far))


def _most(interval: timedelta) -> timedelta:
    """Some more than the interval, for a run that is planned while we look."""
    return interval + timedelta(seconds=_WATCH_SECONDS)
