"""On a real server: HAPI finds no error in anything we write, holds it once, and gives back what was computed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from multiprocessing import get_context
from threading import Barrier
from typing import Any

import httpx
import pytest

from adapter.domain.ids import PatientId, ResourceVersion
from adapter.domain.outcome import TransactionBundle, WriteReceipt
from adapter.domain.risk import Outcome
from adapter.domain.timeline import Timeline
from adapter.fhir.client import FhirClient
from adapter.fhir.delivery import OutputMode
from adapter.fhir.encode import to_percent
from adapter.fhir.entries import canonical_json, read_json
from adapter.fhir.submit import submit
from tests.fakes.assessments import abstention, assessment, complete_records, resources_of
from tests.fakes.postoperative import banded_curves, forecast, timeline
from tests.peers.hapi import Hapi
from tests.validators.defects import DEFECTS, with_defect

# What HAPI 8.8 lets pass at $validate; the offline gate catches each of them.
_UNSEEN_BY_HAPI: frozenset[str] = frozenset({"wrong reference target"})


@pytest.fixture
def client(hapi: Hapi) -> Iterator[FhirClient]:
    with FhirClient(hapi.base_url) as open_client:
        yield open_client


def _patient(patient_id: str, patient: Timeline | None = None) -> Timeline:
    """A patient of this test's own, so that tests do not meet on the one server."""
    patient = patient or timeline()
    person = replace(
        patient.person,
        patient_id=PatientId(patient_id),
        identifiers=(),
        source=ResourceVersion("Patient", patient_id, "1"),
    )
    return replace(patient, person=person)


def _load_inputs(client: FhirClient, patient: Timeline) -> None:
    """Store a stub of every resource the result will cite."""
    patient_id = str(patient.person.patient_id)
    subject = {"reference": f"Patient/{patient_id}"}
    client.put("Patient", patient_id, canonical_json({"resourceType": "Patient", "id": patient_id}))
    stubs: dict[str, dict[str, object]] = {
        "Observation": {"status": "final", "code": {"text": "stub"}},
        "Procedure": {"status": "completed"},
        "Condition": {},
    }
    for source in patient.sources():
        if source.resource_type in stubs:
            stub = {
                "resourceType": source.resource_type,
                "id": source.resource_id,
                "subject": subject,
                **stubs[source.resource_type],
            }
            client.put(source.resource_type, source.resource_id, canonical_json(stub))


def _bundle(patient: Timeline) -> TransactionBundle:
    return assessment(patient, patient_id=str(patient.person.patient_id))


def test_hapi_finds_no_error_in_what_we_write(hapi: Hapi) -> None:
    """$validate gives zero errors for every resource of every kind of assessment."""
    complete = complete_records()
    bundles = [
        assessment(mode=OutputMode.DEMO),
        assessment(policy=complete),
        assessment(policy=complete, output=banded_curves()),
        abstention(),
        assessment(timeline(changes={"creatinine": 250.0}), policy=complete),
        assessment(timeline(changes={"ene_path": "negative", "pN": "pN1", "pT": "pT2"}), policy=complete),
        assessment(timeline(changes={"histology": "not_scc"}), policy=complete),
    ]
    for bundle in bundles:
        for resource_type, content in resources_of(bundle).items():
            assert hapi.validate(content, resource_type) == []


def test_hapi_is_a_judge(hapi: Hapi) -> None:
    """The same call does report the seeded defects, all but the one that HAPI is known to let pass."""
    ours = resources_of(assessment())
    unseen = {name for name in DEFECTS if not hapi.validate(with_defect(name, ours), DEFECTS[name][0])}
    assert unseen == _UNSEEN_BY_HAPI


def test_what_hapi_gives_back_is_what_was_computed(hapi: Hapi, client: FhirClient) -> None:
    """Every percentage, horizon and verdict read back equals the forecast and the bundle."""
    patient = _patient("out-read-back")
    _load_inputs(client, patient)
    bundle = _bundle(patient)
    receipt = submit(client, bundle)
    assert receipt.written
    for version in receipt.versions:
        found = httpx.get(f"{hapi.base_url}/{version.resource_type}/{version.resource_id}").content
        stored = read_json(found)
        ours = read_json(resources_of(bundle)[version.resource_type])
        for resource in (stored, ours):
            resource.pop("meta")
            resource.pop("text", None)
        assert _bare(stored) == _bare(ours), version.resource_type
    risk = read_json(httpx.get(f"{hapi.base_url}/RiskAssessment/ra-{bundle.assessment_id}").content)
    written = json.loads(canonical_json(risk["prediction"]), parse_float=Decimal)
    computed = forecast(patient).incidences
    assert [entry["probabilityDecimal"] for entry in written] == [to_percent(entry.probability) for entry in computed]
    assert len(written) == 4 * len(Outcome)


def _bare(value: object) -> object:
    """HAPI strips versions from references by default; Provenance keeps them as identifiers."""
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if isinstance(value, dict):
        return {
            key: str(item).partition("/_history/")[0] if key == "reference" else _bare(item)
            for key, item in value.items()
        }
    return value


def _versions_held(hapi: Hapi, bundle: TransactionBundle) -> list[str]:
    return [
        str(read_json(httpx.get(f"{hapi.base_url}/{reference}").content)["meta"]["versionId"])  # type: ignore[index]
        for reference in bundle.resources
    ]


def test_ten_submissions_leave_version_one(hapi: Hapi, client: FhirClient) -> None:
    """Ten times the same assessment: one RiskAssessment, one CarePlan, versionId still 1."""
    patient = _patient("out-ten-times")
    _load_inputs(client, patient)
    receipts = [submit(client, _bundle(patient)) for _ in range(10)]
    assert [receipt.written for receipt in receipts] == [True] + [False] * 9
    assert _versions_held(hapi, _bundle(patient)) == ["1"] * 8
    for kind in ("RiskAssessment", "CarePlan"):
        found = client.search(kind, [("patient", str(patient.person.patient_id))])
        assert len(found.matches) == 1


def _submit_from_a_process(base_url: str, bundle: TransactionBundle) -> WriteReceipt:
    with FhirClient(base_url) as own:
        return submit(own, bundle)


@pytest.mark.fault("F-43")
def test_two_processes_at_once_leave_version_one(hapi: Hapi, client: FhirClient) -> None:
    """Two processes that write the same assessment leave one of each in its first version (F-43)."""
    patient = _patient("out-two-processes")
    _load_inputs(client, patient)
    bundle = _bundle(patient)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(_submit_from_a_process, hapi.base_url, bundle) for _ in range(4)]
        receipts = [future.result() for future in waiting]
    assert len({receipt.versions for receipt in receipts}) == 1
    assert _versions_held(hapi, bundle) == ["1"] * 8


@pytest.mark.fault("F-43")
def test_writers_at_the_same_moment_leave_version_one(hapi: Hapi, client: FhirClient) -> None:
    """Four writers released together leave one of each in its first version."""
    patient = _patient("out-at-once")
    _load_inputs(client, patient)
    bundle, barrier = _bundle(patient), Barrier(4)

    def write() -> WriteReceipt:
        barrier.wait()
        return _submit_from_a_process(hapi.base_url, bundle)

    with ThreadPoolExecutor(4) as pool:
        receipts = [future.result() for future in [pool.submit(write) for _ in range(4)]]
    assert len({receipt.versions for receipt in receipts}) == 1
    assert _versions_held(hapi, bundle) == ["1"] * 8


class _NamesIdsItself(httpx.HTTPTransport):
    """HAPI as a server that does not let clients name ids: only its own statement says otherwise."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if not request.url.path.endswith("/metadata"):
            return response
        response.read()
        statement = read_json(response.content)
        for resource in statement["rest"][0]["resource"]:  # type: ignore[index]
            resource["interaction"] = [code for code in resource["interaction"] if code["code"] != "update"]
        return httpx.Response(200, content=canonical_json(statement), request=request)


def test_a_server_that_names_ids_itself_holds_it_once_too(hapi: Hapi, client: FhirClient) -> None:
    """Without client ids: conditional creates, found again by identifier, one of each after three submissions."""
    patient = _patient("out-server-ids", timeline(changes={"ecog": 1.0}))
    _load_inputs(client, patient)
    bundle = assessment(patient, patient_id=str(patient.person.patient_id), mode=OutputMode.DEMO)
    with FhirClient(hapi.base_url, transport=_NamesIdsItself()) as closed:
        receipts = [submit(closed, bundle) for _ in range(3)]
    assert len({receipt.versions for receipt in receipts}) == 1
    assert [version.version for version in receipts[0].versions] == ["1"] * 8
    assert not {f"{entry.resource_type}/{entry.resource_id}" for entry in receipts[0].versions} & set(bundle.resources)
    found = client.search("RiskAssessment", [("patient", str(patient.person.patient_id))])
    assert len(found.matches) == 1


def _tagged(hapi: Hapi, resource_type: str, tag: str) -> list[str]:
    """What a search by tag finds, `Type/id`, in the order found."""
    found = httpx.get(
        f"{hapi.base_url}/{resource_type}", params={"_tag": tag}, headers={"Cache-Control": "no-cache"}
    ).json()
    return [f"{resource_type}/{entry['resource']['id']}" for entry in found.get("entry", [])]


def _get(hapi: Hapi, reference: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{hapi.base_url}/{reference}").json()
    return found


def test_hapi_holds_the_newer_assessment_and_the_older_one_marked(hapi: Hapi, client: FhirClient) -> None:
    """In one transaction the new plan stands and names the old draft, which is revoked; what is marked stays valid."""
    patient = _patient("out-superseded")
    later = replace(patient, landmark=replace(patient.landmark, time=patient.landmark.time + timedelta(days=3)))
    _load_inputs(client, patient)
    older, newer = _bundle(patient), _bundle(later)
    submit(client, older)
    receipt = submit(client, newer)
    assert len(receipt.superseded) == 4
    assert receipt.kept == ()
    statuses = {
        prefix: _get(hapi, f"{prefix}-{older.assessment_id}")["status"] for prefix in ("CarePlan/cp", "Task/ta")
    }
    assert statuses == {"CarePlan/cp": "revoked", "Task/ta": "cancelled"}
    plan = _get(hapi, f"CarePlan/cp-{newer.assessment_id}")
    assert plan["replaces"] == [{"reference": f"CarePlan/cp-{older.assessment_id}"}]
    for version in receipt.superseded:
        marked = httpx.get(f"{hapi.base_url}/{version.resource_type}/{version.resource_id}").content
        assert hapi.validate(marked, version.resource_type) == []
    again = submit(client, newer)
    assert (again.written, again.superseded) == (False, receipt.superseded)


class _EditedMeanwhile(httpx.HTTPTransport):
    """The real wire, on which a clinician accepts a plan just before our first write; tells what came back."""

    def __init__(self, accept: Callable[[], None]) -> None:
        super().__init__()
        self._accept: Callable[[], None] | None = accept
        self.conflicts: list[int] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != "GET" and self._accept is not None:
            self._accept()
            self._accept = None
        response = super().handle_request(request)
        if request.method != "GET" and response.status_code >= 400:
            self.conflicts.append(response.status_code)
        return response


def test_hapi_answers_a_clinicians_edit_with_a_conflict_and_theirs_is_kept(hapi: Hapi, client: FhirClient) -> None:
    """An edit between our look and our write: HAPI refuses the transaction, we look again, theirs stays active."""
    patient = _patient("out-edited")
    later = replace(patient, landmark=replace(patient.landmark, time=patient.landmark.time + timedelta(days=3)))
    _load_inputs(client, patient)
    older, newer = _bundle(patient), _bundle(later)
    submit(client, older)
    reference = f"CarePlan/cp-{older.assessment_id}"

    def accept() -> None:
        plan = {**_get(hapi, reference), "status": "active"}
        httpx.put(f"{hapi.base_url}/{reference}", json=plan).raise_for_status()

    wire = _EditedMeanwhile(accept)
    with FhirClient(hapi.base_url, transport=wire) as edited:
        receipt = submit(edited, newer)
    assert set(wire.conflicts) <= {409, 412}
    assert wire.conflicts
    assert _get(hapi, reference)["status"] == "active"
    assert [version.resource_type for version in receipt.kept] == ["CarePlan"]
    assert "replaces" not in _get(hapi, f"CarePlan/cp-{newer.assessment_id}")


def test_everything_of_an_assessment_is_found_by_its_tag_and_can_be_removed(hapi: Hapi, client: FhirClient) -> None:
    """The clean-up of docs/fhir_outputs.md in its order: Provenance first, RiskAssessment last; nothing is left."""
    patient = _patient("out-removed")
    _load_inputs(client, patient)
    bundle = _bundle(patient)
    submit(client, bundle)
    tag = f"urn:adjuvant:assessment|{bundle.assessment_id}"
    order = ("Provenance", "Task", "GuidanceResponse", "DetectedIssue", "CarePlan", "RiskAssessment")
    found = [reference for kind in order for reference in _tagged(hapi, kind, tag)]
    assert sorted(found) == sorted(bundle.resources[2:])
    for reference in found:
        httpx.delete(f"{hapi.base_url}/{reference}").raise_for_status()
    assert [reference for kind in order for reference in _tagged(hapi, kind, tag)] == []
