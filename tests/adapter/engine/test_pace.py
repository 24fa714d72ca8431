"""An idle queue costs little, and is quick again with the next case."""

from __future__ import annotations

from pathlib import Path

from dbos import DBOS

from adapter.domain.ids import PatientId
from adapter.engine.queue import QUEUE, QueueOptions
from tests.adapter.engine.test_queue import database, open_service


def _pace() -> float:
    queue = DBOS.retrieve_queue(QUEUE)
    assert queue is not None
    return float(queue.polling_interval_sec)


def test_an_idle_queue_looks_less_often(tmp_path: Path) -> None:
    """Nothing open: a look every two seconds instead of every fraction of one; the next case brings the pace back."""
    with database(tmp_path) as engine, open_service(engine) as service:
        assert _pace() == 0.02
        service.look_again()
        assert _pace() == 2.0
        service.ledger.request(PatientId("p1"))
        service.look_again()
        assert _pace() == 0.02
        service.run_until_idle()
        assert len(service.work.seen) == 4
        service.look_again()
        assert _pace() == 2.0


def test_who_waits_for_the_quiet_time_is_not_looked_for_often(tmp_path: Path) -> None:
    """A case waits a quarter of an hour for further changes. Breach: twenty looks a second all day."""
    with database(tmp_path) as engine, open_service(engine, QueueOptions(quiet_seconds=900)) as service:
        service.ledger.request(PatientId("p1"))
        service.look_again()
        assert service.queue.held() == {"p1:1"}
        assert _pace() == 2.0


def test_a_pace_that_another_worker_set_is_set_right(tmp_path: Path) -> None:
    """The pace is the database's: one that rested after our last look must not slow down the cases of the next."""
    with database(tmp_path) as engine, open_service(engine) as service:
        other = DBOS.retrieve_queue(QUEUE)
        assert other is not None
        other.set_polling_interval_sec(2.0)
        service.ledger.request(PatientId("p1"))
        service.look_again()
        assert _pace() == 0.02
        service.run_until_idle()
        other.set_polling_interval_sec(0.02)
        service.look_again()
        assert _pace() == 2.0
