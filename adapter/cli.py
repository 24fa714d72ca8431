"""The `adjuvant` command: parses arguments, loads settings, calls the service, prints.

Exit codes: 0 done, 1 refused or incomplete, 2 usage or configuration, 3 a peer cannot be reached.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.table import Table

from adapter.checkup import check_site
from adapter.decision.policy import load_policy
from adapter.decision.propose import evaluate_features, policy_table, summary
from adapter.demo import SEED, TODAY, run_demo, sandbox_policy
from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case, TransactionBundle
from adapter.errors import AdjuvantError, BadData, BadSettings, BadStore, Misconfigured, PeerTimeout, PeerUnavailable
from adapter.pipeline.case_file import CaseFile, reach, unseal
from adapter.pipeline.once import STEPS_TO_A_DECISION, STEPS_TO_DELIVERY, assess_once
from adapter.pipeline.replay import replay as replay_case
from adapter.pipeline.work import as_json as outcome_as_json
from adapter.sandbox.hospital import SandboxHospital
from adapter.sandbox.patients import simulate_courses
from adapter.service import Rooms, Service, wall_clock
from adapter.settings import EXAMPLE, Settings, load_settings
from adapter.store.database import StoreLock, open_database
from adapter.store.ledger import Ledger, LedgerEntry
from adapter.terminology import load_terminology
from inference.artifact import MANIFEST, list_bundles, load_bundle, shipped_bundle
from inference.contract import BundleRefused
from inference.predictor import Predictor

DONE, INCOMPLETE, USAGE, UNREACHABLE = 0, 1, 2, 3

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__
)
cases_app = typer.Typer(no_args_is_help=True, help="What is waiting, running, settled, refused and why.")
model_app = typer.Typer(no_args_is_help=True, help="The model registry.")
policy_app = typer.Typer(no_args_is_help=True, help="The rules.")
app.add_typer(cases_app, name="cases")
app.add_typer(model_app, name="model")
app.add_typer(policy_app, name="policy")

Config = Annotated[Path, typer.Option("--config", help="The site's configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
_out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
_err = Console(stderr=True, highlight=False)


def main() -> None:
    """Run the command; an error of ours becomes one sentence and its exit code, never a traceback."""
    _configure_logging()
    try:
        app()
    except AdjuvantError as error:
        _err.print(f"adjuvant: {type(error).__name__}: {error}", soft_wrap=True)
        sys.exit(_exit_code(error))
    except BundleRefused as error:
        _err.print(f"adjuvant: the model bundle is refused: {error}", soft_wrap=True)
        sys.exit(USAGE)
    except KeyboardInterrupt:
        sys.exit(DONE)


def _exit_code(error: AdjuvantError) -> int:
    if isinstance(error, PeerUnavailable | PeerTimeout):
        return UNREACHABLE
    return USAGE if isinstance(error, Misconfigured) else INCOMPLETE


def _configure_logging() -> None:
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )


# ---- running


@app.command()
def demo(
    patients: Annotated[int, typer.Option(min=1, max=500, help="How many simulated patients.")] = 12,
    once: Annotated[bool, typer.Option("--once", help="End when every patient is settled.")] = False,
    as_json: AsJson = False,
    picture: Annotated[Path | None, typer.Option(help="Save the settled table as SVG.")] = None,
) -> None:
    """Start a pretend hospital and run the service on it. Nothing leaves this machine; every patient is simulated."""
    started = time.monotonic()
    with TemporaryDirectory(prefix="adjuvant-demo-") as folder, _quiet_logs():
        entries, settled = run_demo(patients, Path(folder), _err, once=once, picture=picture)
    if as_json:
        _print_json(_report(entries, time.monotonic() - started))
    elif once:
        _print_cases(entries)
    if not settled or len(entries) < patients:
        sys.exit(INCOMPLETE)


@app.command()
def run(config: Config) -> None:
    """Run the service until it is asked to stop (SIGTERM or SIGINT)."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with Service(load_settings(config)) as service:
        _err.print(f"adjuvant runs; health at {service.web.url}/health/ready")
        service.run_until(stopping)
    if service.queue.unfinished:
        # a step that hangs in a peer must not hold the exit: the next start repeats it from its last checkpoint
        _err.print(f"still at work, to be repeated: {', '.join(sorted(service.queue.unfinished))}")
        os._exit(DONE)


@app.command()
def assess(
    patient: Annotated[str, typer.Argument(help="The patient's id on the FHIR server, with or without Patient/.")],
    config: Config,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the transaction and write nothing.")] = False,
    landmark: Annotated[
        datetime | None, typer.Option(help="Stand at this moment (with offset), not the newest landmark.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Assess one patient, once."""
    if landmark is not None and landmark.utcoffset() is None:
        raise BadSettings("--landmark has no UTC offset")
    started = time.monotonic()
    patient_id = PatientId(patient.removeprefix("Patient/"))
    with Rooms(load_settings(config)) as rooms:
        # a dry run asks for nothing: the running service would take a request up, and write
        case = Case(patient_id=patient_id, revision=0) if dry_run else rooms.ledger.request(patient_id)
        steps = STEPS_TO_A_DECISION if dry_run else STEPS_TO_DELIVERY
        result, settled = assess_once(case, rooms.ports, landmark, steps, wait=_sleep)
        if dry_run and settled is None and result is not None:
            case_file = unseal(rooms.vault.recall(result.case_file), CaseFile)
            bundle = unseal(rooms.vault.recall(str(case_file.bundle)), TransactionBundle)
            _out.print_json(bundle.content.decode())
            return
        if settled is None:
            raise BadData("the case ended without an outcome")
        if dry_run:
            _print_json(outcome_as_json(settled))
            return
        rooms.ledger.record(case, settled, result.case_file if result else None)
        entry = rooms.ledger.find_case(case.case_id)
    entries = [entry] if entry else []
    if as_json:
        _print_json(_report(entries, time.monotonic() - started))
    else:
        _print_cases(entries)
    if any(entry.state == "dead-letter" for entry in entries):
        sys.exit(INCOMPLETE)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@app.command()
def check(
    config: Annotated[Path | None, typer.Option(help="The site's configuration file.")] = None,
    write_example: Annotated[bool, typer.Option("--write-example", help="Print a commented configuration.")] = False,
    as_json: AsJson = False,
) -> None:
    """Try everything the service needs, one line each; exit 1 if it could not do its job."""
    if write_example:
        _out.print(EXAMPLE, markup=False, end="")
        return
    if config is None:
        raise BadSettings("give --config, or --write-example for a start")
    findings = []
    for finding in check_site(load_settings(config)):
        findings.append(finding)
        if not as_json:
            _out.print(f"{'ok  ' if finding.passed else 'FAIL'}  {finding.what:20} {finding.detail}", markup=False)
    if as_json:
        _print_json({"checks": [{"what": f.what, "passed": f.passed, "detail": f.detail} for f in findings]})
    if not all(finding.passed for finding in findings):
        sys.exit(INCOMPLETE)


@app.command()
def sandbox(
    patients: Annotated[int, typer.Option(min=1, max=500)] = 12,
    fhir_port: Annotated[int, typer.Option(help="0 for any free port.")] = 8080,
    dicom_port: Annotated[int, typer.Option(help="0 for any free port.")] = 4242,
    destination: Annotated[str, typer.Option(help="Your move destination, AE_TITLE:PORT on this machine.")] = (
        "ADJUVANT:11112"
    ),
) -> None:
    """The pretend hospital alone, for integration work: simulated patients only, loopback only."""
    courses = simulate_courses(patients, seed=SEED, today=TODAY)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    title, _, port = destination.partition(":")
    with SandboxHospital(courses, load_terminology(), fhir_port=fhir_port, dicom_port=dicom_port) as hospital:
        hospital.archive.allow(title, "127.0.0.1", int(port))
        hospital.unfold()
        _err.print(
            f"EHR  {hospital.ehr.base_url}\nPACS {hospital.archive.ae_title} at 127.0.0.1:{hospital.archive.port}"
        )
        stopping.wait()


# ---- looking


@app.command()
def status(config: Config, as_json: AsJson = False) -> None:
    """How many cases wait, run, and ended in which way."""
    counts = _ledger(load_settings(config)).counts()
    if as_json:
        _print_json(dict(counts))
        return
    for state, number in counts.items():
        _out.print(f"{state:12} {number}")


@cases_app.command("list")
def cases_list(
    config: Config,
    state: Annotated[str | None, typer.Option(help="Only cases in this state.")] = None,
    patient: Annotated[str | None, typer.Option(help="Only cases of this patient.")] = None,
    as_json: AsJson = False,
) -> None:
    """Cases, newest first."""
    entries = _ledger(load_settings(config)).list_cases(state=state, patient_id=patient)
    if as_json:
        _print_json({"cases": [_as_row(entry) for entry in entries]})
    else:
        _print_cases(entries)


@cases_app.command("show")
def cases_show(case: Annotated[str, typer.Argument(help="The case id, patient:revision.")], config: Config) -> None:
    """One case, whole."""
    entry = _ledger(load_settings(config)).find_case(case)
    if entry is None:
        raise BadData(f"no case {case}")
    started, settled = (time and time.isoformat() for time in (entry.started, entry.settled))
    digest = {"assessment": entry.assessment_id, "case_file": entry.case_file}
    _print_json({**_as_row(entry), "detail": entry.detail, **digest, "started": started, "ended": settled})


@cases_app.command("retry")
def cases_retry(patient: Annotated[str, typer.Argument(help="The patient's id.")], config: Config) -> None:
    """Ask for one more look at a patient; the running service takes it up at its next poll."""
    case = _ledger(load_settings(config)).request(PatientId(patient.removeprefix("Patient/")))
    _out.print(f"asked for {case.case_id}")


@cases_app.command("forget")
def cases_forget(patient: Annotated[str, typer.Argument(help="The patient's id.")], config: Config) -> None:
    """Remove a patient's cases from the ledger, and from the vault what no other case needs."""
    settings, patient_id = load_settings(config), PatientId(patient.removeprefix("Patient/"))
    with Rooms(settings) as rooms:
        theirs = _reached(rooms.ledger.case_files(patient_id), rooms)
        forgotten = rooms.ledger.forget(patient_id)
        needed = _reached(rooms.ledger.case_files(), rooms)
        removed = rooms.vault.remove(theirs - needed) + rooms.vault.purge(needed, before=_safe_to_purge(settings))
    _out.print(f"forgot {forgotten} cases, removed {removed} case files")


def _reached(case_files: Iterable[str], rooms: Rooms) -> frozenset[str]:
    return frozenset(reached for digest in case_files for reached in reach(digest, rooms.vault))


def _safe_to_purge(settings: Settings) -> datetime | None:
    """What no case names can go; beside a running service only what is older than any case that runs now."""
    try:
        StoreLock(settings.store.folder).release()
    except BadStore:
        return wall_clock() - timedelta(days=1)
    return None


@app.command()
def replay(
    assessment: Annotated[str, typer.Argument(help="The assessment id, with or without ra- or RiskAssessment/.")],
    config: Config,
    as_json: AsJson = False,
) -> None:
    """Decide a stored case again and compare the transaction byte for byte."""
    identity = assessment.removeprefix("RiskAssessment/").removeprefix("ra-")
    with Rooms(load_settings(config)) as rooms:
        entry = rooms.ledger.find_assessment(identity)
        if entry is None or entry.case_file is None:
            raise BadData(f"no assessment {identity}")
        result = replay_case(entry.case_file, rooms.ports)
    if as_json:
        _print_json({"assessment": result.assessment_id, "identical": result.identical, "bytes": result.bytes_now})
    else:
        verdict = "identical" if result.identical else "DIFFERENT"
        _out.print(f"{identity}: {result.bytes_then} bytes then, {result.bytes_now} now, {verdict}")
    if not result.identical:
        sys.exit(INCOMPLETE)


# ---- model


@model_app.command("list")
def model_list(as_json: AsJson = False) -> None:
    """Every bundle that comes with adjuvant."""
    rows = []
    for folder in list_bundles():
        identity = load_bundle(folder).identity
        current = folder == shipped_bundle()
        rows.append(
            {"name": identity.name, "version": identity.version, "data": identity.training_data, "current": current}
        )
    if as_json:
        _print_json({"models": rows})
        return
    for row in rows:
        _out.print(f"{'*' if row['current'] else ' '} {row['name']} {row['version']} ({row['data']} data)")


@model_app.command("show")
def model_show(
    folder: Annotated[Path | None, typer.Argument(help="A bundle; the shipped one by default.")] = None,
) -> None:
    """The model card."""
    bundle = load_bundle(folder or shipped_bundle())
    _out.print((bundle.folder / "model_card.md").read_text(encoding="utf-8"), markup=False)


@model_app.command("verify")
def model_verify(
    folder: Annotated[Path | None, typer.Argument(help="A bundle; the shipped one by default.")] = None,
) -> None:
    """Check every hash, the schema and the golden vectors."""
    bundle = load_bundle(folder or shipped_bundle())
    identity = Predictor(bundle).identity
    _out.print(
        f"{identity.name} {identity.version}: files, schema and golden vectors agree; {MANIFEST} {identity.digest}"
    )


# ---- policy

_SandboxRules = Annotated[bool, typer.Option("--sandbox", help="With the pretend hospital's declarations.")]


@policy_app.command("show")
def policy_show(as_json: AsJson = False, sandbox_rules: _SandboxRules = False) -> None:
    """Every rule and action: when it holds and what it rests on."""
    rows = policy_table(load_policy(site_folder=sandbox_policy() if sandbox_rules else None))
    if as_json:
        fields = ("kind", "code", "title", "condition", "verdict", "evidence", "source")
        _print_json({"rows": [{name: getattr(row, name) for name in fields} for row in rows]})
        return
    table = Table("kind", "code", "what", "when", "verdict", "evidence")
    for row in rows:
        table.add_row(row.kind, row.code, row.title, row.condition, row.verdict, ", ".join(row.evidence))
    Console(width=200).print(table)


@policy_app.command("try")
def policy_try(
    case: Annotated[Path, typer.Argument(help='{"features": {...}, "landmark": "..."}')],
    as_json: AsJson = False,
    sandbox_rules: _SandboxRules = False,
) -> None:
    """What the rules say about named features; an absent feature is unknown."""
    try:
        content = json.loads(case.read_text(encoding="utf-8"))
        features, landmark = content["features"], datetime.fromisoformat(content["landmark"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadSettings(f"{case} is no case: it needs features and a landmark") from error
    policy = load_policy(site_folder=sandbox_policy() if sandbox_rules else None)
    verdict = summary(evaluate_features(features, landmark, policy))
    if as_json:
        _print_json(verdict)
        return
    _out.print(f"scope {verdict['scope']}, risk group {verdict['risk_group']}")
    actions = verdict["actions"]
    for action, word in actions.items() if isinstance(actions, Mapping) else ():
        _out.print(f"  {action:10} {word}")
    reasons = verdict["reasons"]
    for reason in reasons if isinstance(reasons, list) else []:
        _out.print(f"  - {reason}", markup=False)


# ---- printing


def _ledger(settings: Settings) -> Ledger:
    return Ledger(open_database(settings.store.url), wall_clock)


def _report(entries: Iterable[LedgerEntry], seconds: float) -> dict[str, object]:
    rows = [_as_row(entry) for entry in entries]
    states = [row["state"] for row in rows]
    ended = {
        name: states.count(name.replace("_", "-")) for name in ("delivered", "abstained", "skipped", "dead_letter")
    }
    return {"settled": sum(ended.values()), **ended, "seconds": round(seconds, 2), "cases": rows}


def _as_row(entry: LedgerEntry) -> dict[str, object]:
    return {
        "case": entry.case_id,
        "patient": entry.patient_id,
        "state": entry.state,
        "reason": entry.reason,
        "resources": list(entry.resources),
    }


def _print_cases(entries: Iterable[LedgerEntry]) -> None:
    table = Table("case", "state", "reason", "resources", box=None)
    for entry in entries:
        table.add_row(entry.case_id, entry.state, entry.reason, "\n".join(entry.resources))
    _out.print(table)


def _print_json(content: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(content, ensure_ascii=False) + "\n")


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """The demo shows progress in its own way; structured lines would tear it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
