"""Model input: the contract's order and units, masks where nothing is known."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.domain.period import Period
from adapter.domain.record import Comparator, Measurement, PatientRecord
from adapter.domain.risk import AtRisk
from adapter.domain.timeline import Timeline
from adapter.domain.tristate import TriState
from adapter.errors import UnusableInput
from adapter.features.assemble import assemble, missing_inputs
from adapter.features.at_risk import LandmarkPolicy, standing
from adapter.features.timeline import build_timeline
from inference.contract import ModelContract, ModelInput, StaticInput
from tests.fakes.records import (
    CONTRACT,
    PATHOLOGY_KNOWN,
    SURGERY,
    ZONE,
    day,
    diagnosis,
    measured,
    operated,
    with_measurements,
    without,
)


def timeline_of(record: PatientRecord) -> Timeline:
    """The timeline at the record's own landmark."""
    stands = standing(record, LandmarkPolicy())
    assert isinstance(stands, AtRisk)
    return build_timeline(record, (), stands)


def static_of(record: PatientRecord, contract: ModelContract = CONTRACT) -> dict[str, float | None]:
    """Static entries by name; None where masked, which must also hold zero."""
    model_input = assemble(timeline_of(record), contract)
    values: dict[str, float | None] = {}
    for entry, value, mask in zip(contract.static, model_input.static, model_input.static_mask, strict=True):
        assert mask in {0.0, 1.0}
        assert mask or value == 0.0
        values[entry.name] = float(value) if mask else None
    return values


def one(feature: str, **changes: object) -> ModelContract:
    """A contract with one static entry."""
    entry = StaticInput(name="the-entry", feature=feature, **changes)  # type: ignore[arg-type]
    return replace(CONTRACT, static=(entry,), sequence=())


def test_the_vector_follows_the_contract() -> None:
    """Every entry stands at its contracted place, in float32, whatever order the record came in."""
    values = static_of(operated())
    assert values == {
        "age": pytest.approx(64.69, abs=0.01),
        "male": 0.0,
        "oral": 1.0,
        "pT": 2.0,
        "margin": 0.0,
        "nodes": 1.0,
        "hgb_before": pytest.approx(13.2),
    }


def test_shapes_and_types_are_the_contracts() -> None:
    """All arrays float32; (S,), (T, F) and (T,), also for a patient without any sequence."""
    for record in (operated(), without(operated(), "hgb", "crp")):
        model_input = assemble(timeline_of(record), CONTRACT)
        shapes = [array.shape for array in arrays_of(model_input)]
        assert shapes == [(7,), (7,), (4, 2), (4, 2), (4,)]
        assert {array.dtype for array in arrays_of(model_input)} == {np.dtype(np.float32)}


def arrays_of(model_input: ModelInput) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], ...]:
    """The arrays, in the order of the type."""
    return (
        model_input.static,
        model_input.static_mask,
        model_input.sequence,
        model_input.sequence_mask,
        model_input.sequence_age_days,
    )


def test_what_is_not_known_is_masked_and_zero() -> None:
    """No birth date, no sex, no site, no category in the contract: mask 0, value 0, never a guess."""
    record = without(operated(), "hgb", "nodes_positive", "margin_class")
    record = with_measurements(record, measured("margin_class", "RX", known=PATHOLOGY_KNOWN))
    record = replace(
        record, person=replace(record.person, birth=None, sex="unknown"), diagnoses=(diagnosis(site_group=None),)
    )
    assert static_of(record) == dict.fromkeys(("age", "male", "oral", "margin", "nodes", "hgb_before")) | {"pT": 2.0}


def test_a_required_input_is_named() -> None:
    """Without a required entry the model is not asked; the error names every one of them."""
    static = tuple(replace(entry, required=True) for entry in CONTRACT.static)
    record = without(operated(), "hgb", "nodes_positive")
    with pytest.raises(UnusableInput, match="required and not known: nodes, hgb_before"):
        assemble(timeline_of(record), replace(CONTRACT, static=static))


def test_missing_inputs_are_listed_by_feature() -> None:
    """A clinician reads which features of the model were not known, sequence columns included."""
    record = without(operated(), "hgb", "nodes_positive")
    model_input = assemble(timeline_of(record), CONTRACT)
    assert missing_inputs(model_input, CONTRACT) == ("hgb", "nodes_positive", "preoperative:hgb")
    empty = assemble(timeline_of(record), replace(CONTRACT, sequence_length=0))
    assert missing_inputs(empty, replace(CONTRACT, sequence_length=0))[0] == "crp"


@pytest.mark.parametrize(
    ("feature", "changes", "message"),
    [
        ("hgb", {"unit": "g/L"}, "measured in g/dL, contracted in g/L"),
        ("hgb", {"levels": (("high", 1.0),)}, "is a number"),
        ("pT", {"unit": "1"}, "is coded"),
    ],
)
def test_another_unit_or_kind_is_refused(feature: str, changes: dict[str, object], message: str) -> None:
    """Units and kinds are compared, never converted or assumed here."""
    with pytest.raises(UnusableInput, match=f"the-entry: .*{message}"):
        assemble(timeline_of(operated()), one(feature, **changes))


def test_a_sequence_in_another_unit_is_refused() -> None:
    """The same holds for a column of the sequence."""
    column = replace(CONTRACT.sequence[0], unit="g/L")
    with pytest.raises(UnusableInput, match="hgb: measured in g/dL"):
        assemble(timeline_of(operated()), replace(CONTRACT, sequence=(column,)))


@pytest.mark.parametrize(
    ("comparator", "expected"),
    [
        (None, 5.0),
        (Comparator.LESS, 5.0 / math.sqrt(2.0)),
        (Comparator.LESS_OR_EQUAL, 5.0 / math.sqrt(2.0)),
        (Comparator.GREATER, 5.0),
        (Comparator.GREATER_OR_EQUAL, 5.0),
    ],
)
def test_a_comparator_is_never_dropped(comparator: Comparator | None, expected: float) -> None:
    """Below a limit stands as limit / sqrt(2); above one as the limit."""
    record = without(operated(), "crp")
    record = with_measurements(record, measured("crp", 5.0, at=SURGERY, comparator=comparator))
    assert static_of(record, one("crp", unit="mg/L"))["the-entry"] == pytest.approx(expected)


def test_contradicting_answers_of_the_same_age_are_masked() -> None:
    """Two reports, one R0 and one R1, equally new: choosing would be guessing."""
    rival = measured("margin_class", "R1", at=day(SURGERY), known=PATHOLOGY_KNOWN, source="rival")
    assert static_of(with_measurements(operated(), rival))["margin"] is None
    same = measured("margin_class", "R0", at=day(SURGERY), known=PATHOLOGY_KNOWN, source="same")
    assert static_of(with_measurements(operated(), same))["margin"] == 0.0


def test_pathology_of_an_earlier_surgery_says_nothing() -> None:
    """Nodes of an operation years ago are not the nodes of this one."""
    old = measured("nodes_positive", 9.0, at=SURGERY - timedelta(days=900), source="old")
    record = with_measurements(without(operated(), "nodes_positive"), old)
    assert static_of(record)["nodes"] is None


def test_a_preoperative_entry_is_blind_to_later_draws() -> None:
    """`preoperative:hgb` reads the last draw not after surgery; `hgb` reads the newest of all."""
    record = with_measurements(operated(), measured("hgb", 9.1, at=SURGERY + timedelta(days=2), source="drop"))
    assert static_of(record)["hgb_before"] == pytest.approx(13.2)
    assert static_of(record, one("hgb", unit="g/dL"))["the-entry"] == pytest.approx(9.1)


def test_two_sites_are_no_site() -> None:
    """Confirmed primaries of two groups leave the site open; a provisional second one does not."""
    second = replace(diagnosis(site_group="larynx"), known=SURGERY)
    record = replace(operated(), diagnoses=(*operated().diagnoses, second))
    assert static_of(record)["oral"] is None
    provisional = replace(second, confirmed=TriState.UNKNOWN)
    assert static_of(replace(operated(), diagnoses=(*operated().diagnoses, provisional)))["oral"] == 1.0


def test_age_counts_calendar_years_between_midpoints() -> None:
    """A birth year stands for its middle: half a year is the largest error, and 1 January is never invented."""
    year = Period(earliest=datetime(1960, 1, 1, tzinfo=ZONE), latest=datetime(1960, 12, 31, 23, 59, 59, tzinfo=ZONE))
    record = operated()
    age = static_of(replace(record, person=replace(record.person, birth=year)))["age"]
    assert age == pytest.approx(64.69, abs=0.02)


def test_the_writers_offset_changes_nothing() -> None:
    """The same moments written in UTC give the same bytes."""

    def in_utc(period: Period) -> Period:
        return Period(earliest=period.earliest.astimezone(UTC), latest=period.latest.astimezone(UTC))

    record = operated()
    birth = record.person.birth
    assert birth is not None
    same = replace(
        record,
        person=replace(record.person, birth=in_utc(birth)),
        procedures=tuple(replace(entry, performed=in_utc(entry.performed)) for entry in record.procedures),
        measurements=tuple(replace(entry, effective=in_utc(entry.effective)) for entry in record.measurements),
    )
    first, second = (assemble(timeline_of(each), CONTRACT) for each in (record, same))
    assert [a.tobytes() for a in arrays_of(first)] == [b.tobytes() for b in arrays_of(second)]
    assert first.years_since_surgery == second.years_since_surgery


def test_one_row_per_day_the_last_of_the_day_wins() -> None:
    """Two draws of one day are one row; a column without a draw that day is masked in it."""
    morning = datetime(2025, 4, 2, 6, 0, tzinfo=UTC)
    record = with_measurements(
        operated(),
        measured("hgb", 10.0, at=morning, source="first"),
        measured("hgb", 10.5, at=morning + timedelta(hours=9), source="second"),
        measured("crp", 80.0, at=morning + timedelta(hours=1), source="crp-after"),
        measured("hgb", 11.5, at=morning + timedelta(days=3), source="third"),
    )
    model_input = assemble(timeline_of(record), CONTRACT)
    expected = [[0.0, 0.0], [13.2, 5.0 / math.sqrt(2.0)], [10.5, 80.0], [11.5, 0.0]]
    assert np.allclose(model_input.sequence, expected)
    assert model_input.sequence_mask.tolist() == [[0, 0], [1, 1], [1, 1], [1, 0]]
    assert model_input.sequence_age_days.tolist() == [0.0, 29.0, 3.0, 0.0]
    assert model_input.years_since_surgery == pytest.approx(26.16 / 365.25, abs=1e-4)


def test_the_most_recent_rows_are_kept() -> None:
    """Of more days than the contract has rows, the oldest go."""
    draws = [
        measured("hgb", 10.0 + step, at=PATHOLOGY_KNOWN + timedelta(days=step), source=f"d{step}") for step in range(6)
    ]
    model_input = assemble(timeline_of(with_measurements(operated(), *draws)), CONTRACT)
    assert model_input.sequence[:, 0].tolist() == [12.0, 13.0, 14.0, 15.0]
    assert model_input.sequence_age_days.tolist() == [3.0, 2.0, 1.0, 0.0]


def test_a_date_keeps_its_day_and_a_month_has_none() -> None:
    """A date read in the site's zone stays one row of that date; a wider date is no day and no row."""
    dated = measured("hgb", 10.0, at=day(SURGERY + timedelta(days=2)), source="date")
    month = measured("hgb", 9.0, at=Period(earliest=SURGERY, latest=SURGERY + timedelta(days=9)), source="month")
    model_input = assemble(timeline_of(with_measurements(operated(), dated, month)), CONTRACT)
    assert model_input.sequence[:, 0].tolist() == [0.0, 0.0, pytest.approx(13.2), 10.0]
    assert model_input.sequence_age_days.tolist() == [0.0, 0.0, 13.0, 8.0]


def test_days_are_the_sites_where_it_says_so() -> None:
    """Two draws around midnight UTC are one day at the site, two days without its zone."""
    late = datetime(2025, 4, 1, 23, 30, tzinfo=UTC)
    draws = (
        measured("hgb", 10.0, at=late, source="late"),
        measured("hgb", 11.0, at=late + timedelta(hours=1), source="early"),
    )
    timeline = timeline_of(with_measurements(without(operated(), "hgb", "crp"), *draws))
    assert assemble(timeline, CONTRACT).sequence_mask[:, 0].sum() == 2.0
    assert assemble(timeline, CONTRACT, zone=ZONE).sequence_mask[:, 0].sum() == 1.0


def test_a_number_float32_cannot_hold_is_refused() -> None:
    """Infinity would pass every comparison: it never reaches the model."""
    timeline = timeline_of(operated())
    huge = tuple(
        replace(entry, value=1e300) if entry.feature == "nodes_positive" else entry for entry in timeline.measurements
    )
    with pytest.raises(UnusableInput, match="float32"):
        assemble(replace(timeline, measurements=huge), CONTRACT)


def test_not_a_number_is_refused() -> None:
    """NaN is how this room marks `not known`: as a measured value it is an error, not a gap."""
    timeline = timeline_of(operated())
    broken = tuple(
        replace(entry, value=math.nan) if entry.feature == "nodes_positive" else entry
        for entry in timeline.measurements
    )
    with pytest.raises(UnusableInput, match="nodes"):
        assemble(replace(timeline, measurements=broken), CONTRACT)


@given(values=st.lists(st.floats(3.0, 22.0), min_size=1, max_size=12))
def test_masks_tell_zero_from_unknown(values: list[float]) -> None:
    """Where the mask is 0 the value is 0 and where it is 1 the value was measured."""
    draws: tuple[Measurement, ...] = tuple(
        measured("hgb", value, at=PATHOLOGY_KNOWN + timedelta(days=index), source=f"h{index}")
        for index, value in enumerate(values)
    )
    model_input = assemble(timeline_of(with_measurements(without(operated(), "hgb", "crp"), *draws)), CONTRACT)
    kept = model_input.sequence[model_input.sequence_mask == 1.0]
    assert kept.tolist() == [float(np.float32(value)) for value in values[-4:]]
    assert not model_input.sequence[model_input.sequence_mask == 0.0].any()


def test_a_later_landmark_without_news_changes_the_clock_and_nothing_else() -> None:
    """With that, and a graph that reads no ages, an update without news can only follow the conditional curve."""
    record = with_measurements(operated(), measured("hgb", 13.1, at=SURGERY))
    stands = standing(record, LandmarkPolicy())
    assert isinstance(stands, AtRisk)
    later = replace(stands, landmark=replace(stands.landmark, time=stands.landmark.time + timedelta(days=400)))
    first, second = (assemble(build_timeline(record, (), one), CONTRACT) for one in (stands, later))
    for name in ("static", "static_mask", "sequence", "sequence_mask"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    assert second.years_since_surgery - first.years_since_surgery == pytest.approx(400 / 365.25, abs=1e-6)
