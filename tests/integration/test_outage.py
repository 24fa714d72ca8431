"""F-03: an EHR that fails for everybody is left alone; its cases wait, none dies, and all end well when it is back."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from adapter.sandbox.faults import FhirFaults
from adapter.sandbox.hospital import SandboxHospital, sandbox_policy
from adapter.sandbox.patients import PATIENT_SYSTEM, simulate_courses
from adapter.service import Service
from adapter.settings import Settings, settings_from
from adapter.terminology import load_terminology
from tests.fakes.waiting import wait_until

pytestmark = pytest.mark.real  # a circuit rests for half a minute


def _settings(hospital: SandboxHospital, folder: Path) -> Settings:
    return settings_from(
        {
            "fhir": {"base_url": hospital.ehr.base_url, "patient_identifier_system": PATIENT_SYSTEM},
            "cohort": {"patients": [f"Patient/{patient}" for patient in hospital.patients]},
            "store": {"url": f"sqlite:///{folder}/adjuvant.db", "folder": str(folder)},
            "watch": {"poll_seconds": 5, "quiet_seconds": 0, "attempts": 2},
            "web": {"port": 0},
            "policy": {"site_folder": str(sandbox_policy())},
        }
    )


def test_an_outage_longer_than_all_attempts_makes_no_dead_letters(tmp_path: Path) -> None:
    """Down for as long as two attempts take and more: readiness and metrics say so, every case settles afterwards."""
    courses = simulate_courses(3, seed=7, today=datetime(2026, 1, 1, tzinfo=UTC))
    with SandboxHospital(courses, load_terminology()) as hospital:
        hospital.unfold()
        with Service(_settings(hospital, tmp_path)) as service:
            hospital.ehr.faults = FhirFaults(down=True)
            for patient in hospital.patients:
                service.queue.enqueue(service.rooms.store.ledger.request(patient))

            def ready() -> httpx.Response:
                return httpx.get(f"{service.web.url}/health/ready")

            wait_until(lambda: ready().json()["peers"] == {"EHR": "open"}, 120.0)
            assert ready().status_code == 503
            time.sleep(10)
            quiet = hospital.ehr.requests
            time.sleep(5)
            assert hospital.ehr.requests == quiet  # left alone
            metrics = httpx.get(f"{service.web.url}/metrics").text
            assert 'adjuvant_circuit{peer="EHR",state="open"} 1.0' in metrics
            assert service.rooms.store.ledger.list_cases(state="dead-letter") == ()
            hospital.ehr.faults = FhirFaults()
            assert service.run_until_settled(120) or service.queue.wait_until_idle(120)
            counts = service.rooms.store.ledger.counts()
            assert service.rooms.store.ledger.list_cases(state="dead-letter") == ()
            wait_until(lambda: service.poll() >= 0 and ready().status_code == 200, 120.0)
    assert counts["waiting"] == counts["running"] == 0
    assert sum(counts.values()) >= 3
