"""A hospital's own cohort: one flat table, a row per patient, in the contract's words and units.

The columns are the contract's features, so that what the table can say is what the model can read. Anything else is
refused by column and patient: a misspelt column or a unit mistaken would otherwise train a model that is quietly wrong.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from adapter.errors import UnusableInput
from adapter.terminology import Terminology
from inference.contract import ModelContract
from training.cohorts.cohort import CohortPatient, FollowUp, RecordBuilder
from training.postoperative_contract import postoperative_contract

NAME = "site"
OUTCOMES = ("days_to_recurrence", "days_to_last_contact", "died")
_NOMINAL_SURGERY = datetime(2015, 6, 15, tzinfo=UTC)
_DIAGNOSIS, _BEFORE, _SPECIMEN = -21, -1, 0  # days from surgery at which a row's values stand
_SEXES = frozenset({"male", "female"})
_MOST_NAMED = 10
Row = Mapping[str, str]


def columns() -> tuple[str, ...]:
    """Every column of the table; each is there once, in any order."""
    contract = postoperative_contract()
    static = dict.fromkeys(entry.feature for entry in contract.static)
    return ("patient_id", *static, *(column.feature for column in contract.sequence), *OUTCOMES)


def read_site(path: Path, terminology: Terminology) -> tuple[CohortPatient, ...]:
    """Every patient, in the order of the table. path: .parquet or .csv.

    Raises UnusableInput naming the columns that are missing or unknown, or up to ten cells that cannot be read.
    """
    names, rows = _parquet(path) if path.suffix == ".parquet" else _csv(path)
    astray = sorted(set(names) ^ set(columns()))
    if astray or len(names) != len(columns()):
        raise UnusableInput(f"columns missing, unknown or double: {', '.join(astray) or 'double'}")
    contract = postoperative_contract()
    problems = [*_double(rows), *(problem for row in rows for problem in _problems(row, contract, terminology))]
    if problems:
        more = f", and {len(problems) - _MOST_NAMED} more" if len(problems) > _MOST_NAMED else ""
        raise UnusableInput(f"cells that cannot be read: {', '.join(problems[:_MOST_NAMED])}{more}")
    return tuple(_patient(row, contract, terminology) for row in rows)


def _csv(path: Path) -> tuple[Sequence[str], list[Row]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        return tuple(reader.fieldnames or ()), [{name: text or "" for name, text in row.items()} for row in reader]


def _parquet(path: Path) -> tuple[Sequence[str], list[Row]]:
    """As `_csv`: an absent value is an empty text, a number is written so that it reads back as the same."""
    try:
        from pyarrow import parquet  # noqa: PLC0415 - of the training environment; a CSV table needs none
    except ImportError as error:
        raise UnusableInput("pyarrow is not installed: write the table as .csv, or install adjuvant[train]") from error
    try:
        table = parquet.read_table(path)
    except ValueError as error:  # pyarrow.ArrowInvalid is one
        raise UnusableInput("it is not a Parquet table") from error
    return tuple(table.column_names), [{name: _text(cell) for name, cell in row.items()} for row in table.to_pylist()]


def _text(cell: object) -> str:
    if cell is None or cell != cell:  # noqa: PLR0124 - NaN, which some writers put where a value is absent
        return ""
    return str(int(cell)) if isinstance(cell, bool) else str(cell)


# ---- what a cell may hold


def _double(rows: Iterable[Row]) -> Iterator[str]:
    seen: set[str] = set()
    for row in rows:
        if not row["patient_id"] or row["patient_id"] in seen:
            yield f"patient_id of {row['patient_id'] or 'an unnamed patient'}"
        seen.add(row["patient_id"])


def _problems(row: Row, contract: ModelContract, terminology: Terminology) -> Iterator[str]:
    """Each cell of a row that cannot be read, as `column of patient`, never its value."""
    for name in (*_wrong_static(row, contract, terminology), *_wrong_laboratory(row, contract, terminology)):
        yield f"{name} of {row['patient_id']}"
    for name in _wrong_outcomes(row):
        yield f"{name} of {row['patient_id']}"


def _wrong_static(row: Row, contract: ModelContract, terminology: Terminology) -> Iterator[str]:
    for name, levels in _categories(contract).items():
        if row[name] and row[name] not in levels:
            yield name
    for entry in contract.static:
        if entry.unit is not None and not _plausible(row[entry.feature], entry.feature, terminology):
            yield entry.feature
    yield from (entry.feature for entry in contract.static if entry.required and not row[entry.feature])


def _wrong_laboratory(row: Row, contract: ModelContract, terminology: Terminology) -> Iterator[str]:
    for column in contract.sequence:
        if not _plausible(row[column.feature], column.feature, terminology):
            yield column.feature


def _wrong_outcomes(row: Row) -> Iterator[str]:
    recurrence, last = _number(row["days_to_recurrence"]), _number(row["days_to_last_contact"])
    if last is None or last < 0.0:
        yield "days_to_last_contact"
    if row["days_to_recurrence"] and (
        recurrence is None or recurrence < 0.0 or (last is not None and recurrence > last)
    ):
        yield "days_to_recurrence"
    if row["died"] not in {"0", "1"}:
        yield "died"


def _categories(contract: ModelContract) -> dict[str, frozenset[str]]:
    """The words that a coded column may hold."""
    coded = {entry.feature: frozenset(dict(entry.levels)) for entry in contract.static if entry.unit is None}
    return {**coded, "sex": _SEXES}


def _plausible(text: str, feature: str, terminology: Terminology) -> bool:
    """Whether a number lies within the hard bounds of observations.toml, beyond which the service quarantines it."""
    if not text:
        return True
    number, row = _number(text), terminology.features.get(feature)
    low, high = (row.hard if row is not None else None) or (0.0, float("inf"))
    return number is not None and low <= number <= high


def _number(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


# ---- a row as the record the service would have read


def _patient(row: Row, contract: ModelContract, terminology: Terminology) -> CohortPatient:
    builder = RecordBuilder(NAME, row["patient_id"], _NOMINAL_SURGERY, terminology)
    builder.diagnose("hnscc", row["site_group"] or None, _DIAGNOSIS)
    builder.operate()
    for name in _categories(contract):
        if name not in {"sex", "site_group"}:
            builder.measure(name, row[name] or None, _BEFORE if name == "smoking_status" else _SPECIMEN)
    for entry in contract.static:
        if entry.unit is not None and entry.feature != "age_at_surgery":
            builder.measure(entry.feature, _number(row[entry.feature]), _SPECIMEN)
    for column in contract.sequence:
        builder.measure(column.feature, _number(row[column.feature]), _BEFORE)
    recurrence, last = _number(row["days_to_recurrence"]), _number(row["days_to_last_contact"]) or 0.0
    return CohortPatient(
        record=builder.record(age_years=_number(row["age_at_surgery"]), sex=row["sex"] or "unknown"),
        follow_up=FollowUp(illness_days=recurrence, last_days=last, died=row["died"] == "1"),
    )
