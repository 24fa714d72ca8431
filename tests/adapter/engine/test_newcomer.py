"""Who has just come is not taken for dead: what runs is listed before anybody asks who lives."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dbos import DBOS
from sqlalchemy import Engine, text

from adapter.domain.ids import PatientId
from adapter.engine.queue import QUEUE, CaseQueue, QueueOptions
from adapter.engine.takeover import Takeover
from adapter.store.ledger import Ledger
from adapter.store.workers import WorkerRegister
from tests.adapter.engine.test_queue import Work, database

_TAKE = "update workflow_status set status = 'PENDING', executor_id = :who, application_version = :version"


class Crowd(WorkerRegister):
    """A register into which another worker comes right after somebody was told who lives."""

    def __init__(self, engine: Engine, comes: Callable[[], str]) -> None:
        """comes: takes a case, and returns its executor id."""
        super().__init__(engine)
        self.open = False
        self._comes = comes
        self._others: frozenset[str] = frozenset()

    def living(self, executor_id: str) -> frozenset[str]:
        """As they were when it was asked."""
        answer = self._others | {executor_id}
        if self.open and not self._others:
            self._others = frozenset({self._comes()})
        return answer


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_worker_that_comes_between_two_questions_is_not_dead(tmp_path: Path, version: str) -> None:
    """Its case is not put back under it, no crash is counted, and a newer version's case is not ended."""
    with database(tmp_path) as engine:
        newcomer = f"{version}-newcomer"
        asked: list[str] = []

        def comes() -> str:
            with engine.begin() as connection:
                connection.execute(text(_TAKE), {"who": newcomer, "version": version})
            return newcomer

        def may_continue(workflow_id: str, _finished: int) -> bool:
            asked.append(workflow_id)
            return True

        ledger, crowd = Ledger(engine, lambda: datetime.now(UTC)), Crowd(engine, comes)
        # the quiet time keeps the queue's own hands off the case
        with CaseQueue(engine, Work(ledger), QueueOptions(quiet_seconds=3600), crowd) as queue:
            case = ledger.request(PatientId("p1"))
            queue.enqueue(case)
            takeover = Takeover(crowd, executor_id="1-us", queue=QUEUE, may_continue=may_continue, in_hand=frozenset)
            crowd.open = True
            assert (takeover.take_over(), asked) == (0, [])
            status = DBOS.get_workflow_status(case.case_id)
            assert status is not None
            assert (status.status, status.executor_id) == ("PENDING", newcomer)
