"""A pretend hospital and a site of its own for the commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapter.demo import SEED, TODAY
from adapter.sandbox.hospital import SandboxHospital, sandbox_policy
from adapter.sandbox.patients import PATIENT_SYSTEM, simulate_courses
from adapter.terminology import load_terminology
from tests.peers.process import free_port


@pytest.fixture(scope="module")
def hospital() -> Iterator[SandboxHospital]:
    """Three simulated patients, everything known."""
    with SandboxHospital(simulate_courses(3, seed=SEED, today=TODAY), load_terminology()) as running:
        running.unfold()
        yield running


@pytest.fixture
def site(hospital: SandboxHospital, tmp_path: Path) -> Path:
    """A site configuration of its own store."""
    port = free_port()
    hospital.archive.allow("ADJUVANT", "127.0.0.1", port)
    path = tmp_path / "site.toml"
    path.write_text(
        f"""
mode = "research"
[fhir]
base_url = "{hospital.ehr.base_url}"
patient_identifier_system = "{PATIENT_SYSTEM}"
[pacs]
host = "127.0.0.1"
port = {hospital.archive.port}
ae_title = "SANDBOX"
[dicom]
port = {port}
quiet_seconds = 0.3
[cohort]
patients = ["Patient/patient-01", "Patient/patient-02"]
[store]
url = "sqlite:///{tmp_path}/adjuvant.db"
folder = "{tmp_path}/data"
[web]
port = {free_port()}
[policy]
site_folder = "{sandbox_policy()}"
"""
    )
    return path
