"""Real repeated measurements with a survival time: what the dynamic engine is proven on. Wrong disease, all of them.

Data of R packages (JM, joineRML, frailtypack, survival; GPL-2+ or LGPL). Cirrhosis, leukaemia, HIV, metastatic
colorectal cancer and heart transplantation: none may train shipped weights, none becomes a postoperative record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from training.cohorts.cohort import read_rows

DAYS_PER_YEAR, MONTHS_PER_YEAR = 365.25, 12.0
Values = Mapping[str, float]  # what is not measured has no entry
Row = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What was measured so many years after entry."""

    years: float
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class LongitudinalPatient:
    """years: from entry to death or the last contact. visits: by time, none after `years`."""

    patient_id: str
    baseline: Values
    visits: tuple[Visit, ...]
    years: float
    died: bool


_YES_NO = {"Yes": 1.0, "No": 0.0}
_EDEMA = {"No edema": 0.0, "edema no diuretics": 0.5, "edema despite diuretics": 1.0}
_PBC_NUMBERS = {
    "bilirubin_mg_per_dl": ("serBilir", "bili"),
    "cholesterol_mg_per_dl": ("serChol", "chol"),
    "albumin_g_per_dl": ("albumin", "albumin"),
    "alkaline_phosphatase_u_per_l": ("alkaline", "alk.phos"),
    "ast_u_per_ml": ("SGOT", "ast"),
    "platelets_10_9_per_l": ("platelets", "platelet"),
    "prothrombin_s": ("prothrombin", "protime"),
    "histologic_stage": ("histologic", "stage"),
}
_PBC_FLAGS = {"ascites": "ascites", "hepatomegaly": "hepato", "spiders": "spiders"}


def read_pbc2(folder: Path) -> tuple[LongitudinalPatient, ...]:
    """Primary biliary cirrhosis, 312 patients, 140 deaths; a transplant ends the follow-up and is no death.

    The same people as read_pbcseq: one may never be the test of the other.
    """

    def values(row: Row) -> Values:
        numbers = _numbers(row, {name: left for name, (left, _) in _PBC_NUMBERS.items()})
        flags = {name: _YES_NO[row[name]] for name in _PBC_FLAGS if row[name]}
        return numbers | flags | {"edema": _EDEMA[row["edema"]]}

    return _grouped(
        read_rows(folder / "pbc2.csv"),
        key="id",
        time=lambda row: float(row["year"]),
        end=lambda row: (float(row["years"]), row["status"] == "dead"),
        baseline=lambda row: _pbc_baseline(row, treated=row["drug"] == "D-penicil", female=row["sex"] == "female"),
        values=values,
    )


def read_pbcseq(folder: Path) -> tuple[LongitudinalPatient, ...]:
    """The 312 of read_pbc2 in days and codes: status 2 is death, 1 a transplant."""

    def values(row: Row) -> Values:
        names = {name: right for name, (_, right) in _PBC_NUMBERS.items()} | _PBC_FLAGS | {"edema": "edema"}
        return _numbers(row, names)

    return _grouped(
        read_rows(folder / "pbcseq.csv"),
        key="id",
        time=lambda row: float(row["day"]) / DAYS_PER_YEAR,
        end=lambda row: (float(row["futime"]) / DAYS_PER_YEAR, row["status"] == "2"),
        baseline=lambda row: _pbc_baseline(row, treated=row["trt"] == "1", female=row["sex"] == "f"),
        values=values,
    )


def read_prothro(folder: Path) -> tuple[LongitudinalPatient, ...]:
    """Cirrhosis trial (CSL): prothrombin index in per cent, prednisone against placebo; 488 patients, 292 deaths."""
    return _grouped(
        read_rows(folder / "prothro.csv"),
        key="id",
        time=lambda row: float(row["time"]),
        end=lambda row: (float(row["Time"]), row["death"] == "1"),
        baseline=lambda row: {"prednisone": float(row["treat"] == "prednisone")},
        values=lambda row: _numbers(row, {"prothrombin_index": "pro"}),
    )


def read_aids(folder: Path) -> tuple[LongitudinalPatient, ...]:
    """HIV: square root of the CD4 count per mm3, ddI against ddC; 467 patients, 188 deaths. The file counts months."""
    return _grouped(
        read_rows(folder / "aids.csv"),
        key="patient",
        time=lambda row: float(row["obstime"]) / MONTHS_PER_YEAR,
        end=lambda row: (float(row["Time"]) / MONTHS_PER_YEAR, row["death"] == "1"),
        baseline=lambda row: {
            "didanosine": float(row["drug"] == "ddI"),
            "male": float(row["gender"] == "male"),
            "aids_before": float(row["prevOI"] == "AIDS"),
            "zidovudine_failed": float(row["AZT"] == "failure"),
        },
        values=lambda row: _numbers(row, {"root_cd4": "CD4"}),
    )


def read_leukaemia(folder: Path) -> tuple[LongitudinalPatient, ...]:
    """Chronic myeloid leukaemia: logarithm of the white count over its mean; 190 patients, two files."""
    patients = {row["patnr"]: row for row in read_rows(folder / "wbc1.csv")}
    return _grouped(
        [patients[row["patnr"]] | {"at": row["tyears"], "lwbc": row["lwbc"]} for row in read_rows(folder / "wbc2.csv")],
        key="patnr",
        time=lambda row: float(row["at"]),
        end=lambda row: (float(row["tyears"]), row["d"] == "1.0"),
        baseline=lambda row: _numbers(row, {"sokal": "sokal", "age_years": "age"}),
        values=lambda row: _numbers(row, {"log_white_count": "lwbc"}),
    )


def read_colorectal(folder: Path) -> tuple[LongitudinalPatient, ...]:
    """Metastatic colorectal cancer (FFCD 2000-05): transformed tumour size; 150 patients, 121 deaths.

    New lesions make rows of their own: the end is the last of them, not the first. One size dated after it is dropped.
    """
    ends: dict[str, tuple[float, bool]] = {}
    for row in read_rows(folder / "colorectal.csv"):
        years, died = ends.get(row["id"], (0.0, False))
        ends[row["id"]] = (max(years, float(row["time1"])), died or row["state"] == "1")
    return _grouped(
        read_rows(folder / "colorectalLongi.csv"),
        key="id",
        time=lambda row: float(row["year"]),
        end=lambda row: ends[row["id"]],
        baseline=lambda row: {
            "combination": float(row["treatment"] == "C"),
            "performance_status": float(row["who.PS"]),
            "resected_before": float(row["prev.resection"] == "Yes"),
        },
        values=lambda row: _numbers(row, {"tumour_size": "tumor.size"}),
    )


def read_heart_transplant(folder: Path) -> tuple[LongitudinalPatient, ...]:
    """Stanford programme: transplanted counts from its day on, never from entry; 103 patients, 75 deaths.

    Counting it from entry is the textbook immortal-time error. Age is in years from 48.
    """
    rows = read_rows(folder / "jasa1.csv")
    last = {row["id"]: row for row in rows}  # intervals stand in order
    return _grouped(
        rows,
        key="id",
        time=lambda row: float(row["start"]) / DAYS_PER_YEAR,
        end=lambda row: (float(last[row["id"]]["stop"]) / DAYS_PER_YEAR, last[row["id"]]["event"] == "1.0"),
        baseline=lambda row: _numbers(row, {"age_from_48_years": "age", "surgery_before": "surgery"}),
        values=lambda row: _numbers(row, {"transplanted": "transplant"}),
    )


def _grouped(
    rows: list[dict[str, str]],
    *,
    key: str,
    time: Callable[[Row], float],
    end: Callable[[Row], tuple[float, bool]],
    baseline: Callable[[Row], Values],
    values: Callable[[Row], Values],
) -> tuple[LongitudinalPatient, ...]:
    """One patient per key, in the order of the file, visits by time and none after the end."""
    groups: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        groups[row[key]].append(row)
    patients = []
    for patient_id, group in groups.items():
        years, died = end(group[0])
        visits = [Visit(years=time(row), values=MappingProxyType(dict(values(row)))) for row in group]
        patients.append(
            LongitudinalPatient(
                patient_id=patient_id,
                baseline=MappingProxyType(dict(baseline(group[0]))),
                visits=tuple(sorted((v for v in visits if v.years <= years), key=lambda visit: visit.years)),
                years=years,
                died=died,
            )
        )
    return tuple(patients)


def _pbc_baseline(row: Row, *, treated: bool, female: bool) -> Values:
    return {"penicillamine": float(treated), "female": float(female), "age_years": float(row["age"])}


def _numbers(row: Row, columns: Mapping[str, str]) -> dict[str, float]:
    return {name: float(row[column]) for name, column in columns.items() if row[column]}
