"""Randomised trials as published in R packages: what a treatment recommender must not contradict.

GPL or LGPL data. One is head and neck (RTOG oropharynx, radiotherapy against radiotherapy with chemotherapy), the rest
are other diseases: they test the code that estimates effects, and train nothing that is shipped. rotterdam, gbsg and
larynx are not read: their treatment was chosen by physicians, or there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from training.cohorts.cohort import read_rows

DAYS_PER_YEAR = 365.25
_DEATH = "2.0"  # colon: every patient stands twice, 1 = recurrence, 2 = death


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomisedPatient:
    """treated: the arm that was allotted, not what was taken. Overall survival. covariates: known before allotment."""

    patient_id: str
    treated: bool
    covariates: Mapping[str, float]
    years: float
    died: bool


def read_oropharynx_trial(folder: Path) -> tuple[RandomisedPatient, ...]:
    """RTOG oropharynx: 192 of 195, 139 deaths; arm 2 adds chemotherapy to radiotherapy. Head and neck, definitive.

    Arm HR 1.19 (0.85-1.66): no effect to find, so a recommender must mostly abstain.
    """
    return tuple(
        RandomisedPatient(
            patient_id=row["pid"],
            treated=row["fac_treatm"] == "2",
            covariates=MappingProxyType(
                {
                    "male": float(row["fac_sex"] == "1"),
                    "age_years": float(row["num_age"]),
                    "condition": float(row["num_cond"]),
                    "tumour": float(row["num_tstage"]),
                    "nodes": float(row["num_nstage"]),
                    "grade": float(row["fac_grade"]),
                    # sites are codes 1, 2 and 4: not a scale
                    "site_2": float(row["fac_site"] == "2"),
                    "site_4": float(row["fac_site"] == "4"),
                }
            ),
            years=float(row["time"]),
            died=row["event"] == "1",
        )
        for row in read_rows(folder / "pharynx_d.oropha.rec.csv")
    )


def read_gastric_adjuvant(folder: Path) -> tuple[RandomisedPatient, ...]:
    """Fourteen trials of adjuvant chemotherapy for gastric cancer (GASTRIC), 3,288 patients.

    timeT is overall survival, timeS disease-free. Trials differ, so the trial is the only covariate and a stratum.
    """
    return tuple(
        RandomisedPatient(
            patient_id=row["patientID"],
            treated=row["trt"] == "1.0",
            covariates=MappingProxyType({"trial": float(row["trialID"])}),
            years=float(row["timeT"]) / DAYS_PER_YEAR,
            died=row["statusT"] == "1",
        )
        for row in read_rows(folder / "gastadj.csv")
    )


def read_colon_trial(folder: Path) -> tuple[RandomisedPatient, ...]:
    """Levamisole with fluorouracil against observation, 619 patients; the levamisole-only arm is left out.

    Every patient stands twice, once for recurrence: counting both would double the deaths.
    """
    rows = [row for row in read_rows(folder / "colon.csv") if row["etype"] == _DEATH and row["rx"] != "Lev"]
    names = ("sex", "age", "obstruct", "perfor", "adhere", "nodes", "differ", "extent", "surg", "node4")
    return tuple(
        RandomisedPatient(
            patient_id=row["id"],
            treated=row["rx"] == "Lev+5FU",
            covariates=MappingProxyType({name: float(row[name]) for name in names if row[name]}),
            years=float(row["time"]) / DAYS_PER_YEAR,
            died=row["status"] == "1.0",
        )
        for row in rows
    )


def read_cetuximab_trial(folder: Path) -> tuple[RandomisedPatient, ...]:
    """Cetuximab with radiotherapy (Bonner), 424 patients read off published curves: no covariates."""
    return tuple(
        RandomisedPatient(
            patient_id=str(place),
            treated=row["treat"] == "Cetuximab",
            covariates=MappingProxyType({}),
            years=float(row["years"]),
            died=row["d"] == "1",
        )
        for place, row in enumerate(read_rows(folder / "cetux.csv"))
    )
