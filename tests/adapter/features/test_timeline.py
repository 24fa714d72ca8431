"""The timeline: what was known at the landmark, in one order."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adapter.domain.ids import SeriesUid, StudyUid
from adapter.domain.imaging import ImageDescriptors
from adapter.domain.period import Period
from adapter.domain.record import Measurement, PatientRecord, Quarantined
from adapter.domain.risk import AtRisk
from adapter.domain.timeline import Timeline
from adapter.domain.tristate import TriState
from adapter.features.assemble import assemble
from adapter.features.at_risk import LandmarkPolicy, standing
from adapter.features.timeline import build_timeline
from inference.contract import ModelInput
from tests.fakes.records import (
    CONTRACT,
    PATHOLOGY_KNOWN,
    SURGERY,
    additions,
    day,
    diagnosis,
    measured,
    merged,
    moments,
    operated,
    procedure,
    shuffled,
    with_measurements,
)

AFTER = PATHOLOGY_KNOWN + timedelta(seconds=1)


def decision() -> AtRisk:
    """The decision landmark of the operated patient."""
    stands = standing(operated(), LandmarkPolicy())
    assert isinstance(stands, AtRisk)
    return stands


def cut(record: PatientRecord, *images: ImageDescriptors) -> Timeline:
    """The timeline at that landmark."""
    return build_timeline(record, images, decision())


def image(number: int, *, days: float) -> ImageDescriptors:
    """A described series, acquired and known so many days from the landmark."""
    moment = PATHOLOGY_KNOWN + timedelta(days=days)
    return ImageDescriptors(
        series_uid=SeriesUid(f"1.2.{number}.1"),
        study_uid=StudyUid(f"1.2.{number}"),
        modality="CT",
        acquired=Period.instant(moment),
        known=moment,
        digest=f"{number:064x}",
        values=(("mean_hu", 1.0),),
    )


def bytes_of(model_input: ModelInput) -> tuple[bytes | float, ...]:
    """Every byte a model would see."""
    arrays = (
        model_input.static,
        model_input.static_mask,
        model_input.sequence,
        model_input.sequence_mask,
        model_input.sequence_age_days,
    )
    assert all(array.dtype == np.float32 for array in arrays)
    return (*(array.tobytes() for array in arrays), model_input.years_since_surgery)


@given(more=additions(moments(AFTER)), data=st.data())
def test_landmark_law(more: PatientRecord, data: st.DataObject) -> None:
    """Adding, changing or shuffling anything known after the landmark changes no byte of timeline or model input."""
    expected = cut(operated())
    seen = cut(data.draw(shuffled(merged(operated(), more))))
    assert seen == expected
    assert bytes_of(assemble(seen, CONTRACT)) == bytes_of(assemble(expected, CONTRACT))


@given(more=additions(moments(SURGERY - timedelta(days=30), seconds=30 * 86400)), data=st.data())
def test_the_order_of_the_record_changes_nothing(more: PatientRecord, data: st.DataObject) -> None:
    """Shuffling what was known before the landmark changes no byte either, ties included."""
    record = merged(operated(), more)
    expected, seen = cut(record), cut(data.draw(shuffled(record)))
    assert repr(seen) == repr(expected)
    assert bytes_of(assemble(seen, CONTRACT)) == bytes_of(assemble(expected, CONTRACT))


def test_a_late_report_of_an_early_finding_is_not_seen() -> None:
    """The cut is by when the hospital knew, not by when it was true."""
    late = measured("ene_path", "macro", at=SURGERY, known=AFTER)
    assert cut(with_measurements(operated(), late)).of("ene_path") == ()


def test_a_plan_is_not_a_fact() -> None:
    """An entry known early but dated after the landmark is left out; a partial date that may lie before it stays."""
    planned = procedure("radiotherapy_course", AFTER, known=SURGERY, source="planned")
    vague = procedure(
        "radiotherapy_course", Period(earliest=SURGERY, latest=SURGERY + timedelta(days=60)), known=SURGERY
    )
    record = replace(operated(), procedures=(*operated().procedures, planned, vague))
    kept = [entry for entry in cut(record).procedures if entry.kind == "radiotherapy_course"]
    assert kept == [vague]


def test_entries_stand_in_order_of_time() -> None:
    """Oldest first by when it was true, then by when it was known; a diagnosis without onset by when it was known."""
    earlier, later = SURGERY - timedelta(days=9), SURGERY - timedelta(days=2)
    record = replace(
        operated(),
        measurements=(
            measured("hgb", 11.0, at=later, known=later, source="a"),
            measured("hgb", 12.0, at=earlier, known=later, source="b"),
            measured("hgb", 13.0, at=earlier, known=earlier, source="c"),
        ),
        diagnoses=(
            diagnosis(known=later),
            diagnosis("heart_failure", known=SURGERY, onset=day(earlier)),
        ),
    )
    seen = cut(record)
    assert [entry.number for entry in seen.of("hgb")] == [13.0, 12.0, 11.0]
    assert [entry.kind for entry in seen.diagnoses] == ["heart_failure", "hnscc"]


def test_the_newest_finding_is_the_last() -> None:
    """A corrected report of the same specimen, known later, is what `latest` gives."""
    corrected = measured("pT", "pT3", at=day(SURGERY), known=PATHOLOGY_KNOWN - timedelta(days=1), source="z")
    first = cut(with_measurements(operated(), corrected)).latest("pT")
    assert isinstance(first, Measurement)
    assert first.category == "pT2"


def test_images_count_once_acquired_and_known() -> None:
    """An image after the landmark is invisible; the order of images changes nothing."""
    images = [image(2, days=-1.0), image(1, days=-30.0), image(3, days=0.5)]
    seen = cut(operated(), *images).images
    assert [entry.study_uid for entry in seen] == ["1.2.1", "1.2.2"]
    assert cut(operated(), *reversed(images)).images == seen


def test_a_death_after_the_landmark_is_invisible() -> None:
    """A Patient touched later, by a death or a new address, gives the same person at the landmark."""
    record = operated()
    died = replace(record.person, deceased=TriState.TRUE, died=Period.instant(AFTER), known=AFTER + timedelta(days=9))
    touched = replace(record.person, known=AFTER)
    expected = replace(cut(record), person=replace(cut(record).person, known=PATHOLOGY_KNOWN))
    assert cut(replace(record, person=died)) == cut(replace(record, person=touched)) == expected


def test_what_was_refused_is_cut_like_the_rest() -> None:
    """A resource quarantined after the landmark is invisible; one without any time is shown rather than hidden."""

    def refused(number: int, **known: object) -> Quarantined:
        return Quarantined(source=f"Observation/{number}/_history/1", reason="unknown-unit", detail="hgb", **known)  # type: ignore[arg-type]

    entries = (refused(3), refused(2, known=AFTER), refused(1, known=SURGERY), refused(1, known=SURGERY))
    seen = cut(replace(operated(), quarantined=entries)).quarantined
    assert [entry.source for entry in seen] == ["Observation/1/_history/1", "Observation/3/_history/1"]
