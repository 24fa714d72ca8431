"""The queue with many patients waiting, each a partition of its own: rates at 1,000 and 10,000 over those at 100.

Work that takes no time, so that only the engine is measured: asked for and enqueued one after the other while nothing
runs, then so many cases run to their end while the rest waits. SQLite, two at once, as a service is by default.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case, Skipped
from adapter.engine.queue import SETTLED, CaseQueue, Checkpoint, QueueOptions, Transaction
from adapter.store.database import open_database
from adapter.store.ledger import Ledger
from adapter.store.workers import WorkerRegister
from benchmarks.rows import Row, report

WAITING, FINISHED = (100, 1_000, 10_000), 80
_LONGEST_SECONDS = 600.0
_COMMAND = "python -m benchmarks.waiting"


class _HeldWork:
    """A case that ends at its first step, once it is allowed to."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._counted = threading.Condition()
        self._finished = 0
        self.go = threading.Event()

    def run_step(self, name: str, case: Case, checkpoint: Checkpoint) -> dict[str, object]:  # noqa: ARG002 (the engine's)
        """Wait for the start."""
        self.go.wait()
        return {SETTLED: True}

    def mark_started(self, transaction: Transaction, case: Case) -> bool:
        """As the ledger does."""
        return self._ledger.mark_started(transaction, case)

    def settle(self, transaction: Transaction, case: Case, checkpoint: Checkpoint) -> None:  # noqa: ARG002 (the engine's)
        """As the ledger does."""
        self._ledger.settle(transaction, case, Skipped(reason="bench", detail=""), None)
        with self._counted:
            self._finished += 1
            self._counted.notify_all()

    def may_continue(self, case: Case, finished_steps: int) -> bool:  # noqa: ARG002 (the engine's)
        """Nothing dies here."""
        return True

    def wait_for(self, number: int) -> None:
        """Return once so many are finished."""
        with self._counted:
            if not self._counted.wait_for(lambda: self._finished >= number, _LONGEST_SECONDS):
                raise RuntimeError(f"{self._finished} cases finished in {_LONGEST_SECONDS:g} s")


def run(waiting: tuple[int, ...] = WAITING) -> list[Row]:
    """Measure everything; some minutes."""
    rates = [_rates(patients) for patients in waiting]
    rows = []
    for patients, (enqueued, finished) in zip(waiting, rates, strict=True):
        rows.append(Row(name=f"Queue, {patients:,} waiting: enqueued", value=enqueued, unit="1/s", command=_COMMAND))
        rows.append(Row(name=f"Queue, {patients:,} waiting: finished", value=finished, unit="1/s", command=_COMMAND))
    for patients, rate in zip(waiting[1:], rates[1:], strict=True):
        for what, few, many in zip(("enqueued", "finished"), rates[0], rate, strict=True):
            name = f"Queue, {patients:,} waiting: rate {what} over that with {waiting[0]:,}"
            rows.append(Row(name=name, value=many / few, unit="x", at_least=0.5, command=_COMMAND))
    return rows


def _rates(patients: int) -> tuple[float, float]:
    """Cases a second: enqueued while none runs, then finished while the rest waits."""
    with tempfile.TemporaryDirectory() as folder:
        engine = open_database(f"sqlite:///{folder}/adjuvant.db")
        ledger = Ledger(engine, lambda: datetime.now(UTC))
        work = _HeldWork(ledger)
        with CaseQueue(engine, work, QueueOptions(), WorkerRegister(engine)) as queue:
            started = time.monotonic()
            for number in range(patients):
                queue.enqueue(ledger.request(PatientId(f"p{number}")))
            enqueued = time.monotonic()
            work.go.set()
            work.wait_for(FINISHED)
            finished = time.monotonic()
        engine.dispose()
    return patients / (enqueued - started), FINISHED / (finished - enqueued)


def main() -> None:
    """Print the rows as a table, or as JSON with --json; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--waiting", type=int, nargs="+", default=list(WAITING), help="how many wait; the first is the measure"
    )
    arguments = parser.parse_args()
    sys.exit(report(run(tuple(arguments.waiting)), as_json=arguments.json))


if __name__ == "__main__":
    main()
