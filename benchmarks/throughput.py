"""Cases a second: two worker processes on PostgreSQL over one, and the whole service on HAPI over a bare replay.

The workers do four steps of a fixed latency, as peers and model would take, so that the machine's few cores do not
decide. On HAPI the service, already at work on others, reads, decides and writes every patient while each request is
recorded; then the same requests, for a twin of every patient under other ids, are sent bare by httpx from as many
threads: that is all the server itself takes. Twice each, the service first and last, because HAPI grows faster with
every request. HAPI gets one core and the other side another, as an EHR is a machine of its own; beside it stands the
same with all cores shared. Each ratio is measured in one run.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import httpx
from sqlalchemy import Engine, create_engine, text

from adapter.demo import SEED, TODAY
from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case, Skipped
from adapter.engine.queue import SETTLED, STEPS, CaseQueue, Checkpoint, QueueOptions, Transaction
from adapter.sandbox.hospital import sandbox_policy
from adapter.sandbox.patients import PATIENT_SYSTEM, simulate_courses
from adapter.sandbox.playback import playback
from adapter.service import Service
from adapter.settings import settings_from
from adapter.store.cases import DEAD_LETTER
from adapter.store.database import open_database
from adapter.store.ledger import Ledger
from adapter.store.workers import WorkerRegister
from adapter.terminology import load_terminology
from benchmarks.rows import Row, report
from tests.peers.hapi import start_hapi
from tests.peers.postgresql import start_postgresql

STEP_SECONDS, SLOTS, CASES, SETTLING_SECONDS, WINDOW_SECONDS = 0.25, 2, 600, 10.0, 30.0
HAPI_PATIENTS, HAPI_WORKERS = 60, 4
_AT_ONCE = 200
_LONGEST_SECONDS = 300.0
_FHIR_JSON = {"content-type": "application/fhir+json"}
_COMMAND = "python -m benchmarks.throughput"


def run() -> list[Row]:
    """Measure everything; some four minutes."""
    return [*_workers(), *_end_to_end()]


# ---- two workers over one


class _SlowWork:
    """Four steps that only take their time."""

    def __init__(self, ledger: Ledger, go: threading.Event) -> None:
        self._ledger = ledger
        self._go = go

    def run_step(self, name: str, case: Case, checkpoint: Checkpoint) -> dict[str, object]:  # noqa: ARG002 (the engine's)
        """As long as a peer would take."""
        self._go.wait()
        time.sleep(STEP_SECONDS)
        return {SETTLED: True} if name == STEPS[-1] else {"step": name}

    def mark_started(self, transaction: Transaction, case: Case) -> bool:
        """As the ledger does."""
        return self._ledger.mark_started(transaction, case)

    def settle(self, transaction: Transaction, case: Case, checkpoint: Checkpoint) -> None:  # noqa: ARG002 (the engine's)
        """As the ledger does."""
        self._ledger.settle(transaction, case, Skipped(reason="bench", detail=""), None)

    def may_continue(self, case: Case, finished_steps: int) -> bool:  # noqa: ARG002 (the engine's)
        """Nothing dies here."""
        return True


def _work(url: str, asked: int) -> None:
    """One worker process: asks for so many patients, works until it is asked to stop."""
    stopping, go = threading.Event(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    engine = open_database(url)
    ledger = Ledger(engine, lambda: datetime.now(UTC))
    with CaseQueue(engine, _SlowWork(ledger, go), QueueOptions(workers=SLOTS), WorkerRegister(engine)) as cases:
        for number in range(asked):
            cases.enqueue(ledger.request(PatientId(f"p{number}")))
        print("ready", flush=True)
        go.set()
        stopping.wait()


def _workers() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        server = start_postgresql(Path(folder))
        stack.callback(server.stop)
        engine = create_engine(server.url)
        stack.callback(engine.dispose)
        with _worker(server.url, CASES):
            alone = [_rate(engine)]
            with _worker(server.url, 0):
                together = _rate(engine)
            alone.append(_rate(engine))  # again: what else the machine does weighs on both
    rate = statistics.mean(alone)
    yield Row(name="PostgreSQL, 1 worker: cases", value=rate, unit="1/s", command=_COMMAND)
    yield Row(name="PostgreSQL, 2 workers: cases", value=together, unit="1/s", command=_COMMAND)
    yield Row(name=f"PostgreSQL: 2 workers over 1, {4 * STEP_SECONDS:g} s of latency in a case, {SLOTS} at once",
              value=together / rate, unit="x", at_least=1.8, command=_COMMAND)  # fmt: skip


@contextmanager
def _worker(url: str, asked: int) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.throughput", "--work", url, str(asked)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise RuntimeError("a worker did not start")
            yield
        finally:
            process.terminate()


def _rate(engine: Engine) -> float:
    """Cases a second over a window, once the workers are at it."""
    time.sleep(SETTLING_SECONDS)
    first, started = _settled(engine), time.monotonic()
    time.sleep(WINDOW_SECONDS)
    last, ended = _settled(engine), time.monotonic()
    if last >= CASES:
        raise RuntimeError("the queue ran empty while it was measured")
    return (last - first) / (ended - started)


def _settled(engine: Engine) -> int:
    with engine.connect() as connection:
        query = text("select count(*) from adjuvant_case where settled is not null")
        return int(connection.execute(query).scalar_one())


# ---- the service on HAPI over a bare replay


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """One request as it went over the wire."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    content: bytes


def _end_to_end() -> Iterator[Row]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        yield from _on_hapi("HAPI on a core of its own", cores[:1], cores[1:2], at_least=0.9)
    yield from _on_hapi("HAPI, all cores shared", cores, cores)


def _on_hapi(name: str, theirs: Sequence[int], ours: Sequence[int], *, at_least: float | None = None) -> Iterator[Row]:
    everything = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        hapi = start_hapi(Path(folder))
        stack.callback(hapi.stop)
        warming, first, *twins, last = (_load(hapi.base_url, twin) for twin in ("w", "a", "b", "c", "d"))
        _keep_to(hapi.process.pid, theirs)
        stack.callback(os.sched_setaffinity, 0, everything)
        os.sched_setaffinity(0, ours)
        service = stack.enter_context(_service(hapi.base_url, warming, Path(folder)))
        passes = [_service_pass(service, first)]
        replayed = sum(
            _replay(hapi.base_url, [_for_the_twin(one, first, twin) for one in passes[0].sent]) for twin in twins
        )
        passes.append(_service_pass(service, last))
    seconds, settled = sum(one.seconds for one in passes), sum(one.settled for one in passes)
    requests = sum(len(one.sent) for one in passes)
    yield Row(name=f"{name}: patients settled", value=settled, unit=f"of {2 * HAPI_PATIENTS}",
              at_least=2 * HAPI_PATIENTS, command=_COMMAND)  # fmt: skip
    yield Row(name=f"{name}: requests for a patient", value=requests / settled, unit="requests", command=_COMMAND)
    yield Row(name=f"{name}: cases", value=settled / seconds, unit="1/s", command=_COMMAND)
    yield Row(name=f"{name}: rate of the service over a bare replay, {HAPI_WORKERS} at once", value=replayed / seconds,
              unit="x", at_least=at_least, command=_COMMAND)  # fmt: skip


def _keep_to(pid: int, cores: Sequence[int]) -> None:
    """Every thread of the process; those it starts later inherit it."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cores)


def _load(base_url: str, twin: str) -> list[str]:
    """Write every simulated patient under ids that begin with the twin's letter."""
    courses = simulate_courses(HAPI_PATIENTS, seed=SEED, today=TODAY)
    newest = {}
    for reveal in playback(courses, load_terminology()):
        for resource in reveal.resources:
            newest[resource["resourceType"], resource["id"]] = resource
    patients = [resource for (kind, _), resource in newest.items() if kind == "Patient"]
    others = [resource for (kind, _), resource in newest.items() if kind != "Patient"]
    with httpx.Client(timeout=120) as client:
        # patients first and together: they may name each other, and everything else names them
        for part in (patients, *(others[start : start + _AT_ONCE] for start in range(0, len(others), _AT_ONCE))):
            entries = [
                {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
                for one in part
            ]
            written = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})
            client.post(base_url, content=_renamed(written, twin), headers=_FHIR_JSON).raise_for_status()
    return [_renamed(str(course.record.person.patient_id), twin) for course in courses]


def _renamed(text_: str, twin: str) -> str:
    """Give every id of the simulated patients the twin's letter; all of them hold `patient-NN`."""
    return re.sub(r"patient-(\d\d)", rf"{twin}patient-\1", text_)


def _for_the_twin(sent: _Sent, patients: Sequence[str], twins: Sequence[str]) -> _Sent:
    """The same request about the twin: other patients, and other assessments."""
    mine, theirs = patients[0][0], twins[0][0]

    def elsewhere(found: re.Match[str]) -> str:
        return f"{int(found[1], 16) ^ ord(mine) ^ ord(theirs):x}{found[2]}"

    def other(written: str) -> str:
        turned = written.replace(f"{mine}patient-", f"{theirs}patient-")
        # an assessment's id is 32 hexadecimal digits: another one of the same form. Device and model card are shared
        return re.sub(r"(?<!dev-)(?<!mc-)\b([0-9a-f])([0-9a-f]{31})\b", elsewhere, turned)

    content = other(sent.content.decode()).encode() if sent.content else b""
    headers = tuple((name, value) for name, value in sent.headers if name.lower() != "content-length")
    return _Sent(method=sent.method, target=other(sent.target), headers=headers, content=content)


@contextmanager
def _service(base_url: str, patients: Sequence[str], folder: Path) -> Iterator[Service]:
    """A service that has settled these patients: on both sides everything is loaded and compiled."""
    settings = settings_from(
        {
            "fhir": {"base_url": base_url, "patient_identifier_system": PATIENT_SYSTEM},
            "cohort": {"patients": [f"Patient/{patient}" for patient in patients]},
            "store": {"url": f"sqlite:///{folder}/adjuvant.db", "folder": str(folder)},
            "watch": {"poll_seconds": 600, "quiet_seconds": 0, "workers": HAPI_WORKERS},
            "web": {"port": 0},
            "policy": {"site_folder": str(sandbox_policy())},
        }
    )
    with Service(settings) as service:
        service.run_until_settled(_LONGEST_SECONDS)
        yield service


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """All requests about the patients, the seconds from the first to the last settled case, and how many settled."""

    sent: Sequence[_Sent]
    seconds: float
    settled: int


def _service_pass(service: Service, patients: Sequence[str]) -> _Pass:
    ledger = service.rooms.store.ledger
    for patient in patients:
        ledger.request(PatientId(patient))
    with _recording() as sent:
        started = time.monotonic()
        service.look_for_work()
        service.queue.wait_until_idle(_LONGEST_SECONDS)
        seconds = time.monotonic() - started
    settled = [one for one in ledger.list_cases() if one.patient_id in patients and one.settled is not None]
    return _Pass(sent=sent, seconds=seconds, settled=sum(one.state != DEAD_LETTER for one in settled))


@contextmanager
def _recording() -> Iterator[list[_Sent]]:
    """Every request of this process, at the wire."""
    sent: list[_Sent] = []
    original = httpx.HTTPTransport.handle_request

    def record(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        target = request.extensions["target"].decode()
        headers = tuple(request.headers.items())
        sent.append(_Sent(method=request.method, target=target, headers=headers, content=request.content))
        return original(transport, request)

    httpx.HTTPTransport.handle_request = record  # type: ignore[method-assign,assignment]
    try:
        yield sent
    finally:
        httpx.HTTPTransport.handle_request = original  # type: ignore[method-assign]


def _replay(base_url: str, sent: Sequence[_Sent]) -> float:
    """Seconds to send the same bare, from as many threads as the service has workers."""
    waiting: queue.SimpleQueue[_Sent] = queue.SimpleQueue()
    for one in sent:
        waiting.put(one)
    root = base_url.removesuffix("/fhir")
    failed: list[int] = []

    def send() -> None:
        with httpx.Client(timeout=120) as client:
            while True:
                try:
                    one = waiting.get_nowait()
                except queue.Empty:
                    return
                reply = client.request(one.method, root + one.target, headers=dict(one.headers), content=one.content)
                if reply.status_code >= httpx.codes.BAD_REQUEST and reply.status_code not in {404, 410}:
                    failed.append(reply.status_code)

    threads = [threading.Thread(target=send) for _ in range(HAPI_WORKERS)]
    seconds = _timed(lambda: _all(threads))
    if failed:
        raise RuntimeError(f"the replay was refused: {failed[:5]}")
    return seconds


def _all(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def main() -> None:
    """Print the rows as a table, or as JSON with --json; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", nargs=2, metavar=("URL", "CASES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        _work(arguments.work[0], int(arguments.work[1]))
        return
    sys.exit(report(chain(_workers(), _end_to_end()), as_json=arguments.json))


if __name__ == "__main__":
    main()
