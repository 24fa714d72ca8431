"""A process that runs cases whose steps leave a trace in a file and take their time: made to be killed.

Usage: python -m tests.fakes.slow_cases FOLDER PATIENTS SECONDS_PER_STEP [TROUBLE [URL]]

TROUBLE befalls patient p0 in its second step: `crash` ends the process at once, `hang` sleeps for a minute,
`unreachable` waits for a peer that stays away. `pause-in-commit` stops the process, as SIGSTOP does, in the transaction
that settles p0, after the checkpoint was inserted; `upgraded` runs an engine that cannot go on with older cases.
URL: of the database, a SQLite file in FOLDER by default.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import event, text
from sqlalchemy.orm import Session

import adapter.engine.queue
from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case, DeadLetter, Skipped
from adapter.engine.queue import STEPS, CaseQueue, Checkpoint, QueueOptions, Transaction
from adapter.engine.steps import RetryPolicy, attempt
from adapter.errors import PeerUnavailable, StoreUnavailable
from adapter.pipeline.watch import enqueue_open_cases
from adapter.pipeline.work import give_up
from adapter.store.database import open_database
from adapter.store.ledger import Ledger
from adapter.store.workers import WorkerRegister

_CRASHED = 70
_UNTIL_OTHERS_ARE_ON = 1.0  # seconds: whose step is in flight at a death is suspected too, and these shall not be
_PATIENCE = RetryPolicy(attempts=9, first_seconds=600.0, longest_seconds=600.0)


class SlowWork:
    """Four steps that write their name when they begin and when they end."""

    def __init__(
        self,
        ledger: Ledger,
        trace: Path,
        seconds: float,
        *,
        trouble: Callable[[], None],
        wait: Callable[[float], bool],
    ) -> None:
        self._wait = wait
        self._ledger = ledger
        self._trace = trace
        self._seconds = seconds
        self._trouble = trouble

    def run_step(self, name: str, case: Case, checkpoint: Checkpoint) -> dict[str, object]:
        """Sleep between two lines of trace."""
        # a database that is away is waited for, as the pipeline does
        attempt(lambda: self._ledger.begin_step(case, 1 + STEPS.index(name)), RetryPolicy(), wait=self._wait)
        self._write(f"{case.case_id} {name} begin")
        if case.patient_id == "p0" and name == "retrieve":
            self._trouble()
        time.sleep(self._seconds)
        self._write(f"{case.case_id} {name} end")
        steps = [*checkpoint.get("steps", []), name]  # type: ignore[misc]  # JSON of our own making
        return {"steps": steps, **({"settled": True} if name == "deliver" else {})}

    def mark_started(self, transaction: Transaction, case: Case) -> bool:
        """As the ledger does."""
        return self._ledger.mark_started(transaction, case)

    def settle(self, transaction: Transaction, case: Case, checkpoint: Checkpoint) -> None:
        """Skipped, with the steps that ran as its detail."""
        steps = " ".join(map(str, checkpoint["steps"]))  # type: ignore[call-overload]
        self._ledger.settle(transaction, case, Skipped(reason="test", detail=steps), None)

    def may_continue(self, case: Case, finished_steps: int) -> bool:
        """Three deaths at one point are one too many."""
        if self._ledger.count_crash(case, finished_steps) < 3:
            return True
        self._ledger.record(case, DeadLetter(reason="worker-crashed", detail=f"after step {finished_steps}"))
        return False

    def _write(self, line: str) -> None:
        with self._trace.open("a") as file:
            file.write(line + "\n")


def _trouble(kind: str, wait: Callable[[float], bool]) -> None:
    if kind == "crash":
        time.sleep(_UNTIL_OTHERS_ARE_ON)
        os._exit(_CRASHED)
    if kind == "hang":
        time.sleep(60)
    if kind == "unreachable":
        attempt(_no_answer, _PATIENCE, wait=wait, draw=lambda: 1.0)


def _pause(session: Session) -> None:
    """Once, where p0's last checkpoint is inserted and not committed."""
    settled = text("select count(*) from adjuvant_case where patient_id = 'p0' and state = 'skipped'")
    if session.execute(settled).scalar_one():
        event.remove(Session, "before_commit", _pause)
        os.kill(os.getpid(), signal.SIGSTOP)


def _no_answer() -> None:
    raise PeerUnavailable("p0's archive")


def _goes_on(queue: CaseQueue, ledger: Ledger) -> bool:
    """Look for work as the service does, which a database that is away does not end; whether there is some."""
    try:
        enqueue_open_cases(queue, ledger, lambda case: give_up(case, ledger))
        return bool(ledger.unsettled_cases()) or not queue.wait_until_idle(0.2)
    except StoreUnavailable:
        return True


def main() -> None:
    """Ask for every patient once, run until nothing waits or SIGTERM comes; print what held at the end."""
    folder, patients, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    kind, url = [*sys.argv[4:], "", ""][:2]
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    engine = open_database(url or f"sqlite:///{folder}/adjuvant.db")
    ledger = Ledger(engine, lambda: datetime.now(UTC))
    first = not (folder / "trace").exists()
    if kind == "upgraded":
        adapter.engine.queue.ENGINE_VERSION = "2"
    if kind == "pause-in-commit":
        event.listen(Session, "before_commit", _pause)
    queue_stops = threading.Event()
    wait = queue_stops.wait
    work = SlowWork(ledger, folder / "trace", seconds, trouble=lambda: _trouble(kind, wait), wait=wait)
    queue = CaseQueue(engine, work, QueueOptions(poll_seconds=0.05), WorkerRegister(engine), queue_stops)
    with queue:
        if first:
            for number in range(patients):
                ledger.request(PatientId(f"p{number}"))
        while not stopping.is_set() and _goes_on(queue, ledger):
            stopping.wait(0.2)
    engine.dispose()
    sys.stdout.write("stopped\n" if stopping.is_set() else "idle\n")
    sys.stdout.flush()
    if queue.unfinished:
        os._exit(0)  # as the service does: a step that hangs must not hold the exit


if __name__ == "__main__":
    main()
