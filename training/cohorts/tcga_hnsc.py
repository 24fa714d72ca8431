"""TCGA-HNSC: clinical tables of many centres. TCGA Network, Nature 2015;517:576; open-access tier.

Days count from diagnosis, not surgery: diagnosis stands for surgery here, which shifts every time by some weeks and is
one reason why the cohort has a baseline of its own in the fit. AJCC 5th to 7th editions are mixed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from adapter.domain.record import PatientRecord
from adapter.terminology import Terminology
from training.cohorts.cohort import CohortEntry, CohortPatient, FollowUp, RecordBuilder, read_entries, read_rows

NAME = "tcga-hnsc"
RECORD_FILES = ("patient_hnsc.txt",)
FILES = (
    *RECORD_FILES, "follow_up_v1.0_hnsc.txt", "follow_up_v4.8_hnsc.txt", "follow_up_v4.8_nte_hnsc.txt",
    "nte_hnsc.txt",
)  # fmt: skip
NOMINAL_SURGERY = datetime(2010, 6, 15, tzinfo=UTC)
_HEADER_LINES = 2  # after the first: old names, then CDE ids
_KEY = "bcr_patient_barcode"

_SMOKING = {"1": "never", "2": "current", "3": "former", "4": "former", "5": "former"}
_SITES = {
    "oral_cavity": (
        "Oral Tongue",
        "Oral Cavity",
        "Floor of mouth",
        "Alveolar Ridge",
        "Buccal Mucosa",
        "Hard Palate",
        "Lip",
    ),
    "oropharynx": ("Base of tongue", "Tonsil", "Oropharynx"),
    "hypopharynx": ("Hypopharynx",),
    "larynx": ("Larynx",),
}
_SITE = {name.casefold(): group for group, names in _SITES.items() for name in names}
_YES_NO = {"YES": "present", "NO": "absent"}
_ENE = {
    "No Extranodal Extension": "negative",
    "Microscopic Extension": "micro",
    "Gross Extension": "macro",
}
_MARGIN = {"Negative": "R0", "Positive": "R1"}  # `Close` says nothing about residual tumour
_P16 = {"Positive": "positive", "Negative": "negative"}
_PT = {"T0": "pT0", "TX": "pTX", "T1": "pT1", "T2": "pT2", "T3": "pT3", "T4": "pT4", "T4a": "pT4a", "T4b": "pT4b"}
_PN = {
    "N0": "pN0", "NX": "pNX", "N1": "pN1", "N2": "pN2", "N2a": "pN2a", "N2b": "pN2b", "N2c": "pN2c", "N3": "pN3",
}  # fmt: skip
_GRADE = {"G1": "G1", "G2": "G2", "G3": "G3", "G4": "G4"}
_CODED: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("pT", "ajcc_tumor_pathologic_pt", _PT),
    ("pN", "ajcc_nodes_pathologic_pn", _PN),
    ("p16", "hpv_status_p16", _P16),
    ("margin_class", "margin_status", _MARGIN),
    ("grade", "tumor_grade", _GRADE),
    ("ene_path", "extracapsular_spread_pathologic", _ENE),
    ("lvi", "lymphovascular_invasion", _YES_NO),
    ("pni", "perineural_invasion", _YES_NO),
)


def read_tcga(folder: Path, terminology: Terminology) -> tuple[CohortPatient, ...]:
    """Every patient of the tables in the folder, in the order of the patient form."""
    forms: dict[str, list[Mapping[str, str]]] = {}
    for name in FILES:
        for row in _rows(folder / name):
            forms.setdefault(row[_KEY], []).append(row)
    return tuple(
        CohortPatient(record=entry.readable, follow_up=_follow_up(forms[entry.key]), excluded=entry.excluded)
        for entry in read_tcga_entries(folder, terminology)
    )


def read_tcga_entries(folder: Path, terminology: Terminology) -> Iterator[CohortEntry]:
    """Every patient of a table in this layout, in order. folder: holds RECORD_FILES."""
    rows = {row[_KEY]: row for row in _rows(folder / RECORD_FILES[0])}
    return read_entries(rows, lambda key, row: _record(key, row, terminology))


def _rows(path: Path) -> list[dict[str, str]]:
    return read_rows(path, "\t")[_HEADER_LINES:]


def _record(key: str, row: Mapping[str, str], terminology: Terminology) -> tuple[PatientRecord, str | None]:
    """The record, and why it is excluded."""
    builder = RecordBuilder(NAME, key.replace("_", "-"), NOMINAL_SURGERY, terminology)
    builder.diagnose("hnscc", _SITE.get(row["anatomic_organ_subdivision"].casefold()), -21)
    builder.operate()
    builder.measure("smoking_status", _SMOKING.get(row["tobacco_smoking_history_indicator"]), -1)
    for feature, column, meanings in _CODED:
        builder.measure(feature, meanings.get(row[column]), 0)
    builder.measure("nodes_positive", _number(row["lymph_nodes_examined_he_count"]), 0)
    record = builder.record(age_years=_number(row["age_at_initial_pathologic_diagnosis"]), sex=row["gender"].casefold())
    return record, _exclusion(row)


def _exclusion(row: Mapping[str, str]) -> str | None:
    if row["ajcc_metastasis_pathologic_pm"] == "M1" or row["clinical_M"] == "M1":
        return "distant metastasis"
    if row["history_neoadjuvant_treatment"].startswith("Yes"):
        return "neoadjuvant treatment"
    return None


def _number(text: str) -> float | None:
    """A number; `[Not Available]`, `[Unknown]`, `[Not Applicable]` and blanks are none."""
    try:
        return float(text)
    except ValueError:
        return None


def _follow_up(forms: list[Mapping[str, str]]) -> FollowUp:
    """The latest of all forms decides; a death on any form is a death."""
    deaths = [days for form in forms if (days := _number(form.get("death_days_to", ""))) is not None]
    contacts = [days for form in forms if (days := _number(form.get("last_contact_days_to", ""))) is not None]
    events = [days for form in forms if (days := _number(form.get("new_tumor_event_dx_days_to", ""))) is not None]
    died = bool(deaths)
    last = max(1.0, max(deaths, default=0.0) if died else max(contacts, default=0.0))
    illness = min((days for days in events if days > 0), default=None)
    return FollowUp(illness_days=min(illness, last) if illness is not None else None, last_days=last, died=died)
