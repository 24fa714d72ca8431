"""The EHR is restored from a backup that is older than our results: they are found missing and written again."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Delivered, Settled, Skipped
from adapter.pipeline.once import STEPS_TO_DELIVERY, assess_once
from adapter.pipeline.reconcile import Reconciliation
from adapter.rooms import Rooms, build_reconciler
from adapter.sandbox.faults import FhirFaults
from adapter.sandbox.hospital import SandboxHospital
from adapter.sandbox.repository import Resource, Stored
from tests.fakes.sites import one_patient_known, without_archive

_NOW = datetime(2026, 3, 1, tzinfo=UTC)
Versions = dict[tuple[str, str], list[Stored]]
_OURS = ("DocumentReference", "Device", "RiskAssessment", "CarePlan", "GuidanceResponse", "Task", "Provenance")


class Site:
    """One patient of a pretend hospital, assessed by hand, and the nights after."""

    def __init__(self, hospital: SandboxHospital, rooms: Rooms) -> None:
        """Nobody has been looked at yet."""
        self.hospital, self.rooms = hospital, rooms
        self.patient: PatientId = hospital.patients[0]
        self._nights = 0

    def look(self) -> Settled:
        """The open case of the patient, as the queue runs it."""
        (case,) = self.rooms.store.ledger.unsettled_cases() or (self.rooms.store.ledger.request(self.patient),)
        result, settled = assess_once(case, self.rooms.ports, None, STEPS_TO_DELIVERY, wait=lambda _: False)
        assert result is not None
        assert settled is not None
        self.rooms.store.ledger.record(case, settled, result.case_file)
        return settled

    def delivered(self) -> str:
        """The id of the assessment that the open case delivers."""
        settled = self.look()
        assert isinstance(settled, Delivered), settled
        return settled.receipt.assessment_id

    def night(self) -> Reconciliation:
        """The comparison of the next night, whole."""
        self._nights += 1
        reconciler = build_reconciler(self.rooms.settings, self.rooms.client, self.rooms.store)
        result = reconciler.reconcile(f"night-{self._nights}", lambda: _NOW)
        assert result is not None
        assert (result.compared, result.interrupted) == (1, "")
        return result

    def back_up(self) -> Versions:
        """What the EHR holds now, its history too."""
        return copy.deepcopy(self.hospital.ehr.repository._versions)

    def restore(self, backup: Versions) -> None:
        """It holds that again, and knows nothing of what came after."""
        self.hospital.ehr.repository._versions = copy.deepcopy(backup)

    def ours(self) -> dict[str, int]:
        """How many of each type that an assessment consists of are there."""
        counts = self.hospital.ehr.repository.counts()
        return {kind: counts.get(kind, 0) for kind in _OURS}


@pytest.fixture
def hospital() -> Iterator[SandboxHospital]:
    """One patient, everything known."""
    with one_patient_known(_NOW) as running:
        yield running


@pytest.fixture
def site(hospital: SandboxHospital, tmp_path: Path) -> Iterator[Site]:
    """Without an archive."""
    with Rooms(without_archive(hospital, tmp_path)) as rooms:
        yield Site(hospital, rooms)


_SERVERS = {
    "our ids": FhirFaults(),
    "our ids, one by one": FhirFaults(without_transaction=True),
    "its own ids": FhirFaults(without_update_create=True),
    "its own ids, one by one": FhirFaults(
        without_update_create=True, without_transaction=True, without_conditional_create=True
    ),
}


@pytest.mark.parametrize("faults", _SERVERS.values(), ids=_SERVERS.keys())
def test_results_that_a_restored_ehr_lost_are_written_again(site: Site, faults: FhirFaults) -> None:
    """Breach: "1 records compared, 0 differ" while the ledger said delivered and the EHR held nothing."""
    site.hospital.ehr.faults = faults
    before = site.back_up()
    assessment_id = site.delivered()
    held = site.ours()
    assert held["RiskAssessment"] == 1
    assert site.night() == Reconciliation(name="night-1", compared=1)
    site.restore(before)
    (found,) = site.night().found
    assert (found.what, found.case_id) == ("result-missing", f"{site.patient}:2")
    assert site.delivered() == assessment_id
    assert site.ours() == held
    assert site.night().found == []


def test_a_restore_that_took_the_newest_result_only_leaves_the_older_marked(site: Site) -> None:
    """What was in the backup stands unmarked again, until the new case writes the newer and marks it."""
    older = site.delivered()
    backup = site.back_up()
    subject = {"reference": f"Patient/{site.patient}"}
    known = "2026-02-27T09:00:00+00:00"
    haemoglobin: Resource = {
        "resourceType": "Observation", "id": "late-hb", "status": "final", "subject": subject,
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "valueQuantity": {"value": 9.1, "system": "http://unitsofmeasure.org", "code": "g/dL"},
        "effectiveDateTime": known, "issued": known,
    }  # fmt: skip
    site.hospital.ehr.repository.update("Observation", "late-hb", haemoglobin, None)
    newer = site.delivered()
    kept = site.hospital.ehr.repository._versions["Observation", "late-hb"]
    site.restore(backup)
    site.hospital.ehr.repository._versions["Observation", "late-hb"] = kept
    assert [found.detail for found in site.night().found] == [f"RiskAssessment/ra-{newer}"]
    assert site.delivered() == newer
    plans = {one: (site.hospital.resource(f"CarePlan/cp-{one}") or {})["status"] for one in (older, newer)}
    assert plans == {older: "revoked", newer: "draft"}


def test_what_somebody_withdrew_is_left_alone(site: Site) -> None:
    """Deleted, or entered in error: no case, on this night and every other."""
    assessment_id = site.delivered()
    name = f"ra-{assessment_id}"
    stored = site.hospital.ehr.repository.read("RiskAssessment", name).resource
    wrong = {**stored, "status": "entered-in-error"}
    site.hospital.ehr.repository.update("RiskAssessment", name, wrong, None)
    assert site.night() == Reconciliation(name="night-1", compared=1)
    site.hospital.ehr.repository.delete("RiskAssessment", name)
    assert site.night() == Reconciliation(name="night-2", compared=1)


def test_a_result_that_was_withdrawn_before_the_last_look_is_not_asked_for(site: Site) -> None:
    """The receipt names no RiskAssessment then, and a restore brings no case about."""
    before = site.back_up()
    site.hospital.ehr.repository.delete("RiskAssessment", f"ra-{site.delivered()}")
    site.rooms.store.ledger.request(site.patient)
    site.delivered()
    site.restore(before)
    assert site.night() == Reconciliation(name="night-1", compared=1)


def test_a_result_is_asked_for_though_its_case_file_has_expired(site: Site) -> None:
    """The ledger's line stays and names it."""
    before = site.back_up()
    site.delivered()
    site.night()
    site.rooms.store.ledger.release_case_files(datetime.now(UTC))
    site.restore(before)
    assert [found.what for found in site.night().found] == ["result-missing"]


def test_what_no_new_case_would_write_is_not_asked_for(site: Site) -> None:
    """The last case skipped the patient and so would the next: it would be asked for every night, and write nothing."""
    site.delivered()
    ehr = site.hospital.ehr.repository
    for stored in ehr.current("Procedure"):
        ehr.delete("Procedure", str(stored.resource["id"]))
    assert [found.what for found in site.night().found] == ["differs"]
    assert isinstance(site.look(), Skipped)
    site.restore({key: versions for key, versions in ehr._versions.items() if key[0] not in _OURS})
    assert site.night() == Reconciliation(name="night-2", compared=1)
