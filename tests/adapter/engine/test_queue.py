"""Cases as durable workflows: few runs for many changes, one at a time per patient, and every one ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dbos import DBOS
from sqlalchemy import Engine, MetaData, inspect
from sqlmodel import Session, SQLModel

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case, DeadLetter, Skipped
from adapter.engine.queue import QUEUE, SETTLED, STEPS, CaseQueue, Checkpoint, QueueOptions, Transaction
from adapter.errors import BadStore
from adapter.pipeline.watch import enqueue_open_cases
from adapter.store.database import open_database
from adapter.store.ledger import Ledger
from adapter.store.workers import WorkerRegister
from tests.fakes.waiting import wait_until
from tests.peers.postgresql import Postgresql

_OPTIONS = QueueOptions(workers=4, poll_seconds=0.02)
_PATIENT = QueueOptions(workers=4, poll_seconds=0.02, quiet_seconds=2.0)


def _nothing(_name: str, _case: Case) -> None:
    """What a step does unless a test says otherwise."""


@dataclass
class Work:
    """Four steps that note when they ran. in_step: called in each, to wait or to fail."""

    ledger: Ledger
    in_step: Callable[[str, Case], None] = _nothing
    seen: list[tuple[str, str]] = field(default_factory=list)
    running: dict[str, int] = field(default_factory=dict)
    most_at_once: dict[str, int] = field(default_factory=dict)

    def run_step(self, name: str, case: Case, checkpoint: Checkpoint) -> dict[str, object]:
        """Count who runs beside whom."""
        patient = str(case.patient_id)
        self.running[patient] = self.running.get(patient, 0) + 1
        self.most_at_once[patient] = max(self.most_at_once.get(patient, 0), self.running[patient])
        self.seen.append((case.case_id, name))
        try:
            self.in_step(name, case)
        finally:
            self.running[patient] -= 1
        done = {**checkpoint, name: "done"}
        return {**done, SETTLED: True} if name == STEPS[-1] else done

    def steps_of(self, patient: str) -> list[tuple[str, str]]:
        """Case and step of everything that ran for a patient, in order."""
        return [entry for entry in self.seen if entry[0].startswith(f"{patient}:")]

    def mark_started(self, transaction: Transaction, case: Case) -> bool:
        """As the ledger does."""
        return self.ledger.mark_started(transaction, case)

    def settle(self, transaction: Transaction, case: Case, checkpoint: Checkpoint) -> None:
        """Skipped, with the steps that ran as its detail."""
        detail = " ".join(name for name in STEPS if name in checkpoint)
        self.ledger.settle(transaction, case, Skipped(reason="test", detail=detail), None)

    def may_continue(self, case: Case, finished_steps: int) -> bool:
        """Always: no test here kills a worker."""
        return bool(case) and finished_steps >= 0


@dataclass
class Service:
    """One open queue and what it works on; tests bring patients of their own."""

    engine: Engine
    queue: CaseQueue
    ledger: Ledger
    work: Work

    def look_again(self) -> None:
        """What the service does at its start and after each poll."""
        enqueue_open_cases(self.queue, self.ledger, self._give_up)

    def run_until_idle(self) -> None:
        """Look and run until nothing is open."""
        for _ in range(20):
            self.look_again()
            assert self.queue.wait_until_idle(20)
            if not self.ledger.unsettled_cases():
                return
        pytest.fail("work stays open")

    def states(self, patient: PatientId) -> list[str]:
        """How the patient's cases ended, newest first."""
        return [entry.state for entry in self.ledger.list_cases(patient_id=patient)]

    def _give_up(self, case: Case) -> None:
        self.ledger.record(case, DeadLetter(reason="engine-gave-up", detail=case.case_id))


@contextmanager
def open_service(engine: Engine, options: QueueOptions = _OPTIONS) -> Iterator[Service]:
    """Launch and stop a queue; the clock is read at the top of the program, and a test is one."""
    ledger = Ledger(engine, lambda: datetime.now(UTC))
    work = Work(ledger)
    with CaseQueue(engine, work, options, WorkerRegister(engine)) as queue:
        yield Service(engine, queue, ledger, work)


@contextmanager
def database(folder: Path) -> Iterator[Engine]:
    """An empty one."""
    engine = open_database(f"sqlite:///{folder / 'adjuvant.db'}")
    yield engine
    engine.dispose()


def test_two_queues_one_after_the_other_in_one_process(tmp_path: Path) -> None:
    """A service that stops and starts again within one process; it stands first, because a process holds one queue."""
    with database(tmp_path) as engine:
        for revision in (1, 2):
            with open_service(engine) as service:
                service.ledger.request(PatientId("p1"))
                service.run_until_idle()
                assert service.work.seen == [(f"p1:{revision}", name) for name in STEPS]


def _held_in_its_first_step(service: Service) -> tuple[threading.Semaphore, threading.Semaphore]:
    """Begin a case of p1. Returns what lets a step go on, and what tells of each that begins; the first has."""
    steps, entered = threading.Semaphore(0), threading.Semaphore(0)

    def in_step(_name: str, _case: Case) -> None:
        entered.release()
        steps.acquire(timeout=20)

    service.work.in_step = in_step
    service.ledger.request(PatientId("p1"))
    service.look_again()
    assert entered.acquire(timeout=20)
    return steps, entered


def test_a_case_that_is_given_back_waits_for_the_step_of_its_old_run(tmp_path: Path) -> None:
    """What a silent worker meets that wakes. Breach: both ran, and shared one folder of images and one mark."""
    with database(tmp_path) as engine, open_service(engine) as service:
        steps, entered = _held_in_its_first_step(service)
        DBOS.resume_workflow("p1:1", queue_name=QUEUE)  # as the worker that took it over did
        wait_until(lambda: _status("p1:1") == "PENDING", 20)  # dequeued again, here
        time.sleep(0.2)
        assert len(service.work.seen) == 1
        steps.release()  # the old run goes no further than its step
        assert entered.acquire(timeout=20)
        time.sleep(0.2)
        assert service.queue.unfinished == {"p1:1"}
        steps.release(len(STEPS))
        service.run_until_idle()
        assert service.work.most_at_once == {"p1": 1}
        assert service.states(PatientId("p1")) == ["skipped"]


def test_the_next_case_of_a_patient_waits_for_the_step_of_a_lost_run(tmp_path: Path) -> None:
    """As above, where the case was taken over and ended elsewhere. Breach: both ran, over one folder of images."""
    with database(tmp_path) as engine, open_service(engine) as service:
        steps, _ = _held_in_its_first_step(service)
        service.ledger.record(Case(patient_id=PatientId("p1"), revision=1), Skipped(reason="elsewhere", detail=""))
        DBOS.cancel_workflow("p1:1")  # its partition of the queue is free then, as where another worker ended it
        service.ledger.request(PatientId("p1"))
        service.look_again()
        wait_until(lambda: service.queue.unfinished == {"p1:1", "p1:2"}, 20)
        time.sleep(0.2)
        assert service.work.seen == [("p1:1", "gather")]
        steps.release(1 + len(STEPS))
        service.run_until_idle()
        assert service.work.most_at_once == {"p1": 1}
        assert service.work.seen == [("p1:1", "gather"), *(("p1:2", name) for name in STEPS)]


def test_a_case_that_ended_outside_the_engine_does_not_run(tmp_path: Path) -> None:
    """As by `assess` while no service ran. Breach: it ran again, and wrote what no line of the ledger told of."""
    with database(tmp_path) as engine:
        with open_service(engine, _PATIENT) as service:
            ended, forgotten = (service.ledger.request(PatientId(name)) for name in ("ended", "forgotten"))
            service.look_again()
        for case in (ended, forgotten):
            service.ledger.record(case, Skipped(reason="by-hand", detail=""))
        service.ledger.forget(PatientId("forgotten"))
        with open_service(engine) as service:
            assert service.queue.wait_until_idle(20)
            assert service.work.seen == []
            assert [(entry.case_id, entry.reason) for entry in service.ledger.list_cases()] == [("ended:1", "by-hand")]
            assert [_status(case.case_id) for case in (ended, forgotten)] == ["SUCCESS"] * 2


def _status(case_id: str) -> str:
    status = DBOS.get_workflow_status(case_id)
    return "" if status is None else status.status


def test_of_ended_cases_the_engine_keeps_nothing_for_long(tmp_path: Path) -> None:
    """The ledger tells of them. Breach: the engine's tables grew with every case, and named forgotten patients."""
    with database(tmp_path) as engine:
        _keep_nothing_for_long(engine)


def test_so_it_does_on_postgresql(postgresql: Postgresql) -> None:
    """Where the engine's tables have a schema of their own."""
    engine = open_database(postgresql.create_database("pruned"))
    _keep_nothing_for_long(engine)
    engine.dispose()


def _keep_nothing_for_long(engine: Engine) -> None:
    def cancel(name: str, case: Case) -> None:
        if (case.patient_id, name) == ("cancelled", STEPS[1]):
            DBOS.cancel_workflow(case.case_id)

    with open_service(engine) as service:
        service.work.in_step = cancel
        for patient in ("p1", "cancelled"):
            service.ledger.request(PatientId(patient))
        service.run_until_idle()
    assert _tables_of_the_engine_about(engine, "cancelled")
    with open_service(engine, _PATIENT) as service:
        service.ledger.request(PatientId("p2"))
        service.look_again()
        assert service.queue.prune(datetime.now(UTC) - timedelta(days=1)) == 0
        assert service.queue.prune(datetime.now(UTC) + timedelta(days=1)) == 2
        assert [_status(f"{patient}:1") for patient in ("p1", "cancelled", "p2")] == ["", "", "DELAYED"]
        assert _tables_of_the_engine_about(engine, "cancelled") == []
        service.run_until_idle()
        assert service.states(PatientId("p2")) == ["skipped"]


def _tables_of_the_engine_about(engine: Engine, patient: str) -> list[str]:
    """Tables that are not ours and name a case of the patient."""
    ours, every = SQLModel.metadata.tables, MetaData()
    for schema in inspect(engine).get_schema_names():
        every.reflect(engine, schema=schema)
    with engine.connect() as connection:
        return [
            name
            for name, table in every.tables.items()
            if table.name not in ours and any(f"{patient}:" in str(row) for row in connection.execute(table.select()))
        ]


class Unhurried(WorkerRegister):
    """A register that holds the opening of the queue until a case has waited."""

    def __init__(self, engine: Engine, waited: threading.Event) -> None:
        """waited: set by the case."""
        super().__init__(engine)
        self._waited = waited

    def only_reaper(self) -> AbstractContextManager[bool]:
        """Asked when the queue takes cases already and is not open yet."""
        assert self._waited.wait(20)
        return super().only_reaper()


def test_a_case_that_runs_before_the_queue_is_open_can_wait(tmp_path: Path) -> None:
    """Left by a predecessor, it runs while the queue opens: whatever it waits by is there before the queue is."""
    with database(tmp_path) as engine:
        with open_service(engine, _PATIENT) as before:
            before.queue.enqueue(before.ledger.request(PatientId("p1")))
        stopping, waited, told = threading.Event(), threading.Event(), []

        def wait(_name: str, _case: Case) -> None:
            told.append(stopping.wait(0.01))
            waited.set()

        ledger = Ledger(engine, lambda: datetime.now(UTC))
        work = Work(ledger, in_step=wait)
        with CaseQueue(engine, work, _OPTIONS, Unhurried(engine, waited), stopping) as queue:
            assert queue.wait_until_idle(20)
        assert told == [False] * 4
        assert stopping.is_set()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One queue for the tests below: opening and closing one takes two seconds."""
    with database(tmp_path_factory.mktemp("queue")) as engine, open_service(engine) as opened:
        yield opened


@pytest.fixture
def engine_file(service: Service) -> Path:
    """The database of the module's queue."""
    return Path(str(service.engine.url.database))


@pytest.fixture
def in_step(service: Service) -> Iterator[Callable[[Callable[[str, Case], None]], None]]:
    """Put something into every step, for one test."""

    def put(what: Callable[[str, Case], None]) -> None:
        service.work.in_step = what

    yield put
    service.work.in_step = _nothing


def test_a_case_runs_its_steps_and_settles(service: Service) -> None:
    """In order, each once, the outcome written with the last checkpoint; looking and enqueueing again does nothing."""
    case = service.ledger.request(PatientId("once"))
    for _ in range(5):
        service.queue.enqueue(case)
    service.run_until_idle()
    service.queue.enqueue(case)
    service.run_until_idle()
    assert service.work.steps_of("once") == [("once:1", name) for name in STEPS]
    assert [entry.detail for entry in service.ledger.list_cases(patient_id="once")] == [" ".join(STEPS)]


def test_three_hundred_changes_while_it_runs_make_few_runs_and_lose_none(
    service: Service, in_step: Callable[[Callable[[str, Case], None]], None]
) -> None:
    """Design section 7: a trigger asks for the revision after the one that began; never more than one waits."""
    gathered: list[int] = []
    asked = [0]

    def gather_slowly(name: str, _case: Case) -> None:
        if name == "gather":
            gathered.append(asked[0])  # the record as it was read: what came later needs another run
            time.sleep(0.02)

    in_step(gather_slowly)
    for _ in range(300):
        asked[0] += 1
        service.queue.enqueue(service.ledger.request(PatientId("busy")))
        assert service.ledger.counts()["waiting"] <= 1
    service.run_until_idle()
    runs = len(service.states(PatientId("busy")))
    assert gathered[-1] == 300
    assert runs == len(gathered)
    assert runs < 150
    assert service.work.most_at_once["busy"] == 1


def test_one_patient_at_a_time_and_others_beside(
    service: Service, in_step: Callable[[Callable[[str, Case], None]], None]
) -> None:
    """Two revisions of one patient never overlap, in order of their revision; another patient does not wait."""
    both = threading.Barrier(2)

    def meet(name: str, case: Case) -> None:
        if name == "retrieve" and case.revision == 1:
            both.wait(timeout=10)  # passes only if both patients are in the step at once

    in_step(meet)
    for patient in (PatientId("left"), PatientId("right")):
        service.queue.enqueue(service.ledger.request(patient))
        service.queue.enqueue(Case(patient_id=patient, revision=2))
    assert service.queue.wait_until_idle(20)
    assert (service.work.most_at_once["left"], service.work.most_at_once["right"]) == (1, 1)
    assert [case_id for case_id, _ in service.work.steps_of("left")] == ["left:1"] * 4 + ["left:2"] * 4


def test_a_bug_in_any_step_ends_the_case(
    service: Service, in_step: Callable[[Callable[[str, Case], None]], None]
) -> None:
    """An exception that nobody foresaw: the case is closed at the next look, the next revision runs, nothing hangs."""

    def fail_first(name: str, case: Case) -> None:
        if case.case_id == f"bug-in-{name}:1":
            raise RuntimeError("a bug")

    in_step(fail_first)
    patients = [PatientId(f"bug-in-{name}") for name in STEPS]
    for patient in patients:
        service.ledger.request(patient)
    service.run_until_idle()
    assert [service.states(patient) for patient in patients] == [["dead-letter"]] * 4
    for patient in patients:
        service.ledger.request(patient)
    service.run_until_idle()
    assert [service.states(patient) for patient in patients] == [["skipped", "dead-letter"]] * 4


def test_a_queue_that_is_not_open_takes_no_case(tmp_path: Path) -> None:
    """A case that would be lost is refused loudly."""
    with database(tmp_path) as engine:
        work = Work(Ledger(engine, lambda: datetime.now(UTC)))
        closed = CaseQueue(engine, work, _OPTIONS, WorkerRegister(engine))
        with pytest.raises(RuntimeError, match="not open"):
            closed.enqueue(Case(patient_id=PatientId("p1"), revision=1))


def test_a_second_queue_in_one_process_is_refused(service: Service, tmp_path: Path) -> None:
    """DBOS would hand out the first one's instance, and the second's cases would run in the first's database."""
    assert service.queue.held() == frozenset()
    with database(tmp_path) as engine:
        work = Work(Ledger(engine, lambda: datetime.now(UTC)))
        with pytest.raises(BadStore, match="already runs"), CaseQueue(engine, work, _OPTIONS, WorkerRegister(engine)):
            pytest.fail("a second queue opened")


@pytest.mark.fault("F-37")
def test_nothing_of_a_patient_is_stored_by_the_engine(
    service: Service, in_step: Callable[[Callable[[str, Case], None]], None], engine_file: Path
) -> None:
    """Law 8: an error's message is not stored, whatever stands in it; no byte of the database holds it."""

    def fail(_name: str, case: Case) -> None:
        if case.patient_id == "leak":
            raise ValueError("Jane Specimen, born 1960-07-01")

    in_step(fail)
    service.ledger.request(PatientId("leak"))
    service.run_until_idle()
    stored = b"".join(path.read_bytes() for path in engine_file.parent.glob(engine_file.name + "*"))
    assert b"gather: ValueError" in stored
    assert b"Specimen" not in stored
    assert b"1960-07-01" not in stored


@pytest.mark.fault("F-49")
def test_a_running_case_that_the_engine_lost_runs_again(service: Service) -> None:
    """Restored from a backup of the ledger alone: law 6 holds, nothing stays `running` for ever."""
    case = Case(patient_id=PatientId("lost"), revision=1)
    with Session(service.engine) as session:
        service.ledger.mark_started(session, case)
        session.commit()
    service.run_until_idle()
    assert service.states(PatientId("lost")) == ["skipped"]
