"""What following the advice would earn, in **simulated** patients whose true benefit is known.

Whole real covariate rows, hazards fitted by cause, treatment chosen by a confounded rule, effects drawn from the
trials' intervals. Nothing simulated trains what is shipped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from training.studies.effort import Effort
from training.studies.findings import Answer, Cell, Gate, Table
from training.studies.implied_effect import CANCER, FORECAST_YEARS, OTHER
from training.studies.measures import Floats, Outcomes
from training.studies.ridge_cox import Scaling
from training.studies.simulated_trial import (
    GRID_YEARS,
    CauseOfDeath,
    Course,
    Hazards,
    fitted_hazards,
    propensity,
    simulate,
    true_hazards,
)
from training.studies.treatment_effect import Advice, advise, hazard_ratio

CERTAINTIES = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)  # from cautious to never silent
_SEED, _REPLICATES, _DRAWS = 20260718, 40, 500
_HORIZON = int(np.searchsorted(GRID_YEARS, FORECAST_YEARS))
_PROGNOSIS_ALPHA = 50.0
_GATE_GAIN, _GATE_SILENCE = 0.70, 0.40
_NOTHING = 1e-9  # five-year survival that counts as no gain at all
_MOST = 0.5
_TRUTH_COPIES = 12  # of every row, for the trial that stands for the truth
_FRAILTY_HAZARD, _FRAILTY_CHOICE = 0.5, 0.8  # log hazard and log odds of treatment per standard deviation

World = Callable[[CauseOfDeath, np.random.Generator], tuple[Floats, Floats]]


def _trial_world(causes: CauseOfDeath, draw: np.random.Generator) -> tuple[Floats, Floats]:
    """One effect per cause for everyone, drawn from the trial's interval."""
    ones = np.ones(len(causes.table))
    return (
        np.exp(draw.normal(CANCER.mean, CANCER.error)) * ones,
        np.exp(draw.normal(OTHER.mean, OTHER.error)) * ones,
    )


def _interaction_world(causes: CauseOfDeath, draw: np.random.Generator) -> tuple[Floats, Floats]:
    """A larger effect on cancer death with ENE or a positive margin: 0.60 against 0.80, within the trial's error."""
    _, other = _trial_world(causes, draw)
    error = draw.normal(0.0, CANCER.error)
    return np.where(causes.high_risk, 0.60, 0.80) * np.exp(error), other


def _null_world(causes: CauseOfDeath, draw: np.random.Generator) -> tuple[Floats, Floats]:
    """Chemotherapy does nothing to either death."""
    del draw
    ones = np.ones(len(causes.table))
    return ones, ones


_WORLDS: tuple[tuple[str, World], ...] = (
    ("effects of the trial", _trial_world),
    ("interaction with ENE or margin", _interaction_world),
    ("no effect at all", _null_world),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyValue:
    """Mean five-year survival, 0 to 1, when everyone advised follows and the rest are treated as they were."""

    observed: float
    none: float
    everyone: float
    oracle: float
    informed: float  # true prognosis, published effects, never silent: the most that a prognosis can earn
    advised: tuple[float, ...]  # one per entry of CERTAINTIES
    abstained: tuple[float, ...]


def policy_value(causes: CauseOfDeath, effort: Effort) -> Answer:
    """Survival by policy in three worlds, from the most cautious advice to the least."""
    replicates = _REPLICATES if effort is Effort.FULL else 1
    truth = true_hazards(causes)
    rows: list[tuple[Cell, ...]] = []
    gates = []
    for name, world in _WORLDS:
        values = [_one_replicate(causes, truth, world, seed) for seed in range(_SEED, _SEED + replicates)]
        fixed = [
            float(np.mean([getattr(value, kind) for value in values]))
            for kind in ("observed", "none", "everyone", "informed", "oracle")
        ]
        advised = np.mean([value.advised for value in values], axis=0)
        abstained = np.mean([value.abstained for value in values], axis=0)
        observed, informed, oracle = fixed[0], fixed[3], fixed[4]
        gained, reachable = (
            [(float(one) - observed) / (most - observed) if most - observed > _NOTHING else None for one in advised]
            for most in (oracle, informed)
        )
        for place, certainty in enumerate(CERTAINTIES):
            shares = (_percent(column[place]) for column in (gained, reachable))
            rows.append((name, *fixed, f"{certainty:.0%}", float(advised[place]), f"{abstained[place]:.0%}", *shares))
        if world is not _null_world:
            silence = [float(one) for one in abstained]
            gates.append(_policy_gate(name, "of the oracle's gain", gained, silence))
            gates.append(_policy_gate(name, "of what the published effect can earn", reachable, silence))
    return Answer(
        tables=(Table(
            caption=f"Five-year survival by policy, **simulated** on real HANCOCK rows, {replicates} replicates",
            header=("world (simulated)", "as observed", "RT for all", "CRT for all", "true prognosis, published effect",
                    "oracle", "certainty asked for", "advised", "abstains", "share of the oracle's gain",
                    "share of what the published effect can earn"),
            rows=tuple(rows),
        ),),
        gates=tuple(gates),
    )  # fmt: skip


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.0%}"


def _policy_gate(name: str, of_what: str, gained: Sequence[float | None], abstained: Sequence[float]) -> Gate:
    """At the highest certainty that still abstains on no more than the gate allows; asking for 50 % never abstains."""
    place = next(place for place, silence in enumerate(abstained) if silence <= _GATE_SILENCE)
    share = gained[place]
    return Gate(
        name=f"policy value, simulated: {name}",
        wanted=f">= {_GATE_GAIN:.0%} {of_what} at <= {_GATE_SILENCE:.0%} abstention",
        measured=None if share is None else f"{share:.0%} at {abstained[place]:.0%}",
        passed=share is not None and share >= _GATE_GAIN,
    )


def _one_replicate(causes: CauseOfDeath, truth: Hazards, world: World, seed: int) -> PolicyValue:
    """Half of the patients teach the prognosis by their simulated, confounded courses; the other half are advised."""
    draw = np.random.default_rng(seed)
    ratios = world(causes, draw)
    treated = draw.random(len(causes.table)) < propensity(causes)
    course = simulate(truth, treated, ratios, draw)
    order = draw.permutation(len(causes.table))
    learn, test = order[: len(order) // 2], order[len(order) // 2 :]
    # treatment stands as a covariate, so that prognosis is that without it; its coefficient is thrown away
    learning = np.column_stack([causes.table[learn], treated[learn].astype(np.float64)])
    untreated = np.column_stack([causes.table[test], np.zeros(len(test))])
    prognosis = fitted_hazards(learning, course.cancer.at(learn), course.other.at(learn), untreated, _PROGNOSIS_ALPHA)
    at_test = truth.at(test)
    without = at_test.survival(1.0, 1.0)[:, _HORIZON]
    given = at_test.survival(ratios[0][test][:, None], ratios[1][test][:, None])[:, _HORIZON]
    observed = np.where(treated[test], given, without)
    benefit = _probability_of_benefit(prognosis, seed)
    advice = [advise(benefit, certainty) for certainty in CERTAINTIES]
    followed = [
        np.where(one == Advice.TREAT, given, np.where(one == Advice.WITHHOLD, without, observed)) for one in advice
    ]
    return PolicyValue(
        observed=float(observed.mean()),
        none=float(without.mean()),
        everyone=float(given.mean()),
        oracle=float(np.maximum(given, without).mean()),
        informed=float(np.where(_probability_of_benefit(at_test, seed) >= _MOST, given, without).mean()),
        advised=tuple(float(one.mean()) for one in followed),
        abstained=tuple(float((one == Advice.ABSTAIN).mean()) for one in advice),
    )


def _probability_of_benefit(prognosis: Hazards, seed: int) -> Floats:
    """Share of draws of the trial's effects, (N,), in which treatment raises predicted five-year survival."""
    without = prognosis.survival(1.0, 1.0)[:, _HORIZON]
    pairs = zip(CANCER.draws(_DRAWS, seed), OTHER.draws(_DRAWS, seed + 1), strict=True)
    better = [prognosis.survival(float(one), float(two))[:, _HORIZON] > without for one, two in pairs]
    return np.asarray(np.mean(better, axis=0), dtype=np.float64)


def confounding_bias(causes: CauseOfDeath, effort: Effort) -> Table:
    """How far Cox misses the simulated truth: by lot, chosen on what is recorded, chosen on a frailty that is not."""
    hazards, adjust, chance = true_hazards(causes), Scaling.of(causes.table).apply(causes.table), propensity(causes)
    missed: dict[str, list[float]] = {}
    for seed in range(_SEED, _SEED + (_REPLICATES if effort is Effort.FULL else 1)):
        draw = np.random.default_rng(seed)
        ratios = _trial_world(causes, draw)
        frailty = draw.normal(size=len(chance))
        frail = _multiplied(hazards, np.exp(_FRAILTY_HAZARD * frailty))
        # the truth: what a trial of many thousand such patients, censored alike, would report
        many = np.tile(np.arange(len(chance)), _TRUTH_COPIES)
        by_lot = draw.random(len(many)) < _MOST
        large = simulate(hazards.at(many), by_lot, (ratios[0][many], ratios[1][many]), draw)
        wanted = hazard_ratio(_all_deaths(large), by_lot).mean
        drawn, chosen = draw.random(len(chance)) < chance.mean(), draw.random(len(chance)) < chance
        seen = 1.0 / (1.0 / chance - 1.0) * np.exp(-_FRAILTY_CHOICE * frailty)
        hidden = draw.random(len(chance)) < seen / (1.0 + seen)
        lottery, recorded = (_all_deaths(simulate(hazards, arm, ratios, draw)) for arm in (drawn, chosen))
        unrecorded = _all_deaths(simulate(frail, hidden, ratios, draw))
        for name, ratio in (
            ("by lot", hazard_ratio(lottery, drawn)),
            ("chosen on recorded covariates, unadjusted", hazard_ratio(recorded, chosen)),
            ("chosen on recorded covariates, adjusted", hazard_ratio(recorded, chosen, adjust)),
            ("chosen on a frailty that nobody recorded, adjusted", hazard_ratio(unrecorded, hidden, adjust)),
        ):
            missed.setdefault(name, []).append(ratio.mean - wanted)
    return Table(
        caption="Why no contrast is learned from who was treated: error of the log hazard ratio, **simulated**",
        header=("treatment (simulated)", "mean error", "standard deviation over replicates"),
        rows=tuple((name, float(np.mean(errors)), float(np.std(errors))) for name, errors in missed.items()),
    )


def _multiplied(hazards: Hazards, factor: Floats) -> Hazards:
    return Hazards(cancer=hazards.cancer * factor[:, None], other=hazards.other * factor[:, None])


def _all_deaths(course: Course) -> Outcomes:
    return Outcomes(years=course.cancer.years, died=course.cancer.died | course.other.died)
