"""Who of TCGA-HNSC received adjuvant treatment, and when it began: for checks of treatment code, never for effects.

Course tables under-record, so the answer is merged from the patient form, every follow-up form and the tables. Days
run from diagnosis. Nothing here trains a contrast between arms: those come from randomised trials.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from training.cohorts.cohort import read_rows

_HEADER_LINES = 2
_KEY = "bcr_patient_barcode"
_FORMS = ("patient_hnsc.txt", "follow_up_v1.0_hnsc.txt", "follow_up_v4.8_hnsc.txt")
_COURSES = ("radiation_hnsc.txt", "drug_hnsc.txt")
FILES = (*_FORMS, *_COURSES)
_ADVANCED = {"Stage III", "Stage IVA", "Stage IVB"}
_TO_GRAY = {"Gy": 1.0, "cGy": 0.01}
_LARGEST_GRAY = 100.0  # no course to a head and neck exceeds this: the unit would be the wrong one
_LATE_ENDS = {"RECURRENCE", "PALLIATIVE", "PROGRESSION"}
_BRANDS = {
    "erbitux": "cetuximab", "taxol": "paclitaxel", "taxotere": "docetaxel", "alimta": "pemetrexed",
    "xeloda": "capecitabine", "5fu": "fluorouracil", "5-fu": "fluorouracil", "5-fluorouracil": "fluorouracil",
    "carboplatinum": "carboplatin",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TreatedPatient:
    """One patient. None: no form says. Days from diagnosis; advanced: pathological stage III to IVB."""

    patient_id: str
    age_years: float | None
    advanced: bool
    neoadjuvant: bool
    high_risk: bool
    radiotherapy: bool | None
    chemotherapy: bool | None
    radiotherapy_start_day: float | None
    dose_gy: float | None
    drugs: frozenset[str]
    last_days: float
    died: bool


def read_treatments(folder: Path) -> tuple[TreatedPatient, ...]:
    """Every patient of the patient form, in its order. folder: holds FILES."""
    tables = {name: read_rows(folder / name, "\t")[_HEADER_LINES:] for name in FILES}
    forms, radiation, drugs = (_by_patient(tables, names) for names in (_FORMS, _COURSES[:1], _COURSES[1:]))
    return tuple(
        _patient(row, forms[row[_KEY]], radiation[row[_KEY]], drugs[row[_KEY]]) for row in tables["patient_hnsc.txt"]
    )


def gray(dose: str, unit: str) -> float | None:
    """A dose in Gy. None where the unit is not known or makes it implausible (above 100 Gy, or none at all)."""
    value, factor = _number(dose), _TO_GRAY.get(unit)
    if value is None or factor is None:
        return None
    return value * factor if 0.0 < value * factor <= _LARGEST_GRAY else None


def drug_name(text: str) -> str:
    """The generic name in small letters: `CISPLATIN` is cisplatin, `Erbitux` cetuximab."""
    name = text.strip().casefold()
    return _BRANDS.get(name, name)


def _by_patient(
    tables: Mapping[str, list[dict[str, str]]], names: Iterable[str]
) -> defaultdict[str, list[Mapping[str, str]]]:
    grouped: defaultdict[str, list[Mapping[str, str]]] = defaultdict(list)
    for name in names:
        for row in tables[name]:
            grouped[row[_KEY]].append(row)
    return grouped


def _patient(
    row: Mapping[str, str],
    forms: list[Mapping[str, str]],
    radiation: list[Mapping[str, str]],
    drugs: list[Mapping[str, str]],
) -> TreatedPatient:
    courses = [course for course in radiation if course["therapy_regimen"] not in _LATE_ENDS]
    starts = [day for course in courses if (day := _number(course["radiation_therapy_started_days_to"])) is not None]
    doses = [
        dose
        for course in courses
        if (dose := gray(course["radiation_total_dose"], course["radiation_adjuvant_units"])) is not None
    ]
    deaths = [days for form in forms if (days := _number(form.get("death_days_to", ""))) is not None]
    contacts = [days for form in forms if (days := _number(form.get("last_contact_days_to", ""))) is not None]
    return TreatedPatient(
        patient_id=row[_KEY],
        age_years=_number(row["age_at_initial_pathologic_diagnosis"]),
        advanced=row["ajcc_pathologic_tumor_stage"] in _ADVANCED,
        neoadjuvant=row["history_neoadjuvant_treatment"].startswith("Yes"),
        high_risk=row["margin_status"] == "Positive"
        or row["extracapsular_spread_pathologic"] in {"Microscopic Extension", "Gross Extension"},
        radiotherapy=_answer(form.get("radiation_treatment_adjuvant", "") for form in forms),
        chemotherapy=_answer(form.get("pharmaceutical_tx_adjuvant", "") for form in forms),
        radiotherapy_start_day=min((day for day in starts if day > 0.0), default=None),
        dose_gy=max(doses, default=None),
        drugs=frozenset(
            drug_name(course["pharmaceutical_therapy_drug_name"])
            for course in drugs
            if not course["pharmaceutical_therapy_drug_name"].startswith("[")
        ),
        last_days=max(deaths) if deaths else max(contacts, default=0.0),
        died=bool(deaths),
    )


def _answer(answers: Iterable[str]) -> bool | None:
    """Yes on any form is yes, else no on any form is no: `[Not Available]` and `[Unknown]` say nothing."""
    given = set(answers)
    return True if "YES" in given else (False if "NO" in given else None)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
