"""Law 1 from the raw record on: what became known after the landmark changes no byte of what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from adapter.decision.policy import load_policy
from adapter.domain.ids import SeriesUid, StudyUid
from adapter.domain.imaging import ImageDescriptors
from adapter.domain.outcome import TransactionBundle
from adapter.domain.period import Period
from adapter.domain.record import PatientRecord, RawRecord
from adapter.domain.risk import AtRisk
from adapter.features.at_risk import LandmarkPolicy
from adapter.fhir.decode import Reading
from adapter.fhir.delivery import OutputMode, load_delivery
from adapter.pipeline.decide import decide, read_record
from adapter.pipeline.ports import Predictor
from adapter.pipeline.practice import Practice
from adapter.terminology import load_terminology
from tests.fakes.predictors import SeeingPredictor, SensitivePredictor
from tests.fakes.raw_records import (
    LOINC,
    Resource,
    administration,
    as_raw,
    concept,
    condition,
    observation,
    procedure,
    quantity,
    raw_resource,
)
from tests.fakes.records import PATHOLOGY_KNOWN, SURGERY, additions, moments, operated

_TERMINOLOGY = load_terminology()
_PRACTICE = Practice(
    reading=Reading(terminology=_TERMINOLOGY),
    landmarks=LandmarkPolicy(),
    policy=load_policy(),
    delivery=load_delivery(),
    mode=OutputMode.RESEARCH,
    base_url="http://127.0.0.1:8080/fhir",
)
_AT = PATHOLOGY_KNOWN + timedelta(hours=1)
_AFTER = moments(_AT + timedelta(seconds=1))
_REPORT = [{"system": "urn:oid:1.2.3.9", "value": "report-7"}]


def _patient() -> RawRecord:
    """The operated patient as a server returns him, with a report number on every Observation and one bad result."""
    born = replace(operated().person, birth=None)
    raw = as_raw(replace(operated(), person=born), _TERMINOLOGY)
    bad = observation(concept(LOINC, "718-7"), "bad", issued=SURGERY.isoformat(), valueQuantity=quantity(13, None))
    numbered = [
        raw_resource({**json.loads(one.content), "identifier": _REPORT})
        if one.version.resource_type == "Observation"
        else one
        for one in raw.resources
    ]
    return replace(raw, resources=(*numbered, raw_resource(bad)))


def written(
    raw: RawRecord, at: datetime | None, images: tuple[ImageDescriptors, ...] = (), predictor: Predictor | None = None
) -> TransactionBundle:
    """What would be sent."""
    record, stands = read_record(raw, _PRACTICE, at)
    assert isinstance(stands, AtRisk)
    return decide(record, stands, images, practice=_PRACTICE, predictor=predictor or SensitivePredictor()).bundle


_PATIENT = _patient()
_WRITTEN = written(_PATIENT, _AT)


def _stamp(resource: Resource, known: datetime) -> Resource:
    """The resource as if the server had learned of it then."""
    reported = {"Observation": "issued", "Condition": "recordedDate"}.get(str(resource["resourceType"]))
    changed = {**resource, "meta": {"lastUpdated": known.isoformat()}}
    return {**changed, reported: known.isoformat()} if reported else changed


def _refused(number: int) -> tuple[Resource, ...]:
    """Resources of which nothing can be used, each for another reason."""
    hgb = concept(LOINC, "718-7", "Hemoglobin")
    name = f"late-{number}"
    modifier = [{"url": "urn:example:refuted", "valueBoolean": True}]
    return (
        observation(hgb, name, valueQuantity=quantity(13, None)),
        observation(hgb, name, valueQuantity=quantity(13, "furlong")),
        observation(hgb, name, status="entered-in-error", valueQuantity=quantity(13, "g/dL")),
        observation(hgb, name, modifierExtension=modifier),
        observation(hgb, name, effectiveDateTime="2012-2-00", valueQuantity=quantity(13, "g/dL")),
        observation(hgb, name, component=7),
        observation(concept("urn:oid:9.9.9", f"lab-{number % 30}"), name, valueQuantity=quantity(1, "mmol/L")),
        procedure(concept("urn:oid:9.9.9", "operation"), name),
        procedure(concept("urn:adjuvant:procedure", "definitive-resection"), name, status="not-done"),
        condition(concept("http://hl7.org/fhir/sid/icd-10", "J45"), name),
        administration(name, medicationReference={"reference": "#nothing"}),
    )


def _corrections() -> tuple[Resource, ...]:
    """Each report of the patient once more, corrected, and once withdrawn by a newer copy."""
    reports = [json.loads(one.content) for one in _PATIENT.resources if one.version.resource_type == "Observation"]
    return tuple({**one, "id": f"{one['id']}-again", "status": "corrected"} for one in reports)


_LATE = st.one_of(
    st.integers(0, 999).flatmap(lambda number: st.sampled_from(_refused(number))), st.sampled_from(_corrections())
)


def _with(raw: RawRecord, *resources: Resource) -> RawRecord:
    return replace(raw, resources=(*raw.resources, *map(raw_resource, resources)))


def _entries_of(added: PatientRecord) -> tuple[Resource, ...]:
    """The usable additions as raw resources, without their Patient."""
    raw = as_raw(replace(added, person=replace(added.person, birth=None)), _TERMINOLOGY)
    return tuple(json.loads(one.content) for one in raw.resources if one.version.resource_type != "Patient")


@given(additions(_AFTER), st.lists(st.tuples(_LATE, _AFTER), max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_what_became_known_later_changes_no_byte(
    added: PatientRecord, late: list[tuple[Resource, datetime]], order: Random
) -> None:
    """Results, corrections, withdrawals, refusals and unknown codes of later days, in any order: the same bytes."""
    sources = [entry.source for entry in added.dated()]
    assume(len(set(sources)) == len(sources))
    raw = _with(_PATIENT, *_entries_of(added), *(_stamp(resource, known) for resource, known in late))
    shuffled = list(raw.resources)
    order.shuffle(shuffled)
    assert written(replace(raw, resources=tuple(shuffled)), _AT) == _WRITTEN


@given(st.lists(st.tuples(st.integers(0, 999).flatmap(lambda n: st.sampled_from(_refused(n))), _AFTER), max_size=8))
@settings(max_examples=40)
def test_what_cannot_be_used_moves_no_landmark(late: list[tuple[Resource, datetime]]) -> None:
    """Without a moment to stand at, later refusals and unknown codes still change nothing of what stands.

    What was entered in error may have been used before: a look without it keeps the place, and is another law's.
    """
    late = [(resource, known) for resource, known in late if resource.get("status") != "entered-in-error"]
    raw = _with(_PATIENT, *(_stamp(resource, known) for resource, known in late))
    assert written(raw, None) == _WRITTEN


def test_the_law_is_not_kept_by_seeing_nothing() -> None:
    """The same additions known an hour earlier do change the bytes: results, corrections and refusals alike."""
    before = PATHOLOGY_KNOWN - timedelta(hours=1)
    taken = {"effectiveDateTime": SURGERY.isoformat(), "valueQuantity": quantity(9, "g/dL")}
    hgb = observation(concept(LOINC, "718-7"), "early", **taken)
    seen = [hgb, _refused(1)[0], _refused(1)[6], _corrections()[0]]
    for resource in seen:
        assert written(_with(_PATIENT, _stamp(resource, before)), _AT) != _WRITTEN


def test_a_landmark_before_a_correction_keeps_what_it_saw() -> None:
    """The margin is corrected a month later: the decision landmark sees the first report, the later one the second."""
    margin = next(one for one in _corrections() if "margin" in str(one["id"]))
    residual = {"valueCodeableConcept": concept("urn:adjuvant:value", "margin_class:R1")}
    later = PATHOLOGY_KNOWN + timedelta(days=30)
    raw = _with(_PATIENT, _stamp({**margin, **residual}, later))
    assert written(raw, _AT) == _WRITTEN
    record, _ = read_record(raw, _PRACTICE, None)
    assert [entry.value for entry in record.measurements if entry.feature == "margin_class"] == ["R1"]
    assert "superseded" in {entry.reason for entry in record.quarantined}


def test_the_record_in_any_order_is_the_same_bytes() -> None:
    """A server answers in an order of its own."""
    assert written(replace(_PATIENT, resources=_PATIENT.resources[::-1]), _AT) == _WRITTEN


def _image(acquired: datetime, known: datetime, embedding: float = 1.0, number: int = 1) -> ImageDescriptors:
    return ImageDescriptors(
        series_uid=SeriesUid(f"1.2.{number}"),
        study_uid=StudyUid("1.2"),
        modality="CT",
        acquired=Period.instant(acquired),
        known=known,
        digest="ab" * 32,
        values=(),
        embedding=(embedding, 0.5),
    )


_EARLY = _image(SURGERY - timedelta(days=3), SURGERY - timedelta(days=3))
_SEEN = written(_PATIENT, _AT, (_EARLY,), SeeingPredictor())


@given(st.lists(st.tuples(_AFTER, _AFTER, st.floats(-6.0, 6.0, width=32)), min_size=1, max_size=3), st.booleans())
@settings(max_examples=40)
def test_an_image_of_a_later_day_changes_no_byte(
    late: list[tuple[datetime, datetime, float]], taken_early: bool
) -> None:
    """Taken or reported after the landmark: neither a first image nor one beside an earlier one is seen."""
    images = tuple(
        _image(SURGERY if taken_early else min(taken, known), max(taken, known), value, number)
        for number, (taken, known, value) in enumerate(late, start=2)
    )
    assert written(_PATIENT, _AT, images, SeeingPredictor()) == written(_PATIENT, _AT, (), SeeingPredictor())
    assert written(_PATIENT, _AT, (*images, _EARLY), SeeingPredictor()) == _SEEN


def test_the_law_is_not_kept_by_a_model_that_is_blind() -> None:
    """An image known before the landmark does change the bytes, and so does what the encoder makes of it."""
    assert written(_PATIENT, _AT, (), SeeingPredictor()) != _SEEN
    other = replace(_EARLY, embedding=(2.0, 0.5))
    assert written(_PATIENT, _AT, (other,), SeeingPredictor()) != _SEEN
