"""Every hand-written vignette under tests/golden/policy comes out as expected, and together they reach every row."""

from __future__ import annotations

from collections import Counter

import pytest

from adapter.decision.case import evaluate_features, summary
from adapter.decision.gates import walk_gates
from adapter.decision.regimen import dose_words, drug_words, regimens_of
from adapter.decision.verdicts import decide
from adapter.domain.plan import TreatmentRegimen
from tests.fakes.vignettes import REPORT, Vignette, report, rule_coverage, vignettes

_CASES = vignettes()
_every_case = pytest.mark.parametrize("case", _CASES, ids=lambda case: case.name)


def _prescription(regimen: TreatmentRegimen) -> list[str]:
    dose = [dose_words(regimen.radiotherapy)] if regimen.radiotherapy else []
    return [*dose, *(drug_words(drug) for drug in regimen.drugs)]


@_every_case
def test_the_vignette_comes_out_as_it_was_written(case: Vignette) -> None:
    """Scope, risk group and the verdict on every action are those derived by hand from the rules, for that reason."""
    decision = evaluate_features(case.features, case.landmark, case.policy)
    printed = summary(decision)
    assert {key: printed[key] for key in ("scope", "risk_group", "actions")} == {
        key: case.expected[key] for key in ("scope", "risk_group", "actions")
    }
    wanted = case.expected["reasons"]
    assert isinstance(wanted, list)
    assert set(wanted) <= {reason.code for reason in decision.reasons}


@_every_case
def test_the_vignette_has_its_regimen(case: Vignette) -> None:
    """What the rules propose is spelled out with the dose, schedule and timing that were written down for the case."""
    findings = case.findings
    regimens = regimens_of(decide(findings, case.policy), findings, case.policy, case.landmark)
    assert {regimen.action: _prescription(regimen) for regimen in regimens} == case.expected["regimen"]
    timings = {regimen.timing.value for regimen in regimens if regimen.radiotherapy}
    assert timings <= {case.expected.get("timing")}


@_every_case
def test_the_vignette_stops_where_it_was_written(case: Vignette) -> None:
    """Without a model the walk stops at scope, at the guideline, or where the prediction is missing; nowhere later."""
    findings = case.findings
    stop = walk_gates(decide(findings, case.policy), findings, case.policy).stop
    assert stop is not None
    assert stop.code == case.expected["stop"]
    assert stop.sentence
    assert stop.resolve


@_every_case
def test_every_doubt_goes_to_the_board(case: Vignette) -> None:
    """Wherever scope or risk group is not settled, the tumour board is concordant and no treatment is."""
    decision = decide(case.findings, case.policy)
    verdicts = {entry.action: entry.verdict.value for entry in decision.actions}
    if decision.risk_group.value == "unknown":
        assert verdicts.pop("MDT") == "concordant"
        assert "concordant" not in verdicts.values()


def test_the_cases_are_many_enough() -> None:
    """At least sixty vignettes stand, over every scope answer, risk group and panel."""
    assert len(_CASES) >= 60
    assert {case.expected["scope"] for case in _CASES} == {"in", "out", "unknown"}
    assert {case.expected["risk_group"] for case in _CASES} == {"high", "intermediate", "low", "unknown"}
    assert min(Counter(case.policy.panel for case in _CASES).values()) >= 10


def test_every_rule_row_has_a_positive_a_negative_and_an_unknown_case() -> None:
    """The rule coverage is 100 percent: rules, flags, the rows of all three panels, every line of a verdict list."""
    lacking = [row for row in rule_coverage(_CASES) if not row.whole]
    assert lacking == []


def test_the_report_of_the_coverage_is_the_one_in_the_documents() -> None:
    """docs/rule_coverage.md says what the cases cover now, not what they once did."""
    assert REPORT.read_text() == report(rule_coverage(_CASES), len(_CASES))
