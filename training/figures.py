"""The figures of the report, as SVG that is the same on every run: calibration, decision curve, Kaplan-Meier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from sksurv.nonparametric import kaplan_meier_estimator

from inference.contract import DAYS_PER_QUARTER
from training.crossvalidate import OURS, Forecasts, Study
from training.metrics import YEAR_2, YEAR_3, YEAR_5, Seen, calibration_bins, kaplan_meier, net_benefit
from training.outcomes import ENDPOINTS
from training.summary import pooled, seen_of

mpl.use("Agg")
from matplotlib import pyplot as plt  # after the backend

_BINS = 6
_THRESHOLDS = np.linspace(0.10, 0.50, 41)
_SHORT = (8.0, 3.6)


def draw_figures(study: Study, forecasts: Sequence[Forecasts], folder: Path) -> None:
    """evaluation-calibration.svg, evaluation-decision.svg and evaluation-tertiles.svg, from the first repeat."""
    with mpl.rc_context({"svg.hashsalt": "adjuvant", "font.size": 9}):
        for name, draw, shape in (
            ("calibration", _calibration, (2, 2)),
            ("decision", _decision, (1, 1)),
            ("tertiles", _tertiles, (1, 2)),
        ):
            size = (_SHORT[0], _SHORT[1] * shape[0]) if shape[1] > 1 else (_SHORT[0] / 1.5, _SHORT[1])
            figure, axes = plt.subplots(*shape, figsize=size, squeeze=False)
            draw(axes, study, forecasts)
            figure.tight_layout()
            figure.savefig(folder / f"evaluation-{name}.svg", metadata={"Date": None, "Creator": None})
            plt.close(figure)


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


def _decision(axes: Any, study: Study, forecasts: Sequence[Forecasts]) -> None:  # noqa: ANN401  # array of Axes
    panel, seen, horizon = axes[0][0], seen_of(study.rows, "RFS"), (YEAR_2 + 1) * DAYS_PER_QUARTER
    for model in (OURS, "stage Cox"):
        risk = 1.0 - _first(forecasts, model, "RFS")[:, YEAR_2]
        benefit = [net_benefit(risk, seen, horizon, float(threshold)) for threshold in _THRESHOLDS]
        panel.plot(_THRESHOLDS, benefit, label=model)
    everyone = 1.0 - kaplan_meier(seen, horizon)
    panel.plot(_THRESHOLDS, everyone - (1 - everyone) * _THRESHOLDS / (1 - _THRESHOLDS), "--", label="everyone")
    panel.axhline(0.0, color="grey", linewidth=0.8, label="nobody")
    panel.set(
        xlabel="risk of an RFS event by 2 years from which one would act", ylabel="net benefit", ylim=(-0.05, 0.25)
    )
    panel.legend()


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
