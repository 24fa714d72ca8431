"""Survival forests and boosted trees, as scikit-survival has them: the baselines every table of ours must hold."""

from __future__ import annotations

from sksurv.ensemble import GradientBoostingSurvivalAnalysis, RandomSurvivalForest

from training.studies.measures import Floats, Outcomes
from training.studies.ridge_cox import Scaling

_SEED = 20260101


def forest_score(table: Floats, outcomes: Outcomes, test: Floats) -> Floats:
    """Random survival forest, 200 trees, at least 10 rows a leaf; a score for each test row that rises with hazard."""
    scaling = Scaling.of(table)
    forest = RandomSurvivalForest(n_estimators=200, min_samples_leaf=10, low_memory=True, random_state=_SEED)
    scores: Floats = forest.fit(scaling.apply(table), outcomes.structured()).predict(scaling.apply(test))
    return scores


def boosting_score(table: Floats, outcomes: Outcomes, test: Floats) -> Floats:
    """Gradient-boosted Cox, 150 trees of depth 3 at rate 0.05; a score for each test row that rises with hazard."""
    scaling = Scaling.of(table)
    boosting = GradientBoostingSurvivalAnalysis(
        n_estimators=150, learning_rate=0.05, max_depth=3, subsample=0.5, min_samples_leaf=10, random_state=_SEED
    )
    scores: Floats = boosting.fit(scaling.apply(table), outcomes.structured()).predict(scaling.apply(test))
    return scores
