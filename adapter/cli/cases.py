"""`adjuvant cases`: what is waiting, running, settled, refused and why."""

from __future__ import annotations

import shutil
from typing import Annotated

import typer

from adapter.cli.arguments import AsJson, Config, patient_of
from adapter.domain.ids import PatientId
from adapter.errors import BadSettings, StoreInUse, UnknownCase
from adapter.fhir.cohort import PatientList
from adapter.pipeline.retention import forget_patient
from adapter.printing import case_row, out, print_cases, print_json
from adapter.rooms import Absent, StoreRoom, build_cohort, opened_ledger
from adapter.settings import Settings, load_settings
from adapter.store.cases import DEAD_LETTER, STATES
from adapter.store.database import StoreLock
from adapter.store.ledger import Ledger
from adapter.store.workers import WorkerRegister

app = typer.Typer(no_args_is_help=True, help="What is waiting, running, settled, refused and why.")


@app.command("list")
def cases_list(
    *,
    config: Config,
    state: Annotated[str | None, typer.Option(help="Only cases in this state.")] = None,
    patient: Annotated[str | None, typer.Option(help="Only cases of this patient, every one.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also dead letters after which there was another look.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many of them, the newest.")] = None,
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
        print_json({"cases": [case_row(entry) for entry in entries[:limit]]})
    else:
        print_cases(entries[:limit])


@app.command("show")
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
    print_json(case_row(entry))


@app.command("retry")
def cases_retry(
    config: Config,
    patient: Annotated[str | None, typer.Argument(help="The patient's id.")] = None,
    state: Annotated[str | None, typer.Option(help="dead-letter: everybody whose newest case is one.")] = None,
) -> None:
    """Ask for one more look at a patient, or at every dead letter; the service looks after watch.quiet_seconds."""
    if (patient is None) == (state is None) or state not in {None, DEAD_LETTER}:
        raise BadSettings(f"name one patient, or give --state {DEAD_LETTER} for everybody whose newest case is one")
    settings = load_settings(config)
    with opened_ledger(settings, absent=Absent.REFUSE) as ledger:
        if patient is None:
            standing = {PatientId(entry.patient_id) for entry in ledger.list_standing_cases(state=DEAD_LETTER)}
            asked = [ledger.request(found) for found in sorted(standing)]
            out.print(f"asked for {len(asked)} patients whose newest case was a dead letter")
            return
        patient_id = patient_of(patient)
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


@app.command("forget")
def cases_forget(patient: Annotated[str, typer.Argument(help="The patient's id.")], config: Config) -> None:
    """Remove a patient's cases, and what no other case needs of the case files; only while no service runs."""
    settings, patient_id = load_settings(config), patient_of(patient)
    with StoreLock(settings.store.folder):
        with StoreRoom(settings, absent=Absent.REFUSE) as store:
            if WorkerRegister(store.database).anyone():
                raise StoreInUse("workers live on this database, whatever their data folder: stop them first")
            forgotten, removed = forget_patient(store.ledger, store.vault, patient_id)
        shutil.rmtree(settings.store.inbox_folder, ignore_errors=True)  # no service runs: nothing there is awaited
    if not forgotten:
        raise UnknownCase(f"no case of Patient/{patient_id}")
    out.print(f"forgot {forgotten} cases, removed {removed} case files; what the EHR holds stays there")
