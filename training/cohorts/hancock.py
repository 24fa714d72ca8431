"""HANCOCK: 763 patients of one centre with surgically treated head and neck cancer, as feature tables.

Data CC BY; Doerrich et al., Nat Commun 2025;16:7163, doi 10.1038/s41467-025-62386-6. Coded columns hold alphabetical
label encodings; the meanings below were checked by their authors' counts. What a code means and is not certain is
left out, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from adapter.domain.record import PatientRecord
from adapter.errors import UnusableInput
from adapter.terminology import Terminology
from training.cohorts.cohort import (
    CohortEntry,
    CohortPatient,
    FollowUp,
    RecordBuilder,
    meaning_in,
    number_in,
    read_entries,
    read_rows,
)

NAME = "hancock"
RECORD_FILES = ("clinical.csv", "pathological.csv", "blood.csv")
FILES = (*RECORD_FILES, "targets.csv")
NOMINAL_SURGERY = datetime(2015, 6, 15, tzinfo=UTC)

_SEX = {"0": "male", "1": "female"}
_SMOKING = {"0": "former", "1": "never", "2": "current"}  # 3 is missing
_SITE = {"0": "unknown_primary", "1": "hypopharynx", "2": "larynx", "3": "oral_cavity", "4": "oropharynx"}
_P16 = {"0": "negative", "2": "positive"}  # 1 is not tested
_MARGIN = {"0": "R0", "1": "R1", "2": "R2", "3": "RX"}
_MARGIN_CIS = {"1": "R0", "2": "R1"}  # 0 is no carcinoma in situ
_GRADE = {"0": "G1", "1": "G2", "2": "G3"}  # 3 is graded by HPV, not G4
_PT = {"0": "pTis", "1": "pTX", "2": "pT1", "3": "pT1", "4": "pT1", "5": "pT2", "6": "pT3", "7": "pT4a", "8": "pT4b"}
_PN = {
    "0": "pNX", "1": "pN0", "2": "pN1", "3": "pN1", "4": "pN2", "5": "pN2a", "6": "pN2b", "7": "pN2c",
    "8": "pN3", "9": "pN3",  # two of pN3, pN3a, pN3b: which is not documented
}  # fmt: skip
_PRESENCE = {"0": "absent", "1": "present"}
_ENE = {"0.0": "negative", "1.0": "positive"}
_CODED: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("pT", "pT_stage", _PT),
    ("pN", "pN_stage", _PN),
    ("p16", "hpv_association_p16", _P16),
    ("margin_class", "resection_status", _MARGIN),
    ("margin_cis", "resection_status_carcinoma_in_situ", _MARGIN_CIS),
    ("grade", "grading", _GRADE),
    ("ene_path", "perinodal_invasion", _ENE),
    ("lymphatic_invasion", "lymphovascular_invasion_L", _PRESENCE),
    ("vascular_invasion", "vascular_invasion_V", _PRESENCE),
    ("pni", "perineural_invasion_Pn", _PRESENCE),
    ("carcinoma_in_situ", "carcinoma_in_situ", _PRESENCE),
)
_BLOOD = {
    "wbc": "Leukocytes [#/volume] in Blood",
    "hgb": "Hemoglobin [Mass/volume] in Blood",
    "plt": "Platelets [#/volume] in Blood",
    "rbc": "Erythrocytes [#/volume] in Blood",
    "hct": "Hematocrit [Volume Fraction] of Blood",
    "mch": "Erythrocyte mean corpuscular hemoglobin [Entitic mass]",
    "mcv": "Erythrocyte mean corpuscular volume [Entitic volume]",
    "mchc": "Erythrocyte mean corpuscular hemoglobin concentration [Mass/volume]",
    "rdw": "Erythrocyte distribution width [Ratio]",
    "mpv": "Platelet mean volume [Entitic volume] in Blood",
    "neut": "Granulocytes [#/volume] in Blood",
    "eos": "Eosinophils [#/volume] in Blood",
    "baso": "Basophils [#/volume] in Blood",
    "lymph": "Lymphocytes [#/volume] in Blood",
    "mono": "Monocytes [#/volume] in Blood",
    "pdw": "Platelet distribution width [Entitic volume] in Blood by Automated count",
}
_MEDIAN_OFFSET, _LONGEST_OFFSET = 23.0, 180.0  # days from diagnosis, where OS counts from, to surgery


def read_hancock(folder: Path, terminology: Terminology) -> tuple[CohortPatient, ...]:
    """All 763 patients in the order of the file. folder: holds FILES. Raises UnusableInput for a row it cannot read."""
    targets = {row["patient_id"]: row for row in read_rows(folder / FILES[-1])}
    return tuple(
        CohortPatient(record=entry.readable, follow_up=_follow_up(targets[entry.key]), excluded=entry.excluded)
        for entry in read_hancock_entries(folder, terminology)
    )


def read_hancock_entries(folder: Path, terminology: Terminology) -> Iterator[CohortEntry]:
    """Every patient of tables in this layout, in the order of clinical.csv. folder: holds RECORD_FILES."""
    clinical, pathology, blood = ({row["patient_id"]: row for row in read_rows(folder / name)} for name in RECORD_FILES)
    rows = {key: row | pathology.get(key, {}) | blood.get(key, {}) for key, row in clinical.items()}
    return read_entries(rows, lambda key, row: _record(key, row, terminology))


def _record(key: str, row: Mapping[str, str], terminology: Terminology) -> tuple[PatientRecord, str | None]:
    """The record, and why it is excluded."""
    if "pT_stage" not in row:
        raise UnusableInput("no row in pathological.csv")
    builder = RecordBuilder(NAME, key, NOMINAL_SURGERY, terminology)
    builder.diagnose("hnscc", meaning_in(row, "primary_tumor_site", _SITE), -21)
    builder.operate()
    builder.measure("smoking_status", _SMOKING.get(row["smoking_status"]), -1)
    for feature, column, meanings in _CODED:
        builder.measure(feature, meanings.get(row[column]), 0)
    builder.measure("nodes_positive", number_in(row, "number_of_positive_lymph_nodes"), 0)
    builder.measure("depth_of_invasion", number_in(row, "infiltration_depth_in_mm"), 0)
    for feature, column in _BLOOD.items():
        value = number_in(row, column)
        low, high = terminology.features[feature].hard or (float("-inf"), float("inf"))
        # the reader refuses what the service would quarantine, so that both see the same patient
        builder.measure(feature, value if value is not None and low <= value <= high else None, -1)
    metastasised = row["primarily_metastasis"] == "1.0"
    if metastasised:
        builder.measure("cM", "cM1", -21)
    record = builder.record(age_years=number_in(row, "age_at_initial_diagnosis"), sex=meaning_in(row, "sex", _SEX))
    return record, "primary metastasis: no curative surgery" if metastasised else None


def _follow_up(target: Mapping[str, str]) -> FollowUp:
    """Days after surgery. OS counts from diagnosis and RFS from first treatment: their difference is the offset."""
    last, rfs = float(target["days_to_last_information"]), float(target["days_to_rfs_event"])
    died, event = target["survival_status"] == "deceased", target["rfs_event"] == "1"
    recurrence = number_in(target, "days_to_recurrence")
    offset = (recurrence if recurrence is not None else last) - rfs
    plausible = 0.0 <= offset <= _LONGEST_OFFSET
    offset = offset if plausible else _MEDIAN_OFFSET
    last_days = max(1.0, last - offset)
    # an RFS event without recurrence is the death itself only where both fall on one day; else progression
    is_illness = event and (recurrence is not None or not died or not plausible)
    illness = min(max(1.0, rfs), last_days) if is_illness else None
    return FollowUp(illness_days=illness, last_days=last_days, died=died)
