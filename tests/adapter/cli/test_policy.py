"""`adjuvant policy`: the rules shown, exported and tried."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.fakes.command import run

pytestmark = pytest.mark.real  # each command is a process of its own: too slow for the fast tests


def test_the_rules_can_be_tried_and_shown(tmp_path: Path) -> None:
    """`policy try` answers named features; `policy show` prints every rule; `model verify` proves the bundle."""
    case = tmp_path / "case.json"
    case.write_text(json.dumps({"features": {"ene_path": "positive"}, "landmark": datetime.now(UTC).isoformat()}))
    verdict = json.loads(run("policy", "try", case, "--json").stdout)
    assert set(verdict) == {"scope", "risk_group", "actions", "reasons"}
    assert verdict["actions"]["OBS"] != "concordant"
    assert "HIGH" in run("policy", "show").stdout
    assert "agree" in run("model", "verify").stdout
    assert "1." in run("model", "show").stdout
    assert re.fullmatch(r"adjuvant \d+\.\d+\.\d+\n", run("--version").stdout)
    exported = json.loads(run("policy", "export", "--sandbox").stdout)
    assert exported["entry"][0]["resource"]["resourceType"] == "PlanDefinition"
