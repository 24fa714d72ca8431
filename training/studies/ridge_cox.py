"""Ridge Cox regression on columns z-scored by the training rows: the baseline every study must beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sksurv.linear_model import CoxPHSurvivalAnalysis

from training.studies.measures import Floats, Outcomes

_CLIP = 6.0
_SMALLEST_SPREAD = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaling:
    """Centre and spread of each column, (P,). Missing entries (NaN) stand at the centre."""

    centre: Floats
    spread: Floats

    @classmethod
    def of(cls, table: Floats) -> Scaling:
        """From training rows, (N, P); a column nobody knows, or that never varies, becomes zero."""
        known = ~np.isnan(table)
        count = np.maximum(known.sum(axis=0), 1)
        centre = np.where(known, table, 0.0).sum(axis=0) / count
        spread = np.sqrt((np.where(known, table - centre, 0.0) ** 2).sum(axis=0) / count)
        return cls(centre=centre, spread=np.where(spread > _SMALLEST_SPREAD, spread, np.inf))

    def apply(self, table: Floats) -> Floats:
        """z-scores, clipped at 6 either way."""
        scores = np.clip((table - self.centre) / self.spread, -_CLIP, _CLIP)
        return np.where(np.isnan(scores), 0.0, scores)


class RidgeCox:
    """Fitted on construction. table: (N, P) with NaN for missing; alpha: ridge weight on the summed likelihood."""

    def __init__(self, table: Floats, outcomes: Outcomes, alpha: float) -> None:
        self._scaling = Scaling.of(table)
        self._fitted = CoxPHSurvivalAnalysis(alpha=alpha).fit(self._scaling.apply(table), outcomes.structured())
        self._longest = float(outcomes.years.max())

    def score(self, table: Floats) -> Floats:
        """Log relative hazard, (N,)."""
        values: Floats = self._fitted.predict(self._scaling.apply(table))
        return values

    def risk(self, table: Floats, horizon: float) -> Floats:
        """Probability to die by the horizon (years), (N,)."""
        curves = self._fitted.predict_survival_function(self._scaling.apply(table))
        return np.array([1.0 - float(curve(min(horizon, self._longest))) for curve in curves])
