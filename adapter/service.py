"""The long-running service: looks at the EHR, works the queue, tells its health, stops when it is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Self
from zoneinfo import ZoneInfo

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from adapter.domain.outcome import Case, DeadLetter, Settled
from adapter.engine.isolation import Apart
from adapter.engine.queue import CaseQueue, QueueOptions
from adapter.engine.steps import RetryPolicy
from adapter.errors import AdjuvantError, Transient, place_of
from adapter.pipeline.assess import StepResult
from adapter.pipeline.reconcile import Reconciliation, night_of
from adapter.pipeline.retention import expire_case_files
from adapter.pipeline.watch import Watcher, enqueue_open_cases
from adapter.pipeline.work import AssessmentWork, Watching
from adapter.rooms import Rooms, build_cohort, build_reconciler, decide_from_store, wall_clock
from adapter.settings import Settings
from adapter.store.database import StoreLock
from adapter.store.rounds import RoundBook
from adapter.store.watermark import WatermarkStore
from adapter.store.workers import WorkerRegister
from adapter.web.health import Vitals, create_health_app
from adapter.web.server import WebServer

_MISSED_POLLS = 5
_RECONCILE_TICK_SECONDS = 300.0
_STOP_SECONDS = 2.0
_log = structlog.get_logger()


class Service:
    """Watches the EHR and works the queue until it is stopped. A context manager."""

    def __init__(
        self,
        settings: Settings,
        *,
        watching: Watching | None = None,
        clock: Callable[[], datetime] = wall_clock,
    ) -> None:
        """watching: sees each step of each case, for progress."""
        self._settings = settings
        self._watching: Watching = watching or log_progress
        self._clock = clock
        self._complaint: str | None = "starting"
        self._polled_well = clock()
        self._polled: datetime | None = None
        self._stack = ExitStack()
        self._polling = threading.Lock()
        self._reconciling = threading.Lock()
        self._ending = threading.Event()

    def __enter__(self) -> Self:
        """Start everything, or raise the named error of the first thing that cannot; then nothing is left running."""
        settings = self._settings
        with ExitStack() as opening:
            lock = StoreLock(settings.store.folder)
            opening.callback(lock.release)
            self.rooms = opening.enter_context(Rooms(settings, self._clock))
            self.rooms.store.vault.sweep()
            if self.rooms.archive is not None:
                self.rooms.archive.sweep()
            self._look_at_the_ehr()
            self._apart = opening.enter_context(
                Apart(
                    partial(decide_from_store, settings),
                    processes=settings.watch.workers,
                    seconds=settings.watch.decide_seconds,
                    memory_bytes=int(settings.watch.decide_memory_gib * 2**30),
                )
            )
            work = AssessmentWork(
                self.rooms.ports,
                self.rooms.store.ledger,
                retries=RetryPolicy(attempts=settings.watch.attempts),
                wait=self._wait,
                watching=self._watching,
                decide=self._decide_apart,
            )
            workers = WorkerRegister(self.rooms.store.database)
            options = QueueOptions(workers=settings.watch.workers, quiet_seconds=settings.watch.quiet_seconds)
            self.queue = opening.enter_context(CaseQueue(self.rooms.store.database, work, options, workers))
            feed = WatermarkStore(self.rooms.store.database, settings.fhir.base_url)
            self._watcher = Watcher(self.rooms.client, build_cohort(settings.cohort), feed)
            self._reconciler = build_reconciler(settings, self.rooms.client, self.rooms.store)
            self._book = RoundBook(self.rooms.store.database, settings.fhir.base_url)
            app = create_health_app(self.rooms.store.ledger.counts, self.complaints, self.vitals)
            web = WebServer(app, host=settings.web.bind, port=settings.web.port)
            self.web = opening.enter_context(web)
            self._enqueue_open()
            self._stack = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop within ten seconds: no new poll, steps in flight finish or are repeated at the next start."""
        self._stack.close()

    def poll(self) -> int:
        """One look at the EHR; returns how many patients changed. Whatever fails is a complaint, not a crash."""
        with self._polling:
            try:
                cases = self._watcher.poll()
                self._enqueue_open()
            except Exception as error:
                self._complaint = _named(error)
                _log.warning("poll failed", error=self._complaint)
                return 0
            self._complaint = None
            self._polled_well = self._polled = self._clock()
            return len(cases)

    def expire(self) -> int:
        """Remove the case files whose retention time is over; returns how many."""
        before = self._clock() - timedelta(days=self._settings.store.retention_days)
        try:
            return expire_case_files(self.rooms.store.ledger, self.rooms.store.vault, before)
        except Exception as error:
            _log.warning("case files were not expired", error=_named(error))
            return 0

    def reconcile(self) -> Reconciliation | None:
        """Compare every record once a night, or go on where that was cut; None where there is nothing to do now.

        Whatever fails is said in the log and tried again: polls and cases go on.
        """
        if self._polled is None or not self._reconciling.acquire(blocking=False):
            return None
        try:
            zone = ZoneInfo(self._settings.fhir.time_zone)
            name = night_of(self._clock(), self._settings.watch.reconcile_at, zone)
            result = self._reconciler.reconcile(name, self._clock, self._ending.is_set)
            self._enqueue_open()
        except Exception as error:
            _log.warning("records were not compared", error=_named(error))
            return None
        finally:
            self._reconciling.release()
        if result is not None:
            counts = {name: getattr(result, name) for name in ("compared", "open", "refused", "interrupted")}
            _log.info("records compared", **counts, found=len(result.found), left=len(result.left))
        return result

    def run_until(self, stopping: threading.Event) -> None:
        """Poll at the configured pace until asked to stop."""
        scheduler = BackgroundScheduler(timezone=UTC)
        # the tick only asks; all work is enqueued by id, so a missed or doubled tick changes nothing
        scheduler.add_job(
            self.poll,
            "interval",
            seconds=self._settings.watch.poll_seconds,
            max_instances=1,
            coalesce=True,
            next_run_time=self._clock(),
        )
        scheduler.add_job(self.expire, "interval", days=1, coalesce=True, next_run_time=self._clock())
        # often enough to catch up after an outage; the night's name makes a round happen once
        scheduler.add_job(self.reconcile, "interval", seconds=_RECONCILE_TICK_SECONDS, max_instances=1, coalesce=True)
        scheduler.start()
        try:
            stopping.wait()
        finally:
            self._ending.set()
            scheduler.shutdown(wait=False)
            if self._polling.acquire(timeout=_STOP_SECONDS):
                self._polling.release()

    def run_until_settled(self, seconds: float) -> bool:
        """Poll once and wait until no case waits or runs; False when the time is over first."""
        self.poll()
        return self.queue.wait_until_idle(seconds)

    def complaints(self) -> tuple[str, ...]:
        """What keeps the service from its work now."""
        found = [] if self._complaint is None else [self._complaint]
        silent = self._clock() - self._polled_well
        if silent > timedelta(seconds=_MISSED_POLLS * self._settings.watch.poll_seconds):
            found.append(f"no look at the EHR ended well since {self._polled_well.isoformat(timespec='seconds')}")
        return tuple(found)

    def vitals(self) -> Vitals:
        """What a monitor sees besides."""
        ledger = self.rooms.store.ledger
        return Vitals(
            polled=self._polled,
            reconciled=self._book.ended(),
            oldest_waiting=ledger.oldest_waiting(),
            endings=ledger.endings(),
            circuits=self.rooms.circuits(),
        )

    @property
    def unfinished(self) -> tuple[str, ...]:
        """What is in flight; after the exit: what did not stop in time and must not hold the process."""
        poll = ("poll",) if self._polling.locked() else ()
        reconciliation = ("reconciliation",) if self._reconciling.locked() else ()
        return (*sorted(self.queue.unfinished), *poll, *reconciliation)

    def _decide_apart(self, case_file_digest: str) -> StepResult:
        answer = self._apart.ask(case_file_digest)
        if isinstance(answer, Transient):
            raise answer
        return answer

    def _wait(self, seconds: float) -> bool:
        return self.queue.pause(seconds)

    def _enqueue_open(self) -> None:
        enqueue_open_cases(self.queue, self.rooms.store.ledger, self._give_up)

    def _give_up(self, case: Case) -> None:
        """The engine ended the case before it could settle itself: close it, so that the next revision runs."""
        self.rooms.store.ledger.record(case, DeadLetter(reason="engine-gave-up", detail=case.case_id))

    def _look_at_the_ehr(self) -> None:
        """Say what the EHR lacks. One that is down now is a complaint, not a reason to stay down ourselves."""
        try:
            gaps = self.rooms.client.capabilities().gaps()
        except Transient as error:
            self._complaint = f"{type(error).__name__}: {error}"
            return
        if gaps:
            _log.warning("the EHR lacks what is needed", gaps=list(gaps))


def _named(error: Exception) -> str:
    """An error of ours with its sentence; a foreign one by class and place, for its message may hold anything."""
    return f"{type(error).__name__}: {error}" if isinstance(error, AdjuvantError) else place_of(error)


def log_progress(case: Case, step: str, settled: Settled | None) -> None:
    """One structured line per step: ids and codes only."""
    reason = getattr(settled, "reason", "") if settled else ""
    _log.info("case", case=case.case_id, step=step, outcome=type(settled).__name__ if settled else "", reason=reason)
