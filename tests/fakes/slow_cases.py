"""A process that runs cases whose steps leave a trace in a file and take their time: made to be killed.

Usage: python -m tests.fakes.slow_cases FOLDER PATIENTS SECONDS_PER_STEP
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case, DeadLetter, Skipped
from adapter.engine.queue import CaseQueue, Checkpoint, QueueOptions, Transaction
from adapter.store.database import open_database
from adapter.store.ledger import Ledger
from adapter.store.workers import WorkerRegister


class SlowWork:
    """Four steps that write their name when they begin and when they end."""

    def __init__(self, ledger: Ledger, trace: Path, seconds: float) -> None:
        self._ledger = ledger
        self._trace = trace
        self._seconds = seconds

    def run_step(self, name: str, case: Case, checkpoint: Checkpoint) -> dict[str, object]:
        """Sleep between two lines of trace."""
        self._write(f"{case.case_id} {name} begin")
        time.sleep(self._seconds)
        self._write(f"{case.case_id} {name} end")
        steps = [*checkpoint.get("steps", []), name]  # type: ignore[misc]  # JSON of our own making
        return {"steps": steps, **({"settled": True} if name == "deliver" else {})}

    def mark_started(self, transaction: Transaction, case: Case) -> None:
        """As the ledger does."""
        self._ledger.mark_started(transaction, case)

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


def main() -> None:
    """Ask for every patient once, run until nothing waits, print `idle`."""
    folder, patients, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    engine = open_database(f"sqlite:///{folder}/adjuvant.db")
    ledger = Ledger(engine, lambda: datetime.now(UTC))
    first = not (folder / "trace").exists()
    work = SlowWork(ledger, folder / "trace", seconds)
    with CaseQueue(engine, work, QueueOptions(poll_seconds=0.05), WorkerRegister(engine)) as queue:
        if first:
            for number in range(patients):
                ledger.request(PatientId(f"p{number}"))
        for case in ledger.open_cases():
            queue.enqueue(case)
        sys.stdout.write("open\n")
        sys.stdout.flush()
        idle = queue.wait_until_idle(60)
    sys.stdout.write("idle\n" if idle else "busy\n")


if __name__ == "__main__":
    main()
