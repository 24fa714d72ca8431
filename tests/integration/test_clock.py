"""F-26: the wall clock of a running service is stepped, for real, and it goes on at its pace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from adapter.sandbox.hospital import SandboxHospital
from adapter.sandbox.patients import PATIENT_SYSTEM, simulate_courses
from adapter.terminology import load_terminology
from tests.fakes.waiting import wait_until
from tests.faults.trouble import set_clock, stepped_clock
from tests.peers.process import free_port

pytestmark = pytest.mark.real  # a process of its own, with another C library before the real one
_HOUR, _YEAR = 3_600, 31_536_000
_SITE = """
[fhir]
base_url = "{base_url}"
patient_identifier_system = "{system}"
[cohort]
patients = ["Patient/patient-01"]
[store]
url = "sqlite:///{folder}/adjuvant.db"
folder = "{folder}"
[watch]
poll_seconds = 1
[web]
port = {port}
"""


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.fault("F-26")
@pytest.mark.timeout(300)
def test_a_service_polls_on_whatever_the_clock_does(tmp_path: Path) -> None:
    """F-26: put back by an hour and a year, ahead by both: the next looks at the EHR come within seconds, not hours."""
    clock_file, port = tmp_path / "offset", free_port()
    environment = stepped_clock(clock_file)
    if not environment:
        pytest.skip("no C compiler here")
    courses = simulate_courses(1, seed=7, today=datetime(2026, 3, 1, tzinfo=UTC))
    with SandboxHospital(courses, load_terminology()) as hospital:
        site = tmp_path / "site.toml"
        written = _SITE.format(base_url=hospital.ehr.base_url, system=PATIENT_SYSTEM, folder=tmp_path, port=port)
        site.write_text(written)
        service = subprocess.Popen(
            [sys.executable, "-m", "adapter", "run", "--config", str(site)],
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )
        try:
            wait_until(lambda: _is_ready(port), 120)
            for offset in (-_HOUR, _HOUR, -_YEAR, _YEAR, 0):
                set_clock(clock_file, offset)
                time.sleep(2.5)  # a poll that was due in any case is over
                seen = hospital.ehr.requests
                wait_until(lambda seen=seen: hospital.ehr.requests > seen, 10)  # type: ignore[misc]  # mypy: bound now
                wait_until(lambda: _is_ready(port), 10)
        finally:
            service.send_signal(signal.SIGTERM)
            code = service.wait(60)
    assert code == 0
