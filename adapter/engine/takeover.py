"""What a dead worker left behind. On one machine the store's lock proves that every other executor is dead."""

from __future__ import annotations

from dbos import DBOS


def dead_workflows(executor_id: str, queue: str) -> tuple[str, ...]:
    """Ids of the queue's workflows that a former executor was running."""
    running = DBOS.list_workflows(status="PENDING", queue_name=queue, load_input=False, load_output=False)
    return tuple(status.workflow_id for status in running if status.executor_id != executor_id)
