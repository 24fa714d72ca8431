"""The exported policy: whole, cited, resolvable within itself, and the same bytes every time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapter.decision.policy import load_policy
from adapter.errors import BadMapping
from adapter.fhir.delivery import OutputMode, load_delivery
from adapter.fhir.policy_export import export_policy

_POLICY = load_policy()


def _resources() -> list[Any]:
    bundle = json.loads(export_policy(_POLICY, load_delivery(), OutputMode.RESEARCH))
    return [entry["resource"] for entry in bundle["entry"]]


def test_every_row_of_the_policy_is_exported() -> None:
    """Each rule, flag, action and visit is an action of the plan, by its own id."""
    plan = _resources()[0]
    rows = {*_POLICY.rules, *(flag.code for flag in _POLICY.flags), *(action.code for action in _POLICY.actions)}
    rows |= {visit.code for visit in _POLICY.visits}
    assert {action["prefix"] for action in plan["action"]} == rows
    assert plan["type"]["coding"][0]["code"] == "eca-rule"
    assert (plan["status"], plan["experimental"]) == ("draft", True)


def test_every_verdict_line_is_exported_in_order() -> None:
    """The decision list of chemoradiation reads as in regimens.toml, the verdict without a condition last."""
    plan = _resources()[0]
    exported = next(action for action in plan["action"] if action["prefix"] == "CRT_Q3W")
    lines = _POLICY.action("CRT_Q3W").lines
    assert [line["title"] for line in exported["action"]] == [*(line.verdict.value for line in lines), "discordant"]
    assert "condition" not in exported["action"][-1]
    assert "crcl_cg below 60" in exported["action"][0]["condition"][0]["expression"]["expression"]


def test_every_definition_a_plan_points_to_is_in_the_bundle() -> None:
    """A reader who has the bundle has everything: no canonical leads outside it."""
    plan, *activities = _resources()
    pointed = {action["definitionCanonical"] for action in plan["action"] if "definitionCanonical" in action}
    assert pointed == {f"{activity['url']}|{activity['version']}" for activity in activities}


def test_every_piece_of_evidence_is_cited_with_its_doi() -> None:
    """The plan cites each row of evidence.toml once, and a trial with a doi by its address."""
    cited = {artifact["label"]: artifact for artifact in _resources()[0]["relatedArtifact"]}
    assert set(cited) == set(_POLICY.evidence)
    assert cited["NIVOPOSTOP"]["url"] == "https://doi.org/10.1016/S0140-6736(25)01850-1"
    assert "not re-checked" in cited["DHANUSH"]["citation"]


def test_a_treatment_carries_its_dose_and_its_citations() -> None:
    """ActivityDefinition CRT_Q3W: 66 Gy, cisplatin on days 1, 22 and 43, and the trials behind it."""
    activity = next(one for one in _resources() if one["id"] == "crt-q3w")
    assert "66 Gy in 33 fractions" in activity["description"]
    assert activity["dosage"] == [{"text": "cisplatin 100 mg/m2 on days 1, 22, 43 with radiotherapy"}]
    assert {"ZUMSTEG-2025", "JCOG1008"} <= {artifact["label"] for artifact in activity["relatedArtifact"]}


def test_the_same_policy_gives_the_same_bytes() -> None:
    """No clock and nothing random enters the export."""
    first, second = (export_policy(load_policy(), load_delivery(), OutputMode.RESEARCH) for _ in range(2))
    assert first == second


def test_live_mode_exports_no_unverified_code() -> None:
    """What nobody has verified does not leave in live mode."""
    with pytest.raises(BadMapping, match="unverified"):
        export_policy(_POLICY, load_delivery(), OutputMode.LIVE)
