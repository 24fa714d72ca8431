"""The long-running service: looks at the EHR, works the queue, tells its health, stops when it is asked."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Self
from zoneinfo import ZoneInfo

import structlog

from adapter.breaker import CircuitReport
from adapter.decider import decide_from_store
from adapter.domain.outcome import Case, Settled
from adapter.engine.isolation import Apart
from adapter.engine.queue import CaseQueue, QueueOptions
from adapter.engine.steps import RetryPolicy
from adapter.errors import AdjuvantError, BadSettings, StoreUnavailable, Transient, place_of
from adapter.fhir.client import FhirClient
from adapter.pipeline.assess import StepResult
from adapter.pipeline.reconcile import Reconciliation, night_of
from adapter.pipeline.retention import expire_case_files
from adapter.pipeline.watch import Watcher, enqueue_open_cases
from adapter.pipeline.work import AssessmentWork, Watching, give_up
from adapter.rooms import (
    Rooms,
    build_client,
    build_cohort,
    build_reconciler,
    disk_shortage,
    opened_database,
    wall_clock,
)
from adapter.settings import Settings
from adapter.store.address import database_address, is_postgresql
from adapter.store.database import Database, StoreLock
from adapter.store.ledger import Ledger
from adapter.store.rounds import RoundBook
from adapter.store.watermark import WatermarkStore
from adapter.store.workers import SILENT_AFTER, WorkerRegister
from adapter.ticks import Ticks
from adapter.web.health import Vitals, create_health_app
from adapter.web.server import WebServer

_MISSED_POLLS = 5
_RECONCILE_TICK_SECONDS = 300.0
_DAY_SECONDS = 86_400
_STOP_SECONDS = 2.0
_LOOK_SECONDS = 5.0
_log = structlog.get_logger()


class Role(StrEnum):
    """What one process does. On SQLite one does all; on PostgreSQL there may be many, of every kind."""

    ALL = "all"
    WATCH = "watch"  # looks at the EHR and asks for cases
    WORK = "work"  # runs cases
    WEB = "web"  # health and metrics only

    @property
    def watches(self) -> bool:
        """Whether it looks at the EHR."""
        return self in {Role.ALL, Role.WATCH}

    @property
    def works(self) -> bool:
        """Whether it runs cases."""
        return self in {Role.ALL, Role.WORK}


class Service:
    """Watches the EHR and works the queue until it is stopped. A context manager."""

    def __init__(
        self,
        settings: Settings,
        *,
        role: Role = Role.ALL,
        watching: Watching | None = None,
        clock: Callable[[], datetime] = wall_clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """watching: sees each step of each case, for progress. Raises BadSettings for a role that needs PostgreSQL.

        monotonic: seconds of a clock that nobody sets; silence is measured by it.
        """
        if role in {Role.WATCH, Role.WORK} and not is_postgresql(database_address(settings.store.url)):
            raise BadSettings(f"role {role} needs store.url on PostgreSQL: on SQLite one process does everything")
        self._settings = settings
        self._role = role
        self._watching: Watching = watching or log_progress
        self._clock = clock
        self._monotonic = monotonic
        self._complaint: str | None = "starting" if role.watches else None
        self._polled_well = monotonic()
        self._polled = False
        self._circuits: Callable[[], tuple[CircuitReport, ...]] = tuple  # none, for one that only shows
        self._stack = ExitStack()
        self._polling = threading.Lock()
        self._looking = threading.Lock()
        self._reconciling = threading.Lock()
        self._ending = threading.Event()
        self._queue_stops = threading.Event()  # later than `_ending`: until then the queue takes cases

    def __enter__(self) -> Self:
        """Start everything, or raise the named error of the first thing that cannot; then nothing is left running."""
        with ExitStack() as opening:
            database = self._open_store(opening)
            self._ledger = Ledger(database, self._clock)
            self._book = RoundBook(database, self._settings.fhir.base_url)
            self._feed = WatermarkStore(database, self._settings.fhir.base_url)
            self._witness = _Witness(self._feed, self._longest_silence, self._monotonic)
            self._register = WorkerRegister(database, place=f"{socket.gethostname()}:{os.getpid()}")
            if self._role.watches:
                self._open_watch(opening)
            if self._role.works:
                self._open_queue(opening, database)
            app = create_health_app(self.complaints, self.vitals, self._circuits)
            web = WebServer(app, host=self._settings.web.bind, port=self._settings.web.port)
            self.web = opening.enter_context(web)
            if self._role.works:
                self._enqueue_open()
            self._stack = opening.pop_all()
        return self

    def _open_store(self, opening: ExitStack) -> Database:
        """All that a case needs, for those who work; for the others the database alone."""
        settings = self._settings
        if not self._role.works:
            return opening.enter_context(opened_database(settings))
        opening.enter_context(StoreLock(settings.store.folder))
        self.rooms = opening.enter_context(Rooms(settings, self._clock))
        self._circuits = self.rooms.circuits
        self.rooms.store.vault.sweep()
        if self.rooms.archive is not None:
            self.rooms.archive.sweep()
        return self.rooms.store.database

    def _open_watch(self, opening: ExitStack) -> None:
        settings = self._settings
        if self._role.works:
            client = self.rooms.client
        else:
            client = opening.enter_context(build_client(settings))
            self._circuits = lambda: (client.circuit(),)
        self._look_at_the_ehr(client)
        self._watcher = Watcher(client, build_cohort(settings.cohort), self._feed)

    def _open_queue(self, opening: ExitStack, database: Database) -> None:
        settings, ports = self._settings, self.rooms.ports
        model, practice = ports.predictor.identity.digest, ports.practice.digest
        apart = opening.enter_context(
            Apart(
                partial(decide_from_store, settings, model=model, practice=practice),
                scratch=settings.store.plain_folder,
                processes=settings.watch.workers,
                seconds=settings.watch.decide_seconds,
                memory_bytes=int(settings.watch.decide_memory_gib * 2**30),
            )
        )
        self._work = AssessmentWork(
            self.rooms.ports,
            self._ledger,
            retries=RetryPolicy(attempts=settings.watch.attempts),
            wait=self._queue_stops.wait,
            watching=self._watching,
            decide=partial(_decide_apart, apart),
        )
        options = QueueOptions(workers=settings.watch.workers, quiet_seconds=settings.watch.quiet_seconds)
        self.queue = opening.enter_context(CaseQueue(database, self._work, options, self._register, self._queue_stops))
        self._reconciler = build_reconciler(settings, self.rooms.client, self.rooms.store)

    def __exit__(self, *_: object) -> None:
        """Stop within ten seconds: no new poll, steps in flight finish or are repeated at the next start."""
        self._stack.close()

    def poll(self) -> int:
        """One look at the EHR; returns how many patients changed. Whatever fails is a complaint, not a crash."""
        with self._polling:
            try:
                cases = self._watcher.poll()
                if self._role.works:
                    self._enqueue_open()
            except Exception as error:
                self._complaint = _named(error)
                _log.warning("poll failed", error=self._complaint)
                return 0
            self._complaint = None
            self._polled, self._polled_well = True, self._monotonic()
            return len(cases)

    def look_for_work(self) -> None:
        """Take up what others asked for: a watcher, an operator, or an engine that lost a case."""
        try:
            self._enqueue_open()
        except Exception as error:
            _log.warning("open cases could not be looked for", error=_named(error))

    def expire(self) -> int:
        """Remove the case files whose retention time is over, and the queue's rows of cases that ended before today.

        Returns how many files.
        """
        before = self._clock() - timedelta(days=self._settings.store.retention_days)
        yesterday = self._clock() - timedelta(days=1)
        vault = self.rooms.store.vault
        _removed(lambda: self.queue.prune(yesterday), "the queue's rows of ended cases were not removed")
        _removed(lambda: vault.sweep_interrupted(yesterday), "what was cut while it was written was not removed")
        return _removed(lambda: expire_case_files(self._ledger, vault, before), "case files were not expired")

    def reconcile(self) -> Reconciliation | None:
        """Compare every record once a night, or go on where that was cut; None where there is nothing to do now.

        Whatever fails is said in the log and tried again: polls and cases go on.
        """
        first_poll_is_due = self._role.watches and not self._polled
        if first_poll_is_due or not self._reconciling.acquire(blocking=False):
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
            _log.info("records compared", **result.counts, interrupted=result.interrupted)
        return result

    def run_until(self, stopping: threading.Event) -> None:
        """Poll, and look for work, at the configured pace until asked to stop."""
        ticks = Ticks(self._clock)
        # a tick only asks; all work is enqueued by id, so a missed, late or doubled tick changes nothing
        poll_seconds = self._settings.watch.poll_seconds
        if self._role.watches:
            ticks.every(poll_seconds, self.poll, after=0)
        if self._role.works:
            look_seconds = min(poll_seconds, _LOOK_SECONDS)
            ticks.every(look_seconds, self.look_for_work, after=look_seconds)
            # often enough to catch up after an outage; the night's name makes a round happen once
            ticks.every(_RECONCILE_TICK_SECONDS, self.reconcile, after=_RECONCILE_TICK_SECONDS)
            # what is removed is gone: by a clock that jumps ahead by more than a day nothing is due
            ticks.every(_DAY_SECONDS, self.expire, after=0, latest=_DAY_SECONDS)
        try:
            ticks.run_until(stopping)
        finally:
            self._ending.set()
            if self._polling.acquire(timeout=_STOP_SECONDS):
                self._polling.release()

    def run_until_settled(self, seconds: float) -> bool:
        """Poll once and wait until no case waits or runs; False when the time is over first."""
        self.poll()
        return self.queue.wait_until_idle(seconds)

    def complaints(self) -> tuple[str, ...]:
        """What keeps the service from its work now."""
        found = [*self._complaints_of_the_store()]
        if self._complaint is not None:
            found.append(self._complaint)
        if self._role.works:
            found.extend(self._complaints_of_the_work())
        silent = self._monotonic() - self._polled_well
        if self._role.watches and silent > self._longest_silence:
            found.append(f"no look at the EHR ended well for {silent:.0f} s")
        return tuple(found)

    def _complaints_of_the_work(self) -> Iterator[str]:
        if shortage := disk_shortage(self._settings.store.folder):
            yield shortage
        yield from sorted(self._work.complaints())
        if self.queue.silent_seconds > SILENT_AFTER.total_seconds():
            yield f"no sign of life was given for {self.queue.silent_seconds:.0f} s: others take over the cases"

    def _complaints_of_the_store(self) -> tuple[str, ...]:
        try:
            unwatched = self._witness.complaint()
        except StoreUnavailable as error:
            return (str(error),)
        # one that watches says so of itself
        return () if unwatched is None or self._role.watches else (unwatched,)

    def vitals(self) -> Vitals:
        """What a monitor sees of the whole store. Raises StoreUnavailable."""
        last_poll = self._feed.last_poll()
        return Vitals(
            counts=self._ledger.counts(),
            polled=last_poll.at if last_poll else None,
            reconciled=self._book.ended(),
            oldest_waiting=self._ledger.oldest_waiting(),
            endings=self._ledger.endings(),
            workers=len(self._register.signs_of_life()),
        )

    @property
    def _longest_silence(self) -> float:
        """So many seconds without a look at the EHR that ended well are no accident."""
        return _MISSED_POLLS * self._settings.watch.poll_seconds

    @property
    def unfinished(self) -> tuple[str, ...]:
        """What is in flight; after the exit: what did not stop in time and must not hold the process."""
        cases = sorted(self.queue.unfinished) if self._role.works else ()
        poll = ("poll",) if self._polling.locked() else ()
        reconciliation = ("reconciliation",) if self._reconciling.locked() else ()
        return (*cases, *poll, *reconciliation)

    def _enqueue_open(self) -> None:
        with self._looking:
            enqueue_open_cases(self.queue, self._ledger, lambda case: give_up(case, self._ledger))

    def _look_at_the_ehr(self, client: FhirClient) -> None:
        """Say what the EHR lacks. One that is down now is a complaint, not a reason to stay down ourselves."""
        try:
            gaps = client.capabilities().gaps()
        except Transient as error:
            self._complaint = f"{type(error).__name__}: {error}"
            return
        if gaps:
            _log.warning("the EHR lacks what is needed", gaps=list(gaps))


class _Witness:
    """Sees in the store whether any process looks at the EHR, for those that do not look themselves."""

    def __init__(self, feed: WatermarkStore, longest_silence: float, monotonic: Callable[[], float]) -> None:
        """longest_silence: in seconds."""
        self._feed = feed
        self._longest = longest_silence
        self._monotonic = monotonic
        self._seen: tuple[datetime | None, float] = (None, monotonic())

    def complaint(self) -> str | None:
        """Where the last look is too old by the database's clock, or was the same for too long by ours.

        The first tells of what was before this process, the second holds where the database's clock was put back.
        """
        last = self._feed.last_poll()
        seen, since = self._seen
        if last is not None and last.at != seen:
            seen, since = self._seen = (last.at, self._monotonic())
        age = last.age.total_seconds() if last else 0.0
        if max(age, self._monotonic() - since) <= self._longest:
            return None
        when = f"since {last.at.isoformat(timespec='seconds')}" if last else "yet"
        return f"no process has looked at the EHR {when}: does one run with --role watch or all?"


def _removed(remove: Callable[[], int], failed: str) -> int:
    """How many; whatever fails is said, and keeps nothing else from being removed."""
    try:
        return remove()
    except Exception as error:
        _log.warning(failed, error=_named(error))
        return 0


def _decide_apart(apart: Apart[StepResult | Transient], case_file_digest: str) -> StepResult:
    answer = apart.ask(case_file_digest)
    if isinstance(answer, Transient):
        raise answer
    return answer


def _named(error: Exception) -> str:
    """An error of ours with its sentence; a foreign one by class and place, for its message may hold anything."""
    return f"{type(error).__name__}: {error}" if isinstance(error, AdjuvantError) else place_of(error)


def log_progress(case: Case, step: str, settled: Settled | None) -> None:
    """One structured line per step: ids and codes only."""
    reason = getattr(settled, "reason", "") if settled else ""
    _log.info("case", case=case.case_id, step=step, outcome=type(settled).__name__ if settled else "", reason=reason)
