"""Signs of life, and what a worker that gave none for too long left behind.

Only public calls of DBOS are used. A worker that was silent and wakes is told that it no longer owns its cases: it goes
no further, so at most the step in flight happens twice. Source: design, section 7.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, Self

import structlog
from dbos import DBOS

from adapter.errors import StoreUnavailable, place_of

UNFINISHED = ["ENQUEUED", "PENDING", "DELAYED"]  # the engine's words
BEAT_SECONDS = 3.0
_STOP_SECONDS = 1.0  # whoever hangs longer waits for a database that is away
_LOOKS_UNTIL_STRANDED = 5  # as long as a worker may be silent


def new_executor_id(version: str) -> str:
    """Fresh per process, so that a restart is told apart from its predecessor; tells the engine's version."""
    return f"{version}-{uuid.uuid4()}"


def version_of(executor_id: str) -> str:
    """Of the engine that runs in the process."""
    return executor_id.partition("-")[0]


class Workers(Protocol):
    """Which processes run cases, by their executor ids."""

    def join(self, executor_id: str) -> None:
        """Begin to work. Raises BadStore where another process must not work beside."""

    def beat(self, executor_id: str) -> None:
        """A sign of life."""

    def leave(self, executor_id: str) -> None:
        """Goodbye: what is left running was interrupted on purpose."""

    def living(self, executor_id: str) -> frozenset[str]:
        """Who runs cases now, the asker included."""

    def only_reaper(self) -> AbstractContextManager[bool]:
        """Whether no other process began to take over cases; a look that takes minutes may be joined by a second.

        That harms nothing: of two who resume a case the engine lets one own it.
        """

    def left_in_order(self, executor_id: str) -> bool:
        """Whether the process said goodbye."""


class Takeover:
    """What one worker does for the cases of dead ones."""

    def __init__(
        self,
        workers: Workers,
        *,
        executor_id: str,
        queue: str,
        may_continue: Callable[[str, int], bool],
        in_hand: Callable[[], frozenset[str]],
    ) -> None:
        """may_continue: asked with workflow id and finished steps where a worker died; False closes the case.

        in_hand: the workflow ids that a thread of this process runs now.
        """
        self._workers = workers
        self._executor_id = executor_id
        self._queue = queue
        self._may_continue = may_continue
        self._in_hand = in_hand
        self._looks: Counter[str] = Counter()
        self._living: frozenset[str] = frozenset()

    def take_over(self) -> int:
        """Put every case of a dead worker back on its queue, to go on after its last checkpoint; returns how many.

        So too a case of our own that no thread runs any more, as where the disk was full when it should be written.
        """
        with self._workers.only_reaper() as alone:
            return self._reap() if alone else 0

    def _reap(self) -> int:
        living = self._workers.living(self._executor_id)
        if living != self._living:
            self._end_what_nobody_can_run()
            self._living = living
        # listed before asking who lives: a worker that joins and takes a case between the two would look dead
        running = DBOS.list_workflows(status="PENDING", queue_name=self._queue, load_input=False, load_output=False)
        living = self._workers.living(self._executor_id)
        orphans = [status for status in running if status.executor_id not in living]
        for orphan in orphans:
            self._adopt(orphan.workflow_id, orphan.executor_id or "")
        stranded = self._stranded([one.workflow_id for one in running if one.executor_id == self._executor_id])
        for workflow_id in stranded:
            DBOS.resume_workflow(workflow_id, queue_name=self._queue)
        return len(orphans) + len(stranded)

    def _end_what_nobody_can_run(self) -> None:
        """After an upgrade that cannot go on with old cases: end them in the engine, and they are asked for again."""
        unfinished = DBOS.list_workflows(status=UNFINISHED, queue_name=self._queue, load_input=False, load_output=False)
        # asked only now, for the same reason as in `_reap`
        versions = {version_of(executor_id) for executor_id in self._workers.living(self._executor_id)}
        for status in unfinished:
            if status.app_version not in {None, *versions}:
                DBOS.cancel_workflow(status.workflow_id)

    def _stranded(self, ours: list[str]) -> list[str]:
        """Those that no thread of ours ran at each of the last looks; a case just begun or just ended is not one."""
        in_hand = self._in_hand()
        self._looks = Counter({one: self._looks[one] + 1 for one in ours if one not in in_hand})
        stranded = [one for one, looks in self._looks.items() if looks >= _LOOKS_UNTIL_STRANDED]
        for one in stranded:
            del self._looks[one]
        return stranded

    def _adopt(self, workflow_id: str, executor_id: str) -> None:
        left_in_order = self._workers.left_in_order(executor_id)
        log = structlog.get_logger().bind(case=workflow_id, worker=executor_id, left_in_order=left_in_order)
        if not left_in_order:
            # the engine's own count of attempts starts again with every resume: it cannot tell a poison case
            finished = len(DBOS.list_workflow_steps(workflow_id))
            if not self._may_continue(workflow_id, finished):
                DBOS.cancel_workflow(workflow_id)
                log.warning("case closed: too many workers died in one step of it", finished_steps=finished)
                return
        # without its queue's name it would run beside the patient's other cases
        DBOS.resume_workflow(workflow_id, queue_name=self._queue)
        log.warning("case taken over")


class Heartbeat:
    """Two threads of their own, so that no inference starves them: one beats, one looks for dead workers.

    Two, because the engine waits for up to minutes inside a look while the database is away, and who does not beat
    is taken for dead. A context manager.
    """

    def __init__(
        self,
        beat: Callable[[], None],
        take_over: Callable[[], int],
        every_seconds: float = BEAT_SECONDS,
    ) -> None:
        """Nothing beats yet."""
        self._beat = beat
        self._take_over = take_over
        self._seconds = every_seconds
        self._beaten = time.monotonic()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._again, args=(what, failed), name=name, daemon=True)
            for name, what, failed in (
                ("adjuvant-heartbeat", self._give_sign, "no sign of life could be given"),
                ("adjuvant-takeover", self._take_over, "what the dead left could not be looked for"),
            )
        ]

    def __enter__(self) -> Self:
        """Take over what is there, then beat and look again and again."""
        try:
            self._take_over()
        except StoreUnavailable as error:  # as PostgreSQL cuts a first look that took long: the next is soon
            structlog.get_logger().warning("what is there could not be looked for", error=place_of(error))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Beat no more. Goodbye is said by the queue, once its work is down."""
        self._stopping.set()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    @property
    def silent_seconds(self) -> float:
        """How long ago the last beat was; before the first, how long this exists."""
        return time.monotonic() - self._beaten

    def _give_sign(self) -> None:
        self._beat()
        self._beaten = time.monotonic()

    def _again(self, what: Callable[[], object], failed: str) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                what()
            except Exception as error:
                # a database that is away now is tried again in three seconds; if it stays away, we are the dead one.
                # Whatever else it is, a bug of the engine or of ours: a worker that takes cases must not fall silent
                structlog.get_logger().warning(failed, error=place_of(error))
