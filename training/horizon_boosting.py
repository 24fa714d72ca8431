"""XGBoost asked at one horizon, as RADAR asks it at every visit: will the event have come by then?

RADAR (ESMO Open 2026) is such a classifier per horizon; its settings are not known here. Ours are those of the other
boosted trees, fixed beforehand. Whoever is censored before the horizon has no answer: the others stand for them, by
the inverse of the chance to be still followed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sksurv.nonparametric import CensoringDistributionEstimator
from sksurv.util import Surv
from xgboost import XGBClassifier

Floats = NDArray[np.float64]
_SMALLEST_CHANCE = 0.05  # no patient stands for more than twenty


def event_by_horizon(
    table: Floats, events: NDArray[np.bool_], times: Floats, horizon: float, asked: Floats, *, trees: int, seed: int
) -> Floats:
    """Probability of the event by the horizon, for the asked rows, (M,).

    table: (N, P), asked: (M, P), NaN where missing. events, times: (N,), in the unit of horizon.
    """
    by_then = events & (times <= horizon)
    known = by_then | (times > horizon)
    if len(np.unique(by_then[known])) == 1:
        return np.full(len(asked), float(by_then[known][0]))
    classifier = XGBClassifier(
        n_estimators=trees,
        learning_rate=0.05,
        max_depth=3,
        subsample=0.5,
        min_child_weight=2,
        n_jobs=1,
        random_state=seed,
    )
    weights = _censoring_weights(events, times, horizon)
    classifier.fit(table[known], by_then[known], sample_weight=weights[known])
    return np.asarray(classifier.predict_proba(asked)[:, 1], dtype=np.float64)


def _censoring_weights(events: NDArray[np.bool_], times: Floats, horizon: float) -> Floats:
    """Inverse chance to be still followed at the event or at the horizon, whichever comes first, (N,)."""
    chance = CensoringDistributionEstimator().fit(Surv.from_arrays(events, times))
    moments = np.minimum(times, np.minimum(horizon, times[events].max()))
    return np.asarray(1.0 / np.maximum(chance.predict_proba(moments), _SMALLEST_CHANCE), dtype=np.float64)
