"""On real servers: one patient from HAPI and Orthanc through every step of the walk, and back into HAPI."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

import httpx
import pytest

from adapter.domain.outcome import Case, Delivered
from adapter.domain.risk import Outcome
from adapter.fhir.client import FhirClient
from adapter.fhir.encode import to_percent
from adapter.pipeline.assess import StepResult, conclude, decided, deliver, described, gather, retrieve
from adapter.pipeline.case_file import CaseFile, SeriesFile, unseal
from adapter.pipeline.decide import Decision, dicom_patient
from adapter.pipeline.replay import replay
from adapter.rooms import Rooms
from adapter.settings import load_settings
from adapter.terminology import load_terminology
from benchmarks.both_sides import as_trained, load_cohort
from tests.fakes.phantom import SLICES, phantom_scan
from tests.peers.hapi import Hapi
from tests.peers.orthanc import Orthanc
from tests.peers.process import free_port
from training.cohorts.cohort import CohortPatient
from training.cohorts.hancock import NOMINAL_SURGERY, read_hancock

ALONE, TWICE_AT_ONCE = "hancock-007", "hancock-013"  # both with extranodal extension: every kind of action has a word
SYSTEM = "urn:adjuvant:cohort:hancock"
SCANNED = f"{NOMINAL_SURGERY - timedelta(days=5):%Y%m%d}"
MONTHS = (12, 24, 36, 60)
Json = dict[str, object]


def _site(hapi: Hapi, orthanc: Orthanc, folder: Path, ae_title: str) -> Path:
    """A configuration file for a service of its own, whose AE title Orthanc knows as a destination."""
    port = free_port()
    orthanc.allow(ae_title, port)
    path = folder / "site.toml"
    path.write_text(
        f"""
[fhir]
base_url = "{hapi.base_url}"
known_time = "effective-plus-delay"
patient_identifier_system = "{SYSTEM}"
[pacs]
host = "{orthanc.host}"
port = {orthanc.dicom_port}
ae_title = "{orthanc.ae_title}"
patient_identifier_system = "{SYSTEM}"
[dicom]
ae_title = "{ae_title}"
bind = "{orthanc.our_address}"
port = {port}
[cohort]
select = "Patient?identifier={SYSTEM}|"
[store]
url = "sqlite:///{folder}/adjuvant.db"
folder = "{folder}"
"""
    )
    return path


@pytest.fixture(scope="module")
def patients(hapi: Hapi, orthanc: Orthanc, data_folder: Path) -> Mapping[str, CohortPatient]:
    """Two patients of the public cohort, in HAPI with everything known of them and in Orthanc with one CT each."""
    terminology = load_terminology()
    cohort = read_hancock(data_folder / "hancock", terminology)
    chosen = {key: row for row in cohort if (key := str(row.record.person.patient_id)) in {ALONE, TWICE_AT_ONCE}}
    with FhirClient(hapi.base_url) as client:
        load_cohort(client, tuple(chosen.values()), terminology)
    for row in chosen.values():
        for content in phantom_scan(data_folder, dicom_patient(row.record.person, SYSTEM), scanned=SCANNED):
            orthanc.upload(content)
    return chosen


@pytest.fixture(scope="module")
def rooms(hapi: Hapi, orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooms]:
    """The real EHR and PACS, our Storage SCP, a store and a vault in a folder of their own."""
    site = _site(hapi, orthanc, tmp_path_factory.mktemp("site"), "ADJUVANT")
    with Rooms(load_settings(site)) as opened:
        yield opened


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """One patient, walked to the end. case_file: its digest."""

    case_file: str
    kept: CaseFile
    decision: Decision
    delivered: Delivered


@pytest.fixture(scope="module")
def walk(patients: Mapping[str, CohortPatient], rooms: Rooms) -> Walk:
    return _walk(rooms, patients[ALONE])


def _walk(rooms: Rooms, patient: CohortPatient) -> Walk:
    """Gather, retrieve, decide, deliver."""
    ports = rooms.ports
    case = Case(patient_id=patient.record.person.patient_id, revision=1)
    result = gather(case, ports)
    for step in (partial(retrieve, case), conclude, deliver):
        result = _after(step, result, rooms)
    assert isinstance(result.settled, Delivered)
    kept = unseal(ports.files.recall(result.case_file), CaseFile)
    decision = decided(kept, ports)
    assert isinstance(decision, Decision)
    return Walk(case_file=result.case_file, kept=kept, decision=decision, delivered=result.settled)


def _after(step: Callable[..., StepResult], result: StepResult, rooms: Rooms) -> StepResult:
    assert result.settled is None
    return step(unseal(rooms.store.vault.recall(result.case_file), CaseFile), rooms.ports)


def _read(hapi: Hapi, reference: str) -> Json:
    found = httpx.get(f"{hapi.base_url}/{reference}", timeout=60).raise_for_status()
    resource: Json = found.json(parse_float=Decimal)
    return resource


def _held(hapi: Hapi, kind: str, patient: str) -> list[str]:
    """The versions of everything of this kind that the server holds of this patient."""
    reply = httpx.get(f"{hapi.base_url}/{kind}?patient={patient}", headers={"cache-control": "no-cache"}, timeout=60)
    return [entry["resource"]["meta"]["versionId"] for entry in reply.raise_for_status().json().get("entry", [])]


def test_the_ct_came_whole_and_only_encrypted(walk: Walk, rooms: Rooms) -> None:
    """All 140 images of the one series are in the vault; nothing of them lies in the inbox."""
    (digest,) = walk.kept.series
    series = unseal(rooms.store.vault.recall(digest), SeriesFile)
    assert (series.ref.modality, len(series.files)) == ("CT", SLICES)
    assert walk.kept.image_notes == ()
    assert rooms.archive is not None
    assert rooms.archive.unsolicited == 0
    assert list((rooms.settings.store.folder / "inbox").rglob("*.dcm")) == []


def test_percentages_are_those_of_the_training_side(
    hapi: Hapi, walk: Walk, patients: Mapping[str, CohortPatient], rooms: Rooms
) -> None:
    """Read back from HAPI: what the model says to the row that training made of the table, to the last tenth."""
    (trained,) = as_trained([patients[ALONE]], rooms.ports.predictor)
    assert trained.asked is not None
    said = trained.asked.output
    curves = (said.recurrence, said.death_without_recurrence, said.death)
    expected = [to_percent(float(curve[months // 3 - 1])) for curve in curves for months in MONTHS]
    stored = _predictions(hapi, walk)
    assert [prediction["probabilityDecimal"] for prediction in stored] == expected


def test_each_horizon_counts_from_the_landmark(
    hapi: Hapi, walk: Walk, patients: Mapping[str, CohortPatient], rooms: Rooms
) -> None:
    """Every whenPeriod begins where training put the landmark and ends 1, 2, 3 and 5 calendar years later."""
    (trained,) = as_trained([patients[ALONE]], rooms.ports.predictor)
    assert trained.asked is not None
    start = _to_the_millisecond(trained.asked.landmark)
    expected = [(start, start.replace(year=start.year + months // 12)) for _ in Outcome for months in MONTHS]
    periods = [prediction["whenPeriod"] for prediction in _predictions(hapi, walk)]
    assert [tuple(datetime.fromisoformat(period[end]) for end in ("start", "end")) for period in periods] == expected


def _to_the_millisecond(moment: datetime) -> datetime:
    """As precise as a FHIR server is bound to keep a moment."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _predictions(hapi: Hapi, walk: Walk) -> list[dict[str, dict[str, str]]]:
    risk = _read(hapi, f"RiskAssessment/ra-{walk.delivered.receipt.assessment_id}")
    predictions: list[dict[str, dict[str, str]]] = risk["prediction"]  # type: ignore[assignment]
    return predictions


def test_the_basis_is_what_was_read(hapi: Hapi, walk: Walk, patients: Mapping[str, CohortPatient]) -> None:
    """The basis names every resource the input rests on, each of this patient's own and on the server."""
    risk = _read(hapi, f"RiskAssessment/ra-{walk.delivered.receipt.assessment_id}")
    named = {entry["reference"].partition("/_history/")[0] for entry in risk["basis"]}  # type: ignore[attr-defined]
    read = {f"{source.resource_type}/{source.resource_id}" for source in walk.decision.forecast.basis}
    record = patients[ALONE].record
    sources = {record.person.source, *(entry.source for entry in record.dated())}
    assert named == read
    assert named <= {f"{source.resource_type}/{source.resource_id}" for source in sources}
    assert all(_read(hapi, reference)["id"] for reference in named)


def test_the_provenance_names_the_images(hapi: Hapi, walk: Walk, rooms: Rooms) -> None:
    """The series that was read and the digest of its voxels stand in the Provenance on the server."""
    series = unseal(rooms.store.vault.recall(walk.kept.series[0]), SeriesFile)
    (image,) = described(walk.kept, rooms.ports)
    text = httpx.get(f"{hapi.base_url}/Provenance/pv-{walk.delivered.receipt.assessment_id}", timeout=60).text
    assert str(series.ref.series_uid) in text
    assert image.digest in text


def test_hapi_finds_no_error(hapi: Hapi, walk: Walk) -> None:
    """$validate has no error for any of the resources, as the server gives them back."""
    for version in walk.delivered.receipt.versions:
        reference = f"{version.resource_type}/{version.resource_id}"
        content = httpx.get(f"{hapi.base_url}/{reference}", timeout=60).raise_for_status().content
        assert hapi.validate(content, version.resource_type) == [], reference


def test_a_replay_gives_the_same_bytes(walk: Walk, rooms: Rooms) -> None:
    """Decided again from the vault alone, voxels included: byte for byte the same transaction."""
    again = replay(walk.case_file, rooms.ports)
    assert (again.assessment_id, again.identical) == (walk.delivered.receipt.assessment_id, True)
    assert again.bytes_then == again.bytes_now > 0


def test_ten_walks_leave_one_assessment(
    hapi: Hapi, walk: Walk, patients: Mapping[str, CohortPatient], rooms: Rooms
) -> None:
    """Ten times the whole walk: one RiskAssessment, one CarePlan, versionId still 1."""
    again = [_walk(rooms, patients[ALONE]) for _ in range(9)]
    assert walk.delivered.receipt.written
    assert not any(other.delivered.receipt.written for other in again)
    assert {other.decision.bundle.content for other in again} == {walk.decision.bundle.content}
    assert _held(hapi, "RiskAssessment", ALONE) == ["1"]
    assert _held(hapi, "CarePlan", ALONE) == ["1"]


def test_two_processes_at_once_leave_one_assessment(
    hapi: Hapi, orthanc: Orthanc, patients: Mapping[str, CohortPatient], tmp_path: Path
) -> None:
    """Two services that know nothing of each other assess the same patient together: one of each, version 1."""
    commands = []
    for name in ("FIRST", "SECOND"):
        (tmp_path / name).mkdir()
        site = _site(hapi, orthanc, tmp_path / name, name)
        commands.append([sys.executable, "-m", "adapter", "assess", TWICE_AT_ONCE, "--config", str(site), "--json"])
    with ThreadPoolExecutor(len(commands)) as pool:
        outputs = list(pool.map(_output_of, commands))
    reports = [json.loads(output) for output in outputs]
    assert [report["delivered"] for report in reports] == [1, 1]
    assert reports[0]["cases"][0]["resources"] == reports[1]["cases"][0]["resources"]
    assert _held(hapi, "RiskAssessment", TWICE_AT_ONCE) == ["1"]
    assert _held(hapi, "CarePlan", TWICE_AT_ONCE) == ["1"]


def _output_of(command: list[str]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
