"""The rule engine: three-valued, monotone, and honest about what it would have to know."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adapter.decision.rules import (
    CodedFinding,
    Compared,
    Condition,
    Every,
    Finding,
    NumericFinding,
    OneOf,
    Relation,
    Some,
    Unless,
    features_of,
    judge,
)
from adapter.domain.ids import ResourceVersion
from adapter.domain.tristate import TriState

_SOURCE = ResourceVersion("Observation", "o1", "1")
_ENE = OneOf(feature="ene_path", categories=frozenset({"macro", "micro"}))
_CLEARANCE = Compared(feature="crcl_cg", relation=Relation.BELOW, threshold=60.0)


def _coded(feature: str, *categories: str) -> CodedFinding:
    return CodedFinding(feature=feature, categories=frozenset(categories), sources=(_SOURCE,))


def _number(feature: str, low: float, high: float | None = None, age_days: float | None = None) -> NumericFinding:
    return NumericFinding(feature=feature, low=low, high=low if high is None else high, age_days=age_days)


def test_an_absent_feature_is_unknown_and_named() -> None:
    """Unknown never reads as false: not recorded extranodal extension leaves the question open and is asked for."""
    for condition in (_ENE, Unless(_ENE), Some((_ENE,)), Every((_ENE,))):
        judged = judge(condition, {})
        assert judged.truth is TriState.UNKNOWN
        assert judged.missing == {"ene_path"}


def test_one_true_part_settles_any_and_one_false_part_settles_all() -> None:
    """What is unknown beside a decisive part is neither blamed nor asked for."""
    findings = {"ene_path": _coded("ene_path", "macro")}
    settled = judge(Some((_ENE, _CLEARANCE)), findings)
    assert settled.truth is TriState.TRUE
    assert settled.missing == frozenset()
    assert settled.sources == (_SOURCE,)
    assert judge(Every((Unless(_ENE), _CLEARANCE)), findings).truth is TriState.FALSE


def test_an_interval_across_the_threshold_is_unknown() -> None:
    """A clearance known only to lie between 50 and 70 is neither below nor above 60."""
    assert judge(_CLEARANCE, {"crcl_cg": _number("crcl_cg", 50.0, 70.0)}).truth is TriState.UNKNOWN
    assert judge(_CLEARANCE, {"crcl_cg": _number("crcl_cg", 50.0, 59.9)}).truth is TriState.TRUE
    assert judge(_CLEARANCE, {"crcl_cg": _number("crcl_cg", 60.0, 70.0)}).truth is TriState.FALSE


def test_a_stale_number_is_unknown() -> None:
    """A value older than its freshness is no value; at the limit it still is one."""
    fresh = Compared(feature="ecog", relation=Relation.AT_MOST, threshold=1.0, fresh_days=14.0)
    assert judge(fresh, {"ecog": _number("ecog", 0.0, age_days=14.0)}).truth is TriState.TRUE
    assert judge(fresh, {"ecog": _number("ecog", 0.0, age_days=14.1)}).truth is TriState.UNKNOWN


def test_every_feature_of_a_condition_is_named() -> None:
    """Nothing a condition reads is hidden."""
    assert features_of(Every((Unless(_ENE), Some((_CLEARANCE,))))) == {"ene_path", "crcl_cg"}


_FEATURES = ("a", "b", "c")
_leaves = st.builds(
    OneOf, feature=st.sampled_from(_FEATURES), categories=st.frozensets(st.sampled_from(["x", "y"]), min_size=1)
)
_conditions: st.SearchStrategy[Condition] = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.builds(Unless, inner),
        st.builds(Every, st.tuples(inner, inner)),
        st.builds(Some, st.tuples(inner, inner)),
    ),
    max_leaves=12,
)


@given(
    condition=_conditions,
    full=st.dictionaries(st.sampled_from(_FEATURES), st.sampled_from(["x", "y", "z"])),
    gone=st.sets(st.sampled_from(_FEATURES)),
)
def test_less_information_never_overturns_an_answer(condition: Condition, full: dict[str, str], gone: set[str]) -> None:
    """Taking findings away turns an answer at most into unknown, never into the opposite."""
    whole: dict[str, Finding] = {name: _coded(name, category) for name, category in full.items()}
    part = {name: finding for name, finding in whole.items() if name not in gone}
    with_less = judge(condition, part).truth
    assert with_less in {judge(condition, whole).truth, TriState.UNKNOWN}
