"""Forecasts for patients the fit never saw, fold by fold, of our model and of every baseline on the same folds.

A fold is a job of its own: it writes one file, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.nonparametric import kaplan_meier_estimator
from sksurv.util import Surv

from inference.contract import DAYS_PER_QUARTER, ModelContract
from training.cohorts.landmarks import LandmarkRow
from training.likelihood import Batch, batch_of
from training.network import incidences
from training.outcomes import ENDPOINTS, outcomes
from training.recipe import Effort, fit
from training.teacher import RIDGE, Curves, mean_survival

REPEATS, FOLDS, SEED = 5, 5, 20260101
OURS = "illness-death"
BASELINES = (
    "engineered Cox", "engineered Cox, first cohort alone", "boosted trees", "forest", "stack", "SurvivalBoost",
    "XGBoost by horizon", "naive Cox", "stage Cox", "Kaplan-Meier",
)  # fmt: skip
PARTS = ("network ensemble", "student", "not calibrated")
_NAIVE_RIDGE, _STAGE_RIDGE = 10.0, 1.0  # fixed beforehand by earlier work
_ENDS = np.arange(1, 21) * DAYS_PER_QUARTER
_STAGE = ("pT", "pT_3_or_more", "pT_4_or_more", "pN", "pN_1_or_more", "pN_2_or_more", "pN_3")
ROWS_DECIDE = (
    "engineering", "likelihood", "recipe", "outcomes", "crossvalidate", "postoperative_contract", "cohorts/landmarks",
    "cohorts/hancock", "cohorts/tcga_hnsc", "cohorts/cohort",
)  # fmt: skip
Forecasts = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Models that are forecast in one go. deciding: files of training/ that their forecasts depend on.

    forecast: takes a study, rows to fit, rows to ask about, the effort and a seed; of module level, as it travels
    between processes.
    """

    name: str
    deciding: tuple[str, ...]
    forecast: Callable[..., Forecasts]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Study:
    """One choice of patients. rows are cross-validated, others join every training fold under a baseline of their own.

    tested: instead of folds, the one set of rows that is tested, fitted on all the rest. shuffled: outcomes are
    exchanged between training rows, so that nothing can be learned.
    """

    name: str
    rows: tuple[LandmarkRow, ...]
    others: tuple[LandmarkRow, ...]
    contract: ModelContract
    repeats: int = REPEATS
    calibrate: bool = True
    shuffled: bool = False
    tested: tuple[int, ...] = ()

    def splits(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Training and test indices."""
        if not self.tested:
            return list(folds(len(self.rows), self.repeats))
        test = np.array(self.tested)
        return [(np.setdiff1d(np.arange(len(self.rows)), test), test)]


def folds(count: int, repeats: int = REPEATS) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Training and test indices of every fold of every repeat; the same for every model that is compared."""
    draw = np.random.default_rng(SEED)
    for _ in range(repeats):
        order = draw.permutation(count)
        for test in np.array_split(order, FOLDS):
            yield np.setdiff1d(order, test), test


def cross_validate(
    study: Study,
    effort: Effort,
    contest: Contest,
    *,
    folder: Path,
    data_digest: str,
    workers: int,
    progress: Callable[[str], None],
) -> list[Forecasts]:
    """Forecasts of every fold. folder: where each is kept; what other data, code or effort made is not used.

    Keys: `test` (n,), what the contest adds of its own, and `<model>/<endpoint>`, survival at 20 quarters, (n, 20).
    """
    name = f"{study.name} {contest.name}".strip()
    mark = _fingerprint(study, effort, contest, data_digest)
    count = len(study.splits())
    paths = [folder / f"{name.replace(' ', '-')}-{mark}-{fold:02}.npz" for fold in range(count)]
    folder.mkdir(parents=True, exist_ok=True)
    missing = [fold for fold, path in enumerate(paths) if not path.is_file()]
    progress(f"{name}: {count - len(missing)} of {count} folds are there")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        jobs = {pool.submit(_forecast_fold, study, effort, contest, fold, paths[fold]): fold for fold in missing}
        for done, job in enumerate(as_completed(jobs), start=1):
            job.result()
            progress(f"{name}: fold {jobs[job] + 1}, {done} of {len(missing)}")
    return [_read(path) for path in paths]


def _read(path: Path) -> Forecasts:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def _fingerprint(study: Study, effort: Effort, contest: Contest, data_digest: str) -> str:
    """Everything that a fold's forecasts depend on."""
    total = hashlib.sha256(f"{data_digest} {effort} {study.calibrate} {study.shuffled} {len(study.rows)}".encode())
    total.update(f"{study.contract.schema_sha256} {len(study.others)} {study.tested}".encode())
    for name in contest.deciding:
        total.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return total.hexdigest()[:12]


def _forecast_fold(study: Study, effort: Effort, contest: Contest, fold: int, path: Path) -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    train, test = study.splits()[fold]
    fitting, testing = [study.rows[i] for i in train], [study.rows[i] for i in test]
    if study.shuffled:
        # both cohorts: from the second alone, left as it is, the first can be told at C 0.57
        fitting, study = _shuffled(fitting, fold), replace(study, others=tuple(_shuffled(study.others, fold)))
    forecasts = contest.forecast(study, fitting, testing, effort, seed=SEED + fold)
    draft = path.with_name(path.name + ".draft")
    with draft.open("wb") as file:
        np.savez_compressed(file, test=test, **forecasts)  # type: ignore[arg-type]  # numpy's own annotation
    draft.rename(path)


def _shuffled(rows: Sequence[LandmarkRow], seed: int) -> list[LandmarkRow]:
    order = np.random.default_rng(seed).permutation(len(rows))
    return [
        LandmarkRow(
            patient_id=row.patient_id,
            model_input=row.model_input,
            illness_days=rows[other].illness_days,
            last_days=rows[other].last_days,
            died=rows[other].died,
        )
        for row, other in zip(rows, order, strict=True)
    ]


def forecast(
    study: Study, fitting: Sequence[LandmarkRow], testing: Sequence[LandmarkRow], effort: Effort, *, seed: int
) -> Forecasts:
    """Every model fitted on some rows (and the study's others), asked about other rows."""
    others = study.others
    fitted = fit(fitting, others, study.contract, effort, seed=seed, calibrate=study.calibrate)
    model, batch = fitted.model, batch_of(testing)
    with torch.no_grad():
        covariates = model.engineering(*batch.inputs[:4])
        recurrence, without, death, low, high, typical = model(*batch.inputs)
        place = model.places(batch.inputs[4])
        parts = {
            OURS: (recurrence, without, death),
            "network ensemble": incidences(model.ensemble(covariates, place).mean(1)),
            "student": incidences(model.student(covariates, place).mean(1)),
            "not calibrated": incidences(model.combined(covariates, place)[0]),
        }
    curves: dict[str, Curves] = {f"{OURS}/recurrence": 1.0 - recurrence.numpy()}
    for name, (relapse, death_before, dead) in parts.items():
        curves[f"{name}/RFS"] = 1.0 - (relapse + death_before).numpy()
        curves[f"{name}/OS"] = 1.0 - dead.numpy()
    for endpoint, classical in zip(ENDPOINTS, fitted.classical, strict=True):
        voices = {name: curve[:, : len(_ENDS)] for name, curve in classical.survival(covariates).items()}
        curves |= {f"{name}/{endpoint}": curve for name, curve in voices.items()}
        curves[f"stack/{endpoint}"] = mean_survival(voices)
    with torch.no_grad():
        left = model.engineering(*batch_of(fitting).inputs[:4]).numpy().astype(np.float64)
    right = covariates.numpy().astype(np.float64)
    chosen = [model.engineering.names.index(name) for name in _STAGE]
    curves |= _cox("engineered Cox, first cohort alone", left, right, fitting, RIDGE)
    curves |= _cox("stage Cox", left[:, chosen], right[:, chosen], fitting, _STAGE_RIDGE)
    curves |= _cox("naive Cox", *_naive(batch_of(fitting), batch), fitting, _NAIVE_RIDGE)
    curves |= _kaplan_meier(fitting, len(testing))
    kept = {name: curve.astype(np.float32) for name, curve in curves.items()}
    kept |= {"low": low.numpy(), "high": high.numpy(), "typicality": typical.numpy()[:, 0]}
    return kept | {"scale": model.recalibration.scale.numpy(), "offset": model.recalibration.offset.numpy()}


def _cox(name: str, left: Curves, right: Curves, fitting: Sequence[LandmarkRow], ridge: float) -> dict[str, Curves]:
    curves = {}
    for endpoint in ENDPOINTS:
        events, days = outcomes(fitting, endpoint)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a constant column in a fold
            cox = CoxPHSurvivalAnalysis(alpha=ridge).fit(left, Surv.from_arrays(events, days))
        ends = np.minimum(_ENDS, days.max())
        curves[f"{name}/{endpoint}"] = np.stack([step(ends) for step in cox.predict_survival_function(right)])
    return curves


def _naive(fitting: Batch, testing: Batch) -> tuple[Curves, Curves]:
    """Raw contract values and newest blood, what is missing at the mean, z-scored."""
    left, right = _raw(fitting), _raw(testing)
    means = np.nanmean(np.where(np.isnan(left).all(axis=0), 0.0, left), axis=0)
    left, right = np.where(np.isnan(left), means, left), np.where(np.isnan(right), means, right)
    spread = np.maximum(left.std(axis=0), 1e-6)
    return (left - means) / spread, (right - means) / spread


def _raw(batch: Batch) -> Curves:
    static, static_mask, sequence, sequence_mask, _ = (tensor.numpy().astype(np.float64) for tensor in batch.inputs)
    known = np.where(static_mask > 0, static, np.nan)
    last = np.where(sequence_mask[:, -1] > 0, sequence[:, -1], np.nan)
    return np.concatenate([known, last], axis=1)


def _kaplan_meier(fitting: Sequence[LandmarkRow], count: int) -> dict[str, Curves]:
    curves = {}
    for endpoint in ENDPOINTS:
        events, days = outcomes(fitting, endpoint)
        times, survival = kaplan_meier_estimator(events, days)
        steps = np.concatenate([[1.0], survival])[np.searchsorted(times, _ENDS, side="right")]
        curves[f"Kaplan-Meier/{endpoint}"] = np.tile(steps, (count, 1))
    return curves


# the name is empty: files of the model itself are named for the study alone
NETWORKS = Contest(name="", deciding=(*ROWS_DECIDE, "network", "fitting", "teacher"), forecast=forecast)
