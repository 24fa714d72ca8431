"""Timeline -> the model's input, in the fixed order and units of its contract."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, date

import numpy as np

from adapter.domain.period import years_between
from adapter.domain.record import Comparator, Measurement
from adapter.domain.timeline import Timeline
from adapter.errors import UnusableInput
from inference.contract import ModelContract, ModelInput, StaticInput

_BELOW_LIMIT = 1.0 / math.sqrt(2.0)
_DAYS_PER_YEAR = 365.25


def assemble(timeline: Timeline, contract: ModelContract) -> ModelInput:
    """Fill every entry that is known; the rest stays 0.0 with mask 0.

    Raises UnusableInput for a required entry that is not known, or a unit other than the contract's.
    """
    static = np.zeros(len(contract.static), dtype=np.float32)
    static_mask = np.zeros_like(static)
    for index, entry in enumerate(contract.static):
        value = _static_value(timeline, entry)
        if value is not None:
            static[index], static_mask[index] = value, 1.0
        elif entry.required:
            raise UnusableInput(f"required input {entry.name} is not known")
    sequence, sequence_mask, ages = _sequence(timeline, contract)
    elapsed = timeline.landmark.time - timeline.index_surgery.performed.midpoint()
    return ModelInput(
        static=static,
        static_mask=static_mask,
        sequence=sequence,
        sequence_mask=sequence_mask,
        sequence_age_days=ages,
        years_since_surgery=max(0.0, elapsed.total_seconds() / 86400.0 / _DAYS_PER_YEAR),
    )


def missing_inputs(model_input: ModelInput, contract: ModelContract) -> tuple[str, ...]:
    """The features of the contract that nothing was known about, sorted."""
    seen = {entry.feature for entry, mask in zip(contract.static, model_input.static_mask, strict=True) if mask}
    measured = model_input.sequence_mask.max(axis=0, initial=0.0)
    seen |= {entry.feature for entry, mask in zip(contract.sequence, measured, strict=True) if mask}
    wanted = {entry.feature for entry in (*contract.static, *contract.sequence)}
    return tuple(sorted(wanted - seen))


def _age_at_surgery(timeline: Timeline) -> float | None:
    birth = timeline.person.birth
    if birth is None:
        return None
    return years_between(birth.midpoint(), timeline.index_surgery.performed.midpoint())


def _sex(timeline: Timeline) -> str | None:
    return timeline.person.sex if timeline.person.sex in {"male", "female"} else None


def _site_group(timeline: Timeline) -> str | None:
    groups = [entry.site_group for entry in timeline.diagnoses if entry.kind == "hnscc" and entry.site_group]
    return groups[-1] if groups else None


_FROM_ELSEWHERE: Mapping[str, Callable[[Timeline], float | str | None]] = {
    "age_at_surgery": _age_at_surgery,
    "sex": _sex,
    "site_group": _site_group,
}


def _static_value(timeline: Timeline, entry: StaticInput) -> float | None:
    elsewhere = _FROM_ELSEWHERE.get(entry.feature)
    if elsewhere is not None:
        value = elsewhere(timeline)
    else:
        found = timeline.latest(entry.feature)
        value = None if found is None else _checked(found, entry.unit)
    if value is None or isinstance(value, float):
        return value
    return dict(entry.levels).get(value)


def _checked(found: Measurement, unit: str | None) -> float | str:
    if found.unit != unit:
        raise UnusableInput(f"{found.feature} is not in the contract's unit")
    return found.value if isinstance(found.value, str) else _uncensored(found)


def _uncensored(found: Measurement) -> float:
    """A result below its limit stands as limit / sqrt(2), the usual substitution; one above its limit as the limit."""
    below = found.comparator in {Comparator.LESS, Comparator.LESS_OR_EQUAL}
    return found.number * _BELOW_LIMIT if below else found.number


def _sequence(timeline: Timeline, contract: ModelContract) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One row per UTC day with any measurement, the last of the day winning; the newest T days, newest last."""
    columns = {entry.feature: (index, entry.unit) for index, entry in enumerate(contract.sequence)}
    days: dict[date, dict[int, float]] = {}
    for found in timeline.measurements:
        if found.feature in columns:
            index, unit = columns[found.feature]
            value = _checked(found, unit)
            if isinstance(value, float):
                days.setdefault(found.effective.midpoint().astimezone(UTC).date(), {})[index] = value
    length, width = contract.sequence_length, len(contract.sequence)
    sequence = np.zeros((length, width), dtype=np.float32)
    mask = np.zeros_like(sequence)
    ages = np.zeros(length, dtype=np.float32)
    today = timeline.landmark.time.astimezone(UTC).date()
    newest = sorted(days)[-length:]
    for row, day in enumerate(newest, start=length - len(newest)):
        ages[row] = (today - day).days
        for index, value in days[day].items():
            sequence[row, index], mask[row, index] = value, 1.0
    return sequence, mask, ages
