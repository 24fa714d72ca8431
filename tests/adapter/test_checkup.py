"""What `check` says of a site, line by line, and what it leaves alone."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from adapter.checkup import Finding, check_site
from adapter.domain.ids import PatientId
from adapter.domain.outcome import Skipped
from adapter.rooms import StoreRoom
from adapter.settings import Settings, settings_from
from adapter.store.database import StoreLock
from tests.fakes.fhir_wire import FhirWire, WireReply


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A site where nothing ever ran."""
    return settings_from(
        {
            "fhir": {"base_url": "http://127.0.0.1:9/fhir"},
            "cohort": {"patients": ["Patient/p1"]},
            "store": {"url": f"sqlite:///{tmp_path}/adjuvant.db", "folder": str(tmp_path / "data")},
            "web": {"port": 0},
        }
    )


def _finding(settings: Settings, what: str) -> Finding:
    return next(finding for finding in check_site(settings) if finding.what == what)


def test_a_check_makes_neither_database_nor_key(settings: Settings, tmp_path: Path) -> None:
    """Law: a check leaves an empty machine empty. Breach: what it made refused the restore that was to come next."""
    found = _finding(settings, "store")
    assert (found.passed, "no database yet, the first start makes it" in found.detail) == (True, True)
    assert f"the first start makes the site key {settings.store.key_path}" in found.detail
    assert {path.name for path in tmp_path.rglob("*")} == {"data", "adjuvant.lock"}


def test_a_check_leaves_no_case_file(settings: Settings) -> None:
    """Law: what is tried is removed. Breach: a vault with one file of nobody, beside a database without a case."""
    with StoreRoom(settings):
        pass
    assert _finding(settings, "store").detail == "database whole; case files can be sealed and read back"
    assert [path for path in settings.store.vault_folder.glob("*/*") if path.is_file()] == []


def test_a_check_misses_the_ledger_of_the_case_files(settings: Settings, tmp_path: Path) -> None:
    """A vault with case files and no database, or one that knows no case: store.url is not right."""
    with StoreRoom(settings) as store:
        store.vault.keep(b"a record")
        store.ledger.request(PatientId("p1"))
    assert _finding(settings, "store").passed
    vault = settings.store.vault_folder
    with StoreRoom(settings) as store:
        case = store.ledger.request(PatientId("p1"))
        store.ledger.record(case, Skipped(reason="test", detail=""), store.vault.keep(b"a case file"))
    vault.rename(tmp_path / "elsewhere")
    assert "is no vault: is it mounted" in _finding(settings, "store").detail
    assert not vault.exists()
    (tmp_path / "elsewhere").rename(vault)
    (tmp_path / "adjuvant.db").rename(tmp_path / "moved.db")
    found = _finding(settings, "store")
    assert (found.passed, "holds 2 case files and the database knows no case" in found.detail) == (False, True)
    assert not (tmp_path / "adjuvant.db").exists()


@pytest.mark.fault("F-16")
def test_a_disk_without_room_for_images_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """How much is free and how much is needed, before the first start too. Breach: a full disk passed every check."""
    assert _finding(settings, "disk").passed
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3 * 2**20))
    found = _finding(settings, "disk")
    assert (found.passed, "3 MiB free, 1024 MiB needed" in found.detail) == (False, True)


@pytest.mark.fault("F-48")
def test_a_site_folder_is_read_or_refused(settings: Settings, tmp_path: Path) -> None:
    """Nothing a site wrote is passed over. Breach: with a mistyped folder every declaration of the site was missing."""
    nowhere = _finding(_with(settings, policy={"site_folder": str(tmp_path / "nope")}), "mappings and rules")
    assert (nowhere.passed, "policy.site_folder" in nowhere.detail) == (False, True)
    (tmp_path / "rule.toml").touch()
    misspelt = _finding(_with(settings, policy={"site_folder": str(tmp_path)}), "mappings and rules")
    assert (misspelt.passed, "holds rule.toml" in misspelt.detail) == (False, True)


def test_a_folder_that_nobody_here_may_read_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is not the service's user is told so. Breach: every command ended in a traceback."""

    def forbidden(_path: Path, **_: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", forbidden)
    found = _finding(settings, "store")
    assert (found.passed, "run this as the user of the service" in found.detail) == (False, True)


def test_a_cohort_of_nobody_is_no_cohort(settings: Settings) -> None:
    """Law: a check does not pass what cannot work. Breach: a Group whose members all left was a healthy service."""
    group = {"resourceType": "Group", "id": "1", "meta": {"versionId": "1"}, "member": []}
    reply = WireReply(body=json.dumps(group).encode(), headers={"content-type": "application/fhir+json"})
    with FhirWire(lambda _: reply) as wire:
        found = _finding(_with(settings, fhir={"base_url": wire.base_url}, cohort={"group": "Group/1"}), "cohort")
    assert (found.passed, "nobody is in it" in found.detail) == (False, True)


def test_a_port_that_somebody_else_holds_is_named_before_the_start(settings: Settings) -> None:
    """Law: web.port is ours or free. Breach: the check passed, and the service did not start."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        taken = _with(settings, web={"port": port})
        found = _finding(taken, "web")
        assert not found.passed
        assert f"web.port {port} is taken at 127.0.0.1, by another program" in found.detail
        with StoreLock(settings.store.folder):
            assert _finding(taken, "web").passed  # the running service has it
    assert _finding(taken, "web").passed


@pytest.mark.parametrize(
    ("host", "bind", "passed"),
    [
        ("192.0.2.7", "127.0.0.1", False),
        ("pacs.invalid", "localhost", False),
        ("192.0.2.7", "0.0.0.0", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("localhost", "127.0.0.1", True),
    ],
)
def test_an_archive_elsewhere_cannot_reach_loopback(settings: Settings, host: str, bind: str, passed: bool) -> None:
    """Law: what listens on loopback is for this machine. Breach: every C-MOVE ended with no image, after minutes."""
    pacs = {"host": host, "port": 4242, "ae_title": "PACS"}
    found = _finding(_with(settings, pacs=pacs, dicom={"bind": bind}), "move destination")
    assert found.passed is passed
    assert passed or f"the archive at {host} cannot reach {bind}: set dicom.bind" in found.detail


def _with(settings: Settings, **sections: object) -> Settings:
    return settings_from({**settings.model_dump(exclude_unset=True), **sections})
