"""Three patients of the report, chosen by a rule before anybody looked: a low risk, a high risk, and an abstention.

All held out. Each is described by findings that stand in the public table; age by decade, no identifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapter.decision.policy import load_policy
from inference.contract import ModelContract
from training.cohorts.landmarks import LandmarkRow
from training.crossvalidate import OURS, Forecasts, Study
from training.metrics import YEAR_3
from training.recipe import batch_with, engineered
from training.summary import pooled

_LOW, _HIGH = 0.1, 0.9  # of the forecast risk
_DECADE = 10
_STRANGEST = 3
_SITES = ("oral_cavity", "oropharynx", "hypopharynx", "larynx", "unknown_primary")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """One held-out patient. recurrence, death: risk at 20 quarters; low, high: their band, (2, 20).

    unusual: the covariates farthest from the mean; given where the forecast is withheld, and then no number is shown.
    """

    title: str
    findings: str
    recurrence: NDArray[np.float64]
    death: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    typicality: float
    unusual: tuple[str, ...] | None


def examples(study: Study, forecasts: Sequence[Forecasts]) -> tuple[Example, ...]:
    """From the first repeat: at a tenth and at nine tenths of the risk, and the least usual patient of all."""
    event_free, survival = (next(pooled(forecasts, f"{OURS}/{name}")) for name in ("RFS", "OS"))
    recurrence = next(pooled(forecasts, f"{OURS}/recurrence"))
    low, high = (next(pooled(forecasts, name)) for name in ("low", "high"))
    typicality = next(pooled(forecasts, "typicality"))
    least = load_policy().gates.least_typicality
    usual = np.flatnonzero(typicality >= least)
    order = usual[np.argsort(event_free[usual, YEAR_3])]
    chosen = {
        "low risk": order[int(_HIGH * len(order))],
        "high risk": order[int(_LOW * len(order))],
        "no forecast": int(np.argmin(typicality)),
    }
    return tuple(
        Example(
            title=title,
            findings=described(study.rows[place], study.contract),
            recurrence=1.0 - recurrence[place],
            death=1.0 - survival[place],
            low=low[place][[0, 2]],
            high=high[place][[0, 2]],
            typicality=float(typicality[place]),
            unusual=_strangest(study, int(place)) if typicality[place] < least else None,
        )
        for title, place in chosen.items()
    )


def described(row: LandmarkRow, contract: ModelContract) -> str:
    """Findings in words, only those that are known; age as a decade."""
    entries = zip(contract.static, row.model_input.static, row.model_input.static_mask, strict=True)
    known = {entry.name: float(value) for entry, value, mask in entries if mask > 0}
    decade = _DECADE * int(known["age_at_surgery"] // _DECADE)
    words = [f"{'man' if known.get('male') else 'woman'} of {decade}-{decade + _DECADE - 1}"]
    words += [site.replace("_", " ") for site in _SITES if known.get(site)]
    levels = {entry.name: entry.levels for entry in contract.static}
    for name in ("pT", "pN"):
        if name in known:
            words.append(next(code for code, number in levels[name] if np.isclose(number, known[name])))
    for name, absent, present in (
        ("p16", "p16 negative", "p16 positive"),
        ("ene", "no extranodal extension", "extranodal extension"),
        ("margin", "margin free", "margin not free"),
    ):
        if name in known:
            words.append(present if known[name] > 0 else absent)
    return ", ".join(words)


def _strangest(study: Study, place: int) -> tuple[str, ...]:
    """Names of the covariates that lie farthest from the mean of all others."""
    engineering, covariates = engineered(study.contract, batch_with(study.rows, ()))
    far = np.argsort(-np.abs(covariates.values.numpy()[place]))[:_STRANGEST]
    return tuple(engineering.names[one].replace("_", " ") for one in far)
