"""`adjuvant run` and `check`: the service runs until it is asked to stop; the check says what it could not do."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapter.sandbox.hospital import SandboxHospital
from tests.fakes.command import run

pytestmark = pytest.mark.real  # each command is a process of its own: too slow for the fast tests


def test_check_says_what_works(site: Path) -> None:
    """Every line ok, exit 0; with a closed EHR port FAIL names it, the other lines still come, exit 3."""
    good = run("check", "--config", site)
    assert good.returncode == 0, good.stdout + good.stderr
    assert good.stdout.count("ok  ") == 9
    broken = site.with_name("broken.toml")
    broken.write_text(site.read_text().replace("base_url = ", 'base_url = "http://127.0.0.1:9/fhir" #', 1))
    bad = run("check", "--config", broken)
    assert bad.returncode == 3
    assert "PeerUnavailable: metadata: connection refused at 127.0.0.1:9" in bad.stdout
    assert "FAIL  EHR" in bad.stdout
    assert "ok    model" in bad.stdout


def test_check_looks_whether_the_first_patient_is_there(site: Path) -> None:
    """A cohort of patients whom the EHR does not have is no cohort; what nobody could try is said."""
    fine = run("check", "--config", site)
    assert fine.returncode == 0, fine.stdout
    assert "Patient/patient-01, can be read" in fine.stdout
    assert "not tried: whether the archive knows our AE title" in fine.stdout
    site.write_text(site.read_text().replace("Patient/patient-01", "Patient/nobody"))
    wrong = run("check", "--config", site)
    assert wrong.returncode == 1
    assert "the EHR has no Patient/nobody" in wrong.stdout


@pytest.mark.fault("F-02", "F-37")
def test_the_service_runs_until_it_is_asked_to_stop(site: Path, hospital: SandboxHospital) -> None:
    """F-02: it polls, settles both patients of its cohort, and ends within ten seconds of SIGTERM with exit 0.

    Beside it, though it holds the DICOM port, a case is asked for and one is replayed; forgetting has to wait.
    """
    command = [sys.executable, "-m", "adapter", "run", "--config", str(site)]
    site.write_text(f"{site.read_text()}\n[watch]\npoll_seconds = 1\nquiet_seconds = 0\n")
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 180  # commands take seconds each on a loaded machine
        while _delivered(site) < 2:
            assert time.monotonic() < deadline
            assert service.poll() is None
        (worker,) = json.loads(run("status", "--config", site, "--json").stdout)["workers"]
        assert worker["place"].endswith(f":{service.pid}")
        asked_for = json.loads(run("assess", "patient-01", "--config", site, "--json").stdout)
        assert [case["patient"] for case in asked_for["cases"]] == ["patient-01"]
        assert asked_for["delivered"] == 1
        assessment = next(ref for ref in asked_for["cases"][0]["resources"] if ref.startswith("RiskAssessment"))
        assert "identical" in run("replay", assessment.split("/_history")[0], "--config", site).stdout
        dry = run("assess", "patient-01", "--config", site, "--dry-run")
        assert (dry.returncode, "a service runs here and holds dicom.port" in dry.stderr) == (2, True)
        forgotten = run("cases", "forget", "patient-01", "--config", site)
        assert (forgotten.returncode, "is in use by process" in forgotten.stderr) == (2, True)
    finally:
        asked = time.monotonic()
        service.send_signal(signal.SIGTERM)
        _, errors = service.communicate(timeout=40)
    assert service.returncode == 0, errors
    assert time.monotonic() - asked < 10
    assert "Simulated" not in errors  # no name of any patient in a log


@pytest.mark.parametrize("option", ["--fhir-port", "--dicom-port"])
def test_a_sandbox_whose_port_is_taken_says_which(option: str) -> None:
    """One sentence with port and option, exit 2. Breach: the traceback `OSError: could not bind`."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ports = {"--fhir-port": "0", "--dicom-port": "0", option: port}
        refused = run("sandbox", "--patients", "1", *(word for pair in ports.items() for word in pair))
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False), refused.stderr
    assert f"{option} {port}" in refused.stderr


@pytest.mark.parametrize("destination", ["ADJUVANT", "ADJUVANT:x", "ADJUVANT:0", "ADJUVANT:70000", ":11112"])
def test_a_move_destination_has_a_title_and_a_port(destination: str) -> None:
    """One sentence with the option, exit 2. Breach: a traceback of `int('')`."""
    refused = run("sandbox", "--patients", "1", "--fhir-port", "0", "--dicom-port", "0", "--destination", destination)
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False), refused.stderr
    assert "--destination" in refused.stderr


def _delivered(site: Path) -> int:
    looked = run("status", "--config", site, "--json")
    return int(json.loads(looked.stdout)["delivered"]) if looked.returncode == 0 else 0  # no database yet
