"""RADCURE: 2,596 patients with outcomes and the 750 of the official challenge test, definitive (chemo)radiotherapy.

CC BY 4.0; Welch et al., TCIA 2023, doi 10.7937/J47W-NM11 (version 4). Nobody here was operated on, so there is no
surgery to date a postoperative landmark by: a table of its own, not the records that train the shipped model.
T, N and stage are AJCC 7th edition.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from adapter.errors import UnusableInput
from adapter.terminology import Terminology
from training.cohorts.cohort import CohortEntry, read_rows

NAME = "radcure"
DEVELOPMENT, TEST_INPUTS = "development.csv", "test_inputs.csv"
RECORD_FILES = (TEST_INPUTS,)
NOT_OPERATED = "definitive radiotherapy: no resection to date a postoperative landmark by"

_SMOKING = {"current": "current", "ex-smoker": "former", "non-smoker": "never"}
_P16 = {"yes, positive": "positive", "yes, negative": "negative"}  # blank: not tested, 45 % of the rows
_MODALITY = {
    "rt alone": "radiotherapy",
    "chemort": "chemoradiotherapy",
    "rt + egfri": "radiotherapy_egfr",
    "postop rt alone": "postoperative_radiotherapy",
}
_ECOG_PREFIXES = ("ECOG-Pt ", "ECOG ")  # the second spelling stands in the test rows only
_SITES = {
    "oropharynx": "oropharynx",
    "larynx": "larynx",
    "nasopharynx": "nasopharynx",
    "hypopharynx": "hypopharynx",
    "lip & oral cavity": "oral_cavity",
    "unknown": "unknown_primary",
    "nasal cavity": "sinonasal",
    "paranasal sinus": "sinonasal",
}  # everything rarer is `other`
_MULTIPLE = " (2)"  # `T3 (2)`: the category of the larger of two tumours


class Part(enum.Enum):
    """What a row may be used for."""

    CHALLENGE_TRAINING = "training"
    EXTRA = "0"  # outside the challenge: trained on, never tested on, for 217 of them are censored before two years
    CHALLENGE_TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class RadcureOutcome:
    """years: column `Length FU`, to death or the last contact. died: whether it is a death."""

    years: float
    died: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RadcurePatient:
    """One row. None: not recorded. Units are in the names; outcome is None where the publisher withholds it."""

    patient_id: str
    part: Part
    age_years: float
    male: bool
    ecog: float | None
    pack_years: float | None
    smoking: str | None
    site: str
    subsite: str
    tumour: str | None
    nodes: str | None
    metastasis: str | None
    stage: str
    histology: str
    p16: str | None
    modality: str
    concurrent_chemotherapy: bool
    dose_gy: float
    fractions: float
    radiotherapy_start: date
    outcome: RadcureOutcome | None


def read_development(folder: Path) -> tuple[RadcurePatient, ...]:
    """The 2,596 rows with outcomes, in the order of the file. Raises UnusableInput for a code nobody has explained."""
    return tuple(_patient(row, _outcome(row)) for row in read_rows(folder / DEVELOPMENT))


def read_test_inputs(folder: Path) -> tuple[RadcurePatient, ...]:
    """The official test's 750 rows; they carry no outcome. Raises UnusableInput like read_development."""
    return tuple(_patient(row, None) for row in read_rows(folder / TEST_INPUTS))


def read_radcure_entries(folder: Path, _: Terminology) -> Iterator[CohortEntry]:
    """The official test's patients, none of whom a postoperative model speaks to. folder: holds RECORD_FILES."""
    for row in read_rows(folder / TEST_INPUTS):
        yield CohortEntry(key=row["patient_id"], record=None, excluded=NOT_OPERATED)


def _patient(row: Mapping[str, str], outcome: RadcureOutcome | None) -> RadcurePatient:
    patient_id = row["patient_id"]
    return RadcurePatient(
        patient_id=patient_id,
        part=Part(row["RADCURE-challenge"]),
        age_years=float(row["Age"]),
        male=_required(patient_id, row["Sex"], {"male": "male", "female": "female"}) == "male",
        ecog=_ecog(row["ECOG PS"]),
        pack_years=_pack_years(row["Smoking PY"]),
        smoking=_SMOKING.get(row["Smoking Status"].strip().casefold()),
        site=_SITES.get(row["Ds Site"].strip().casefold(), "other"),
        subsite=" ".join(row["Subsite"].casefold().split()),
        tumour=_category(row["T"], "T"),
        nodes=_category(row["N"], "N"),
        metastasis=_category(row["M"], "M"),
        stage=row["Stage"].strip(),
        histology=row["Path"].strip(),
        p16=_P16.get(row["HPV"].strip().casefold()),
        # `ChemoRT ` with a blank at its end is chemoradiotherapy: one test row would else be of no known modality
        modality=_required(patient_id, row["Tx Modality"], _MODALITY),
        concurrent_chemotherapy=_required(patient_id, row["Chemo"], {"yes": "yes", "none": "none"}) == "yes",
        dose_gy=float(row["Dose"]),
        fractions=float(row["Fx"]),
        radiotherapy_start=date.fromisoformat(row["RT Start"]),
        outcome=outcome,
    )


def _outcome(row: Mapping[str, str]) -> RadcureOutcome:
    """`Last FU` minus `RT Start` is not the follow-up (one row is 10.7 years short of it): `Length FU` counts."""
    years = float(row["Length FU"])
    died = _required(row["patient_id"], row["Status"], {"dead": "dead", "alive": "alive"}) == "dead"
    if not math.isfinite(years) or years <= 0.0:
        raise UnusableInput(f"{row['patient_id']}: follow-up must lie above zero")
    return RadcureOutcome(years=years, died=died)


def _ecog(text: str) -> float | None:
    """0 to 4. `Unknown`, a blank and the range `ECOG 0-1` are no grade."""
    for prefix in _ECOG_PREFIXES:
        grade = text.strip().removeprefix(prefix)
        if grade.isdigit():
            return float(grade)
    return None


def _pack_years(text: str) -> float | None:
    """`na`, blanks and bounds such as `>50` are no number."""
    try:
        return float(text)
    except ValueError:
        return None


def _category(text: str, letter: str) -> str | None:
    """`T1a`, `Tis`, `N2b`. TX and NX, blanks, and a category of a recurrence (`rT0`) are not known."""
    category = text.strip().removesuffix(_MULTIPLE)
    return None if not category.startswith(letter) or category == f"{letter}X" else category


def _required(patient_id: str, text: str, meanings: Mapping[str, str]) -> str:
    try:
        return meanings[text.strip().casefold()]
    except KeyError:
        raise UnusableInput(f"{patient_id}: unknown code {text.strip()!r}") from None
