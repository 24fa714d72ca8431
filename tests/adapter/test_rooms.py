"""What a decision's own process opens is what the service verified at its start, or it is refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from adapter.decider import build_decision, decide_from_store
from adapter.domain.ids import PatientId
from adapter.domain.outcome import Skipped
from adapter.engine.isolation import Apart
from adapter.errors import AdjuvantError, BadBundle, BadMapping, BadStore, NoStore
from adapter.rooms import Absent, StoreRoom, opened_ledger
from adapter.settings import Settings, settings_from
from adapter.store.database import open_database
from adapter.store.vault import mark_of
from inference.artifact import MANIFEST, shipped_bundle


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A site with rows and a bundle of its own."""
    (tmp_path / "site").mkdir()
    shutil.copytree(shipped_bundle(), tmp_path / "bundle")
    return settings_from(
        {
            "fhir": {"base_url": "http://127.0.0.1:9/fhir"},
            "cohort": {"patients": ["Patient/p1"]},
            "store": {"url": f"sqlite:///{tmp_path}/adjuvant.db", "folder": str(tmp_path / "data")},
            "policy": {"site_folder": str(tmp_path / "site")},
            "model": {"folder": str(tmp_path / "bundle")},
        }
    )


def _edit_a_row(site: Path) -> None:
    (site / "site" / "delivery.toml").write_text('[text]\nplan = "Another plan"\n')


def _break_a_row(site: Path) -> None:
    (site / "site" / "delivery.toml").write_text("[text\n")


def _replace_the_bundle(site: Path) -> None:
    manifest = site / "bundle" / MANIFEST
    manifest.write_text(manifest.read_text() + "\n")  # whole in itself, and not the same


def _take_the_bundle(site: Path) -> None:
    shutil.rmtree(site / "bundle")


def _take_the_key(site: Path) -> None:
    (site / "data" / "site.key").unlink()


def test_a_look_makes_neither_database_nor_key(settings: Settings) -> None:
    """Law: where no service ever ran a look is refused by name. Breach: the site key it made refused the restore."""
    with pytest.raises(NoStore, match="has the service ever run here"), StoreRoom(settings, absent=Absent.REFUSE):
        pass
    with pytest.raises(NoStore), opened_ledger(settings, absent=Absent.REFUSE):
        pass
    assert not settings.store.folder.exists()


def test_case_files_and_their_ledger_stay_together(settings: Settings) -> None:
    """Law: nobody works on case files without their ledger. Breach: a mistyped store.url assessed everybody anew."""
    with StoreRoom(settings) as store:
        store.vault.keep(b"a record")
        store.ledger.request(PatientId("p1"))
    with StoreRoom(settings) as store:
        assert store.ledger.was_asked_for(PatientId("p1"))
    url = f"{settings.store.url}.mistyped"
    mistyped = settings.model_copy(update={"store": settings.store.model_copy(update={"url": url})})
    with pytest.raises(BadStore, match=r"holds 1 case files and the database knows no case: is store\.url right\?"):
        StoreRoom(mistyped).__enter__()
    assert not list(settings.store.folder.parent.glob("*.mistyped"))
    open_database(url).dispose()
    with pytest.raises(BadStore, match="knows no case"):
        StoreRoom(mistyped).__enter__()


def test_no_new_vault_begins_beside_a_ledger_that_has_one(settings: Settings) -> None:
    """As where a shared vault is not mounted. Breach: an empty one on the mount point, and cases that lost their files.

    Who lost the vault for good can say so.
    """
    with StoreRoom(settings) as store:
        case = store.ledger.request(PatientId("p1"))
        store.ledger.record(case, Skipped(reason="test", detail=""), store.vault.keep(b"a case file"))
    vault = settings.store.vault_folder
    vault.rename(vault.with_name("elsewhere"))
    vault.mkdir()
    with pytest.raises(BadStore, match="is no vault: is it mounted"):
        StoreRoom(settings).__enter__()
    assert list(vault.iterdir()) == []
    mark_of(vault).touch()
    with StoreRoom(settings) as store:
        assert len(store.ledger.list_cases()) == 1


@pytest.mark.fault("F-30")
@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (_edit_a_row, BadMapping, "not those that the service read at its start"),
        (_break_a_row, BadMapping, "delivery.toml"),
        (_replace_the_bundle, BadBundle, "not the bundle that the service verified at its start"),
        (_take_the_bundle, BadBundle, "manifest.json cannot be read"),
        (_take_the_key, BadStore, "site.key cannot be read"),
    ],
)
def test_no_process_decides_under_what_the_service_did_not_verify(
    settings: Settings, tmp_path: Path, change: Callable[[Path], None], error: type[AdjuvantError], sentence: str
) -> None:
    """F-30: swapped after loading: a process that starts now is refused by name.

    Breach: it died three times in silence and the patient was blamed, or it decided under another model than the rest.
    """
    with StoreRoom(settings) as store:
        ports = build_decision(settings, store.vault)
    prepared = partial(
        decide_from_store, settings, model=ports.predictor.identity.digest, practice=ports.practice.digest
    )
    with Apart(prepared, scratch=tmp_path / "plain", processes=2, seconds=60.0, memory_bytes=8 * 2**30) as apart:
        change(tmp_path)
        with pytest.raises(error, match=sentence):
            apart.ask("0" * 64)
