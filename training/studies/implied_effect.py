"""What two hazard ratios by cause of death mean for overall survival, in the patients at hand.

Zumsteg, Ann Oncol 2025;36:1379: postoperative chemoradiotherapy against radiotherapy, cancer death 0.68 (0.55-0.83),
other death 1.51 (1.07-2.12), overall 0.81 (0.68-0.97).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.studies.findings import Answer, Cell, Gate, Table
from training.studies.measures import Floats, Outcomes
from training.studies.simulated_trial import GRID_YEARS, CauseOfDeath, Hazards
from training.studies.treatment_effect import LogRatio

CANCER = LogRatio.published(0.68, 0.55, 0.83)
OTHER = LogRatio.published(1.51, 1.07, 2.12)
FORECAST_YEARS = 5.0  # how far the shipped model looks
_SEED, _DRAWS = 20260718, 500
_IMPLIED_LIMITS = (0.75, 0.87)
_GIVEN_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def implied_ratio(hazards: Hazards, cancer_ratio: float, other_ratio: float, years: float) -> float:
    """Overall-survival hazard ratio that a large trial in these patients would report after so many years, by Cox.

    hazards: (N, T), (cancer, other) without the treatment. Solves the expected Cox score with equal arms.
    """
    steps = int(np.searchsorted(GRID_YEARS, years)) + 1
    arms = [hazards.survival(1.0, 1.0).mean(axis=0), hazards.survival(cancer_ratio, other_ratio).mean(axis=0)]
    deaths = [-np.diff(np.concatenate([[1.0], arm]))[:steps] for arm in arms]
    alive = [np.concatenate([[1.0], arm[:-1]])[:steps] for arm in arms]
    ratio = 1.0
    for _ in range(100):  # fixed point of the expected score, a contraction for ratios near one
        pooled = (deaths[0] + deaths[1]) / (alive[0] + ratio * alive[1])
        ratio = float(deaths[1].sum() / (pooled * alive[1]).sum())
    return ratio


def cancer_share(hazards: Hazards, years: float) -> float:
    """Part of the deaths within so many years that are from cancer, without the treatment."""
    steps = int(np.searchsorted(GRID_YEARS, years)) + 1
    survival = hazards.survival(1.0, 1.0)
    before = np.column_stack([np.ones(len(survival)), survival[:, :-1]])[:, :steps]
    deaths = [
        float((np.diff(cause, axis=1, prepend=0.0)[:, :steps] * before).sum())
        for cause in (hazards.cancer, hazards.other)
    ]
    return deaths[0] / (deaths[0] + deaths[1])


def implied_effect(causes: CauseOfDeath) -> Answer:
    """The implied overall ratio by group and horizon, with the interval that the priors' intervals give."""
    draws = list(zip(CANCER.draws(_DRAWS, _SEED), OTHER.draws(_DRAWS, _SEED + 1), strict=True))
    groups = (
        ("as the trials admitted", causes.trial_like),
        ("trial-like with ENE or positive margin", causes.trial_like & causes.high_risk),
        ("trial-like without either", causes.trial_like & ~causes.high_risk),
        ("all treated to cure", np.ones(len(causes.table), dtype=np.bool_)),
    )
    rows: list[tuple[Cell, ...]] = []
    central: dict[tuple[str, float], float] = {}
    for name, members in groups:
        hazards = _group_hazards(causes, members)
        for years in (FORECAST_YEARS, float(GRID_YEARS[-1])):
            middle = implied_ratio(hazards, float(np.exp(CANCER.mean)), float(np.exp(OTHER.mean)), years)
            spread = [implied_ratio(hazards, float(one), float(two), years) for one, two in draws]
            low, high = np.quantile(spread, [0.025, 0.975])
            central[name, years] = middle
            rows.append(
                (name, int(members.sum()), f"{years:.0f}", f"{cancer_share(hazards, years):.0%}",
                 f"{middle:.2f} ({low:.2f}-{high:.2f})")
            )  # fmt: skip
    low, high = _IMPLIED_LIMITS
    measured = central["as the trials admitted", FORECAST_YEARS]
    return Answer(
        tables=(
            Table(
                caption="Overall-survival hazard ratio of chemoradiotherapy that the cause-specific priors imply",
                header=("HANCOCK patients", "patients", "years", "deaths from cancer", "implied HR (prior interval)"),
                rows=tuple(rows),
            ),
            _if_given(_group_hazards(causes, causes.trial_like)),
        ),
        gates=(
            Gate(
                name="implied OS hazard ratio over five years, patients as the trials admitted",
                wanted=f"{low}-{high}",
                measured=measured,
                passed=low <= measured <= high,
            ),
        ),
    )


def without_given(hazards: Hazards, share: float) -> Hazards:
    """Hazards as they would be without the treatment, were the recorded ones of patients of whom a share had it."""
    cancer, other = (1.0 - share + share * float(np.exp(ratio.mean)) for ratio in (CANCER, OTHER))
    return Hazards(cancer=hazards.cancer / cancer, other=hazards.other / other)


def _if_given(recorded: Hazards) -> Table:
    """The implied ratio under each share of patients who had chemotherapy unrecorded; an assumption, not a finding."""
    ratios = float(np.exp(CANCER.mean)), float(np.exp(OTHER.mean))
    rows: list[tuple[Cell, ...]] = []
    for share in _GIVEN_SHARES:
        hazards = without_given(recorded, share)
        implied = implied_ratio(hazards, *ratios, FORECAST_YEARS)
        rows.append((f"{share:.0%}", f"{cancer_share(hazards, FORECAST_YEARS):.0%}", implied))
    return Table(
        caption="The same, had a share of these patients been given chemoradiotherapy already (assumed, five years)",
        header=("given already", "deaths from cancer under radiotherapy alone", "implied HR"),
        rows=tuple(rows),
    )


def _group_hazards(causes: CauseOfDeath, members: NDArray[np.bool_]) -> Hazards:
    """Nelson-Aalen of each cause in a group, (1, T): no model stands between the deaths and the answer."""
    rows = np.flatnonzero(members)
    return Hazards(cancer=_nelson_aalen(causes.cancer.at(rows)), other=_nelson_aalen(causes.other.at(rows)))


def _nelson_aalen(outcomes: Outcomes) -> Floats:
    steps = [(year, 1.0 / (outcomes.years >= year).sum()) for year in np.sort(outcomes.years[outcomes.died])]
    return np.array([[sum(step for year, step in steps if year <= end) for end in GRID_YEARS]])
