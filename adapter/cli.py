"""The `adjuvant` command: parses arguments, loads settings, calls the service, prints.

Exit codes: 0 done, 1 refused or incomplete, 2 usage or configuration, 3 a peer cannot be reached, 130 interrupted.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import structlog
import typer

from adapter.checkup import check_site
from adapter.decision.policy import load_policy
from adapter.decision.propose import evaluate_features, policy_table, summary
from adapter.demo import SEED, TODAY, run_demo
from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case
from adapter.errors import (
    UNREACHABLE_PEER,
    AdjuvantError,
    BadSettings,
    Misconfigured,
    StoreInUse,
    UnknownCase,
)
from adapter.fhir.cohort import PatientList
from adapter.fhir.delivery import OutputMode, load_delivery
from adapter.fhir.policy_export import export_policy
from adapter.page.html import as_html
from adapter.page.pdf import as_pdf
from adapter.page.view import landmark_of, page_of
from adapter.pipeline.case_file import stored_bundle
from adapter.pipeline.once import STEPS_TO_A_DECISION, STEPS_TO_DELIVERY, assess_once
from adapter.pipeline.reconcile import Reconciliation, asked_at
from adapter.pipeline.replay import replay as replay_case
from adapter.pipeline.replay import replayable
from adapter.pipeline.retention import forget_patient
from adapter.pipeline.work import as_json as outcome_as_json
from adapter.printing import (
    case_in_full,
    case_row,
    err,
    finding_line,
    finding_row,
    out,
    policy_rows,
    print_cases,
    print_json,
    print_policy,
    print_verdict,
    readiness_lines,
    readiness_row,
    reconciliation_lines,
    reconciliation_row,
    report,
    worker_line,
    worker_row,
)
from adapter.rooms import (
    Absent,
    Rooms,
    StoreRoom,
    build_client,
    build_cohort,
    build_decision,
    build_reconciler,
    opened_database,
    opened_ledger,
    wall_clock,
)
from adapter.sandbox.hospital import SandboxHospital, sandbox_policy
from adapter.sandbox.patients import simulate_courses
from adapter.service import Role, Service
from adapter.settings import EXAMPLE, Settings, load_settings
from adapter.store.backup import Manifest, require_restored, restore_backup, take_backup
from adapter.store.cases import RUNNING, STATES, WAITING
from adapter.store.database import StoreLock
from adapter.store.ledger import DEAD_LETTER, DELIVERED, Ledger, LedgerEntry
from adapter.store.vault import create_site_key, key_fingerprint, make_private_folder, read_site_key, save_private
from adapter.store.workers import WorkerRegister
from adapter.studio import start_scoring, start_training
from adapter.terminology import load_terminology
from adapter.web.ask import ask_readiness
from inference.artifact import MANIFEST, list_bundles, load_bundle, shipped_bundle
from inference.contract import BundleRefused
from inference.predictor import Predictor

DONE, INCOMPLETE, USAGE, UNREACHABLE = 0, 1, 2, 3
_LONGEST_CASE_SECONDS, _LOOK_SECONDS = 600.0, 0.2

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__
)
cases_app = typer.Typer(no_args_is_help=True, help="What is waiting, running, settled, refused and why.")
model_app = typer.Typer(no_args_is_help=True, help="The model registry.")
policy_app = typer.Typer(no_args_is_help=True, help="The rules.")
app.add_typer(cases_app, name="cases")
app.add_typer(model_app, name="model")
app.add_typer(policy_app, name="policy")


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"adjuvant {version('adjuvant')}", markup=False)
        raise typer.Exit


@app.callback()
def _root(
    *,
    shown: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


Config = Annotated[Path, typer.Option("--config", help="The site's configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def main() -> None:
    """Run the command; an error of ours becomes one sentence and its exit code, never a traceback."""
    _configure_logging()
    try:
        app()
    except AdjuvantError as error:
        err.print(f"adjuvant: {type(error).__name__}: {error}", soft_wrap=True)
        sys.exit(_exit_code(error))
    except BundleRefused as error:
        err.print(f"adjuvant: the model bundle is refused: {error}", soft_wrap=True)
        sys.exit(USAGE)


def _exit_code(error: AdjuvantError) -> int:
    if isinstance(error, UNREACHABLE_PEER):
        return UNREACHABLE
    return USAGE if isinstance(error, Misconfigured) else INCOMPLETE


class _NamesOnly(logging.Handler):
    """Says that a library spoke, and where: what it says may hold a patient's data."""

    def emit(self, record: logging.LogRecord) -> None:
        """One structured line without the message."""
        place = f"{record.filename}:{record.lineno}"
        structlog.get_logger().warning("library", name=record.name, level=record.levelname, place=place)


def _configure_logging() -> None:
    logging.basicConfig(handlers=[_NamesOnly()], level=logging.WARNING, force=True)
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
    pages: Annotated[
        Path | None, typer.Option(help="Save each assessment as a page for people in this folder.")
    ] = None,
) -> None:
    """Start a pretend hospital and run the service on it. Nothing leaves this machine; every patient is simulated."""
    started = time.monotonic()
    with TemporaryDirectory(prefix="adjuvant-demo-") as folder, _quiet_logs():
        entries, settled = run_demo(patients, Path(folder), err, once=once, picture=picture, pages=pages)
    if as_json:
        print_json(report(entries, time.monotonic() - started))
    elif once:
        print_cases(entries)
    if not settled or len(entries) < patients:
        sys.exit(INCOMPLETE)


@app.command()
def run(
    config: Config,
    role: Annotated[Role, typer.Option(help="What this process does; several processes need PostgreSQL.")] = Role.ALL,
) -> None:
    """Run the service until it is asked to stop (SIGTERM or SIGINT)."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with Service(load_settings(config), role=role) as service:
        err.print(f"adjuvant runs; health at {service.web.url}/health/ready")
        service.run_until(stopping)
    if service.unfinished:
        # what hangs in a peer must not hold the exit: the next start repeats it from its last checkpoint
        err.print(f"still at work, to be repeated: {', '.join(service.unfinished)}")
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
    """Assess one patient, once; where a service runs on the same store, it is asked and waited for."""
    if landmark is not None and landmark.utcoffset() is None:
        raise BadSettings("--landmark has no UTC offset")
    started = time.monotonic()
    settings, patient_id = load_settings(config), PatientId(patient.removeprefix("Patient/"))
    if dry_run:
        _print_decision(settings, patient_id, landmark)
        return
    with ExitStack() as held:
        if not _is_served(settings, held):
            entry = _assessed_here(settings, patient_id, landmark)
        elif landmark is None:
            entry = _asked_of_the_service(settings, patient_id)
        else:
            raise BadSettings("a service runs on this store, and takes no --landmark: stop it first")
    if as_json:
        print_json(report([entry], time.monotonic() - started))
    else:
        print_cases([entry])
    if entry.settled is None or entry.state == "dead-letter":
        sys.exit(INCOMPLETE)


def _print_decision(settings: Settings, patient_id: PatientId, landmark: datetime | None) -> None:
    """The transaction, or why there is none. Nothing is asked for: a running service would take it up, and write.

    Nothing stays: record and images are sealed under a key of the moment, where the next start would sweep as well.
    """
    with ExitStack() as held:
        rooms = held.enter_context(Rooms(_of_the_moment(settings, held)))
        rooms.client.capabilities()  # a wrong address is the site's fault, and no answer about a patient
        case = Case(patient_id=patient_id, revision=0)
        result, settled = assess_once(case, rooms.ports, landmark, STEPS_TO_A_DECISION, wait=_sleep)
        if settled is not None or result is None:
            print_json(outcome_as_json(settled) if settled else {})
            return
        out.print_json(stored_bundle(result.case_file, rooms.store.vault).content.decode())


def _of_the_moment(settings: Settings, held: ExitStack) -> Settings:
    """The same site with a ledger, a vault and a key in a folder that goes with what is held.

    Raises StoreInUse where a service listens for the images that we would ask for.
    """
    try:
        held.enter_context(StoreLock(settings.store.folder))  # one that starts would sweep what we receive
    except StoreInUse as error:
        if settings.pacs is not None:
            port = settings.dicom.port
            raise StoreInUse(f"a service runs here and holds dicom.port {port}: stop it for a dry run") from error
    make_private_folder(settings.store.plain_folder)
    folder = Path(held.enter_context(TemporaryDirectory(dir=settings.store.plain_folder)))
    create_site_key(folder / "site.key")
    own = {"url": f"sqlite:///{folder}/adjuvant.db", "shared_vault": folder / "vault", "key_file": folder / "site.key"}
    return settings.model_copy(update={"store": settings.store.model_copy(update=own)})


def _is_served(settings: Settings, held: ExitStack) -> bool:
    """Whether some service works on this store. Where none does, our data folder is held, so that none begins there."""
    try:
        held.enter_context(StoreLock(settings.store.folder))
    except StoreInUse:
        return True
    with opened_database(settings) as database:
        return WorkerRegister(database).anyone()


def _assessed_here(settings: Settings, patient_id: PatientId, landmark: datetime | None) -> LedgerEntry:
    with Rooms(settings) as rooms:
        rooms.client.capabilities()  # a wrong address is the site's fault, and no answer about a patient
        ledger = rooms.store.ledger
        # the newest look answers what waits; one that stands in the past does not
        case = Case(patient_id=patient_id, revision=0) if landmark else ledger.request(patient_id)
        result, settled = assess_once(case, rooms.ports, landmark, STEPS_TO_DELIVERY, wait=_sleep)
        if settled is not None:
            case_file = result.case_file if result else None
            if landmark:
                case = ledger.record_apart(patient_id, settled, case_file)
            else:
                ledger.record(case, settled, case_file)
        return _entry_of(ledger, case)


def _asked_of_the_service(settings: Settings, patient_id: PatientId) -> LedgerEntry:
    """Ask, and wait until the case is settled; what is not settled in time is returned as it stands."""
    with opened_ledger(settings) as ledger:
        case = ledger.request(patient_id)
        err.print(f"a service runs on this store: asked it for {case.case_id}")
        deadline = time.monotonic() + settings.watch.poll_seconds + settings.watch.quiet_seconds + _LONGEST_CASE_SECONDS
        while (entry := _entry_of(ledger, case)).settled is None and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        return entry


def _entry_of(ledger: Ledger, case: Case) -> LedgerEntry:
    entry = ledger.find_case(case.case_id)
    if entry is None:
        raise UnknownCase(f"case {case.case_id} was forgotten meanwhile")
    return entry


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@app.command()
def check(
    config: Annotated[Path | None, typer.Option(help="The site's configuration file.")] = None,
    write_example: Annotated[bool, typer.Option("--write-example", help="Print a commented configuration.")] = False,
    as_json: AsJson = False,
) -> None:
    """Try everything the service needs, one line each; exit 1 if it could not do its job, 3 if only for a peer."""
    if write_example:
        out.print(EXAMPLE, markup=False, end="")
        return
    if config is None:
        raise BadSettings("give --config, or --write-example for a start")
    findings = []
    for finding in check_site(load_settings(config)):
        findings.append(finding)
        if not as_json:
            out.print(finding_line(finding), markup=False)
    if as_json:
        print_json({"checks": [finding_row(finding) for finding in findings]})
    failed = [finding for finding in findings if not finding.passed]
    if failed:
        sys.exit(UNREACHABLE if all(finding.unreachable for finding in failed) else INCOMPLETE)


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
        err.print(
            f"EHR  {hospital.ehr.base_url}\nPACS {hospital.archive.ae_title} at 127.0.0.1:{hospital.archive.port}"
        )
        stopping.wait()


# ---- keeping


@app.command()
def backup(
    destination: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    config: Config,
    as_json: AsJson = False,
) -> None:
    """Copy ledger, queue and case files, also while the service runs. The site key is not in it: keep that apart."""
    store = load_settings(config).store
    require_restored(store.folder)  # a good-looking backup of an empty ledger would replace the whole one
    key = key_fingerprint(read_site_key(store.key_path))
    manifest = take_backup(store.url, store.vault_folder, destination, key=key, at=wall_clock())
    _print_backup(manifest, f"backed up to {destination}", as_json=as_json)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A backup.")],
    config: Config,
    as_json: AsJson = False,
) -> None:
    """Put a backup back on an empty machine, where the site key lies already; every file is checked first."""
    store = load_settings(config).store
    key = key_fingerprint(read_site_key(store.key_path))
    with StoreLock(store.folder):
        manifest = restore_backup(source, store.url, store.folder, store.vault_folder, key=key)
    _print_backup(manifest, f"restored from {source}", as_json=as_json)


def _print_backup(manifest: Manifest, what: str, *, as_json: bool) -> None:
    if as_json:
        fields = ("taken", "database", "key", "case_files")
        print_json({name: getattr(manifest, name) for name in fields})
        return
    out.print(f"{what}: a {manifest.database} database and {manifest.case_files} case files, taken {manifest.taken}")
    out.print(f"the site key is not in it (fingerprint {manifest.key}): keep it apart")


# ---- looking


@app.command()
def status(config: Config, as_json: AsJson = False) -> None:
    """How many cases wait, run, and ended in which way; who runs them; what the service says of itself and peers."""
    settings = load_settings(config)
    with opened_database(settings, absent=Absent.REFUSE) as database:
        counts, workers = Ledger(database, wall_clock).counts(), WorkerRegister(database).signs_of_life()
    service = ask_readiness(settings.web.bind, settings.web.port) if settings.web.port else None
    if as_json:
        print_json({**counts, "service": readiness_row(service), "workers": [worker_row(one) for one in workers]})
        return
    for state, number in counts.items():
        out.print(f"{state:12} {number}")
    for line in (*readiness_lines(service), *map(worker_line, workers)):
        out.print(line, markup=False)
    unfinished = counts[WAITING] + counts[RUNNING]
    if unfinished and service is None and not workers:
        out.print(f"{unfinished} unfinished and no service answers: they go on at the next start")


@app.command()
def reconcile(config: Config, as_json: AsJson = False) -> None:
    """Compare every record with what its last case was decided on and look for its result; ask for what is missing.

    A running service takes the new cases up at its next poll. It compares by itself every night.
    """
    settings = load_settings(config)
    started = time.monotonic()
    rounds: list[Reconciliation] = []
    with StoreRoom(settings, absent=Absent.REFUSE) as store, build_client(settings) as client:
        client.capabilities()  # an EHR that is down is no comparison; one that goes down later leaves a part of it
        reconciler, name = build_reconciler(settings, client, store), asked_at(wall_clock())
        while not rounds or (
            rounds[-1].name != name and not rounds[-1].interrupted
        ):  # a round that was cut comes first
            result = reconciler.reconcile(name, wall_clock)
            if result is None:
                break
            rounds.append(result)
    if as_json:
        print_json(reconciliation_row(rounds, time.monotonic() - started))
    else:
        for line in reconciliation_lines(rounds):
            out.print(line, markup=False)
    if rounds and rounds[-1].interrupted:
        sys.exit(INCOMPLETE)


@cases_app.command("list")
def cases_list(
    config: Config,
    state: Annotated[str | None, typer.Option(help="Only cases in this state.")] = None,
    patient: Annotated[str | None, typer.Option(help="Only cases of this patient, every one.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also dead letters after which there was another look.")] = False,
    as_json: AsJson = False,
) -> None:
    """Cases, newest first; of dead letters those that wait for a person."""
    if state is not None and state not in STATES:
        raise BadSettings(f"--state {state}: a case is one of {', '.join(STATES)}")
    with opened_ledger(load_settings(config), absent=Absent.REFUSE) as ledger:
        if every or patient:
            entries = ledger.list_cases(state=state, patient_id=patient and patient.removeprefix("Patient/"))
        else:
            entries = ledger.list_standing_cases(state=state)
    if as_json:
        print_json({"cases": [case_row(entry) for entry in entries]})
    else:
        print_cases(entries)


@cases_app.command("show")
def cases_show(
    case: Annotated[str, typer.Argument(help="The case id, patient:revision, with or without Patient/.")],
    config: Config,
    as_json: AsJson = True,  # noqa: ARG001 (it is JSON either way: nobody must remember which command is not)
) -> None:
    """One case, whole, as JSON."""
    with opened_ledger(load_settings(config), absent=Absent.REFUSE) as ledger:
        entry = ledger.find_case(case.removeprefix("Patient/"))
    if entry is None:
        raise UnknownCase(f"no case {case}: an id is patient:revision, as `cases list` shows it")
    print_json(case_in_full(entry))


@cases_app.command("retry")
def cases_retry(
    config: Config,
    patient: Annotated[str | None, typer.Argument(help="The patient's id.")] = None,
    state: Annotated[str | None, typer.Option(help="dead-letter: everybody whose newest case is one.")] = None,
) -> None:
    """Ask for one more look at a patient, or at every dead letter; the running service takes it up at its next poll."""
    if (patient is None) == (state is None) or state not in {None, DEAD_LETTER}:
        raise BadSettings(f"name one patient, or give --state {DEAD_LETTER} for everybody whose newest case is one")
    settings = load_settings(config)
    with opened_ledger(settings, absent=Absent.REFUSE) as ledger:
        if patient is None:
            standing = {PatientId(entry.patient_id) for entry in ledger.list_standing_cases(state=DEAD_LETTER)}
            asked = [ledger.request(found) for found in sorted(standing)]
            out.print(f"asked for {len(asked)} patients whose newest case was a dead letter")
            return
        patient_id = PatientId(patient.removeprefix("Patient/"))
        _require_known(patient_id, settings, ledger)
        out.print(f"asked for {ledger.request(patient_id).case_id}")


def _require_known(patient_id: PatientId, settings: Settings, ledger: Ledger) -> None:
    """A mistyped id is nobody's. Who belongs to a Group or a search only the EHR can say: then the ledger has to know.

    Raises UnknownCase with the way out.
    """
    cohort = build_cohort(settings.cohort)
    listed = cohort.patients if isinstance(cohort, PatientList) else None
    if patient_id in (listed or ()) or ledger.was_asked_for(patient_id):
        return
    where = "only the EHR knows who is in the cohort" if listed is None else "is not in cohort.patients"
    raise UnknownCase(
        f"Patient/{patient_id} was never asked for, and {where}: "
        f"mistyped? `adjuvant assess {patient_id}` asks the EHR for anybody"
    )


@cases_app.command("forget")
def cases_forget(patient: Annotated[str, typer.Argument(help="The patient's id.")], config: Config) -> None:
    """Remove a patient's cases, and what no other case needs of the case files; only while no service runs."""
    settings, patient_id = load_settings(config), PatientId(patient.removeprefix("Patient/"))
    with StoreLock(settings.store.folder):
        with StoreRoom(settings, absent=Absent.REFUSE) as store:
            if WorkerRegister(store.database).anyone():
                raise StoreInUse("workers live on this database, whatever their data folder: stop them first")
            forgotten, removed = forget_patient(store.ledger, store.vault, patient_id)
        shutil.rmtree(settings.store.inbox_folder, ignore_errors=True)  # no service runs: nothing there is awaited
    if not forgotten:
        raise UnknownCase(f"no case of Patient/{patient_id}")
    out.print(f"forgot {forgotten} cases, removed {removed} case files; what the EHR holds stays there")


@app.command()
def replay(
    assessment: Annotated[str, typer.Argument(help="The assessment id, with or without ra- or RiskAssessment/.")],
    config: Config,
    as_json: AsJson = False,
) -> None:
    """Decide a stored case again and compare the transaction byte for byte; asks neither EHR nor PACS."""
    identity = assessment.removeprefix("RiskAssessment/").removeprefix("ra-")
    settings = load_settings(config)
    with StoreRoom(settings, absent=Absent.REFUSE) as store:
        ports = build_decision(settings, store.vault)
        result = replay_case(replayable(_case_files_of(store.ledger, identity), ports), ports)
    if as_json:
        print_json({"assessment": result.assessment_id, "identical": result.identical, "bytes": result.bytes_now})
    else:
        verdict = "identical" if result.identical else "DIFFERENT"
        out.print(f"{identity}: {result.bytes_then} bytes then, {result.bytes_now} now, {verdict}")
    if not result.identical:
        sys.exit(INCOMPLETE)


@app.command()
def page(
    assessment: Annotated[str, typer.Argument(help="The assessment id, with or without ra- or RiskAssessment/.")],
    config: Config,
    save: Annotated[Path, typer.Option("--out", help="The file to write: .html or .pdf.")],
) -> None:
    """One assessment on one page, with the numbers that the EHR got."""
    writers = {".html": lambda shown: as_html(shown).encode(), ".pdf": as_pdf}
    if save.suffix not in writers:
        raise BadSettings("--out names a file that ends in .html or .pdf")
    identity = assessment.removeprefix("RiskAssessment/").removeprefix("ra-")
    settings = load_settings(config)
    systems = load_delivery(site_folder=settings.policy.site_folder).systems
    with StoreRoom(settings, absent=Absent.REFUSE) as store:
        # what the first delivery wrote stands: a later one of the same assessment finds it there
        bundle = stored_bundle(_case_files_of(store.ledger, identity)[-1], store.vault)
        newer = _standing_instead(store, identity, landmark_of(bundle.content))
    content = writers[save.suffix](page_of(bundle.content, systems=systems, newer=newer))
    try:
        save_private(save, content)
    except OSError as error:
        raise BadSettings(f"--out {save} cannot be written: {error.strerror}") from error
    err.print(f"wrote {save}")


def _standing_instead(store: StoreRoom, assessment_id: str, landmark: datetime) -> str | None:
    """The patient's assessment delivered last, where it is another one at a landmark that is not earlier."""
    entries = store.ledger.find_deliveries(assessment_id)
    delivered = store.ledger.list_cases(state=DELIVERED, patient_id=entries[0].patient_id) if entries else ()
    newest = delivered[0] if delivered else None
    if newest is None or newest.case_file is None or newest.assessment_id == assessment_id:
        return None
    later = landmark_of(stored_bundle(newest.case_file, store.vault).content) >= landmark
    return newest.assessment_id if later else None


def _case_files_of(ledger: Ledger, assessment_id: str) -> tuple[str, ...]:
    """Of every case that delivered the assessment, newest first."""
    entries = ledger.find_deliveries(assessment_id)
    if not entries:
        raise UnknownCase(f"no assessment {assessment_id}")
    kept = tuple(entry.case_file for entry in entries if entry.case_file is not None)
    if not kept:
        raise UnknownCase(f"the case file of assessment {assessment_id} has expired")
    return kept


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
        print_json({"models": rows})
        return
    for row in rows:
        out.print(f"{'*' if row['current'] else ' '} {row['name']} {row['version']} ({row['data']} data)")


@model_app.command("show")
def model_show(
    folder: Annotated[Path | None, typer.Argument(help="A bundle; the shipped one by default.")] = None,
) -> None:
    """The model card."""
    bundle = load_bundle(folder or shipped_bundle())
    out.print((bundle.folder / "model_card.md").read_text(encoding="utf-8"), markup=False)


@model_app.command("verify")
def model_verify(
    folder: Annotated[Path | None, typer.Argument(help="A bundle; the shipped one by default.")] = None,
) -> None:
    """Check every hash, the schema and the golden vectors."""
    bundle = load_bundle(folder or shipped_bundle())
    identity = Predictor(bundle).identity
    out.print(
        f"{identity.name} {identity.version}: files, schema and golden vectors agree; {MANIFEST} {identity.digest}"
    )


_Data = Annotated[Path, typer.Option("--data", help="The folder of the research data: hancock/ and tcga_hnsc/.")]
_Python = Annotated[Path | None, typer.Option("--python", help="Interpreter of the training environment.")]
_Quick = Annotated[bool, typer.Option("--quick", help="Small fits, to see that it runs.")]


@model_app.command("train")
def model_train(
    *,
    out_folder: Annotated[Path, typer.Option("--out", help="The folder of the bundle to write.")],
    data: Annotated[Path | None, typer.Option(help="The folder of the research data.")] = None,
    cohort: Annotated[Path | None, typer.Option(help="The site's own table (docs/site_cohort.md).")] = None,
    recalibrate: Annotated[bool, typer.Option("--recalibrate", help="With --cohort: keep the network.")] = False,
    bundle: Annotated[Path | None, typer.Option(help="With --cohort: the bundle to start from.")] = None,
    docs: Annotated[Path | None, typer.Option(help="Without --cohort: where evaluation.json is.")] = None,
    work: Annotated[Path | None, typer.Option(help="Where finished parts are kept, to go on after a stop.")] = None,
    quick: _Quick = False,
    python: _Python = None,
) -> None:
    """Train the shipped model from the research data, or a site's own from its cohort; stopped, it goes on."""
    if cohort is None and data is None:
        raise BadSettings("give --data to train the shipped model, or --cohort for a site's own")
    local = {"--recalibrate": recalibrate, "--bundle": bundle is not None}
    if cohort is None and any(local.values()):
        raise BadSettings(f"{', '.join(name for name, given in local.items() if given)}: only with --cohort")
    if cohort is not None and docs is not None:
        raise BadSettings("--docs: only without --cohort")
    paths = {"--cohort": cohort, "--data": data, "--bundle": bundle, "--docs": docs, "--work": work}
    switches = {"--recalibrate": recalibrate, "--quick": quick}
    module = "training.fit" if cohort is None else "training.local"
    _end_as(start_training(module, ["--out", str(out_folder), *_spelled(paths, switches)], python))


@model_app.command("evaluate")
def model_evaluate(
    data: _Data,
    docs: Annotated[Path | None, typer.Option(help="Where the report goes.")] = None,
    work: Annotated[Path | None, typer.Option(help="Where finished folds are kept, to go on after a stop.")] = None,
    quick: _Quick = False,
    python: _Python = None,
) -> None:
    """Cross-validate the recipe against every baseline and write the report; stopped, it goes on."""
    paths = {"--data": data, "--docs": docs, "--work": work}
    _end_as(start_training("training.evaluate", _spelled(paths, {"--quick": quick}), python))


@model_app.command("score")
def model_score(
    dataset: Annotated[str, typer.Option(help="How the tables are written: hancock, tcga_hnsc or radcure.")],
    data: Annotated[Path, typer.Option(help="The folder of the tables.")],
    out_file: Annotated[Path, typer.Option("--out", help="The CSV file to write, one row per patient.")],
    bundle: Annotated[Path | None, typer.Option(help="A bundle; the shipped one by default.")] = None,
) -> None:
    """Forecast every patient of a table, or say why not; outcomes are not needed, nor is torch."""
    paths = {"--data": data, "--out": out_file, "--bundle": bundle}
    _end_as(start_scoring(["--dataset", dataset, *_spelled(paths, {})]))


def _spelled(paths: Mapping[str, Path | None], switches: Mapping[str, bool]) -> list[str]:
    """The options of another command, those that were given."""
    spelled = [word for name, path in paths.items() if path is not None for word in (name, str(path))]
    return [*spelled, *(name for name, given in switches.items() if given)]


def _end_as(status: int) -> None:
    """With the exit status of the process that did the work; one that was killed was incomplete."""
    if status:
        sys.exit(status if status > 0 else INCOMPLETE)


# ---- policy

_SandboxRules = Annotated[bool, typer.Option("--sandbox", help="With the pretend hospital's declarations.")]


@policy_app.command("show")
def policy_show(as_json: AsJson = False, sandbox_rules: _SandboxRules = False) -> None:
    """Every rule and action: when it holds and what it rests on."""
    rows = policy_table(load_policy(site_folder=sandbox_policy() if sandbox_rules else None))
    if as_json:
        print_json({"rows": policy_rows(rows)})
    else:
        print_policy(rows)


@policy_app.command("export")
def policy_export(sandbox_rules: _SandboxRules = False) -> None:
    """The rules as FHIR R4: a PlanDefinition and an ActivityDefinition per action, with their citations."""
    site = sandbox_policy() if sandbox_rules else None
    content = export_policy(load_policy(site_folder=site), load_delivery(site_folder=site), OutputMode.RESEARCH)
    sys.stdout.write(content.decode() + "\n")


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
    except OSError as error:
        raise BadSettings(f"cannot read {case}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadSettings(f"{case} is no case: it needs features and a landmark") from error
    policy = load_policy(site_folder=sandbox_policy() if sandbox_rules else None)
    verdict = summary(evaluate_features(features, landmark, policy))
    if as_json:
        print_json(verdict)
    else:
        print_verdict(verdict)


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """The demo shows progress in its own way; structured lines would tear it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
