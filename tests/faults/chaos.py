"""Disturb the service again and again by a seeded plan, then let it finish, and compare with what the servers hold.

Usage: python -m tests.faults.chaos --cycles 60 --seed 7 [--faults many] [--database sqlite|postgresql] [--peers real]
       [--jobs 2] [--begin 40]

The run is cut into schedules, each on a fresh hospital and a fresh store. The seed picks each schedule's database
(SQLite with one worker, PostgreSQL with two), whether the EHR has transactions and who names what is written, and every
fault. A cycle is one death of a worker: SIGKILL at a named moment, at any moment, or while it idles. With `--faults
many` a worker may also be asked to stop, or be paused and woken, and one to three other faults happen beside it
(tests/faults/trouble.py). Ends with one line; exit 1 where a law broke, with the command that repeats that
schedule, and its workers' logs in .results/chaos.
The same seed gives the same plan; what the scheduler of the machine does between two moments is not repeated.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import json
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import httpx
from sqlalchemy.exc import SQLAlchemyError

from adapter.domain.outcome import Abstained, Delivered, Settled, WriteReceipt
from adapter.errors import AdjuvantError, StoreUnreachable
from adapter.features.imaging import FEWEST_SLICES
from adapter.moments import Moment
from adapter.pipeline.case_file import CaseFile, stored_bundle, unseal
from adapter.pipeline.once import STEPS_TO_A_DECISION, assess_once
from adapter.rooms import Rooms, opened_ledger
from adapter.sandbox.faults import FhirFaults
from adapter.sandbox.hospital import SandboxHospital
from adapter.sandbox.patients import CourseKind, SimulatedCourse, simulate_course
from adapter.sandbox.playback import beginnings_first
from adapter.settings import Settings
from adapter.store.ledger import Ledger
from adapter.store.vault import Vault
from adapter.terminology import load_terminology
from tests.faults.hospitals import Hospital, PretendHospital, RealHospital
from tests.faults.judge import Due, Verdict, endings, judge
from tests.faults.proxy import TcpProxy
from tests.faults.trouble import Surroundings, set_clock, small_disk, trouble
from tests.faults.workers import Plan, Worker
from tests.peers.hapi import Hapi, start_hapi
from tests.peers.orthanc import Orthanc, start_orthanc
from tests.peers.postgresql import Postgresql, start_postgresql
from tests.peers.process import PeerMissing


class Faults(StrEnum):
    """What happens to the service."""

    DEATHS = "deaths"
    MANY = "many"


SQLITE, POSTGRESQL = "sqlite", "postgresql"
_CYCLES_A_SCHEDULE = {Faults.DEATHS: 15, Faults.MANY: 3}
_PATIENTS, _APART = 6, timedelta(days=8)
_ENOUGH_CYCLES = 100  # that every moment has its turn
_TODAY = datetime(2026, 1, 1, tzinfo=UTC)
_LONGEST_CYCLE, _QUIET, _LOOK = 40.0, 1.5, 0.1  # seconds
_LONGEST_END = 300.0
_LOGS = Path(".results/chaos")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One run on one hospital. name: gives its plan, with the number of cycles.

    forgetful: from the last cycle on what is read from the feed is lost, whatever was seen before.
    """

    name: str
    number: int
    cycles: int
    database: str
    transactions: bool
    own_ids: bool
    faults: Faults
    forgetful: bool = False

    @property
    def workers(self) -> int:
        """SQLite admits one process."""
        return 2 if self.database == POSTGRESQL else 1

    def __str__(self) -> str:
        """As the log tells it."""
        how = "with" if self.transactions else "without"
        whose = "ours" if self.own_ids else "the server's"
        return (
            f"schedule {self.name}: {self.database}, {self.workers} worker(s), {how} transactions, "
            f"ids are {whose}, {self.faults}"
        )


def schedules(
    cycles: int, seed: int, *, database: str | None, faults: Faults = Faults.DEATHS, size: int | None = None
) -> tuple[Schedule, ...]:
    """The run in parts; every eight of them have every combination, in an order of the seed's."""
    draw = random.Random(seed)
    kinds = list(itertools.product((SQLITE, POSTGRESQL), (True, False), (True, False)))
    draw.shuffle(kinds)
    size = size or _CYCLES_A_SCHEDULE[faults]
    return tuple(
        Schedule(
            name=f"{seed}:{number}",
            number=number,
            cycles=min(size, cycles - begun),
            database=database or kinds[number % len(kinds)][0],
            transactions=kinds[number % len(kinds)][1],
            own_ids=kinds[number % len(kinds)][2],
            faults=faults,
        )
        for number, begun in enumerate(range(0, cycles, size))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """Real servers; None where the sandbox, or SQLite, is used."""

    postgresql: Postgresql | None = None
    hapi: Hapi | None = None
    orthanc: Orthanc | None = None


def run_schedule(
    schedule: Schedule, peers: Peers, folder: Path, tell: Callable[[str], None], *, logs: Path | None = None
) -> Verdict:
    """Disturb so many times by this plan, let the service finish, and judge. logs: not on the disk that gets full."""
    tell(str(schedule))
    verdict = Verdict()
    with ExitStack() as stack:
        hospital = stack.enter_context(_hospital(schedule, peers))
        mounted = schedule.faults is Faults.MANY and stack.enter_context(small_disk(folder))
        url = _database(schedule, peers, folder)
        proxy = stack.enter_context(TcpProxy(*_address(hospital.base_url)))
        base_url = hospital.seen_through(proxy) if schedule.faults is Faults.MANY else hospital.base_url
        around = Surroundings(
            folder=folder,
            url=url,
            ehr=proxy,
            archive=hospital.pretend_archive,
            postgresql=peers.postgresql if schedule.database == POSTGRESQL else None,
            small_disk=mounted,
            clock_file=Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adjuvant-clock-"))) / "offset",
        )
        pool = [Worker(number, hospital, folder, url, base_url, logs=logs) for number in range(schedule.workers)]
        for worker in pool:
            stack.callback(worker.kill)
        _disturb(schedule, hospital=hospital, pool=pool, around=around, verdict=verdict, tell=tell)
        environment = around.environment if schedule.faults is Faults.MANY else {}
        verdict.violations += _let_finish(pool, environment, logs or folder)
        for worker in pool:
            worker.kill()
        with opened_ledger(pool[0].settings) as ledger:
            entries = ledger.list_cases()
        due = _due(pool[0].settings, hospital, folder)
        judge(verdict, hospital, entries, due, [worker.folder for worker in pool])
    return verdict


def _disturb(
    schedule: Schedule,
    *,
    hospital: Hospital,
    pool: Sequence[Worker],
    around: Surroundings,
    verdict: Verdict,
    tell: Callable[[str], None],
) -> None:
    """Cycle after cycle."""
    many = schedule.faults is Faults.MANY
    set_clock(around.clock_file, 0)
    for cycle in range(schedule.cycles):
        first = cycle == 0
        if schedule.forgetful and cycle == schedule.cycles - 1:
            _settle_and_forget(pool)
        draw = random.Random(f"{schedule.name}/{cycle}")  # of its own: what fell before does not change its plan
        _news(hospital, pool[0].settings, draw, left=schedule.cycles - cycle, first=first)
        plans = [_plan(draw, schedule, first=first) for _ in pool]
        for worker, plan in zip(pool, plans, strict=True):
            if not worker.lives:
                worker.start(plan, around.environment if many else {})
        with (
            trouble(around, draw, lambda with_what: tell(f"{schedule.name}, {with_what}"))
            if many and not first
            else nullcontext()
        ):
            fallen, otherwise = _fallen(pool, _patience(draw, schedule), draw, first=first)
        victim = fallen or draw.choice(pool)
        victim.kill()
        where = victim.how_it_fell() if fallen else otherwise
        tell(f"{schedule.name}, cycle {cycle + 1}: {victim.folder.name}, {victim.plan}: {where}")
        verdict.cycles += 1
        verdict.killed[where] += 1
        refused = many and (victim.exit_code or 0) > 0  # to start, or to stop in order, while all this happens
        if fallen and where == Worker.BY_ITSELF and not refused:
            verdict.violations.append(f"{victim.folder.name} ended with {victim.exit_code}: {victim.last_words()}")


def _settle_and_forget(pool: Sequence[Worker]) -> None:
    """Let everything be seen that is known: what is lost from now on, no case that is still open heals."""
    for worker in pool:
        worker.start(None)
    deadline = time.monotonic() + _LONGEST_END
    with opened_ledger(pool[0].settings) as ledger:
        while not (all(worker.serves for worker in pool) and _settled(ledger)):
            if time.monotonic() > deadline:
                raise TimeoutError("the service did not settle what it knew")
            time.sleep(_LOOK)
        time.sleep(_QUIET)
    for worker in pool:
        worker.kill()
        worker.forgetful = True


def _plan(draw: random.Random, schedule: Schedule, *, first: bool) -> Plan:
    if first:
        return Plan(moment=Moment.MIGRATING)
    never = {Moment.MIGRATING, *([Moment.BETWEEN_WRITES] if schedule.transactions else [])}
    moment = draw.choice([one for one in Moment if one not in never])
    number = signal.SIGKILL
    if schedule.faults is Faults.MANY:
        number = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
    delay = draw.choice([0.0, 0.0, draw.uniform(0, 0.05)])
    return Plan(moment=moment, passage=draw.choice([1, 1, 2, 3]), delay=delay, signal=number)


def _address(base_url: str) -> tuple[str, int]:
    url = httpx.URL(base_url)
    return url.host, url.port or 80


def _news(hospital: Hospital, settings: Settings, draw: random.Random, *, left: int, first: bool) -> None:
    """Something becomes known in every cycle, the last of it in the last.

    left: so many cycles, with this one. A look reads the whole record, so that a patient's next event heals what was
    lost of the one before: the judge can notice the loss of each patient's last only. One is asked for by hand besides,
    and always healed.
    """
    if first:
        hospital.unfold(len(hospital.patients))  # their beginnings, which come first
        return
    share = hospital.to_come // left
    hospital.unfold(hospital.to_come if left == 1 else draw.randint(min(1, share), max(1, 2 * share - 1)))
    with opened_ledger(settings) as ledger:
        ledger.request(hospital.patients[0])


@contextmanager
def _hospital(schedule: Schedule, peers: Peers) -> Iterator[Hospital]:
    courses = _courses(schedule)
    with SandboxHospital(courses, load_terminology(), order=beginnings_first) as sandbox:
        if peers.hapi is None or peers.orthanc is None:
            sandbox.ehr.faults = FhirFaults(
                without_transaction=not schedule.transactions, without_update_create=not schedule.own_ids
            )
            yield PretendHospital(sandbox)
        else:
            real = RealHospital(peers.hapi, peers.orthanc, sandbox)
            try:
                yield real
            finally:
                real.close()


def _courses(schedule: Schedule) -> Sequence[SimulatedCourse]:
    """Patients of this schedule alone, for a real server serves many: one has two records, three are assessed.

    They end days apart, so that their last events, which nothing heals, are in as many cycles as may be.
    """
    draw = random.Random(schedule.name)
    seed, first = draw.getrandbits(32), 1 + _PATIENTS * schedule.number
    assessed = [CourseKind.HIGH, CourseKind.INTERMEDIATE, CourseKind.LOW, CourseKind.MISSING_ENE]
    others = [kind for kind in CourseKind if kind not in {CourseKind.MERGED, *assessed}]
    kinds = [CourseKind.MERGED, *draw.sample(assessed, 3), *draw.sample(others, _PATIENTS - 4)]
    draw.shuffle(kinds)
    courses = [
        simulate_course(kind, first + index, seed=seed, today=_TODAY + index * _APART)
        for index, kind in enumerate(kinds)
    ]
    return [
        replace(course, ct_series=tuple(replace(series, images=FEWEST_SLICES) for series in course.ct_series))
        for course in courses
    ]


def _database(schedule: Schedule, peers: Peers, folder: Path) -> str:
    if schedule.database == SQLITE:
        return f"sqlite:///{folder}/adjuvant.db"
    if peers.postgresql is None:
        raise PeerMissing("PostgreSQL does not run")
    return peers.postgresql.create_database("chaos_" + folder.name.replace("-", "_").lower())


def _patience(draw: random.Random, schedule: Schedule) -> float:
    """How long a cycle waits for its moment. Where a dead worker is noticed by its silence, that would take long."""
    return (
        draw.uniform(3.0, 15.0) if schedule.database == POSTGRESQL or schedule.faults is Faults.MANY else _LONGEST_CYCLE
    )


def _fallen(pool: Sequence[Worker], patience: float, draw: random.Random, *, first: bool) -> tuple[Worker | None, str]:
    """Wait until a worker is dead; none is when nothing is left to do, or the patience is over. Wakes the paused."""
    pauses = {worker: draw.choice([1.0, 5.0, 18.0]) for worker in pool}
    deadline = time.monotonic() + (_LONGEST_CYCLE if first else patience)
    idle_since: float | None = None
    with ExitStack() as stack:
        # the first cycle is about who makes the tables: looking would make them
        ledger = None if first else stack.enter_context(_ledger_once_there(pool[0].settings))
        while time.monotonic() < deadline:
            time.sleep(_LOOK)
            for worker in pool:
                if not worker.lives:
                    return worker, ""
                if worker.paused:
                    time.sleep(pauses[worker])  # the last of them is longer than a worker may be silent
                    worker.send(signal.SIGCONT)
            idle = ledger is not None and _settled(ledger)
            idle_since = (idle_since or time.monotonic()) if idle else None
            if idle_since is not None and time.monotonic() - idle_since > _QUIET:
                return None, "idle"
    return None, "any moment"


@contextmanager
def _ledger_once_there(settings: Settings) -> Iterator[Ledger]:
    """PostgreSQL may be away just now, as planned."""
    deadline = time.monotonic() + _LONGEST_CYCLE
    with ExitStack() as stack:
        while True:
            try:
                ledger = stack.enter_context(opened_ledger(settings))
                break
            except StoreUnreachable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK)
        yield ledger


def _settled(ledger: Ledger) -> bool:
    """Whether there were cases and all are settled."""
    try:
        counts = ledger.counts()
    except (SQLAlchemyError, AdjuvantError):  # in trouble, as planned
        return False
    return sum(counts.values()) > 0 and counts["waiting"] == counts["running"] == 0


def _let_finish(pool: Sequence[Worker], environment: Mapping[str, str], logs: Path) -> Iterator[str]:
    """Leave the service alone until every case is settled, then ask it to stop. Yields what went wrong."""
    for worker in pool:
        worker.stop()
        worker.start(None, environment)
    deadline = time.monotonic() + _LONGEST_END
    idle_since: float | None = None
    with opened_ledger(pool[0].settings) as ledger:
        while time.monotonic() < deadline and all(worker.lives for worker in pool):
            time.sleep(_LOOK)
            idle = _settled(ledger) and all(worker.serves for worker in pool)
            idle_since = (idle_since or time.monotonic()) if idle else None
            if idle_since is not None and time.monotonic() - idle_since > 2 * _QUIET:
                break
        else:
            for worker in pool:
                worker.say_where_it_is()
            with (logs / "hospital.log").open("w") as log:
                faulthandler.dump_traceback(log)  # the pretend archive is a part of this process
            yield f"the service did not settle every case in time: {pool[0].last_words()}"
    for worker in pool:
        if not worker.stopped_in_order():
            yield f"{worker.folder.name} did not stop in order: {worker.last_words()}"


def _due(settings: Settings, hospital: Hospital, folder: Path) -> Due:
    """What one undisturbed look at the hospital as it stands now comes to."""
    store = {"url": f"sqlite:///{folder}/calm.db", "folder": folder / "calm", "shared_vault": None, "key_file": None}
    calm = settings.model_copy(update={"store": settings.store.model_copy(update=store)})
    with Rooms(calm) as rooms:
        ledger, statements = rooms.store.ledger, {}
        for patient in hospital.patients:
            case = ledger.request(patient)
            result, settled = assess_once(case, rooms.ports, None, STEPS_TO_A_DECISION, wait=lambda _: False)
            if settled is None and result is not None:
                statements[str(patient)], settled = _once_delivered(result.case_file, rooms.store.vault)
            assert settled is not None
            ledger.record(case, settled)
        return Due(endings=endings(ledger.list_cases()), statements=statements)


def _once_delivered(case_file_digest: str, vault: Vault) -> tuple[str, Settled]:
    """What a case that has decided tells the EHR, by its id, and how it ends; nothing is delivered."""
    case_file = unseal(vault.recall(case_file_digest), CaseFile)
    statement = stored_bundle(case_file_digest, vault).assessment_id
    if case_file.abstained is not None:
        reason, detail = case_file.abstained
        return statement, Abstained(reason=reason, detail=detail)
    return statement, Delivered(receipt=WriteReceipt(assessment_id=statement, versions=(), written=False))


@contextmanager
def _real_peers(*, wanted: bool) -> Iterator[Peers]:
    """HAPI FHIR and Orthanc, which all schedules share. Raises PeerMissing."""
    with ExitStack() as stack:
        if not wanted:
            yield Peers()
            return
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adjuvant-chaos-peers-")))
        hapi = start_hapi(folder)
        stack.callback(hapi.stop)
        orthanc = start_orthanc(folder)
        stack.callback(orthanc.stop)
        yield Peers(hapi=hapi, orthanc=orthanc)


def _judged(schedule: Schedule, peers: Peers, tell: Callable[[str], None]) -> Verdict:
    """One schedule in a folder, and on a PostgreSQL, of its own: others are not to see that it is killed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adjuvant-chaos-")))
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adjuvant-chaos-peers-")))
        if schedule.database == POSTGRESQL:
            postgresql = start_postgresql(logs)
            stack.callback(postgresql.stop)
            peers = replace(peers, postgresql=postgresql)
        verdict = None
        try:
            verdict = run_schedule(schedule, peers, folder, tell, logs=logs)
        finally:
            if verdict is None or verdict.breaches:
                _keep_logs(schedule, logs)
        return verdict


def _keep_logs(schedule: Schedule, logs: Path) -> None:
    """Of all its processes: the scheduler of the machine is not repeated, so nothing else may tell what happened."""
    kept = _LOGS / schedule.name.replace(":", "-")
    kept.mkdir(parents=True, exist_ok=True)
    for log in logs.rglob("*.log"):
        shutil.copy(log, kept)


def main() -> None:
    """Print one line a cycle with --verbose, what broke, and the one line of the result; exit 1 where a law broke."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--database", choices=[SQLITE, POSTGRESQL], help="instead of what the seed picks")
    parser.add_argument("--faults", choices=list(Faults), default=Faults.DEATHS)
    parser.add_argument("--peers", choices=["sandbox", "real"], default="sandbox")
    parser.add_argument("--only", type=int, help="the number of one schedule, to repeat it")
    parser.add_argument(
        "--begin", type=int, default=0, help="the number of the first schedule, to go on with a cut run"
    )
    parser.add_argument("--jobs", type=int, default=1, help="so many schedules at the same time")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    def tell(line: str) -> None:
        if arguments.verbose:
            print(line, file=sys.stderr, flush=True)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers are stopped on the way out
    planned = schedules(arguments.cycles, arguments.seed, database=arguments.database, faults=Faults(arguments.faults))
    planned = planned[arguments.begin :] if arguments.only is None else planned[arguments.only :][:1]
    if not planned:
        parser.error(f"no such schedule; {arguments.cycles} cycles are few")
    total = Verdict()
    with (
        _real_peers(wanted=arguments.peers == "real") as peers,
        ThreadPoolExecutor(arguments.jobs) as pool,
        ExitStack() as stack,
    ):
        stack.callback(pool.shutdown, cancel_futures=True)
        running = {pool.submit(_judged, schedule, peers, tell): schedule for schedule in planned}
        for done, judged in enumerate(as_completed(running), start=1):
            schedule = running[judged]
            try:
                verdict = judged.result()
            except Exception as error:  # the others are judged all the same
                traceback.print_exception(error)
                verdict = Verdict(violations=["could not be judged"])
            total.add(verdict)
            if verdict.breaches:
                total.breached += 1
                print(*verdict.breaches, _repeat(arguments, schedule), sep="\n", file=sys.stderr, flush=True)
            tell(f"{schedule.name} judged, {done} of {len(planned)} schedules: {total.line}")
    unreached = [f"no worker fell at {moment.value}" for moment in Moment if not total.killed[moment.value]]
    if total.cycles >= _ENOUGH_CYCLES and unreached:  # a run that proves nothing of these
        total.violations += unreached
        print(*unreached, sep="\n", file=sys.stderr)
    print(f"{len(planned)} schedules, {total.breached} of them failed", file=sys.stderr)
    print(f"killed at {dict(sorted(total.killed.items()))}", file=sys.stderr)
    if arguments.json:
        names = ("cycles", "lost", "duplicates", "wrong_patient", "violations")
        print(json.dumps({name: getattr(total, name) for name in names}))
    else:
        print(total.line)
    sys.exit(1 if total.breaches else 0)


def _repeat(arguments: argparse.Namespace, schedule: Schedule) -> str:
    database = f" --database {arguments.database}" if arguments.database else ""
    peers = f" --peers {arguments.peers}" if arguments.peers != "sandbox" else ""
    faults = f" --faults {arguments.faults}" if arguments.faults != Faults.DEATHS else ""
    return (
        f"{schedule} failed; to repeat: python -m tests.faults.chaos --cycles {arguments.cycles} "
        f"--seed {arguments.seed}{faults}{database}{peers} --only {schedule.number} --verbose"
    )


if __name__ == "__main__":
    main()
