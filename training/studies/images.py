"""HN1 and HNSCC: what image-derived features, and a second look at them, add to clinical data. Evaluation only.

CC BY-NC 3.0: nothing fitted here is kept or shipped. Small sets of definitive radiotherapy, so ridge Cox (the engine's
linear part) and paired folds; the expected gain from routine data is 0.00 to 0.01 in C, published as measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.cohorts import hn1, hnscc_mdacc
from training.cohorts.hn1 import Hn1Patient, read_hn1
from training.cohorts.hnscc_mdacc import HnsccPatient, read_hnscc
from training.studies.effort import Effort
from training.studies.findings import Findings, Gate, Table, digest_of_data
from training.studies.hazard_net import HazardNet, NetSettings
from training.studies.measures import Floats, Outcomes, concordance, paired_difference, stratified_folds
from training.studies.ridge_cox import RidgeCox

HN1_FOLDER, HNSCC_FOLDER = "hn1", "hnscc_mdacc"
LANDMARK_DAYS = 183.0  # six months after the first day of radiotherapy, fixed before any result was seen
DAYS_PER_YEAR = 365.25
_COPIED = 42
_T4, _N2 = 4, 2
_NET_AT = 3.0  # years, where the net orders patients
_ALPHA = 20.0
_FOLDS, _REPEATS, _SEED = 5, 20, 20260718
_NET = NetSettings(interval_years=0.5, intervals=16, steps=150, linear=30.0, time=300.0, perceptron=100.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nested:
    """Inputs that contain each other: the columns of each name, (N, P), are added in this order."""

    name: str
    outcomes: Outcomes
    blocks: Mapping[str, Floats]


def study(data: Path, effort: Effort) -> Findings:
    """Both sets. data: the folder that holds `hn1` and `hnscc_mdacc`."""
    planning = planning_image(read_hn1(data / HN1_FOLDER))
    patients = read_hnscc(data / HNSCC_FOLDER)
    copied = sum(patient.copied_image for patient in patients)
    second = second_image(clean_survivors(patients))
    repeats = _REPEATS if effort is Effort.FULL else 1
    tables = tuple(_table(nested, repeats) for nested in (planning, second))
    return Findings(
        slug="images",
        title="Images and the second time point, on head and neck patients",
        data=digest_of_data(
            data, [*(f"{HN1_FOLDER}/{name}" for name in hn1.FILES), f"{HNSCC_FOLDER}/{hnscc_mdacc.FILE}"]
        ),
        paragraphs=_paragraphs(planning, second),
        gates=(
            *(gate for table in tables for gate in _gates(table)),
            Gate(
                name="HNSCC rows with copied images, detected and dropped",
                wanted=str(_COPIED),
                measured=copied,
                passed=copied == _COPIED,
            ),
        ),
        tables=tables,
    )


def planning_image(patients: Sequence[Hn1Patient]) -> Nested:
    """HN1 at the start of radiotherapy: clinical columns, then the shape of the tumours on planning CT."""
    clinical = [
        [
            p.age_years, float(p.male), float(p.oropharynx), _or_unknown(p.ecog), float(p.p16 == "positive"),
            float(p.p16 is None), float(p.tumour), float(p.tumour >= _T4), float(p.nodes), float(p.nodes >= _N2),
            float(p.concurrent_chemotherapy), _or_unknown(p.hemoglobin_g_per_dl),
        ]
        for p in patients
    ]  # fmt: skip
    image = [[math.log(p.image.primary_ml), math.log(p.image.total_ml), p.image.sphericity] for p in patients]
    return Nested(
        name="HN1, overall survival from the start of radiotherapy",
        outcomes=Outcomes(years=np.array([p.years for p in patients]), died=np.array([p.died for p in patients])),
        blocks={"clinical": np.array(clinical), "+ planning CT": np.array(image)},
    )


def clean_survivors(patients: Sequence[HnsccPatient]) -> list[HnsccPatient]:
    """Who is alive at the landmark and whose images are no copy of another patient's."""
    return [patient for patient in patients if not patient.copied_image and patient.last_days > LANDMARK_DAYS]


def second_image(patients: Sequence[HnsccPatient]) -> Nested:
    """HNSCC at six months: clinical, then the first image, then weight change, then the second image.

    An image counts only if it was made by then; a first image dated after the start of treatment is no first image.
    """
    clinical = [
        [
            p.age_years, float(p.male), float(p.tumour), float(p.nodes), float(p.nodes >= _N2),
            float(p.p16 == "positive"), float(p.p16 is None), float(p.site == "Oropharynx"), float(p.unusual_site),
            float(p.current_smoker), float(p.former_smoker), float(p.induction_chemotherapy),
            float(p.concurrent_chemotherapy), float(p.surgery), p.body_mass_index,
            float(p.illness_days is not None and p.illness_days <= LANDMARK_DAYS),
        ]
        for p in patients
    ]  # fmt: skip
    first = [_body(p) if _before(p) else [math.nan, math.nan] for p in patients]
    weight = [[math.log(p.weight_after_kg / p.weight_before_kg)] for p in patients]
    second = [_change(p) if _before(p) and _by_landmark(p) else [math.nan, math.nan] for p in patients]
    return Nested(
        name="HNSCC (MD Anderson), overall survival from six months after the start of radiotherapy",
        outcomes=Outcomes(
            years=np.array([(p.last_days - LANDMARK_DAYS) / DAYS_PER_YEAR for p in patients]),
            died=np.array([p.died for p in patients]),
        ),
        blocks={
            "clinical": np.array(clinical), "+ CT before": np.array(first), "+ weight change": np.array(weight),
            "+ CT after (second time point)": np.array(second),
        },
    )  # fmt: skip


def _before(patient: HnsccPatient) -> bool:
    return patient.before.day is not None and patient.before.day <= 0.0


def _by_landmark(patient: HnsccPatient) -> bool:
    return patient.after.day is not None and patient.after.day <= LANDMARK_DAYS


def _body(patient: HnsccPatient) -> list[float]:
    return [patient.before.muscle, math.log(patient.before.fat)]


def _change(patient: HnsccPatient) -> list[float]:
    before, after = patient.before, patient.after
    return [math.log(after.muscle / before.muscle), math.log(after.fat / before.fat)]


def _or_unknown(value: float | None) -> float:
    return math.nan if value is None else value


def _table(nested: Nested, repeats: int) -> Table:
    """Each set of inputs by ridge Cox and by the net, on the same folds; the gain is against the row above."""
    inputs = list(_accumulated(nested.blocks))
    cox: list[list[float]] = [[] for _ in inputs]
    net: list[list[float]] = [[] for _ in inputs]
    folds = stratified_folds(nested.outcomes.died, folds=_FOLDS, repeats=repeats, seed=_SEED)
    for fold, (train, test) in enumerate(folds):
        training, testing = nested.outcomes.at(train), nested.outcomes.at(test)
        for place, (_, table) in enumerate(inputs):
            cox[place].append(concordance(testing, RidgeCox(table[train], training, _ALPHA).score(table[test])))
            if fold < _FOLDS:  # the net is slow: one repeat
                risk = HazardNet(table[train], training, _NET).risk(table[test], _NET_AT)
                net[place].append(concordance(testing, risk))
    rows = []
    for place, (name, _) in enumerate(inputs):
        previous = None if place == 0 else paired_difference(cox[place], cox[place - 1], _FOLDS).interval()
        over_clinical = None if place == 0 else paired_difference(cox[place], cox[0], _FOLDS).interval()
        rows.append((name, float(np.mean(cox[place])), previous, over_clinical, float(np.mean(net[place]))))
    deaths = int(nested.outcomes.died.sum())
    return Table(
        caption=f"{nested.name}: {len(nested.outcomes.years)} patients, {deaths} deaths, {repeats} x {_FOLDS} folds",
        header=("inputs", "C, ridge Cox", "gain over the row above", "gain over clinical", "C, net (1 repeat)"),
        rows=tuple(rows),
    )


def _accumulated(blocks: Mapping[str, Floats]) -> list[tuple[str, Floats]]:
    names = list(blocks)
    return [(name, np.column_stack([blocks[one] for one in names[: place + 1]])) for place, name in enumerate(names)]


def _gates(table: Table) -> list[Gate]:
    """Publishing is the gate: a gain with its interval, whatever its sign."""
    return [
        Gate(name=f"{table.caption.split(',')[0]}: {row[0]}", wanted="published with interval", measured=row[2],
             passed=row[2] is not None)
        for row in table.rows[1:]
    ]  # fmt: skip


def _paragraphs(planning: Nested, second: Nested) -> tuple[str, ...]:
    known = int((~np.isnan(second.blocks["+ CT after (second time point)"][:, 0])).sum())
    return (
        "Real head and neck patients with image-derived features and outcomes, **licensed for evaluation only** "
        "(CC BY-NC 3.0): no weight fitted here is shipped. Definitive radiotherapy, not postoperative.",
        f"HN1: volume and shape of the contoured tumours on planning CT, {len(planning.outcomes.years)} patients. "
        "HNSCC: muscle and fat at the third lumbar vertebra. 42 of its 215 rows carry another patient's images "
        "and are dropped, whoever died before six months is not at risk, and the second image counts only where both "
        f"its date and its stated delay put it before the landmark: {known} of {len(second.outcomes.years)}.",
        "Gains in Harrell's C, paired over the same folds, 95 % intervals after Nadeau and Bengio (2003). An interval "
        "that contains zero says that these data cannot tell the gain from none.",
    )
