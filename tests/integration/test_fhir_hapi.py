"""Reading from a real HAPI FHIR 8.8 JPA R4: paging, `_lastUpdated`, its search cache, merged patients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest

from adapter.domain.ids import PatientId
from adapter.domain.tristate import TriState
from adapter.errors import VersionConflict
from adapter.fhir.changes import fetch_changes
from adapter.fhir.client import FhirClient
from adapter.fhir.cohort import PatientList
from adapter.fhir.fetch import fetch_record
from adapter.fhir.limits import Limits
from adapter.fhir.replies import Gone
from tests.peers.hapi import Hapi


@pytest.fixture
def client(hapi: Hapi) -> Iterator[FhirClient]:
    """A client that asks for small pages, so that paging happens."""
    with FhirClient(hapi.base_url, limits=Limits(page_size=20)) as opened:
        yield opened


@pytest.fixture
def name() -> str:
    """A patient id of this test's own."""
    return f"pull-{uuid4().hex[:12]}"


def write(client: FhirClient, *resources: dict[str, object]) -> None:
    """PUT resources in one transaction."""
    entries = [
        {"resource": resource, "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}}
        for resource in resources
    ]
    reply = client.post_transaction(
        json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}).encode()
    )
    assert {entry.status for entry in reply.entries} <= {200, 201}
    assert all(entry.version is not None for entry in reply.entries)


def patient(name: str, **more: object) -> dict[str, object]:
    """A Patient without a name."""
    return {"resourceType": "Patient", "id": name, **more}


def observation(name: str, number: int, value: float = 12.5) -> dict[str, object]:
    """A haemoglobin of this patient."""
    return {
        "resourceType": "Observation",
        "id": f"{name}-{number}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "subject": {"reference": f"Patient/{name}"},
        "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": "g/dL"},
    }


def test_it_declares_what_the_work_needs(client: FhirClient) -> None:
    """R4, every type searchable by patient, transactions, conditional create; it is silent about client-named ids."""
    capabilities = client.capabilities()
    assert capabilities.fhir_version == "4.0.1"
    assert capabilities.gaps() == ()
    assert capabilities.transaction
    assert capabilities.client_ids("RiskAssessment") is TriState.UNKNOWN
    assert capabilities.conditional_create("RiskAssessment")


def test_a_record_is_paged_whole(client: FhirClient, name: str) -> None:
    """130 Observations in pages of 20 through `_getpages` links: all there, once, and nothing of anybody else."""
    write(client, patient(name), patient(f"{name}-x"), observation(f"{name}-x", 0))
    write(client, *(observation(name, number) for number in range(130)))
    record = fetch_record(client, PatientId(name))
    found = {resource.version.resource_id for resource in record.resources}
    assert found == {name, *(f"{name}-{number}" for number in range(130))}
    assert (record.tallies[0].pages, record.tallies[0].entries) == (7, 130)
    assert all(tally.ignored == () for tally in record.tallies)
    assert record.quarantined == ()
    assert fetch_record(client, PatientId(name)) == record


def test_what_was_just_written_is_read(client: FhirClient, name: str) -> None:
    """HAPI repeats an identical search from its cache for a minute; ours is never one of those."""
    write(client, patient(name), observation(name, 0))
    assert len(fetch_record(client, PatientId(name)).resources) == 2
    write(client, observation(name, 1))
    assert len(fetch_record(client, PatientId(name)).resources) == 3


@pytest.mark.fault("F-26")
def test_changes_are_polled_by_server_time(client: FhirClient, name: str) -> None:
    """A new Observation of the cohort is reported once; nothing changed costs three searches."""
    write(client, patient(name), observation(name, 0))
    cohort = PatientList(patients=(PatientId(name),))
    first = fetch_changes(client, None, cohort)
    assert [change.patient_id for change in first.changes] == [name]
    second = fetch_changes(client, first.next_watermark, cohort, remembered=first.remembered)
    write(client, observation(name, 1))
    third = fetch_changes(client, second.next_watermark, cohort, remembered=second.remembered)
    assert [str(change.version) for change in third.changes] == [f"Observation/{name}-1/_history/1"]
    fourth = fetch_changes(client, third.next_watermark, cohort, remembered=third.remembered)
    assert fourth.changes == ()
    assert fourth.next_watermark.time >= third.next_watermark.time


@pytest.mark.fault("F-14")
def test_a_replaced_patient_is_followed(client: FhirClient, name: str) -> None:
    """Asked by the old id, the record is the survivor's and holds what was filed under both."""
    link = [{"type": "replaced-by", "other": {"reference": f"Patient/{name}"}}]
    write(client, patient(name))
    write(client, patient(f"{name}-old", active=False, link=link), observation(f"{name}-old", 0), observation(name, 0))
    record = fetch_record(client, PatientId(f"{name}-old"))
    assert (record.patient_id, record.aliases) == (name, (f"{name}-old",))
    assert len(record.resources) == 4
    assert fetch_record(client, PatientId(name)) == record


def test_reads_and_writes_speak_the_same_versions(client: FhirClient, name: str) -> None:
    """An identical PUT makes no new version, a stale If-Match is a conflict, never and no longer there differ."""
    content = json.dumps(patient(name)).encode()
    first = client.put("Patient", name, content)
    assert first.created
    assert client.put("Patient", name, content).version == first.version
    changed = json.dumps(patient(name, active=True)).encode()
    assert client.put("Patient", name, changed, if_match="1").version != first.version
    with pytest.raises(VersionConflict):
        client.put("Patient", name, json.dumps(patient(name, active=False)).encode(), if_match="1")
    assert client.read("Patient", f"{name}-never") is None
    assert not isinstance(client.read("Patient", name), Gone | None)


def test_a_conditional_create_makes_one(client: FhirClient, name: str) -> None:
    """Twice the same identifier, one resource, found by it."""
    device = {"resourceType": "Device", "identifier": [{"system": "urn:adjuvant:test", "value": name}]}
    condition = f"identifier=urn:adjuvant:test%7C{name}"
    created, again = (client.create("Device", json.dumps(device).encode(), if_none_exist=condition) for _ in range(2))
    assert (created.created, again.created) == (True, False)
    found = client.search_by_identifier("Device", "urn:adjuvant:test", name)
    assert [resource.version for resource in found] == [created.version]
