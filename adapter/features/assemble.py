"""Timeline -> model input: fixed order, canonical units, masks instead of guesses."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, timedelta, tzinfo
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from adapter.domain.period import Period, years_between
from adapter.domain.record import Comparator, Measurement
from adapter.domain.timeline import Timeline
from adapter.domain.tristate import TriState
from adapter.errors import UnusableInput
from adapter.features.at_risk import is_of_the_episode
from inference.contract import ModelContract, ModelInput, SequenceInput, StaticInput

IMAGE = "image"  # how a missing image is named among the inputs that were not known
PREOPERATIVE = "preoperative:"  # a contract may ask for the last value before surgery, as in `preoperative:hgb`
_SPECIMEN_FEATURES = frozenset(
    {
        *("pT", "pN", "pM", "ene_path", "ene_extent_mm", "margin_class", "margin_mm", "margin_cis", "pni", "lvi"),
        *("lymphatic_invasion", "vascular_invasion", "carcinoma_in_situ", "nodes_positive", "nodes_examined"),
        *("depth_of_invasion",),
    }
)
_DAYS_PER_YEAR = 365.25
_LONGEST_DAY = timedelta(hours=25)  # the day clocks go back
_BELOW = frozenset({Comparator.LESS, Comparator.LESS_OR_EQUAL})


def assemble(timeline: Timeline, contract: ModelContract, *, zone: tzinfo = UTC) -> ModelInput:
    """Read the timeline in the contract's order. Arrays and shapes: `ModelInput`.

    zone: whose calendar days are the rows of the sequence. A category the contract does not list, and two answers of
    the same age that differ, are masked. Raises UnusableInput for a unit or kind other than the contract's, for a
    number float32 cannot hold, and naming every required entry that is not known.
    """
    static = _array([[_static_value(timeline, entry) for entry in contract.static]])[0]
    sequence, age_days = _sequence(timeline, contract, zone)
    model_input = ModelInput(
        static=np.nan_to_num(static, nan=0.0),
        static_mask=_mask(static),
        sequence=np.nan_to_num(sequence, nan=0.0),
        sequence_mask=_mask(sequence),
        sequence_age_days=age_days,
        years_since_surgery=_years_since_surgery(timeline),
        image=_image(timeline, contract),
    )
    _require(model_input, contract)
    return model_input


def missing_inputs(model_input: ModelInput, contract: ModelContract) -> tuple[str, ...]:
    """The features of the contract about which nothing was known, sorted; `image` among them where it reads one."""
    static, columns = model_input.static_mask, model_input.sequence_mask.max(axis=0, initial=0.0)
    seen = {entry.feature for entry, mask in zip(contract.static, static, strict=True) if mask != 0.0}
    seen |= {entry.feature for entry, mask in zip(contract.sequence, columns, strict=True) if mask != 0.0}
    asked = {entry.feature for entry in contract.static} | {entry.feature for entry in contract.sequence}
    if contract.image is not None and model_input.image is None:
        asked.add(IMAGE)
    return tuple(sorted(asked - seen))


def number_of(entry: Measurement) -> float:
    """The number a model reads for a measurement, in its canonical unit.

    Below a detection limit: limit / sqrt(2); above one: the limit. Raises TypeError for a coded finding,
    UnusableInput for a number that is not finite. Source: Hornung and Reed 1990, substitution for non-detects.
    """
    if not math.isfinite(entry.number):
        raise UnusableInput(f"{entry.feature} is not a finite number")
    return entry.number / math.sqrt(2.0) if entry.comparator in _BELOW else entry.number


def age_at_surgery(timeline: Timeline) -> float | None:
    """Years, with the fraction of the running one, between the midpoints of birth and surgery; None without a birth."""
    birth = timeline.person.birth
    return None if birth is None else years_between(birth.midpoint, timeline.index_surgery.performed.midpoint)


def site_group(timeline: Timeline) -> str | None:
    """The anatomic group of the primary, provisional ones only without a confirmed one; None unless exactly one."""
    stated = [entry for entry in timeline.diagnoses if entry.kind == "hnscc" and entry.site_group is not None]
    confirmed = [entry for entry in stated if entry.confirmed is TriState.TRUE]
    provisional = [entry for entry in stated if entry.confirmed is TriState.UNKNOWN]
    groups = {entry.site_group for entry in confirmed or provisional}
    return groups.pop() if len(groups) == 1 else None


# ---- the static vector


def _static_value(timeline: Timeline, entry: StaticInput) -> float:
    """The number for one entry; NaN where it is not known."""
    value = _finding(timeline, entry)
    if value is None:
        return math.nan
    if entry.unit is not None and isinstance(value, float):
        return value
    if entry.unit is None and isinstance(value, str):
        return dict(entry.levels).get(value, math.nan)
    raise UnusableInput(f"{entry.name}: {entry.feature} is {'coded' if entry.unit else 'a number'}, not as contracted")


def _finding(timeline: Timeline, entry: StaticInput) -> float | str | None:
    person_feature = _PERSON_FEATURES.get(entry.feature)
    if person_feature is not None:
        return person_feature(timeline)
    found = _agreed(_candidates(timeline, entry.feature))
    if found is None or isinstance(found.value, str):
        return None if found is None else found.category
    if entry.unit is not None:
        _require_unit(found, entry.name, entry.unit)
    return number_of(found)


def _sex(timeline: Timeline) -> str | None:
    return timeline.person.sex if timeline.person.sex in {"male", "female"} else None


_PERSON_FEATURES: Mapping[str, Callable[[Timeline], float | str | None]] = MappingProxyType(
    {"age_at_surgery": age_at_surgery, "sex": _sex, "site_group": site_group}
)


def _candidates(timeline: Timeline, feature: str) -> Sequence[Measurement]:
    """Oldest first. A finding about the specimen of an earlier surgery says nothing about this one."""
    surgery = timeline.index_surgery
    if feature.startswith(PREOPERATIVE):
        before = timeline.of(feature.removeprefix(PREOPERATIVE))
        return [entry for entry in before if entry.effective.earliest <= surgery.performed.latest]
    entries = timeline.of(feature)
    if feature in _SPECIMEN_FEATURES:
        return [entry for entry in entries if is_of_the_episode(entry, surgery)]
    return entries


def _agreed(entries: Sequence[Measurement]) -> Measurement | None:
    """The newest answer; None when there is none, or when equally new ones differ: choosing would be guessing."""
    if not entries:
        return None
    newest = entries[-1]
    rivals = [entry for entry in entries if (entry.effective, entry.known) == (newest.effective, newest.known)]
    return newest if len({(entry.value, entry.unit, entry.comparator) for entry in rivals}) == 1 else None


def _require_unit(found: Measurement, name: str, unit: str) -> None:
    if found.unit != unit:
        raise UnusableInput(f"{name}: measured in {found.unit}, contracted in {unit}")


# ---- the sequence


def _sequence(
    timeline: Timeline, contract: ModelContract, zone: tzinfo
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One row per day with a measurement, newest last, the most recent kept: values with NaN (T, F), ages (T,)."""
    by_day = _by_day(timeline, contract.sequence, zone)
    length = contract.sequence_length
    days = sorted(by_day)[-length:] if length else []
    landmark_day = timeline.landmark.time.astimezone(zone).date()
    rows = [[_sequence_value(by_day[day][entry.feature], entry) for entry in contract.sequence] for day in days]
    empty = length - len(days)
    sequence = np.full((length, len(contract.sequence)), np.nan, dtype=np.float32)
    age_days = np.zeros(length, dtype=np.float32)
    if days:
        sequence[empty:] = _array(rows)
        age_days[empty:] = [max(0, (landmark_day - day).days) for day in days]
    return sequence, age_days


def _by_day(
    timeline: Timeline, columns: Iterable[SequenceInput], zone: tzinfo
) -> dict[date, dict[str, list[Measurement]]]:
    """Measurements of the contract's columns by the day they were true; one without a day has no row."""
    wanted = {entry.feature for entry in columns}
    by_day: dict[date, dict[str, list[Measurement]]] = defaultdict(lambda: defaultdict(list))
    for measurement in timeline.measurements:
        day = _day_of(measurement.effective, zone)
        if measurement.feature in wanted and day is not None:
            by_day[day][measurement.feature].append(measurement)
    return by_day


def _day_of(effective: Period, zone: tzinfo) -> date | None:
    """The calendar day of the midpoint, so that a date written in another zone keeps its day; None if wider."""
    if effective.latest - effective.earliest > _LONGEST_DAY:
        return None
    return effective.midpoint.astimezone(zone).date()


def _sequence_value(entries: Sequence[Measurement], column: SequenceInput) -> float:
    """The last measurement of the day; NaN without one."""
    found = _agreed(entries)
    if found is None:
        return math.nan
    if isinstance(found.value, str):
        raise UnusableInput(f"{column.name}: {column.feature} is coded, not as contracted")
    _require_unit(found, column.name, column.unit)
    return number_of(found)


# ---- the image


def _image(timeline: Timeline, contract: ModelContract) -> NDArray[np.float32] | None:
    """What the encoder made of the newest image; None where the model reads none, or there is none it could read."""
    if contract.image is None or not timeline.images or not timeline.images[-1].embedding:
        return None
    return np.asarray(timeline.images[-1].embedding, dtype=np.float32)


# ---- arrays


def _array(rows: list[list[float]]) -> NDArray[np.float32]:
    """float32, NaN for what is not known. Raises UnusableInput for a number beyond its range."""
    values = np.asarray(rows, dtype=np.float64)
    if bool((np.abs(values) > float(np.finfo(np.float32).max)).any()):
        raise UnusableInput("a value is beyond the range of float32")
    return values.astype(np.float32)


def _mask(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return (~np.isnan(values)).astype(np.float32)


def _years_since_surgery(timeline: Timeline) -> float:
    """Postoperative clock in Julian years; a landmark inside a partial surgery date stands at zero."""
    since = timeline.landmark.time - timeline.index_surgery.performed.midpoint
    return max(0.0, since / timedelta(days=_DAYS_PER_YEAR))


def _require(model_input: ModelInput, contract: ModelContract) -> None:
    absent = [
        entry.name
        for entry, mask in zip(contract.static, model_input.static_mask, strict=True)
        if entry.required and mask == 0.0
    ]
    if absent:
        raise UnusableInput("required and not known: " + ", ".join(absent))
