"""HNSCC (MD Anderson): 215 patients, radiotherapy, muscle and fat at the third lumbar vertebra on CT before and after.

CC BY-NC 3.0: evaluation only, never trains shipped weights. Grossberg et al., Sci Data 2018;5:180173, doi
10.7937/k9/tcia.2020.a8sh-7363. Mostly definitive radiotherapy, some after surgery, and no day of surgery: a table of
its own. Dates are day/month/two-digit year, shifted per patient, so only their differences mean anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from training.cohorts.cohort import read_rows

NAME = "hnscc-mdacc"
FILE = "clinical.csv"
_DAYS_PER_MONTH = 30.0  # of the table's own durations
_MUSCLE_BEFORE = "Pre-RT L3 Skeletal Muscle Cross Sectional Area (cm2)"
_MUSCLE_AFTER = "Post-RT L3 Skeletal Muscle Cross Sectional Area (cm2)"
_STAGE_WORDS = {"In situ": 0}
_UNUSUAL_SITES = {"Nasopharynx", "CUP", "Sinus"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyImage:
    """muscle, fat: index in cm2/m2 at the third lumbar vertebra. day: after radiotherapy's start, None = no date.

    day is the later of the two the table implies (its date, and the stop of radiotherapy plus its stated delay), which
    disagree in most rows: an image counts as known only when both say so.
    """

    muscle: float
    fat: float
    day: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HnsccPatient:
    """One patient; days count from the first day of radiotherapy. None: not recorded.

    copied_image: muscle before and after equals another patient's. disagreement: what the two death columns contradict.
    illness_days: recurrence or residual tumour, None = none seen.
    """

    patient_id: str
    age_years: float
    male: bool
    site: str
    unusual_site: bool
    tumour: int
    nodes: int
    p16: str | None
    current_smoker: bool
    former_smoker: bool
    induction_chemotherapy: bool
    concurrent_chemotherapy: bool
    surgery: bool
    dose_gy: float
    weight_before_kg: float
    weight_after_kg: float
    body_mass_index: float
    radiotherapy_stop_day: float
    before: BodyImage
    after: BodyImage
    copied_image: bool
    illness_days: float | None
    last_days: float
    died: bool
    disagreement: str | None


def read_hnscc(folder: Path) -> tuple[HnsccPatient, ...]:
    """All 215 in the order of the file; the 42 with copied images are marked, not dropped."""
    rows = [{key.removeprefix("\ufeff"): value for key, value in row.items()} for row in read_rows(folder / FILE)]
    images = Counter((row[_MUSCLE_BEFORE], row[_MUSCLE_AFTER]) for row in rows)
    return tuple(_patient(row, copied=images[row[_MUSCLE_BEFORE], row[_MUSCLE_AFTER]] > 1) for row in rows)


def _patient(row: Mapping[str, str], *, copied: bool) -> HnsccPatient:
    start, last = _required_day(row["Date Start RT"]), _required_day(row["Last Contact Date"])
    stop = float((_required_day(row["Date Stop RT"]) - start).days)
    died = row["Overall Survival Censor"] == "1"
    return HnsccPatient(
        patient_id=row["TCIA code"],
        age_years=float(row["Age"]),
        male=row["Sex"] == "Male",
        site=row["Site"],
        unusual_site=row["Site"] in _UNUSUAL_SITES,
        tumour=_stage(row["T"]),
        nodes=_stage(row["N"]),
        p16=row["HPV status"] or None,
        current_smoker=row["Current Smoker"] == "1",
        former_smoker=row["Smoking History"] != "0" and row["Current Smoker"] == "0",
        induction_chemotherapy=row["Induction Chemotherapy"] != "No",
        concurrent_chemotherapy=row["Received Concurrent Chemoradiotherapy?"] == "Yes",
        surgery=row["Oncologic Treatment Summary"].startswith("Surgery"),
        dose_gy=float(row["RT Total Dose (Gy)"]),
        weight_before_kg=float(row["BW Start tx (kg)"]),
        weight_after_kg=float(row["BW stop treat (kg)"]),
        body_mass_index=float(row["BMI start treat (kg/m2)"]),
        radiotherapy_stop_day=stop,
        before=_image(row, "Pre-RT", _offset(_day(row["Pre-RT Imaging Date"]), start)),
        after=_image(row, "Post-RT", _later(row, start, stop)),
        copied_image=copied,
        illness_days=_illness(row, start, last),
        last_days=float((last - start).days),
        died=died,
        disagreement=_disagreement(row, died=died),
    )


def _image(row: Mapping[str, str], moment: str, day: float | None) -> BodyImage:
    return BodyImage(
        muscle=float(row[f"{moment} L3 Skeletal Muscle Index (cm2/m2)"]),
        fat=float(row[f"{moment} L3 Adiposity Index (cm2/m2)"]),
        day=day,
    )


def _later(row: Mapping[str, str], start: date, stop: float) -> float | None:
    """The later of the second image's date and its stated delay, as a day; one dated before treatment is none."""
    dated = _offset(_day(row["post-RT imaging date"]), start)
    stated = stop + float(row["Time from RT stop to follow up imaging (months)"]) * _DAYS_PER_MONTH
    return None if dated is None or dated <= 0.0 else max(dated, stated)


def _illness(row: Mapping[str, str], start: date, last: date) -> float | None:
    """`Date of recurrence` repeats the last contact where the response was complete: that is no recurrence."""
    if row["Site of recurrence (Distal/Local/ Locoregional)"] == "Complete response":
        return None
    day = _day(row["Date of recurrence"])
    return float(((day or last) - start).days)


def _disagreement(row: Mapping[str, str], *, died: bool) -> str | None:
    """The vital status column decides (it equals the survival censor in all rows); what contradicts it is named."""
    if died and not row["Date of Death"]:
        return "dead without a date of death"
    if not died and row["Date of Death"]:
        return "alive with a date of death"
    return None


def _stage(text: str) -> int:
    """`4a`, `2b` and `In situ` to 0-4: sub-letters differ between editions and are too rare here to keep."""
    return _STAGE_WORDS[text] if text in _STAGE_WORDS else int(text[0])


def _day(text: str) -> date | None:
    """Day/month/two-digit year, also where the month could be read as a day; `n/a` and blanks are none."""
    if text in {"", "n/a"}:
        return None
    return datetime.strptime(text, "%d/%m/%y").date()  # noqa: DTZ007  # a date: no zone to lose


def _required_day(text: str) -> date:
    return datetime.strptime(text, "%d/%m/%y").date()  # noqa: DTZ007  # a date: no zone to lose


def _offset(day: date | None, start: date) -> float | None:
    return None if day is None else float((day - start).days)
