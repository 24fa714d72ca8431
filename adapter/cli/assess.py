"""`adjuvant assess`: one patient, once."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from adapter.cli.arguments import INCOMPLETE, AsJson, Config, patient_of
from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case, Skipped
from adapter.errors import BadSettings, StoreInUse, UnknownCase
from adapter.pipeline.case_file import stored_bundle
from adapter.pipeline.once import STEPS_TO_A_DECISION, STEPS_TO_DELIVERY, assess_once
from adapter.pipeline.work import as_json as outcome_as_json
from adapter.printing import err, out, print_cases, print_json, report
from adapter.rooms import Rooms, opened_database, opened_ledger
from adapter.settings import Settings, load_settings
from adapter.store.cases import DEAD_LETTER
from adapter.store.database import StoreLock
from adapter.store.ledger import Ledger, LedgerEntry
from adapter.store.vault import create_site_key, make_private_folder
from adapter.store.workers import WorkerRegister

app = typer.Typer()
_LONGEST_CASE_SECONDS, _LOOK_SECONDS = 600.0, 0.2


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
    settings, patient_id = load_settings(config), patient_of(patient)
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
    if entry.settled is None or entry.state == DEAD_LETTER:
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
        if landmark:  # it stands in the past, and answers nothing that waits
            case = Case(patient_id=patient_id, revision=0)
            result, settled = assess_once(case, rooms.ports, landmark, STEPS_TO_DELIVERY, wait=_sleep)
            if settled is not None:
                case = ledger.record_apart(patient_id, settled, result.case_file if result else None)
            return _entry_of(ledger, case)
        case = ledger.request(patient_id)
        ledger.begin(case)
        try:
            result, settled = assess_once(case, rooms.ports, None, STEPS_TO_DELIVERY, wait=_sleep)
        except BaseException:  # Ctrl-C too: what it answered still has to be seen
            ledger.record_and_request(case, Skipped(reason="assess-cut", detail="asked for again"))
            raise
        if settled is not None:
            ledger.record(case, settled, result.case_file if result else None)
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
