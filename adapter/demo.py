"""The demo: the service on a pretend hospital, its progress shown patient by patient."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from adapter.domain.outcome import Case, Delivered, Settled
from adapter.fhir.delivery import OutputMode, load_delivery
from adapter.page.html import as_html
from adapter.page.view import page_of
from adapter.pipeline.case_file import stored_bundle
from adapter.rooms import StoreRoom
from adapter.sandbox.hospital import SandboxHospital, sandbox_policy
from adapter.sandbox.pacs import AE_TITLE
from adapter.sandbox.patients import PATIENT_SYSTEM, simulate_courses
from adapter.service import Service
from adapter.settings import Settings, settings_from
from adapter.store.cases import DELIVERED
from adapter.store.ledger import LedgerEntry
from adapter.terminology import load_terminology
from inference.artifact import simulated_bundle

SEED = 7
TODAY = datetime(2026, 1, 1, tzinfo=UTC)
_SETTLE_SECONDS = 600.0
_STEP_SECONDS = 4.0
_STEP_NAMES = {
    "gather": "reading the record",
    "retrieve": "fetching images",
    "decide": "forecasting",
    "deliver": "writing",
}
_HORIZON_MONTHS = 36
_WITHOUT_IMAGE = "none: forecast without image"
_TITLE = "adjuvant on a pretend hospital: patients, images and the model that reads them are all simulated"


@dataclass(slots=True)
class _Row:
    """What the table shows of one patient."""

    course: str
    state: str = "waiting"
    image: str = ""
    result: str = ""
    plan: str = ""


class Progress:
    """The live table; fed by the service's threads."""

    def __init__(self, hospital: SandboxHospital, console: Console) -> None:
        """One row per patient, before anything is known."""
        self._hospital = hospital
        self._console = console
        self._lock = threading.Lock()
        self._rows = {
            str(course.record.person.patient_id): _Row(course=course.kind.value) for course in hospital.courses
        }
        self._live: Live | None = None

    def __call__(self, case: Case, step: str, settled: Settled | None) -> None:
        """A step began, or the case settled."""
        with self._lock:
            row = self._rows.setdefault(str(case.patient_id), _Row(course=""))
            if settled is None:
                row.state = _STEP_NAMES.get(step, step)
            elif isinstance(settled, Delivered):
                row.state = "delivered"
                row.image, row.result, row.plan = written_result(self._hospital, settled.receipt.assessment_id)
            else:
                row.state = f"{type(settled).__name__.lower()}: {settled.reason}"
                row.image = row.result = row.plan = ""
            if self._live is not None:
                self._live.update(self.table())
            elif settled is not None and not self._console.is_terminal:
                seen = f" ({row.image})" if row.image else ""
                self._console.print(f"{case.patient_id}: {row.state} {row.result}".rstrip() + seen, highlight=False)

    def table(self) -> Table:
        """The rows as they stand."""
        table = Table(title=_TITLE, title_justify="left")
        for column in (
            "patient",
            "simulated course",
            "state",
            "simulated CT used",
            f"recurrence by {_HORIZON_MONTHS} months (simulated)",
            "proposal (draft)",
        ):
            table.add_column(column, overflow="fold")
        for patient, row in self._rows.items():
            table.add_row(patient, row.course, row.state, row.image, row.result, row.plan)
        return table

    def shown(self, stack: ExitStack) -> None:
        """Keep the table on screen while the stack is open; on no terminal, lines come instead."""
        if self._console.is_terminal:
            self._live = stack.enter_context(Live(self.table(), console=self._console, refresh_per_second=8))


def written_result(hospital: SandboxHospital, assessment_id: str) -> tuple[str, str, str]:
    """The CT it rests on, recurrence risk and proposed actions as the EHR now holds them: read back, not remembered."""
    risk = hospital.resource(f"RiskAssessment/ra-{assessment_id}") or {}
    plan = hospital.resource(f"CarePlan/cp-{assessment_id}") or {}
    origin = hospital.resource(f"Provenance/pv-{assessment_id}") or {}
    image = _series_named(hospital, origin) if _rests_on_image(risk) else _WITHOUT_IMAGE
    return image if risk else "", _recurrence(risk), _actions(plan)


def _rests_on_image(risk: dict[str, object]) -> bool:
    """By what the assessment says was not known."""
    notes = risk.get("note")
    for note in notes if isinstance(notes, list) else []:
        _, found, features = str(note.get("text", "")).partition("not known at the landmark: ")
        if found:
            return "image" not in features.rstrip(".").split(", ")
    return False


def _series_named(hospital: SandboxHospital, origin: dict[str, object]) -> str:
    """Description and day of the series that the assessment's origin cites."""
    entities = origin.get("entity")
    cited = {
        str(entity["what"].get("identifier", {}).get("value", ""))
        for entity in (entities if isinstance(entities, list) else [])
    }
    return "; ".join(
        f"{series.description}, {series.acquired:%Y-%m-%d}"
        for course in hospital.courses
        for series in course.ct_series
        if f"urn:oid:{series.series_uid}" in cited
    )


def _recurrence(risk: dict[str, object]) -> str:
    predictions = risk.get("prediction")
    for prediction in predictions if isinstance(predictions, list) else []:
        if "recurrence" in str(prediction.get("outcome", {}).get("text", "")).lower():
            period = prediction.get("whenPeriod", {})
            if _months(str(period.get("start")), str(period.get("end"))) == _HORIZON_MONTHS:
                return f"{prediction['probabilityDecimal']} %"
    return ""


def _months(start: str, end: str) -> int:
    try:
        first, last = datetime.fromisoformat(start), datetime.fromisoformat(end)
    except ValueError:
        return 0
    return (last.year - first.year) * 12 + last.month - first.month


def _actions(plan: dict[str, object]) -> str:
    """The treatment actions the rules call concordant; where there is none, whatever else they leave open."""
    activities = plan.get("activity")
    details = [activity["detail"] for activity in activities] if isinstance(activities, list) else []
    named = [
        (str(detail["code"]["text"]), str(detail.get("description", "")).partition(":")[0])
        for detail in details
        if not detail.get("doNotPerform") and not _is_follow_up(detail)
    ]
    concordant = [text for text, verdict in named if verdict == "concordant"]
    return "; ".join(concordant or [text for text, _ in named])


def _is_follow_up(detail: dict[str, dict[str, list[dict[str, str]]]]) -> bool:
    return any(coding["code"].startswith("FU-") for coding in detail["code"]["coding"])


def demo_settings(hospital: SandboxHospital, folder: Path, *, web_port: int = 0) -> Settings:
    """A site configuration for the pretend hospital, in demo mode, with nothing to wait for.

    The model is the one trained on simulated patients, which reads their simulated images: demo mode alone accepts it.
    """
    return settings_from(
        {
            "mode": OutputMode.DEMO.value,
            "fhir": {"base_url": hospital.ehr.base_url, "patient_identifier_system": PATIENT_SYSTEM},
            "pacs": {
                "host": "127.0.0.1",
                "port": hospital.archive.port,
                "ae_title": AE_TITLE,
                "patient_identifier_system": PATIENT_SYSTEM,
            },
            "dicom": {"ae_title": "ADJUVANT", "port": 0, "quiet_seconds": 0.3},
            "cohort": {"patients": [f"Patient/{patient}" for patient in hospital.patients]},
            "store": {"url": f"sqlite:///{folder}/adjuvant.db", "folder": str(folder)},
            "model": {"folder": str(simulated_bundle())},
            "watch": {"poll_seconds": 2.0, "quiet_seconds": 0.0, "workers": 2, "attempts": 2},
            "web": {"port": web_port},
            "policy": {"site_folder": str(sandbox_policy())},
        }
    )


def run_demo(
    patients: int,
    folder: Path,
    console: Console,
    *,
    once: bool,
    picture: Path | None = None,
    pages: Path | None = None,
) -> tuple[list[LedgerEntry], bool]:
    """Run until every patient is settled, or for ever; returns each patient's newest case, and whether all settled."""
    courses = simulate_courses(patients, seed=SEED, today=TODAY)
    hospital = SandboxHospital(courses, load_terminology())
    with ExitStack() as stack:
        stack.enter_context(hospital)
        progress = Progress(hospital, console)
        settings = demo_settings(hospital, folder)
        if once:
            hospital.unfold()
        else:
            hospital.unfold_until_every_patient_is_known()
        service = stack.enter_context(Service(settings, watching=progress))
        if service.rooms.archive is not None:
            hospital.archive.allow(settings.dicom.ae_title, "127.0.0.1", service.rooms.archive.port)
        _where_to_look(console, hospital, service.web.url, folder)
        with ExitStack() as showing:
            progress.shown(showing)
            settled = service.run_until_settled(_SETTLE_SECONDS)
            if picture is not None:
                _save_picture(progress.table(), picture)
            if pages is not None:
                _save_pages(service.rooms.store, pages)
            if not once:
                _unfold_for_ever(hospital, service.poll)
        newest: dict[str, LedgerEntry] = {}
        for entry in reversed(service.rooms.store.ledger.list_cases()):
            newest[entry.patient_id] = entry
        return [newest[key] for key in sorted(newest)], settled


def _save_picture(table: Table, path: Path) -> None:
    """The table as SVG, for pages that cannot run a terminal."""
    paper = Console(record=True, width=150, file=io.StringIO())
    paper.print(table)
    path.write_text(paper.export_svg(title="adjuvant demo --once"), encoding="utf-8")


def _save_pages(store: StoreRoom, folder: Path) -> None:
    """Every delivered assessment as its clinicians would read it."""
    folder.mkdir(parents=True, exist_ok=True)
    systems = load_delivery(site_folder=sandbox_policy()).systems
    for entry in store.ledger.list_cases(state=DELIVERED):
        page = page_of(stored_bundle(str(entry.case_file), store.vault).content, systems=systems)
        (folder / f"{entry.patient_id}.html").write_text(as_html(page), encoding="utf-8")


def _unfold_for_ever(hospital: SandboxHospital, poll: Callable[[], int]) -> None:
    """Let the courses go on, a few events at a time, until interrupted."""
    while True:
        time.sleep(_STEP_SECONDS)
        hospital.unfold(3)
        poll()


def _where_to_look(console: Console, hospital: SandboxHospital, web: str, folder: Path) -> None:
    console.print(f"EHR (FHIR R4, simulated)  {hospital.ehr.base_url}", highlight=False)
    console.print(f"PACS (DICOM, simulated)   {AE_TITLE} at 127.0.0.1:{hospital.archive.port}", highlight=False)
    console.print("model                     trained on simulated patients, for this demo only", highlight=False)
    console.print(f"service health            {web}/health/ready", highlight=False)
    console.print(f"ledger and case files     {folder}", highlight=False)
