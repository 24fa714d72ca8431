"""What one hanging, one crashing and one gluttonous patient cost 197 others: the same queue with and without them.

Stub work, real engine: each case has four steps, its decision is asked of a process of its own, as in the service. Four
cases can run at once; two healthy patients at a time are asked for, so that the queue is half busy on any machine. A
patient's time is from the request to the settled case. Both runs in one process, in turn; the ratio of the 95th
percentiles.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case, DeadLetter, Settled, Skipped
from adapter.engine.isolation import Apart
from adapter.engine.queue import SETTLED, CaseQueue, Checkpoint, QueueOptions, Transaction
from adapter.errors import StepCrashed
from adapter.store.database import open_database
from adapter.store.ledger import Ledger
from adapter.store.workers import WorkerRegister
from benchmarks.rows import Row, report
from tests.fakes.trouble import prepare

PATIENTS, WORKERS, ROUNDS = 200, 4, 3
POISON = ("hang", "crash", "gorge")
_STEP_SECONDS, _AT_ONCE = 0.02, 2
_HANG_SECONDS, _MEMORY_BYTES = 10.0, 4 * 2**30  # a process has to start within the time, too
_OUTCOMES: dict[str, Settled] = {
    "dead-letter": DeadLetter(reason="poison", detail=""),
    "skipped": Skipped(reason="bench", detail=""),
}
_COMMAND = "python -m benchmarks.poison"


class _Work:
    """Steps of a fixed length; the third is asked of another process."""

    def __init__(self, ledger: Ledger, apart: Apart[str]) -> None:
        self._ledger = ledger
        self._apart = apart
        self.settled: dict[str, float] = {}

    def run_step(self, name: str, case: Case, _checkpoint: Checkpoint) -> dict[str, object]:
        time.sleep(_STEP_SECONDS)
        if name == "decide":
            try:
                self._apart.ask(str(case.patient_id))
            except StepCrashed:
                return {SETTLED: "dead-letter"}
        return {SETTLED: "skipped"} if name == "deliver" else {}

    def mark_started(self, transaction: Transaction, case: Case) -> bool:
        return self._ledger.mark_started(transaction, case)

    def settle(self, transaction: Transaction, case: Case, checkpoint: Checkpoint) -> None:
        self._ledger.settle(transaction, case, _OUTCOMES[str(checkpoint[SETTLED])], None)
        self.settled[str(case.patient_id)] = time.monotonic()

    def may_continue(self, _case: Case, _finished_steps: int) -> bool:
        return True


def run() -> list[Row]:
    """Measure; some minutes."""
    ratios, last = [], 0.0
    for _ in range(ROUNDS):
        alone = _percentile(_seconds(()))
        beside = _percentile(_seconds(POISON))
        ratios.append(beside / alone)
        last = alone
    return [
        Row(
            name=f"p95 of {PATIENTS - len(POISON)} patients beside three poisonous ones / without them",
            value=statistics.median(ratios),
            unit="x",
            at_most=1.2,
            command=_COMMAND,
        ),
        Row(name="their p95 without poison", value=last, unit="s", command=_COMMAND),
    ]


def _seconds(poison: Sequence[str]) -> list[float]:
    """From request to settled, of everyone who is no poison."""
    asked: dict[str, float] = {}
    others = [f"p{number}" for number in range(PATIENTS - len(POISON))]
    order = list(others)
    for place, name in enumerate(poison, start=1):  # spread over the run
        order.insert(place * len(others) // (len(poison) + 1), name)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine = open_database(f"sqlite:///{folder}/adjuvant.db")
        stack.callback(engine.dispose)
        scratch = folder / "plain"
        apart = Apart(prepare, scratch=scratch, processes=WORKERS, seconds=_HANG_SECONDS, memory_bytes=_MEMORY_BYTES)
        stack.enter_context(apart)
        ledger = Ledger(engine, lambda: datetime.now(UTC))
        work = _Work(ledger, apart)
        options = QueueOptions(workers=WORKERS, poll_seconds=0.02)
        queue = stack.enter_context(CaseQueue(engine, work, options, WorkerRegister(engine)))
        for warm in range(WORKERS):  # every process is started before the clock is
            queue.enqueue(ledger.request(PatientId(f"warm{warm}")))
        queue.wait_until_idle(60)
        for name in order:
            while sum(one not in work.settled for one in asked if one not in poison) >= _AT_ONCE:
                time.sleep(0.005)
            asked[name] = time.monotonic()
            queue.enqueue(ledger.request(PatientId(name)))
        if not queue.wait_until_idle(120):
            raise RuntimeError("the queue did not come to its end")
        dead = {entry.patient_id for entry in ledger.list_cases(state="dead-letter")}
        if dead != set(poison):
            raise RuntimeError(f"dead letters of {sorted(dead)}, expected of {sorted(poison)}")
        return [work.settled[name] - asked[name] for name in others]


def _percentile(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=20)[-1]


def main(measure: Callable[[], list[Row]] = run) -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    sys.exit(report(measure(), as_json=parser.parse_args().json))


if __name__ == "__main__":
    main()
