"""F-49: backed up with cases in flight, restored on an empty folder: nothing is done twice, nothing is missing."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapter.domain.outcome import Case, Settled
from adapter.sandbox.hospital import SandboxHospital, sandbox_policy
from adapter.sandbox.patients import PATIENT_SYSTEM, simulate_courses
from adapter.sandbox.playback import playback
from adapter.service import Service
from adapter.settings import Settings, settings_from
from adapter.store.backup import restore_backup, take_backup
from adapter.store.vault import key_fingerprint, read_site_key
from adapter.terminology import load_terminology
from tests.peers.postgresql import Postgresql

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]  # the whole service, twice, also on a loaded machine

_PATIENTS = 8


@pytest.fixture
def hospital() -> Iterator[SandboxHospital]:
    """Eight simulated patients, each known; the last tenth of what will be known is still to come."""
    courses = simulate_courses(_PATIENTS, seed=7, today=datetime(2026, 1, 1, tzinfo=UTC))
    with SandboxHospital(courses, load_terminology()) as running:
        running.unfold(len(playback(courses, load_terminology())) * 9 // 10)
        yield running


def _settings(hospital: SandboxHospital, folder: Path, key: Path, url: str | None) -> Settings:
    return settings_from(
        {
            "fhir": {"base_url": hospital.ehr.base_url, "patient_identifier_system": PATIENT_SYSTEM},
            "cohort": {"patients": [f"Patient/{patient}" for patient in hospital.patients]},
            "store": {"url": url or f"sqlite:///{folder}/adjuvant.db", "folder": str(folder), "key_file": str(key)},
            "watch": {"quiet_seconds": 0},
            "web": {"port": 0},
            "policy": {"site_folder": str(sandbox_policy())},
        }
    )


class BackUpUnderLoad:
    """Takes one backup from within the service, while a case is about to be delivered and others run."""

    def __init__(self, settings: Settings, destination: Path) -> None:
        """Not yet."""
        self._store = settings.store
        self._destination = destination
        self._deliveries = 0
        self._lock = threading.Lock()
        self.taken = False

    def __call__(self, _case: Case, step: str, _settled: Settled | None) -> None:
        """At the third delivery."""
        with self._lock:
            self._deliveries += step == "deliver"
            if self.taken or self._deliveries < 3:
                return
            self.taken = True
        key = key_fingerprint(read_site_key(self._store.key_path))
        at = datetime(2026, 3, 1, tzinfo=UTC)
        take_backup(self._store.url, self._store.vault_folder, self._destination, key=key, at=at)


def _restored_and_finished(hospital: SandboxHospital, folder: Path, urls: tuple[str | None, str | None]) -> None:
    key = folder / "site.key"
    before, after = (_settings(hospital, folder / name, key, url) for name, url in zip("ab", urls, strict=True))
    backing = BackUpUnderLoad(before, folder / "backup")
    with Service(before, watching=backing) as service:
        assert service.run_until_settled(300)
        written = len(hospital.ehr.repository.current("RiskAssessment"))
        hospital.unfold()  # all of it becomes known after the backup
        assert service.run_until_settled(300)
    assert backing.taken
    late = hospital.ehr.repository.current("RiskAssessment")
    assert written >= 3
    # the machine burns down; what the EHR got after the backup is there, and nothing of ours knows of it
    fingerprint = key_fingerprint(read_site_key(key))
    store = after.store
    restore_backup(folder / "backup", store.url, store.folder, store.vault_folder, key=fingerprint)
    with Service(after) as service:
        counts = service.rooms.store.ledger.counts()
        assert counts["running"] + counts["waiting"] >= 1  # in flight when it was taken
        assert service.run_until_settled(300)
        service.reconcile()
        assert service.queue.wait_until_idle(300)
        entries = service.rooms.store.ledger.list_cases()
    held = hospital.ehr.repository.current("RiskAssessment")
    names = Counter(str(one.resource["identifier"][0]["value"]) for one in held)  # type: ignore[index]
    assert set(names.values()) == {1}
    # each was written once; an older one was marked as superseded, once, which is its second version
    assert {one.version for one in held} <= {1, 2}
    assert {one.resource["id"] for one in late} <= {one.resource["id"] for one in held}
    assert [entry.case_id for entry in entries if entry.settled is None or entry.state == "dead-letter"] == []
    newest = {entry.patient_id: entry for entry in sorted(entries, key=lambda entry: entry.revision)}
    assert set(newest) == set(hospital.patients)
    delivered = [entry for entry in newest.values() if entry.state == "delivered"]
    standing = {str(one.resource["id"]): one.version for one in held}
    assert {standing[f"ra-{entry.assessment_id}"] for entry in delivered} == {1}


def test_a_backup_taken_under_load_goes_on_elsewhere(hospital: SandboxHospital, tmp_path: Path) -> None:
    """SQLite: its own online backup while two workers write."""
    _restored_and_finished(hospital, tmp_path, (None, None))


def test_the_same_on_postgresql(hospital: SandboxHospital, tmp_path: Path, postgresql: Postgresql) -> None:
    """PostgreSQL: pg_dump while two workers write, pg_restore into an empty database."""
    burned, fresh = postgresql.create_database("burned"), postgresql.create_database("fresh")
    _restored_and_finished(hospital, tmp_path, (burned, fresh))
