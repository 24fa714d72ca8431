"""The gates: asked in order, each stop with its own code, its sentence and its way out; silence is never a yes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.decision.findings import findings_at
from adapter.decision.gates import ArmOverlap, Benefit, GateWalk, ModelSupport, allowed_actions, walk_gates
from adapter.decision.policy import load_policy
from adapter.decision.tables import SHIPPED
from adapter.decision.verdicts import decide
from adapter.domain.plan import Gate, GateState
from adapter.domain.record import Quarantined
from adapter.domain.tristate import TriState
from tests.fakes.postoperative import forecast, timeline

_POLICY = load_policy(site_folder=SHIPPED / "sandbox")
_ARMS = ("CRT_Q3W", "CRT_QW")
_GOOD_ARM = ArmOverlap(propensity=0.4, effective_sample=120.0)
_CLEAR = Benefit(action="CRT_QW", over="CRT_Q3W", points=8.0, low=4.0, high=12.0)
_FULL = ModelSupport(
    in_distribution=TriState.TRUE,
    overlap=dict.fromkeys(_ARMS, _GOOD_ARM),
    benefits=(_CLEAR,),
)


def _walk(
    support: ModelSupport | None = None,
    *,
    changes: dict[str, float | str | None] | None = None,
    missing: tuple[str, ...] = (),
    quarantined: Iterable[Quarantined] = (),
) -> GateWalk:
    patient = timeline(changes={"ici_contraindication": None, **(changes or {})})
    found = {**findings_at(patient, _POLICY)}
    decision = decide(found, _POLICY)
    risk = forecast(patient, missing=missing)
    return walk_gates(decision, found, _POLICY, forecast=risk, quarantined=quarantined, support=support)


def _stop(walk: GateWalk) -> tuple[Gate, str]:
    assert walk.stop is not None
    return walk.stop.gate, walk.stop.code


def _refused(detail: str, reason: str = "unknown-unit") -> Quarantined:
    return Quarantined(source="Observation/o1/_history/1", reason=reason, detail=detail)


@pytest.mark.parametrize(
    ("changes", "stop"),
    [
        ({"histology": "not_scc"}, (Gate.SCOPE, "out-of-scope")),
        ({"tnm_edition": None}, (Gate.SCOPE, "scope-unknown")),
        (
            {"pN": "pN1", "ene_path": "negative", "nodes_positive": 1.0, "pT": None},
            (Gate.GUIDELINE, "risk-group-unknown"),
        ),
        ({"ecog": None}, (Gate.GUIDELINE, "no-allowed-action")),
        ({"pN": "pN1", "ene_path": "negative"}, (Gate.GUIDELINE, "single-allowed-action")),
    ],
)
def test_the_rules_stop_before_any_model_is_asked(
    changes: dict[str, float | str | None], stop: tuple[Gate, str]
) -> None:
    """However well the model stands, scope and guideline come first."""
    walk = _walk(_FULL, changes=changes)
    assert _stop(walk) == stop
    assert walk.ranking == ()


def test_a_value_that_could_not_be_read_stops_the_walk() -> None:
    """A creatinine in a unit nobody knows is worse than none: the stop names it and asks for the unit."""
    walk = _walk(_FULL, changes={"bmi": None}, quarantined=(_refused("bmi stone"),))
    assert _stop(walk) == (Gate.COMPLETENESS, "units-refused")
    assert walk.stop is not None
    assert "bmi" in walk.stop.resolve


def test_a_refused_copy_of_a_known_value_stops_nothing() -> None:
    """Where the feature is known from another result, the refused one is listed, not a reason to stop."""
    assert _stop(_walk(quarantined=(_refused("weight stone"),)))[0] is Gate.DISTRIBUTION


def test_too_many_missing_inputs_stop_the_walk() -> None:
    """Beyond the site's limit a prediction rests on guesses; at the limit it still counts."""
    names = tuple(f"input-{number}" for number in range(11))
    assert _stop(_walk(_FULL, missing=names)) == (Gate.COMPLETENESS, "inputs-missing")
    assert _walk(_FULL, missing=names[:10]).stop is None


def test_a_model_that_says_nothing_of_its_ground_stops_at_the_first_question() -> None:
    """Without an out-of-distribution score nothing is ranked: silence is not a yes."""
    walk = _walk()
    assert _stop(walk) == (Gate.DISTRIBUTION, "distribution-not-given")
    assert [outcome.state for outcome in walk.outcomes[-2:]] == [GateState.NOT_REACHED] * 2


@pytest.mark.parametrize(
    ("change", "stop"),
    [
        ({"in_distribution": TriState.FALSE}, (Gate.DISTRIBUTION, "out-of-distribution")),
        ({"overlap": None}, (Gate.OVERLAP, "overlap-not-given")),
        ({"overlap": {"CRT_Q3W": _GOOD_ARM}}, (Gate.OVERLAP, "overlap-not-given")),
        (
            {"overlap": {"CRT_Q3W": _GOOD_ARM, "CRT_QW": ArmOverlap(propensity=0.09, effective_sample=120.0)}},
            (Gate.OVERLAP, "no-overlap"),
        ),
        (
            {"overlap": {"CRT_Q3W": _GOOD_ARM, "CRT_QW": ArmOverlap(propensity=0.4, effective_sample=float("nan"))}},
            (Gate.OVERLAP, "no-overlap"),
        ),
        ({"benefits": None}, (Gate.BENEFIT, "benefit-not-given")),
        ({"benefits": ()}, (Gate.BENEFIT, "benefit-not-given")),
        ({"benefits": (replace(_CLEAR, low=2.9),)}, (Gate.BENEFIT, "no-clear-benefit")),
    ],
)
def test_each_gate_of_the_model_has_its_own_stop(change: dict[str, object], stop: tuple[Gate, str]) -> None:
    """Out of distribution, no overlap, no clear interval: each is named, and what lies behind is not reached."""
    walk = _walk(replace(_FULL, **change))  # type: ignore[arg-type]
    assert _stop(walk) == stop
    assert walk.ranking == ()


def test_with_every_gate_passed_the_allowed_treatments_are_ordered() -> None:
    """Only then, and only among what the rules propose, the model sets treatments apart."""
    walk = _walk(_FULL)
    assert walk.stop is None
    assert walk.ranking == ("CRT_QW", "CRT_Q3W")


@given(st.lists(st.sampled_from(["OBS", "PORT", "RERESECT", "CRT_Q3W", "CRT_QW"]), min_size=2, max_size=2, unique=True))
def test_no_model_goes_below_the_guideline_minimum(pair: list[str]) -> None:
    """Whatever the model finds for a discordant treatment, it never enters the ranking."""
    patient = timeline()
    decision = decide(findings_at(patient, _POLICY), _POLICY)
    found = Benefit(action=pair[0], over=pair[1], points=30.0, low=25.0, high=35.0)
    walk = _walk(replace(_FULL, benefits=(found,)))
    assert set(walk.ranking) <= set(allowed_actions(decision)) == set(_ARMS)


def test_every_stop_says_what_would_resolve_it() -> None:
    """All six gates are listed whatever happens, in the one order, and a stop is never bare."""
    for support in (None, _FULL):
        walk = _walk(support, changes={"histology": None})
        assert tuple(outcome.gate for outcome in walk.outcomes) == tuple(Gate)
        assert walk.stop is not None
        assert walk.stop.sentence
        assert "histology" in walk.stop.resolve
