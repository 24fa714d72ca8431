"""A site beside the pretend hospital: what several tests open in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from adapter.sandbox.hospital import SandboxHospital, sandbox_policy
from adapter.sandbox.patients import PATIENT_SYSTEM, CourseKind, simulate_courses
from adapter.settings import Settings, settings_from
from adapter.terminology import load_terminology


@contextmanager
def one_patient_known(today: datetime) -> Iterator[SandboxHospital]:
    """A hospital of one patient at high risk, of whom everything is known."""
    course = next(one for one in simulate_courses(12, seed=7, today=today) if one.kind is CourseKind.HIGH)
    with SandboxHospital([course], load_terminology()) as running:
        running.unfold()
        yield running


def without_archive(hospital: SandboxHospital, folder: Path) -> Settings:
    """The settings of a site that asks the hospital for no image; store and data in the folder."""
    return settings_from(
        {
            "fhir": {"base_url": hospital.ehr.base_url, "patient_identifier_system": PATIENT_SYSTEM},
            "cohort": {"patients": [f"Patient/{patient}" for patient in hospital.patients]},
            "store": {"url": f"sqlite:///{folder}/adjuvant.db", "folder": str(folder)},
            "policy": {"site_folder": str(sandbox_policy())},
        }
    )
