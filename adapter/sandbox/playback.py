"""Simulated courses as what a hospital's server learns, moment by moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from adapter.domain.ids import PatientId
from adapter.sandbox.patients import FAMILY_NAME, CourseEvent, CourseKind, SimulatedCourse
from adapter.sandbox.resources import SIMULATED, TEST_HEALTH_DATA, Resource, fhir_resources
from adapter.terminology import Terminology

_PAROTID = {
    "system": "http://hl7.org/fhir/sid/icd-10",
    "code": "C07",
    "display": "Malignant neoplasm of parotid gland",
}
_EVENTS_BEFORE_THE_MERGE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Reveal:
    """What the server learns at one moment: resources to PUT in this order, each under its own id."""

    time: datetime
    patient_id: PatientId
    what: str
    resources: tuple[Resource, ...]


def playback(courses: Iterable[SimulatedCourse], terminology: Terminology) -> tuple[Reveal, ...]:
    """Every event of every course, interleaved in time, as FHIR R4 resources tagged as simulated.

    A server whose clock is set to each reveal's time gives the times known that the courses were written with.
    """
    reveals = [reveal for course in courses for reveal in _reveals(course, terminology)]
    return tuple(sorted(reveals, key=lambda reveal: (reveal.time, reveal.patient_id)))


def beginnings_first(reveals: Sequence[Reveal]) -> tuple[Reveal, ...]:
    """The same, but each patient's first event before everything else: whoever lists patients needs them there."""
    first: dict[PatientId, Reveal] = {}
    for reveal in reveals:
        first.setdefault(reveal.patient_id, reveal)
    return (*first.values(), *(reveal for reveal in reveals if reveal is not first[reveal.patient_id]))


def former_id(course: SimulatedCourse) -> PatientId:
    """The id of the record that is merged away in a `MERGED` course."""
    return PatientId(f"{course.record.person.patient_id}-former")


def _reveals(course: SimulatedCourse, terminology: Terminology) -> Iterator[Reveal]:
    resources = {
        f"{resource['resourceType']}/{resource['id']}": resource
        for resource in fhir_resources(course.record, terminology, family_name=FAMILY_NAME)
    }
    for index, event in enumerate(course.events):
        learned = [resources[f"{source.resource_type}/{source.resource_id}"] for source in event.sources]
        if event.what != "death":
            learned = [_still_alive(resource) for resource in learned]
        if index == 0 and course.kind is CourseKind.SALIVARY:
            learned.append(_parotid(course))
        if course.kind is CourseKind.MERGED:
            patient = resources[f"Patient/{course.record.person.patient_id}"]
            learned = _around_the_merge(course, index, learned, patient)
        yield _revealed(course, event, learned)


def _revealed(course: SimulatedCourse, event: CourseEvent, resources: Iterable[Resource]) -> Reveal:
    return Reveal(
        time=event.time,
        patient_id=course.record.person.patient_id,
        what=event.what,
        resources=tuple(resources),
    )


def _still_alive(resource: Resource) -> Resource:
    """The Patient as it stood before a death was recorded; any other resource as it is."""
    if "deceasedDateTime" not in resource:
        return resource
    return {key: value for key, value in resource.items() if key != "deceasedDateTime"} | {"deceasedBoolean": False}


def _parotid(course: SimulatedCourse) -> Resource:
    """A cancer that no mapping row knows: not ours, and said so."""
    patient_id = course.record.person.patient_id
    system = "http://terminology.hl7.org/CodeSystem/condition"
    return {
        "resourceType": "Condition",
        "id": f"{patient_id}-salivary-cancer",
        "meta": {"tag": [SIMULATED, TEST_HEALTH_DATA]},
        "clinicalStatus": {"coding": [{"system": f"{system}-clinical", "code": "active"}]},
        "verificationStatus": {"coding": [{"system": f"{system}-ver-status", "code": "confirmed"}]},
        "code": {"coding": [_PAROTID]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "recordedDate": course.events[0].time.isoformat().replace("+00:00", "Z"),
    }


def _around_the_merge(
    course: SimulatedCourse, index: int, learned: list[Resource], patient: Resource
) -> list[Resource]:
    """The first visits stand under a former record of the same person; the third event links the two."""
    former = former_id(course)
    if index < _EVENTS_BEFORE_THE_MERGE:
        people = [patient, _former(former, patient)] if index == 0 else []
        return [*people, *(_about(former, resource) for resource in learned if resource is not patient)]
    if index > _EVENTS_BEFORE_THE_MERGE:
        return learned
    survivor = patient | {"link": [_link(former, "replaces")]}
    replaced = _former(former, patient) | {
        "active": False,
        "link": [_link(course.record.person.patient_id, "replaced-by")],
    }
    return [survivor, replaced, *learned]


def _former(former: PatientId, patient: Resource) -> Resource:
    """The same person registered twice; its own number goes out of use."""
    numbers = patient["identifier"]
    if not isinstance(numbers, list):
        raise TypeError("a simulated Patient has a list of identifiers")
    former_numbers = [number | {"use": "old", "value": f"{number['value']}-FORMER"} for number in numbers]
    return patient | {"id": str(former), "identifier": former_numbers}


def _about(patient_id: PatientId, resource: Resource) -> Resource:
    return resource | {"subject": {"reference": f"Patient/{patient_id}"}}


def _link(patient_id: PatientId, kind: str) -> dict[str, object]:
    return {"other": {"reference": f"Patient/{patient_id}"}, "type": kind}
