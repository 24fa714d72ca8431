"""Raw records as a server would send them, resource by resource, with one thing wrong at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo

from adapter.domain.ids import PatientId, ResourceVersion
from adapter.domain.record import PatientRecord, RawRecord, RawResource
from adapter.sandbox.resources import fhir_resources
from adapter.terminology import Terminology

Resource = dict[str, object]
UCUM = "http://unitsofmeasure.org"
LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
ICD = "http://hl7.org/fhir/sid/icd-10"
TRUE_AT = "2025-03-20T10:00:00Z"
KNOWN_AT = "2025-03-20T12:00:00Z"
PATIENT: Resource = {
    "resourceType": "Patient",
    "id": "p1",
    "meta": {"lastUpdated": "2025-01-01T00:00:00Z"},
    "identifier": [{"system": "urn:oid:1.2.3", "value": "4711"}],
    "gender": "female",
    "birthDate": "1960-07-01",
}


def raw_record(*resources: Resource, people: Iterable[Resource] = (PATIENT,)) -> RawRecord:
    """A record of these resources, each at version 1 unless its meta says otherwise, as the search returns them."""
    everything = [raw_resource(resource) for resource in (*people, *resources)]
    return RawRecord(
        patient_id=PatientId("p1"),
        aliases=(),
        resources=tuple(sorted(everything, key=lambda one: one.version)),
        tallies=(),
    )


def raw_resource(resource: Resource) -> RawResource:
    """One resource as UTF-8 JSON."""
    meta = resource.get("meta")
    number = str(meta.get("versionId", "1")) if isinstance(meta, dict) else "1"
    version = ResourceVersion(str(resource["resourceType"]), str(resource["id"]), number)
    return RawResource(version=version, content=json.dumps(resource).encode())


def concept(system: str, code: str, display: str | None = None) -> Resource:
    """A CodeableConcept of one coding."""
    shown = {"display": display} if display else {}
    return {"coding": [{"system": system, "code": code, **shown}]}


def quantity(value: float, unit: str | None, *, comparator: str | None = None) -> Resource:
    """A Quantity in UCUM; None leaves the unit out."""
    written: Resource = {"value": value}
    if unit is not None:
        written |= {"unit": unit, "system": UCUM, "code": unit}
    return written | ({"comparator": comparator} if comparator else {})


def observation(code: Resource, resource_id: str = "o1", /, **elements: object) -> Resource:
    """A final Observation with its times; elements go over it, None takes one away."""
    return _resource(
        "Observation",
        resource_id,
        {"status": "final", "code": code, "effectiveDateTime": TRUE_AT, "issued": KNOWN_AT},
        elements,
    )


def procedure(code: Resource, resource_id: str = "s1", /, **elements: object) -> Resource:
    """A completed Procedure."""
    return _resource(
        "Procedure", resource_id, {"status": "completed", "code": code, "performedDateTime": TRUE_AT}, elements
    )


def condition(
    code: Resource, resource_id: str = "c1", *, status: str | None = "confirmed", **elements: object
) -> Resource:
    """A Condition of a verification status; None leaves it out."""
    system = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
    verified = {"verificationStatus": concept(system, status)} if status else {}
    return _resource("Condition", resource_id, {"code": code, "recordedDate": KNOWN_AT, **verified}, elements)


def administration(resource_id: str = "m1", /, **elements: object) -> Resource:
    """A completed MedicationAdministration of nothing yet."""
    return _resource(
        "MedicationAdministration", resource_id, {"status": "completed", "effectiveDateTime": TRUE_AT}, elements
    )


def imaging_study(resource_id: str = "i1", /, **elements: object) -> Resource:
    """An available CT study."""
    identifier = [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.840.1"}]
    return _resource(
        "ImagingStudy",
        resource_id,
        {"status": "available", "identifier": identifier, "modality": [{"code": "CT"}], "started": TRUE_AT},
        elements,
    )


def as_raw(record: PatientRecord, terminology: Terminology, *, zone: tzinfo = UTC) -> RawRecord:
    """The record as a server would return it whose clock stood at each entry's time known."""
    known: dict[str, datetime] = {entry.source.resource_id: entry.known for entry in record.dated()}
    known[record.person.patient_id] = record.person.known
    resources = fhir_resources(record, terminology, family_name="Simulated", tags=(), zone=zone)
    stamped = [{**one, "meta": {"lastUpdated": known[str(one["id"])].isoformat()}} for one in resources]
    return raw_record(*stamped, people=())


def _resource(
    resource_type: str, resource_id: str, given: Mapping[str, object], changes: Mapping[str, object]
) -> Resource:
    everything = {
        "resourceType": resource_type,
        "id": resource_id,
        "meta": {"lastUpdated": KNOWN_AT},
        "subject": {"reference": "Patient/p1"},
        **given,
        **changes,
    }
    return {name: value for name, value in everything.items() if value is not None}
