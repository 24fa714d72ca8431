"""Figures of held-out forecasts: calibration, decision curves, Kaplan-Meier by third, subgroups, three patients."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sksurv.nonparametric import kaplan_meier_estimator

from inference.contract import DAYS_PER_QUARTER, ModelContract
from training.cohorts.landmarks import LandmarkRow
from training.crossvalidate import OURS, Forecasts, Study
from training.drawing import saved, subplots
from training.examples import Example, examples
from training.metrics import (
    YEAR_2,
    YEAR_3,
    YEAR_5,
    Seen,
    calibration_bins,
    kaplan_meier,
    net_benefit,
    net_benefit_of,
)
from training.outcomes import ENDPOINTS
from training.summary import Subgroup, pooled, seen_of

_BINS = 6
_THRESHOLDS = np.linspace(0.10, 0.50, 41)
_NORMAL_95 = 1.96
_LEAST_SHOWN = 0.001  # typicality
_CHARACTERS = 38  # a line above a panel
_ADVANCED_T, _ADVANCED_N = 3.0, 2.0
_YEARS = np.arange(1, 21) * DAYS_PER_QUARTER / 365.25


def draw_figures(study: Study, forecasts: Sequence[Forecasts], subgroups: Sequence[Subgroup], folder: Path) -> None:
    """evaluation-{calibration,decision,tertiles,subgroups,examples}.svg, from the first repeat."""
    figures: tuple[tuple[str, tuple[int, int], tuple[float, float], Callable[[Any], None]], ...] = (
        ("calibration", (2, 2), (8.0, 7.2), lambda axes: _calibration(axes, study, forecasts)),
        ("decision", (1, 2), (10.0, 4.0), lambda axes: _decision(axes, study, forecasts)),
        ("tertiles", (1, 2), (8.0, 3.6), lambda axes: _tertiles(axes, study, forecasts)),
        ("subgroups", (1, 2), (9.0, 4.2), lambda axes: _subgroups(axes, subgroups)),
        ("examples", (1, 3), (11.0, 4.4), lambda axes: _examples(axes, examples(study, forecasts))),
    )
    for name, (rows, columns), (width, height), draw in figures:
        figure, axes = subplots(rows, columns, width=width, height=height)
        draw(axes)
        figure.tight_layout()
        saved(figure, folder / f"evaluation-{name}.svg")


def _first(forecasts: Sequence[Forecasts], model: str, endpoint: str) -> NDArray[np.float64]:
    return next(pooled(forecasts, f"{model}/{endpoint}"))


def _calibration(axes: Any, study: Study, forecasts: Sequence[Forecasts]) -> None:  # noqa: ANN401  # array of Axes
    for column, endpoint in enumerate(ENDPOINTS):
        seen = seen_of(study.rows, endpoint)
        for row, quarter in enumerate((YEAR_2, YEAR_5)):
            panel = axes[row][column]
            panel.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
            for model, marker in ((OURS, "o-"), ("not calibrated", "x:")):
                points = calibration_bins(_first(forecasts, model, endpoint), seen, quarter, _BINS)
                panel.plot(*zip(*points, strict=True), marker, label=model, markersize=4)
            panel.set(title=f"{endpoint} event by {(quarter + 1) // 4} years", xlabel="forecast", ylabel="observed")
            panel.set(xlim=(0, 0.8), ylim=(0, 0.8))
            panel.legend()


def high_risk_by_rule(rows: Sequence[LandmarkRow], contract: ModelContract) -> NDArray[np.bool_]:
    """Whom a rule without a model would treat: pT3 or more, pN2 or more, extranodal extension, or a margin not free.

    (N,). What is not known counts as absent.
    """
    place = {entry.name: index for index, entry in enumerate(contract.static)}
    known = np.stack([row.model_input.static * row.model_input.static_mask for row in rows])
    advanced = (known[:, place["pT"]] >= _ADVANCED_T) | (known[:, place["pN"]] >= _ADVANCED_N)
    return np.asarray(advanced | (known[:, place["ene"]] > 0) | (known[:, place["margin"]] > 0))


def _decision(axes: Any, study: Study, forecasts: Sequence[Forecasts]) -> None:  # noqa: ANN401  # array of Axes
    rule = high_risk_by_rule(study.rows, study.contract)
    for panel, endpoint in zip(axes[0], ENDPOINTS, strict=True):
        seen, horizon = seen_of(study.rows, endpoint), (YEAR_2 + 1) * DAYS_PER_QUARTER
        for model in (OURS, "stage Cox"):
            risk = 1.0 - _first(forecasts, model, endpoint)[:, YEAR_2]
            panel.plot(_THRESHOLDS, [net_benefit(risk, seen, horizon, float(one)) for one in _THRESHOLDS], label=model)
        fixed = [net_benefit_of(rule, seen, horizon, float(one)) for one in _THRESHOLDS]
        panel.plot(_THRESHOLDS, fixed, "-.", label=f"rule: stage, ENE, margin ({rule.mean():.0%})")
        everyone = 1.0 - kaplan_meier(seen, horizon)
        panel.plot(_THRESHOLDS, everyone - (1 - everyone) * _THRESHOLDS / (1 - _THRESHOLDS), "--", label="everyone")
        panel.axhline(0.0, color="grey", linewidth=0.8, label="nobody")
        panel.set(title=f"{endpoint} event by 2 years", xlabel="risk from which one would act", ylabel="net benefit")
        panel.set(ylim=(-0.05, 1.1 * everyone))
        panel.legend(fontsize=8)


def _tertiles(axes: Any, study: Study, forecasts: Sequence[Forecasts]) -> None:  # noqa: ANN401  # array of Axes
    for panel, endpoint in zip(axes[0], ENDPOINTS, strict=True):
        seen = seen_of(study.rows, endpoint)
        risk = 1.0 - _first(forecasts, OURS, endpoint)[:, YEAR_3]
        for name, group in zip(("low", "middle", "high"), np.array_split(np.argsort(risk), 3), strict=True):
            _step(panel, seen.part(group), name)
        panel.set(title=endpoint, xlabel="years from the landmark", ylabel="survival", xlim=(0, 6), ylim=(0, 1))
        panel.legend(title="forecast risk")


def _step(panel: Any, seen: Seen, name: str) -> None:  # noqa: ANN401  # Axes
    days, survival = kaplan_meier_estimator(seen.events, seen.days)
    panel.step(np.append(0.0, days / 365.25), np.append(1.0, survival), where="post", label=name)


def _subgroups(axes: Any, subgroups: Sequence[Subgroup]) -> None:  # noqa: ANN401  # array of Axes
    for panel, endpoint in zip(axes[0], ENDPOINTS, strict=True):
        shown = [row for row in subgroups if row.endpoint == endpoint][::-1]
        for height, row in enumerate(shown):
            if row.concordance is None or row.error is None:
                panel.text(0.5, height, "fewer than 20 events", va="center", fontsize=8)
                continue
            panel.errorbar(row.concordance, height, xerr=_NORMAL_95 * row.error, fmt="o", color="C0", markersize=4)
        panel.axvline(0.5, color="grey", linewidth=0.8)
        panel.set_yticks(range(len(shown)), [f"{row.name} ({row.events})" for row in shown])
        panel.set(title=f"{endpoint}: C with 95 % interval", xlim=(0.4, 1.0), xlabel="in brackets: events")


def _examples(axes: Any, chosen: Sequence[Example]) -> None:  # noqa: ANN401  # array of Axes
    for panel, example in zip(axes[0], chosen, strict=True):
        panel.set_title(f"{example.title}\n{textwrap.fill(example.findings, _CHARACTERS)}", fontsize=9)
        if example.unusual is not None:
            _withheld(panel, example)
            continue
        for place, (name, curve) in enumerate((("recurrence", example.recurrence), ("death", example.death))):
            panel.plot(np.append(0.0, _YEARS), np.append(0.0, curve), label=name, color=f"C{place}")
            panel.fill_between(_YEARS, example.low[place], example.high[place], color=f"C{place}", alpha=0.2)
        panel.set(xlim=(0, 5), ylim=(0, 1), xlabel="years from the landmark", ylabel="risk")
        panel.legend(loc="upper left")


def _withheld(panel: Any, example: Example) -> None:  # noqa: ANN401  # Axes
    """No number of risk: an abstention shows its reason."""
    unusual = "\n".join(example.unusual or ())
    typicality = f"{max(example.typicality, _LEAST_SHOWN):.3f} or below"
    text = f"forecast withheld:\ntypicality {typicality}\n\nfarthest from the rest:\n{unusual}"
    panel.text(0.5, 0.5, f"{text}\n\ndiscuss at the tumour board", ha="center", va="center", transform=panel.transAxes)
    panel.set(xticks=[], yticks=[])
