"""Playback: a hospital's server learns a course, and what is read back is the course."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from adapter.domain.ids import PatientId, ResourceVersion
from adapter.domain.record import PatientRecord, RawRecord, RawResource
from adapter.features.at_risk import LandmarkPolicy, landmarks
from adapter.fhir.decode import Reading, decode_record
from adapter.sandbox.patients import CourseKind, SimulatedCourse, simulate_courses
from adapter.sandbox.playback import Reveal, former_id, playback
from adapter.sandbox.resources import Resource
from adapter.terminology import load_terminology

TERMINOLOGY = load_terminology()
COURSES = simulate_courses(12, seed=7, today=datetime(2026, 3, 1, tzinfo=UTC))
REVEALS = playback(COURSES, TERMINOLOGY)


def stored(reveals: Iterable[Reveal]) -> Mapping[str, Resource]:
    """What a server whose clock follows the playback holds at the end."""
    held: dict[str, Resource] = {}
    for reveal in reveals:
        moment = reveal.time.isoformat().replace("+00:00", "Z")
        for resource in reveal.resources:
            meta = resource["meta"]
            assert isinstance(meta, dict)
            name = f"{resource['resourceType']}/{resource['id']}"
            held[name] = resource | {"meta": meta | {"versionId": "1", "lastUpdated": moment}}
    return held


def read_back(course: SimulatedCourse) -> PatientRecord:
    """One patient as our own reading sees it."""
    patient_id = course.record.person.patient_id
    held = stored(reveal for reveal in REVEALS if reveal.patient_id == patient_id)
    raw = RawRecord(
        patient_id=patient_id,
        aliases=tuple(PatientId(id_) for id_ in [former_id(course)] if course.kind is CourseKind.MERGED),
        resources=tuple(
            RawResource(
                version=ResourceVersion(str(resource["resourceType"]), str(resource["id"]), "1"),
                content=json.dumps(resource).encode(),
            )
            for _, resource in sorted(held.items())
        ),
        tallies=(),
    )
    return decode_record(raw, Reading(terminology=TERMINOLOGY))


def in_order(record: PatientRecord) -> PatientRecord:
    """Every list sorted, so that two records compare by content."""
    return replace(
        record,
        measurements=tuple(sorted(set(record.measurements), key=repr)),
        procedures=tuple(sorted(record.procedures, key=repr)),
        diagnoses=tuple(sorted(record.diagnoses, key=repr)),
        medications=tuple(sorted(record.medications, key=repr)),
        imaging=tuple(sorted(record.imaging, key=repr)),
    )


@pytest.mark.parametrize(
    "course",
    [course for course in COURSES if course.kind is not CourseKind.BAD_LAB_UNIT],
    ids=lambda course: course.kind.value,
)
def test_what_is_read_back_is_the_course(course: SimulatedCourse) -> None:
    """Every entry comes back from FHIR with its value, unit and times, and stands at the same landmarks."""
    seen = read_back(course)
    assert in_order(replace(seen, quarantined=(), person=course.record.person)) == in_order(course.record)
    assert (seen.person.birth, seen.person.died) == (course.record.person.birth, course.record.person.died)
    assert landmarks(seen, LandmarkPolicy()) == landmarks(course.record, LandmarkPolicy())


def test_an_impossible_unit_is_quarantined() -> None:
    """The creatinine of that course is refused by name, and nothing else is."""
    course = next(course for course in COURSES if course.kind is CourseKind.BAD_LAB_UNIT)
    seen = read_back(course)
    assert {(entry.reason, entry.detail) for entry in seen.quarantined} == {("unknown-unit", "creatinine umol")}
    lost = {entry.feature for entry in course.record.measurements} - {entry.feature for entry in seen.measurements}
    assert lost == {"creatinine"}


def test_a_salivary_cancer_is_on_record_and_not_ours() -> None:
    """The server holds a cancer that no mapping row knows; it is counted, not dropped in silence."""
    course = next(course for course in COURSES if course.kind is CourseKind.SALIVARY)
    seen = read_back(course)
    assert seen.diagnoses == ()
    assert [entry.reason for entry in seen.quarantined] == ["unmapped-code"]


def test_the_former_record_ends_replaced() -> None:
    """Two active Patients at first; in the end one replaces the other, and both say so."""
    course = next(course for course in COURSES if course.kind is CourseKind.MERGED)
    patient_id, former = course.record.person.patient_id, former_id(course)
    reveals = [reveal for reveal in REVEALS if reveal.patient_id == patient_id]
    early, late = stored(reveals[:2]), stored(reveals)
    assert early[f"Patient/{former}"]["active"] is early[f"Patient/{patient_id}"]["active"] is True
    assert late[f"Patient/{former}"]["active"] is False
    assert late[f"Patient/{former}"]["link"] == [
        {"other": {"reference": f"Patient/{patient_id}"}, "type": "replaced-by"}
    ]
    assert late[f"Patient/{patient_id}"]["link"] == [{"other": {"reference": f"Patient/{former}"}, "type": "replaces"}]


def test_a_death_shows_only_when_it_is_recorded() -> None:
    """Until its last event the Patient is alive; the future never leaks into an earlier moment."""
    course = next(course for course in COURSES if course.kind is CourseKind.DECEASED)
    patient_id = course.record.person.patient_id
    reveals = [reveal for reveal in REVEALS if reveal.patient_id == patient_id]
    assert stored(reveals[:-1])[f"Patient/{patient_id}"]["deceasedBoolean"] is False
    assert "deceasedDateTime" in stored(reveals)[f"Patient/{patient_id}"]


def test_everything_is_tagged_and_named_as_simulated() -> None:
    """No resource of the sandbox can be taken for a real patient's."""
    for reveal in REVEALS:
        for resource in reveal.resources:
            assert "simulated" in json.dumps(resource["meta"])
            if resource["resourceType"] == "Patient":
                assert "Simulated" in json.dumps(resource["name"])


def test_the_playback_runs_in_time() -> None:
    """Courses interleave, so that one clock serves them all."""
    times = [reveal.time for reveal in REVEALS]
    assert times == sorted(times)
    assert len({reveal.patient_id for reveal in REVEALS[:12]}) > 1
