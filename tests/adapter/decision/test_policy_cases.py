"""Every hand-written vignette under tests/golden/policy comes out as expected."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from adapter.decision.policy import Policy, load_policy
from adapter.decision.propose import Decision, evaluate_features, summary

_CASES = sorted((Path(__file__).parents[2] / "golden" / "policy").iterdir())


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy()


def _decide(folder: Path, policy: Policy) -> Decision:
    given = json.loads((folder / "given.json").read_text())
    return evaluate_features(given["features"], datetime.fromisoformat(given["landmark"]), policy)


@pytest.mark.parametrize("folder", _CASES, ids=lambda folder: folder.name)
def test_the_vignette_comes_out_as_a_clinician_wrote_it(folder: Path, policy: Policy) -> None:
    """Scope, risk group and the verdict on every action are those derived by hand from the rules."""
    expected = json.loads((folder / "expected.json").read_text())
    decision = _decide(folder, policy)
    printed = summary(decision)
    assert {key: printed[key] for key in ("scope", "risk_group", "actions")} == {
        key: expected[key] for key in ("scope", "risk_group", "actions")
    }
    assert set(expected["reasons"]) <= {reason.code for reason in decision.reasons}


@pytest.mark.parametrize("folder", _CASES, ids=lambda folder: folder.name)
def test_every_doubt_goes_to_the_board(folder: Path, policy: Policy) -> None:
    """Wherever scope or risk group is not settled, the tumour board is concordant and no treatment is."""
    decision = _decide(folder, policy)
    verdicts = {entry.action: entry.verdict.value for entry in decision.actions}
    if decision.risk_group.value == "unknown":
        assert verdicts.pop("MDT") == "concordant"
        assert "concordant" not in verdicts.values()


def test_the_cases_are_many_enough() -> None:
    """At least twenty-five vignettes stand, over every scope answer and risk group."""
    expected = [json.loads((folder / "expected.json").read_text()) for folder in _CASES]
    assert len(expected) >= 25
    assert {case["scope"] for case in expected} == {"in", "out", "unknown"}
    assert {case["risk_group"] for case in expected} == {"high", "intermediate", "low", "unknown"}
