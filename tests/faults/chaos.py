"""Kill the service again and again by a seeded plan, then let it finish, and compare with what the servers hold.

Usage: python -m tests.faults.chaos --cycles 60 --seed 7 [--verbose]

The hospital is the sandbox; the service is a real process on a store of its own, killed with SIGKILL at named moments.
Ends with one line: cycles, lost, duplicates, wrong patient, violations. The same seed gives the same plan; what the
machine's scheduler does between two moments is not repeated.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from adapter.domain.outcome import Case
from adapter.fhir.fingerprint import superseded_by
from adapter.moments import Moment
from adapter.pipeline.case_file import stored_bundle
from adapter.pipeline.once import STEPS_TO_A_DECISION, assess_once
from adapter.rooms import Rooms, opened_ledger
from adapter.sandbox.faults import FhirFaults
from adapter.sandbox.hospital import SandboxHospital, sandbox_policy
from adapter.sandbox.patients import PATIENT_SYSTEM, simulate_courses
from adapter.settings import Settings, load_settings
from adapter.terminology import load_terminology
from tests.peers.process import free_port

_ROOT = Path(__file__).parents[2]
_PATIENTS = 4
_TODAY = datetime(2026, 1, 1, tzinfo=UTC)
_LONGEST_CYCLE, _QUIET, _LOOK = 40.0, 1.5, 0.1  # seconds
_LONGEST_END = 180.0
_NOT_HERE = frozenset({Moment.MIGRATING, Moment.BETWEEN_WRITES})  # once at the start; only without transactions


@dataclass(slots=True)
class Verdict:
    """What was found after all kills. Each entry names what it is about; empty means that the law held."""

    cycles: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    wrong_patient: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The one line of the result."""
        return (
            f"cycles {self.cycles}, lost {len(self.lost)}, duplicates {len(self.duplicates)}, "
            f"wrong patient {len(self.wrong_patient)}, violations {len(self.violations)}"
        )

    @property
    def held(self) -> bool:
        """Whether every law held."""
        return not (self.lost or self.duplicates or self.wrong_patient or self.violations)


def chaos(cycles: int, seed: int, folder: Path, tell: Callable[[str], None] = lambda _: None) -> Verdict:
    """Kill so many times by this seed's plan, let the service finish, and judge."""
    draw = random.Random(seed)
    verdict = Verdict()
    without_transaction = bool(draw.getrandbits(1))
    courses = simulate_courses(_PATIENTS, seed=seed, today=_TODAY)
    with SandboxHospital(courses, load_terminology()) as hospital:
        hospital.ehr.faults = FhirFaults(without_transaction=without_transaction)
        config = _site(hospital, folder)
        settings = load_settings(config)
        log = folder / "service.log"
        for cycle in range(cycles):
            plan = _plan(draw, first=cycle == 0, without_transaction=without_transaction)
            _news(hospital, settings, draw, first=cycle == 0)
            killed = _killed(config, settings, plan, log)
            how = "killed" if killed else "not reached, killed when idle"
            tell(f"cycle {cycle + 1}: {plan.moment.name} passage {plan.passage}: {how}")
            verdict.cycles += 1
            verdict.killed[plan.moment.value if killed else "idle"] += 1
        hospital.unfold()
        if not _finished(config, settings, log):
            verdict.violations.append("the service did not settle every case in time")
        _judge(verdict, hospital, settings, folder)
    return verdict


@dataclass(frozen=True, slots=True)
class _Plan:
    moment: Moment
    passage: int
    delay: float


def _plan(draw: random.Random, *, first: bool, without_transaction: bool) -> _Plan:
    if first:
        return _Plan(Moment.MIGRATING, 1, 0.0)
    possible = [one for one in Moment if one not in _NOT_HERE or (one is Moment.BETWEEN_WRITES and without_transaction)]
    return _Plan(draw.choice(possible), draw.choice([1, 1, 2, 3]), draw.choice([0.0, 0.0, draw.uniform(0, 0.05)]))


def _news(hospital: SandboxHospital, settings: Settings, draw: random.Random, *, first: bool) -> None:
    """Something becomes known, and somebody asks for another look."""
    if first:
        hospital.unfold_until_every_patient_is_known()
        return
    hospital.unfold(draw.randint(1, 6))
    with opened_ledger(settings) as ledger:
        ledger.request(draw.choice(hospital.patients))


def _site(hospital: SandboxHospital, folder: Path) -> Path:
    port = free_port()
    hospital.archive.allow("ADJUVANT", "127.0.0.1", port)
    (folder / "token").write_text("chaos")
    patients = ", ".join(f'"Patient/{patient}"' for patient in hospital.patients)
    config = folder / "site.toml"
    config.write_text(
        f"""
[fhir]
base_url = "{hospital.ehr.base_url}"
token_file = "{folder}/token"
patient_identifier_system = "{PATIENT_SYSTEM}"
[pacs]
host = "127.0.0.1"
port = {hospital.archive.port}
ae_title = "SANDBOX"
patient_identifier_system = "{PATIENT_SYSTEM}"
[dicom]
port = {port}
quiet_seconds = 0.3
[cohort]
patients = [{patients}]
[store]
url = "sqlite:///{folder}/adjuvant.db"
folder = "{folder}/data"
[watch]
poll_seconds = 0.5
quiet_seconds = 0
attempts = 3
[web]
port = 0
[policy]
site_folder = "{sandbox_policy()}"
"""
    )
    return config


@contextmanager
def _victim(config: Path, log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.faults.victim", str(config), *arguments]
    with log.open("ab") as written, subprocess.Popen(command, cwd=_ROOT, stderr=written, stdout=written) as process:
        try:
            yield process
        finally:
            process.kill()


def _killed(config: Path, settings: Settings, plan: _Plan, log: Path) -> bool:
    """Run until the moment comes, or nothing is left to do; dead in either case. Returns whether it was the moment."""
    with _victim(config, log, plan.moment.name, str(plan.passage), str(plan.delay)) as process:
        deadline = time.monotonic() + _LONGEST_CYCLE
        idle_since: float | None = None
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(_LOOK)
            idle = _settled_once(settings)
            idle_since = (idle_since or time.monotonic()) if idle else None
            if idle_since is not None and time.monotonic() - idle_since > _QUIET:
                break
        return process.poll() == -signal.SIGKILL


def _settled_once(settings: Settings) -> bool:
    """Whether there were cases and all are settled."""
    if not Path(settings.store.url.removeprefix("sqlite:///")).exists():
        return False
    with opened_ledger(settings) as ledger:
        counts = ledger.counts()
    return sum(counts.values()) > 0 and counts["waiting"] == counts["running"] == 0


def _finished(config: Path, settings: Settings, log: Path) -> bool:
    """Leave the service alone until every case is settled, then ask it to stop."""
    with _victim(config, log, "-", "0", "0") as process:
        deadline = time.monotonic() + _LONGEST_END
        idle_since: float | None = None
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(_LOOK)
            idle_since = (idle_since or time.monotonic()) if _settled_once(settings) else None
            if idle_since is not None and time.monotonic() - idle_since > 2 * _QUIET:
                process.terminate()
                return process.wait(20) == 0
    return False


def _judge(verdict: Verdict, hospital: SandboxHospital, settings: Settings, folder: Path) -> None:
    held = {kind: hospital.ehr.repository.current(kind) for kind in ("RiskAssessment", "CarePlan")}
    with opened_ledger(settings) as ledger:
        entries = ledger.list_cases()
    delivered = {entry.assessment_id: entry.patient_id for entry in entries if entry.assessment_id}
    for kind, stored in held.items():
        names = Counter(_name(one.resource) for one in stored)
        verdict.duplicates += [f"{kind} {name} is there {count} times" for name, count in names.items() if count > 1]
        for one in stored:
            identity = _name(one.resource).partition("-")[2]
            if one.version != (1 if superseded_by(one.resource) is None else 2):  # marked once, never written again
                verdict.duplicates.append(f"{kind} {identity} was written {one.version} times")
            if identity not in delivered:
                verdict.violations.append(f"{kind} {identity} stands in no case")
            elif one.resource["subject"]["reference"] != f"Patient/{delivered[identity]}":  # type: ignore[index]
                verdict.wrong_patient.append(f"{kind} {identity}")
    for one in held["RiskAssessment"]:
        verdict.wrong_patient += list(_strangers(one.resource, hospital))
    expected = _expected(settings, hospital, folder)
    there = {_name(one.resource).partition("-")[2] for one in held["RiskAssessment"]}
    verdict.lost += [f"{patient}: {identity}" for patient, identity in expected.items() if identity not in there]
    verdict.violations += [f"{entry.case_id} is {entry.state}" for entry in entries if entry.settled is None]
    verdict.violations += [f"{entry.case_id}: {entry.reason}" for entry in entries if entry.state == "dead-letter"]
    left = [path for path in settings.store.folder.rglob("*") if path.is_file() and path.suffix in {".partial", ".dcm"}]
    verdict.violations += [f"left behind: {path.name}" for path in left]


def _name(resource: Mapping[str, object]) -> str:
    """The business identifier by which an assessment's resources are known."""
    return str(resource["identifier"][0]["value"])  # type: ignore[index]  # JSON of our own writing


def _strangers(risk: Mapping[str, object], hospital: SandboxHospital) -> Iterator[str]:
    """Inputs that belong to somebody else, or to nobody."""
    subject = risk["subject"]["reference"]  # type: ignore[index]
    for entry in risk["basis"]:  # type: ignore[attr-defined]
        reference = entry["reference"].partition("/_history/")[0]
        resource = hospital.resource(reference)
        if reference == subject:
            continue
        if resource is None or resource["subject"]["reference"] != subject:  # type: ignore[index]
            yield f"{_name(risk)} rests on {reference}"


def _expected(settings: Settings, hospital: SandboxHospital, folder: Path) -> Mapping[str, str]:
    """What one undisturbed look at the hospital as it stands now decides for each patient."""
    calm = settings.model_copy(
        update={
            "store": settings.store.model_copy(update={"url": f"sqlite:///{folder}/calm.db", "folder": folder / "calm"})
        }
    )
    found = {}
    with Rooms(calm) as rooms:
        for patient in hospital.patients:
            case = Case(patient_id=patient, revision=0)
            result, settled = assess_once(case, rooms.ports, None, STEPS_TO_A_DECISION, wait=lambda _: False)
            if result is not None and settled is None:
                found[str(patient)] = stored_bundle(result.case_file, rooms.store.vault).assessment_id
    return found


def main() -> None:
    """Print one line a cycle with --verbose, what broke, and the one line of the result; exit 1 where a law broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    def tell(line: str) -> None:
        if arguments.verbose:
            print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="adjuvant-chaos-") as folder:
        verdict = chaos(arguments.cycles, arguments.seed, Path(folder), tell)
    for what in (*verdict.lost, *verdict.duplicates, *verdict.wrong_patient, *verdict.violations):
        print(what, file=sys.stderr)
    print(f"killed at {dict(sorted(verdict.killed.items()))}", file=sys.stderr)
    if arguments.json:
        names = ("cycles", "lost", "duplicates", "wrong_patient", "violations")
        print(json.dumps({name: getattr(verdict, name) for name in names}))
    else:
        print(verdict.line)
    sys.exit(0 if verdict.held else 1)


if __name__ == "__main__":
    main()
