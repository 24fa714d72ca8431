"""HEAD-NECK-RADIOMICS-HN1: 137 patients, definitive (chemo)radiotherapy, shape of the contoured tumours on planning CT.

CC BY-NC 3.0: evaluation only, never trains shipped weights. Wee and Dekker, TCIA 2019, doi
10.7937/tcia.2019.8kap372n; Aerts et al., Nat Commun 2014;5:4006. Definitive treatment: no surgery dates a
postoperative landmark, so a table of its own. Every feature stands before treatment, times count from its start.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapter.errors import UnusableInput
from training.cohorts.cohort import read_rows

NAME = "hn1"
FILES = ("clinical.csv", "radiomics.csv")
G_PER_DL_OF_MMOL_PER_L = 1.611  # haemoglobin monomer, 16.11 g/mmol
_MM3_PER_ML = 1000.0
_CONCURRENT = {"concomitant": True, "concurrent": True, "none": False}  # two words, one treatment
_YES_NO = {"yes": True, "no": False}
_SITES = {"oropharynx": True, "larynx": False}
_PRIMARY, _ANY_TUMOUR = "GTV-1", "GTV-"


@dataclass(frozen=True, slots=True, kw_only=True)
class TumourImage:
    """What planning CT shows of the tumours. primary_ml: GTV-1; total_ml: all GTVs; sphericity: GTV-1, 0 to 1."""

    primary_ml: float
    total_ml: float
    sphericity: float
    largest_diameter_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hn1Patient:
    """One patient. None: not recorded. years, died: overall survival."""

    patient_id: str
    age_years: float
    male: bool
    oropharynx: bool
    ecog: float | None
    p16: str | None
    tumour: int
    nodes: int
    distant_metastasis: bool
    hemoglobin_g_per_dl: float | None
    surgery: bool
    concurrent_chemotherapy: bool
    image: TumourImage
    years: float
    died: bool


def read_hn1(folder: Path) -> tuple[Hn1Patient, ...]:
    """All 137 in the order of the file. Raises UnusableInput where a patient has no primary tumour volume."""
    structures: defaultdict[str, list[Mapping[str, str]]] = defaultdict(list)
    for row in read_rows(folder / "radiomics.csv"):
        structures[row["id"]].append(row)
    return tuple(_patient(row, structures[row["id"]]) for row in read_rows(folder / "clinical.csv"))


def _patient(row: Mapping[str, str], structures: Iterable[Mapping[str, str]]) -> Hn1Patient:
    hemoglobin = _number(row["pretreat_hb_in_mmolperlitre"])
    return Hn1Patient(
        patient_id=row["id"],
        age_years=float(row["age_at_diagnosis"]),
        male=row["biological_sex"] == "male",
        oropharynx=_SITES[row["index_tumour_location"]],
        ecog=_number(row["performance_status_ecog"]),
        p16=row["overall_hpv_p16_status"] or None,
        tumour=int(row["clin_t"]),
        nodes=int(row["clin_n"]),
        distant_metastasis=row["clin_m"] == "1",
        hemoglobin_g_per_dl=None if hemoglobin is None else hemoglobin * G_PER_DL_OF_MMOL_PER_L,
        surgery=_YES_NO[row["cancer_surgery_performed"]],
        concurrent_chemotherapy=_CONCURRENT[row["chemotherapy_given"]],
        image=_image(row["id"], structures),
        years=float(row["overall_survival_in_days"]) / 365.25,
        died=row["event_overall_survival"] == "1",
    )


def _image(patient_id: str, structures: Iterable[Mapping[str, str]]) -> TumourImage:
    """One row per structure: organs at risk are not tumour, and a second GTV is not another patient."""
    tumours = {row["Structure"]: row for row in structures if row["Structure"].startswith(_ANY_TUMOUR)}
    primary = tumours.get(_PRIMARY)
    if primary is None:
        raise UnusableInput(f"{patient_id}: no structure {_PRIMARY}")
    return TumourImage(
        primary_ml=float(primary["VoxelVolume"]) / _MM3_PER_ML,
        total_ml=math.fsum(float(row["VoxelVolume"]) for row in tumours.values()) / _MM3_PER_ML,
        sphericity=float(primary["Sphericity"]),
        largest_diameter_mm=float(primary["Maximum3DDiameter"]),
    )


def _number(text: str) -> float | None:
    return float(text) if text else None
