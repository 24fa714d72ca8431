"""One patient of a training cohort: the record as it would have been known, and the outcome that followed."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from adapter.domain.ids import BusinessIdentifier, PatientId, ResourceVersion
from adapter.domain.period import Period
from adapter.domain.record import (
    Diagnosis,
    Measurement,
    PatientRecord,
    Person,
    ProcedureEvent,
)
from adapter.domain.tristate import TriState
from adapter.errors import UnusableInput
from adapter.terminology import Terminology


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """What happened, in days after surgery. illness_days: recurrence, progression or metastasis; None = none seen.

    last_days: death, or the last that is known. died: whether last_days is a death.
    """

    illness_days: float | None
    last_days: float
    died: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortPatient:
    """One row. excluded: why it trains nothing, None where it may."""

    record: PatientRecord
    follow_up: FollowUp
    excluded: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortEntry:
    """One row without its outcome. key: as in the table. record: None where the row cannot be read.

    excluded: why no model of ours speaks to the patient; None where one may.
    """

    key: str
    record: PatientRecord | None
    excluded: str | None = None

    @property
    def readable(self) -> PatientRecord:
        """The record. Raises UnusableInput saying why there is none."""
        if self.record is None:
            raise UnusableInput(f"patient {self.key}: {self.excluded}")
        return self.record


def read_entries(
    rows: Mapping[str, Mapping[str, str]], read: Callable[[str, Mapping[str, str]], tuple[PatientRecord, str | None]]
) -> Iterator[CohortEntry]:
    """Every row by read, which gives the record and why it is excluded; a row it cannot read is an entry that says so.

    A column that is missing in one row is missing in all: KeyError is not caught.
    """
    for key, row in rows.items():
        try:
            record, excluded = read(key, row)
        except UnusableInput as error:
            yield CohortEntry(key=key, record=None, excluded=str(error))
        else:
            yield CohortEntry(key=key, record=record, excluded=excluded)


def number_in(row: Mapping[str, str], column: str) -> float | None:
    """The number of a column, None where it is empty or absent. Raises UnusableInput naming the column."""
    text = row.get(column, "")
    try:
        return float(text) if text else None
    except ValueError as error:
        raise UnusableInput(f"{column} is not a number") from error


def meaning_in(row: Mapping[str, str], column: str, meanings: Mapping[str, str]) -> str:
    """What the code of a column means. Raises UnusableInput naming the column of a code that has none."""
    code = row[column]
    if code not in meanings:
        raise UnusableInput(f"{column} holds a code that is not known")
    return meanings[code]


def read_rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    """A table as dictionaries, in the order of the file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def digest_of(paths: Iterable[Path]) -> str:
    """SHA-256, hexadecimal, over the files' names and contents, sorted by name."""
    total = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        total.update(path.name.encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


class RecordBuilder:
    """Builds one PatientRecord on a nominal calendar; time known is effective time plus the table's delay.

    The public sets hold no dates. Everyone's surgery is put on one nominal day; only differences of days matter.
    """

    def __init__(self, cohort: str, patient: str, surgery: datetime, terminology: Terminology) -> None:
        """The cohort and the patient name the ids; surgery: aware midnight of the nominal day."""
        self._prefix = f"{cohort}-{patient}"
        self._surgery = surgery
        self._terminology = terminology
        self._cohort = cohort
        self._patient = patient
        self._measurements: list[Measurement] = []
        self._diagnoses: list[Diagnosis] = []
        self._procedures: list[ProcedureEvent] = []

    def day(self, offset: int) -> Period:
        """The whole day that lies so many days after surgery."""
        start = self._surgery + timedelta(days=offset)
        return Period(earliest=start, latest=start + timedelta(days=1) - timedelta(microseconds=1))

    def measure(self, feature: str, value: float | str | None, offset: int) -> None:
        """One finding; None is not recorded and leaves nothing."""
        if value is None:
            return
        row = self._terminology.features[feature]
        effective = self.day(offset)
        self._measurements.append(
            Measurement(
                feature=feature,
                value=value,
                unit=row.unit,
                effective=effective,
                known=effective.latest + self._delay(row.group),
                source=self._source("Observation", feature.replace("_", "-")),
            )
        )

    def diagnose(self, kind: str, site_group: str | None, offset: int) -> None:
        """One confirmed condition."""
        onset = self.day(offset)
        self._diagnoses.append(
            Diagnosis(
                kind=kind,
                site_group=site_group,
                confirmed=TriState.TRUE,
                onset=onset,
                known=onset.latest + self._delay("condition"),
                source=self._source("Condition", kind.replace("_", "-")),
            )
        )

    def operate(self) -> None:
        """The definitive resection on the nominal day."""
        performed = self.day(0)
        self._procedures.append(
            ProcedureEvent(
                kind="definitive_resection",
                performed=performed,
                known=performed.latest + self._delay("procedure"),
                source=self._source("Procedure", "resection"),
            )
        )

    def record(self, *, age_years: float | None, sex: str) -> PatientRecord:
        """The record. age_years: whole years at surgery; the birthday is put on the day of surgery."""
        birth = None
        if age_years is not None:
            start = self._surgery.replace(year=self._surgery.year - int(age_years))
            birth = Period(earliest=start, latest=start + timedelta(days=1) - timedelta(microseconds=1))
        return PatientRecord(
            person=Person(
                patient_id=PatientId(self._prefix),
                identifiers=(BusinessIdentifier(f"urn:adjuvant:cohort:{self._cohort}", self._patient),),
                birth=birth,
                sex=sex,
                deceased=TriState.UNKNOWN,
                died=None,
                known=self._surgery,
                source=ResourceVersion("Patient", self._prefix, "1"),
            ),
            measurements=tuple(self._measurements),
            diagnoses=tuple(self._diagnoses),
            procedures=tuple(self._procedures),
        )

    def _delay(self, group: str) -> timedelta:
        return timedelta(days=self._terminology.delay_days[group])

    def _source(self, resource_type: str, name: str) -> ResourceVersion:
        return ResourceVersion(resource_type, f"{self._prefix}-{name}", "1")
