"""F-24: the hospital takes back the newest fact, and the assessment that rests on it no longer stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapter.demo import demo_settings
from adapter.domain.outcome import Case, Delivered
from adapter.fhir.fingerprint import superseded_by
from adapter.pipeline.once import STEPS_TO_DELIVERY, assess_once
from adapter.rooms import Rooms
from adapter.sandbox.hospital import SandboxHospital
from tests.fakes.sites import one_patient_known

_TODAY = datetime(2026, 3, 1, tzinfo=UTC)
_KNOWN = "2026-02-27T09:00:00+00:00"


@pytest.fixture
def hospital() -> Iterator[SandboxHospital]:
    """One patient, everything known."""
    with one_patient_known(_TODAY) as running:
        yield running


@pytest.fixture
def rooms(hospital: SandboxHospital, tmp_path: Path) -> Iterator[Rooms]:
    """As the demo opens them."""
    with Rooms(demo_settings(hospital, tmp_path)) as opened:
        assert opened.archive is not None
        hospital.archive.allow("ADJUVANT", "127.0.0.1", opened.archive.port)
        yield opened


def _put_haemoglobin(hospital: SandboxHospital, status: str) -> None:
    """The newest fact of the record, final or taken back."""
    subject = {"reference": f"Patient/{hospital.patients[0]}"}
    code = {"coding": [{"system": "http://loinc.org", "code": "718-7"}]}
    value = {"value": 9.1, "system": "http://unitsofmeasure.org", "code": "g/dL"}
    times = {"effectiveDateTime": _KNOWN, "issued": _KNOWN}
    named = {"resourceType": "Observation", "id": "late-hb", "status": status, "subject": subject}
    hospital.ehr.repository.update(
        "Observation", "late-hb", {**named, "code": code, **times, "valueQuantity": value}, None
    )


def _delivered(rooms: Rooms, hospital: SandboxHospital) -> str:
    case = Case(patient_id=hospital.patients[0], revision=1)
    _, settled = assess_once(case, rooms.ports, None, STEPS_TO_DELIVERY, wait=lambda _: False)
    assert isinstance(settled, Delivered), settled
    return settled.receipt.assessment_id


@pytest.mark.fault("F-24")
def test_a_look_without_a_withdrawn_fact_takes_the_place_of_the_one_that_rests_on_it(
    hospital: SandboxHospital, rooms: Rooms
) -> None:
    """Breach: the look without it stood at an earlier landmark, so that the older result outranked it."""
    before = _delivered(rooms, hospital)
    _put_haemoglobin(hospital, "final")
    rests_on_it = _delivered(rooms, hospital)
    assert rests_on_it != before
    _put_haemoglobin(hospital, "entered-in-error")
    stands = _delivered(rooms, hospital)
    assert stands not in {before, rests_on_it}
    assert _marked_by(hospital, f"RiskAssessment/ra-{rests_on_it}") == stands
    assert _marked_by(hospital, f"RiskAssessment/ra-{stands}") is None
    assert "late-hb" not in json.dumps((hospital.resource(f"RiskAssessment/ra-{stands}") or {})["basis"])
    plans = {one: (hospital.resource(f"CarePlan/cp-{one}") or {})["status"] for one in (rests_on_it, stands)}
    assert plans == {rests_on_it: "revoked", stands: "draft"}


def _marked_by(hospital: SandboxHospital, reference: str) -> str | None:
    return superseded_by(hospital.resource(reference) or {})
