"""Cases as durable workflows: one at a time per patient, four checkpointed steps, settled exactly once.

DBOS 3.4.0 (MIT) on SQLite or PostgreSQL. Only ids and digests are checkpointed, as JSON. What a step raises is turned
into a settled outcome inside the step, so that no exception with patient data is ever stored by the engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Protocol, Self

import structlog
from dbos import (
    DBOS,
    DBOSConfig,
    DBOSPortableJSONSerializer,
    Queue,
    SetEnqueueOptions,
    SetWorkflowID,
    SQLAlchemyDatasource,
    WorkflowStatus,
)
from dbos import error as engine_error
from sqlalchemy import Engine, column, delete, event, table
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case
from adapter.engine.executions import Executions
from adapter.engine.steps import Interrupted
from adapter.engine.takeover import UNFINISHED, Heartbeat, Takeover, Workers, new_executor_id
from adapter.errors import BadStore, StoreUnavailable

QUEUE = "patients"
STEPS = ("gather", "retrieve", "decide", "deliver")
ENGINE_VERSION = "1"  # no dash; raised only when a running case could not be continued by newer code
Checkpoint = Mapping[str, object]
"""What one step hands to the next: ids and digests. The key `settled` ends the case."""

Transaction = Session
"""An open database transaction that commits together with the step's checkpoint."""

SETTLED = "settled"
_WORKFLOW = "case"
_FAILED = ["ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]  # the engine's words
_ENDED = ["SUCCESS", *_FAILED]
_DUE = ["ENQUEUED", "PENDING"]
_PRUNED_AT_ONCE = 500
_POLL_SECONDS = 0.05
_STOP_SECONDS = 6
_ONE_PER_PROCESS = threading.Lock()  # DBOS keeps one instance per process, and hands it to whoever asks


class CaseWork(Protocol):
    """What happens in a case; the pipeline's side of the engine."""

    def run_step(self, name: str, case: Case, checkpoint: Checkpoint) -> dict[str, object]:
        """One of STEPS. Never raises an AdjuvantError: an error that no retry mends is a settled outcome."""

    def mark_started(self, transaction: Transaction, case: Case) -> bool:
        """Within the transaction: the case has begun. False where it had ended before, outside the engine."""

    def settle(self, transaction: Transaction, case: Case, checkpoint: Checkpoint) -> None:
        """Within the transaction: write down how the case ended."""

    def may_continue(self, case: Case, finished_steps: int) -> bool:
        """A worker died while it ran the case. False where that happened too often: then the case is closed.

        finished_steps: with a checkpoint, the start included.
        """


def once_committed(transaction: Transaction, call: Callable[[], None]) -> None:
    """Call when the transaction is committed; never where it is rolled back, or where another worker's came first."""
    event.listen(transaction, "after_commit", lambda _: call(), once=True)


class StepBroken(Exception):
    """A step raised what it must not raise. Holds the name of the step and of the error's class.

    The engine stores an error with its message, and that of a foreign error may hold a patient's data.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """workers: cases at once. quiet_seconds: how long a new case waits for further changes.

    poll_seconds, idle_poll_seconds: how often the engine looks for the next case, while any is due and while none
    is: a slot that falls free stands empty until the next look, which costs milliseconds. After an idle time the
    engine comes to look often within some twenty seconds.
    """

    workers: int = 2
    quiet_seconds: float = 0.0
    poll_seconds: float = 0.05
    idle_poll_seconds: float = 2.0


class CaseQueue:
    """The durable queue of one service. A context manager: entering launches, leaving stops within ten seconds.

    A process holds one at a time, because DBOS keeps one instance per process.
    """

    def __init__(
        self,
        engine: Engine,
        work: CaseWork,
        options: QueueOptions,
        workers: Workers,
        stopping: threading.Event | None = None,
    ) -> None:
        """engine: the opened database; the queue's own tables lie beside ours.

        stopping: set when the queue stops. Whoever waits in a step waits by it, and cases run before `__enter__` is
        over: so it is made by who makes both.
        """
        self._engine = engine
        self._work = work
        self._options = options
        self._workers = workers
        self._stopping = stopping or threading.Event()
        self._executor = new_executor_id(ENGINE_VERSION)
        self._datasource: SQLAlchemyDatasource | None = None
        self._case: Callable[[str, int], None] | None = None
        self._registered: Queue | None = None
        self._heartbeat: Heartbeat | None = None
        self._executions = Executions()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Launch, and take over what a dead predecessor left running. Raises BadStore where that cannot be."""
        if not _ONE_PER_PROCESS.acquire(blocking=False):
            raise BadStore("this process already runs a durable queue")
        with ExitStack() as opening:
            opening.callback(_ONE_PER_PROCESS.release)
            self._workers.join(self._executor)
            opening.callback(self._leave)
            opening.callback(self._stop)
            try:
                self._launch()
                takeover = Takeover(
                    self._workers,
                    executor_id=self._executor,
                    queue=QUEUE,
                    may_continue=lambda workflow_id, steps: self._work.may_continue(_case_of(workflow_id), steps),
                    in_hand=lambda: self.unfinished,
                )
                beat = partial(self._workers.beat, self._executor)
                self._heartbeat = opening.enter_context(Heartbeat(beat, takeover.take_over))
            except (engine_error.DBOSException, SQLAlchemyError) as error:
                raise BadStore(f"the durable queue cannot be opened: {type(error).__name__}") from error
            self._stack = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no more work; steps in flight finish within the time or are repeated at the next start."""
        self._stopping.set()
        self._stack.close()

    def _launch(self) -> None:
        url = self._engine.url.render_as_string(hide_password=False)
        DBOS(
            config=DBOSConfig(
                name="adjuvant",
                system_database_url=url,
                executor_id=self._executor,
                application_version=ENGINE_VERSION,
                serializer=DBOSPortableJSONSerializer(),
                notification_listener_polling_interval_sec=1.0,
                log_level="ERROR",
                enable_otlp=False,
            )
        )
        self._datasource = SQLAlchemyDatasource.create(
            database_url=url,
            engine=self._engine,
            serializer=DBOSPortableJSONSerializer(),
            sessionmaker=sessionmaker(expire_on_commit=False),
        )

        def case_workflow(patient_id: str, revision: int) -> None:  # DBOS marks the function, which a method refuses
            self._run(Case(patient_id=PatientId(patient_id), revision=revision))

        self._case = DBOS.workflow(name=_WORKFLOW)(case_workflow)
        DBOS.launch()
        self._registered = DBOS.register_queue(
            QUEUE,
            worker_concurrency=self._options.workers,
            partition_concurrency=1,
            polling_interval_sec=self._options.poll_seconds,
            on_conflict="always_update",
        )

    def _stop(self) -> None:
        self._stopping.set()
        # in a thread: while the database is away it waits for each thread of its own, which the next start repeats
        ending = threading.Thread(target=self._destroy, name="adjuvant-stop", daemon=True)
        ending.start()
        ending.join(_STOP_SECONDS + 1)
        if ending.is_alive():
            structlog.get_logger().warning("the durable queue did not stop in time")

    @staticmethod
    def _destroy() -> None:
        DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=_STOP_SECONDS)

    def _leave(self) -> None:
        try:
            self._workers.leave(self._executor)
        except (SQLAlchemyError, StoreUnavailable) as error:
            # a database that is away cannot be told: our cases then count as left by a crash, which costs them a try
            structlog.get_logger().warning("no goodbye could be written", error=type(error).__name__)

    @property
    def unfinished(self) -> frozenset[str]:
        """Ids of the cases that a thread runs; after the exit: of those that did not stop in time."""
        return self._executions.cases

    @property
    def silent_seconds(self) -> float:
        """How long ago this worker gave its last sign of life, by the monotonic clock."""
        return 0.0 if self._heartbeat is None else self._heartbeat.silent_seconds

    def enqueue(self, case: Case) -> None:
        """Make the case run once, after the quiet time; enqueueing it again does nothing."""
        if self._case is None:
            raise RuntimeError("the queue is not open")
        delay = self._options.quiet_seconds or None
        with SetWorkflowID(case.case_id), SetEnqueueOptions(queue_partition_key=case.patient_id, delay_seconds=delay):
            DBOS.enqueue_workflow(QUEUE, self._case, str(case.patient_id), case.revision)

    def keep_pace(self, *, any_open: bool) -> None:
        """Look often while some case is due or runs, seldom while none is, or all wait for their quiet time.

        any_open: whether the ledger knows a case that waits or runs; nothing is asked where it does not.
        The pace is stated where all workers of this database read it before each look, and where any may have set it.
        """
        often, seldom = self._options.poll_seconds, self._options.idle_poll_seconds
        seconds = often if any_open and _unfinished(limit=1, status=_DUE) else max(seldom, often)
        if self._registered is not None and seconds != self._registered.polling_interval_sec:
            self._registered.set_polling_interval_sec(seconds)

    def failed(self, case: Case) -> bool:
        """Whether the engine itself ended this case before it could settle: cancelled, or over its attempts."""
        status = DBOS.get_workflow_status(case.case_id)
        return status is not None and status.status in _FAILED

    def held(self) -> frozenset[str]:
        """Ids of all cases that wait or run in the engine."""
        return frozenset(status.workflow_id for status in _unfinished(limit=None))

    def prune(self, before: datetime) -> int:
        """Remove what the engine keeps of cases that ended earlier, and returns how many: the ledger tells of them."""
        datasource = self._opened_datasource()
        checkpoints = table("datasource_outputs", column("workflow_id"), schema=datasource.schema)
        removed = 0
        # by name, because a case that was cancelled is in no queue any more
        while ended := DBOS.list_workflows(
            status=_ENDED,
            name=_WORKFLOW,
            completed_before=before.isoformat(),
            limit=_PRUNED_AT_ONCE,
            load_input=False,
            load_output=False,
        ):
            case_ids = [status.workflow_id for status in ended]
            with self._engine.begin() as connection:  # the engine removes its own only where a case went to its end
                connection.execute(delete(checkpoints).where(checkpoints.c.workflow_id.in_(case_ids)))
            DBOS.delete_workflows(case_ids)
            removed += len(ended)
        return removed

    def wait_until_idle(self, seconds: float) -> bool:
        """Return True once nothing waits or runs, False when the time is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not _unfinished(limit=1):
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def _run(self, case: Case) -> None:
        """The workflow of one case. DBOS replays it after a crash: finished steps return what they returned."""
        with self._executions.of(case) as alone:
            # None is the checkpoint of an older version of ours
            if self._transaction("start", lambda session: self._work.mark_started(session, case)) is False:
                return
            checkpoint: Checkpoint = {}
            for name in STEPS:
                with alone:
                    checkpoint = DBOS.run_step({"name": name}, self._step, name, case, checkpoint)
                if SETTLED in checkpoint:
                    break
            last = checkpoint
            self._transaction("settle", lambda session: self._work.settle(session, case, last))

    def _step(self, name: str, case: Case, checkpoint: Checkpoint) -> dict[str, object]:
        if self._stopping.is_set():
            raise Interrupted
        try:
            return self._work.run_step(name, case, checkpoint)
        except Exception as error:
            raise StepBroken(f"{name}: {type(error).__name__}") from None

    def _transaction(self, name: str, body: Callable[[Session], bool | None]) -> bool | None:
        """Run the body in one transaction with its own checkpoint, and return what it returned the first time."""
        datasource = self._opened_datasource()

        def within() -> bool | None:
            return body(datasource.sql_session())

        answer: bool | None = datasource.run_tx_step({"name": name}, within)
        return answer

    def _opened_datasource(self) -> SQLAlchemyDatasource:
        if self._datasource is None:
            raise RuntimeError("the queue is not open")
        return self._datasource


def _unfinished(limit: int | None, status: list[str] = UNFINISHED) -> list[WorkflowStatus]:
    """Workflows of the queue that have no outcome yet."""
    found: list[WorkflowStatus] = DBOS.list_workflows(
        status=status, queue_name=QUEUE, limit=limit, load_input=False, load_output=False
    )
    return found


def _case_of(workflow_id: str) -> Case:
    patient_id, _, revision = workflow_id.rpartition(":")
    return Case(patient_id=PatientId(patient_id), revision=int(revision))
