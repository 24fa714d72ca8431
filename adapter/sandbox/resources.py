"""PatientRecord -> FHIR R4 resources, by the same mapping tables that read them: the inverse of `adapter.fhir.decode`.

Used by the pretend hospital, and by the parity tests that send a public cohort through a real server.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, time, timedelta, tzinfo

from adapter.domain.period import Period
from adapter.domain.record import (
    Diagnosis,
    ImagingReference,
    Measurement,
    MedicationEvent,
    PatientRecord,
    Person,
    ProcedureEvent,
)
from adapter.domain.tristate import TriState
from adapter.terminology import Code, Terminology

SIMULATED = {"system": "urn:adjuvant:tag", "code": "simulated", "display": "Simulated: not a real patient"}
TEST_HEALTH_DATA = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}
PUBLIC_COHORT = {"system": "urn:adjuvant:tag", "code": "public-cohort", "display": "De-identified research data"}

Resource = dict[str, object]
_UCUM = "http://unitsofmeasure.org"
_LABORATORY = "laboratory"
_LAST_MOMENT = timedelta(microseconds=1)
_Entry = Measurement | ProcedureEvent | Diagnosis | MedicationEvent | ImagingReference


def fhir_resources(
    record: PatientRecord,
    terminology: Terminology,
    *,
    family_name: str,
    tags: tuple[Mapping[str, str], ...] = (SIMULATED, TEST_HEALTH_DATA),
    zone: tzinfo = UTC,
) -> list[Resource]:
    """The record as resources with the ids of its sources, the Patient first, then in order of time known.

    family_name: obviously artificial; a record holds no name. tags: `meta.tag` of every resource. zone: the hospital's,
    for whole days, months and years. Measurements of one source become one Observation: the edition its `method`,
    further features its components. Raises ValueError for a birth or imaging time that is none of these.
    """
    writer = _Writer(terminology, f"Patient/{record.person.patient_id}", tags, zone)
    resources = [writer.patient(record.person, family_name)]
    by_source: dict[str, list[Measurement]] = {}
    for measurement in record.measurements:
        by_source.setdefault(measurement.source.resource_id, []).append(measurement)
    written: list[tuple[datetime, Resource]] = [
        (group[0].known, writer.observation(group)) for group in by_source.values()
    ]
    written.extend((entry.known, writer.other(entry)) for entry in record.dated() if not isinstance(entry, Measurement))
    resources += [resource for _, resource in sorted(written, key=lambda pair: (pair[0], str(pair[1]["id"])))]
    return resources


class _Writer:
    def __init__(
        self, terminology: Terminology, subject: str, tags: tuple[Mapping[str, str], ...], zone: tzinfo
    ) -> None:
        self._terminology = terminology
        self._zone = zone
        self._subject = {"reference": subject}
        self._meta = {"tag": [dict(tag) for tag in tags]}
        self._writers: Mapping[type[_Entry], Callable[..., Resource]] = {
            ProcedureEvent: self._procedure,
            Diagnosis: self._condition,
            MedicationEvent: self._medication,
            ImagingReference: self._imaging,
        }

    def patient(self, person: Person, family_name: str) -> Resource:
        """The Patient; birth date in the precision the period has."""
        resource: Resource = {
            "resourceType": "Patient",
            "id": str(person.patient_id),
            "meta": self._meta,
            "active": True,
            "identifier": [{"system": entry.system, "value": entry.value} for entry in person.identifiers],
            "name": [{"family": family_name, "given": [str(person.patient_id)]}],
            "gender": person.sex,
        }
        if person.birth is not None:
            resource["birthDate"] = _written(person.birth, self._zone)
        if person.died is not None:
            resource["deceasedDateTime"] = _written(person.died, self._zone)
        elif person.deceased is not TriState.UNKNOWN:
            resource["deceasedBoolean"] = person.deceased is TriState.TRUE
        return resource

    def observation(self, group: list[Measurement]) -> Resource:
        """One Observation; all measurements of the group share source, effective and known."""
        edition = next((entry for entry in group if entry.feature == "tnm_edition"), None)
        findings = [entry for entry in group if entry is not edition] or group
        first, components = findings[0], findings[1:]
        kind = self._terminology.features[first.feature].group
        category = _LABORATORY if kind == _LABORATORY else "exam"
        resource: Resource = {
            "resourceType": "Observation",
            "id": first.source.resource_id,
            "meta": self._meta,
            "status": "final",
            "category": [{"coding": [_category(category)]}],
            **self._finding(first),
            "subject": self._subject,
            **self._when("effective", first.effective),
            "issued": _instant(first.known),
        }
        if components:
            resource["component"] = [self._finding(entry) for entry in components]
        if edition is not None and edition is not first:
            code = self._terminology.coding_of_category("tnm_edition", str(edition.value))
            resource["method"] = {"coding": [_coding(code)]}
        return resource

    def other(self, entry: ProcedureEvent | Diagnosis | MedicationEvent | ImagingReference) -> Resource:
        """Any entry that is not a measurement."""
        return {
            "resourceType": entry.source.resource_type,
            "id": entry.source.resource_id,
            "meta": self._meta,
            "subject": self._subject,
            **self._writers[type(entry)](entry),
        }

    def _finding(self, entry: Measurement) -> Resource:
        resource: Resource = {"code": {"coding": [_coding(self._terminology.coding_of_feature(entry.feature))]}}
        if isinstance(entry.value, str):
            code = self._terminology.coding_of_category(entry.feature, entry.value)
            resource["valueCodeableConcept"] = {"coding": [_coding(code)]}
            return resource
        quantity: Resource = {"value": entry.value, "unit": entry.unit, "system": _UCUM, "code": entry.unit}
        if entry.comparator is not None:
            quantity["comparator"] = entry.comparator.value
        resource["valueQuantity"] = quantity
        return resource

    def _when(self, element: str, period: Period) -> Resource:
        """`performedDateTime` and its like; a span that no date can say becomes a Period."""
        try:
            return {f"{element}DateTime": _written(period, self._zone)}
        except ValueError:
            return {f"{element}Period": {"start": _instant(period.earliest), "end": _instant(period.latest)}}

    def _procedure(self, entry: ProcedureEvent) -> Resource:
        code = self._terminology.coding_of_procedure(entry.kind)
        return {"status": "completed", "code": {"coding": [_coding(code)]}, **self._when("performed", entry.performed)}

    def _condition(self, entry: Diagnosis) -> Resource:
        status = {TriState.TRUE: "confirmed", TriState.FALSE: "refuted", TriState.UNKNOWN: "unconfirmed"}
        system = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
        resource: Resource = {
            "verificationStatus": {"coding": [{"system": system, "code": status[entry.confirmed]}]},
            "code": {"coding": [_coding(self._terminology.coding_of_condition(entry.kind, entry.site_group))]},
            "recordedDate": _instant(entry.known),
        }
        if entry.confirmed is not TriState.FALSE:
            system = "http://terminology.hl7.org/CodeSystem/condition-clinical"
            resource["clinicalStatus"] = {"coding": [{"system": system, "code": "active"}]}
        return {**resource, **(self._when("onset", entry.onset) if entry.onset else {})}

    def _medication(self, entry: MedicationEvent) -> Resource:
        code = self._terminology.coding_of_ingredient(entry.ingredient)
        concept = {"coding": [_coding(code)]}
        return {"status": "completed", "medicationCodeableConcept": concept, **self._when("effective", entry.given)}

    def _imaging(self, entry: ImagingReference) -> Resource:
        return {
            "status": "available",
            "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{entry.study_uid}"}],
            "modality": [
                {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": code} for code in entry.modalities
            ],
            "started": _written(entry.started, self._zone),
        }


def _coding(code: Code) -> dict[str, str]:
    shown = {"display": code.display} if code.display else {}
    return {"system": code.system, "code": code.code, **shown}


def _category(code: str) -> dict[str, str]:
    return {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": code}


def _written(period: Period, zone: tzinfo) -> str:
    """An instant as dateTime, a whole day, month or year of the zone as date. Raises ValueError for any other span."""
    if period.earliest == period.latest:
        return _instant(period.earliest)
    start = period.earliest.astimezone(zone)
    after = (period.latest + _LAST_MOMENT).astimezone(zone)
    if start.time() == after.time() == time(0):
        if after.date() == start.date() + timedelta(days=1):
            return f"{start:%Y-%m-%d}"
        if start.day == after.day == 1 and _months(after) == _months(start) + 1:
            return f"{start:%Y-%m}"
        if (start.day, start.month, after.day, after.month) == (1, 1, 1, 1) and after.year == start.year + 1:
            return f"{start:%Y}"
    raise ValueError("a FHIR date is one moment, one day, one month or one year")


def _months(moment: datetime) -> int:
    return 12 * moment.year + moment.month


def _instant(moment: datetime) -> str:
    # in UTC: before 1930 many zones stood at odd seconds, and a FHIR offset has hours and minutes only
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def as_json(resources: list[Resource]) -> Iterator[bytes]:
    """Each resource as UTF-8 JSON whose numbers read back as the same floats."""
    for resource in resources:
        yield json.dumps(resource, ensure_ascii=False).encode()
