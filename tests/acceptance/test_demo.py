"""The demo as a newcomer runs it: every patient settled, each with its result or its reason."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_ALWAYS = (
    "DocumentReference", "Device", "RiskAssessment", "CarePlan", "GuidanceResponse", "Task", "Provenance",
)  # fmt: skip

pytestmark = pytest.mark.real  # the whole service in a process of its own: too slow for the fast tests


def test_every_simulated_patient_settles() -> None:
    """Twelve courses: the ones that are ours are delivered, lost images abstain, the rest is skipped by name."""
    command = [sys.executable, "-m", "adapter", "demo", "--patients", "12", "--once", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert (report["settled"], report["delivered"], report["abstained"], report["skipped"]) == (12, 6, 1, 5)
    reasons = {case["patient"]: case["reason"] for case in report["cases"]}
    assert reasons["patient-12"] == "series-incomplete"
    assert reasons["patient-08"] == "no-head-and-neck-squamous-cell-carcinoma"
    assert report["dead-letter"] == 0
    delivered = [case for case in report["cases"] if case["state"] == "delivered"]
    assert all(set(_ALWAYS) <= {name.partition("/")[0] for name in case["resources"]} for case in delivered)
    assert not any(case["resources"] for case in report["cases"] if case not in delivered)
