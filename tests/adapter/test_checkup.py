"""What `check` says of a site, line by line, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapter.checkup import Finding, check_site
from adapter.domain.ids import PatientId
from adapter.rooms import StoreRoom
from adapter.settings import Settings, settings_from


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
    (tmp_path / "adjuvant.db").rename(tmp_path / "moved.db")
    found = _finding(settings, "store")
    assert (found.passed, "holds 1 case files and the database knows no case" in found.detail) == (False, True)
    assert not (tmp_path / "adjuvant.db").exists()
