"""`adjuvant reconcile`: what no feed shows is found on request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapter.sandbox.hospital import SandboxHospital
from tests.fakes.command import run

pytestmark = pytest.mark.real  # each command is a process of its own: too slow for the fast tests


def test_records_are_compared_on_request(site: Path, hospital: SandboxHospital) -> None:
    """Nothing differs after an assessment; a deletion that no feed shows is found, and asked for once."""
    run("assess", "patient-01", "--config", site, "--json")
    calm = json.loads(run("reconcile", "--config", site, "--json").stdout)
    assert [found["patient"] for found in calm["found"]] == ["patient-02"]  # nobody ever looked at
    assert [found["what"] for found in calm["found"]] == ["never-assessed"]
    gone = next(
        stored.resource["id"]
        for stored in hospital.ehr.repository.current("Observation")
        if stored.resource["subject"] == {"reference": "Patient/patient-01"}
    )
    hospital.ehr.repository.delete("Observation", str(gone))
    found = json.loads(run("reconcile", "--config", site, "--json").stdout)
    assert [(one["patient"], one["deleted"], one["case"]) for one in found["found"]] == [
        ("patient-01", 1, "patient-01:2")
    ]
    assert (found["compared"], found["open"], found["interrupted"]) == (1, 1, "")
    again = run("reconcile", "--config", site)
    assert again.returncode == 0
    assert "0 records compared, 0 differ, 2 have an open case" in again.stdout


def test_a_result_that_the_ehr_lost_is_asked_for_and_written_again(site: Path, hospital: SandboxHospital) -> None:
    """Breach: the EHR was restored from an older backup, and "0 differ" was all that the operator read."""
    written = json.loads(run("assess", "patient-01", "--config", site, "--json").stdout)
    (name,) = (one.split("/")[1] for one in written["cases"][0]["resources"] if one.startswith("RiskAssessment"))
    del hospital.ehr.repository._versions["RiskAssessment", name]
    report = json.loads(run("reconcile", "--config", site, "--json").stdout)
    lost = [(one["what"], one["detail"], one["case"]) for one in report["found"] if one["patient"] == "patient-01"]
    assert lost == [("result-missing", f"RiskAssessment/{name}", "patient-01:2")]
    assert report["missing"] == 1
    again = json.loads(run("assess", "patient-01", "--config", site, "--json").stdout)
    assert [(one["case"], one["state"]) for one in again["cases"]] == [("patient-01:2", "delivered")]
    assert hospital.resource(f"RiskAssessment/{name}") is not None
