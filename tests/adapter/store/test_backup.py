"""A backup is whole or refused by name; a restore loses nothing that is there."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Skipped
from adapter.errors import BadStore
from adapter.store.backup import Manifest, read_manifest, require_restored, restore_backup, take_backup
from adapter.store.database import open_database
from adapter.store.ledger import Ledger
from adapter.store.vault import Vault, key_fingerprint

_NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_KEY = bytes(32)
_PRINT = key_fingerprint(_KEY)


class Site:
    """A store with one settled case and its case file."""

    def __init__(self, folder: Path) -> None:
        """Open it."""
        self.folder = folder / "data"
        self.url = f"sqlite:///{self.folder}/adjuvant.db"
        self.engine: Engine = open_database(self.url)
        self.vault = Vault(self.folder / "vault", _KEY)
        self.ledger = Ledger(self.engine, lambda: _NOW)
        self.digest = self.vault.keep(b"a record")
        self.settle("p1")

    def settle(self, patient: str) -> None:
        """One more case."""
        self.ledger.record(self.ledger.request(PatientId(patient)), Skipped(reason="r", detail=""), self.digest)

    def back_up(self, destination: Path) -> Manifest:
        """Now."""
        return take_backup(self.url, self.folder / "vault", destination, key=_PRINT, at=_NOW)


class Empty:
    """An empty machine."""

    def __init__(self, folder: Path) -> None:
        """Nothing there."""
        self.folder = folder / "new"
        self.url = f"sqlite:///{self.folder}/adjuvant.db"

    def restore(self, source: Path, key: str = _PRINT) -> Manifest:
        """Now."""
        return restore_backup(source, self.url, self.folder, self.folder / "vault", key=key)

    def cases(self) -> list[str]:
        """Whose cases are there."""
        engine = open_database(self.url)
        found = [entry.case_id for entry in Ledger(engine, lambda: _NOW).list_cases()]
        engine.dispose()
        return sorted(found)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """One that runs."""
    running = Site(tmp_path)
    yield running
    running.engine.dispose()


@pytest.fixture
def empty(tmp_path: Path) -> Empty:
    """Another machine."""
    return Empty(tmp_path)


def test_what_was_backed_up_is_restored(site: Site, empty: Empty, tmp_path: Path) -> None:
    """F-49: ledger and case files come back; what is private stays private; the key is in no file of it."""
    taken = site.back_up(tmp_path / "backup")
    assert (taken.database, taken.case_files) == ("sqlite", 1)
    assert empty.restore(tmp_path / "backup") == taken == read_manifest(tmp_path / "backup")
    assert empty.cases() == ["p1:1"]
    assert Vault(empty.folder / "vault", _KEY).recall(site.digest) == b"a record"
    files = [path for path in (tmp_path / "backup").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o077 for path in (*files, tmp_path / "backup", empty.folder / "adjuvant.db")} == {0}
    require_restored(empty.folder)


def test_a_backup_beside_writers_is_one_state(site: Site, empty: Empty, tmp_path: Path) -> None:
    """While cases are settled without a pause the copy is whole, and no writer waits for it."""
    stop = threading.Event()
    written: list[int] = []

    def write() -> None:
        number = 1
        while not stop.is_set():
            number += 1
            site.settle(f"p{number}")
            written.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for attempt in range(3):
            site.back_up(tmp_path / f"backup-{attempt}")
    finally:
        stop.set()
        writer.join()
    assert len(written) > 3
    empty.restore(tmp_path / "backup-2")
    cases = empty.cases()
    assert set(cases) == {f"p{number}:1" for number in range(1, len(cases) + 1)}


def _nothing(backup: Path) -> None:
    (backup / "manifest.json").unlink()


def _cut_manifest(backup: Path) -> None:
    path = backup / "manifest.json"
    path.write_bytes(path.read_bytes()[:40])


def _newer(backup: Path) -> None:
    path = backup / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))


def _lost(backup: Path) -> None:
    next((backup / "vault").glob("*/*")).unlink()


def _bent(backup: Path) -> None:
    path = next((backup / "vault").glob("*/*"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def _bent_database(backup: Path) -> None:
    with sqlite3.connect(backup / "database") as database:
        database.execute("delete from adjuvant_case")
    database.close()


def _outside(backup: Path) -> None:
    path = backup / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "files": {**content["files"], "vault/../../x": "0"}}))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_nothing, "not finished"),
        (_cut_manifest, "cannot be read"),
        (_newer, "of format 2"),
        (_lost, "is missing"),
        (_bent, "is damaged: vault/"),
        (_bent_database, "is damaged: database"),
        (_outside, "lies outside"),
    ],
)
def test_a_backup_that_is_not_whole_is_refused_by_name(
    site: Site, empty: Empty, tmp_path: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    """Half written, damaged or foreign: nothing of it is restored."""
    site.back_up(tmp_path / "backup")
    spoil(tmp_path / "backup")
    with pytest.raises(BadStore, match=sentence):
        empty.restore(tmp_path / "backup")
    assert not empty.folder.exists()


def test_another_key_is_refused_before_anything_is_written(site: Site, empty: Empty, tmp_path: Path) -> None:
    """The case files would open as nothing: the fingerprint says which key is needed."""
    site.back_up(tmp_path / "backup")
    with pytest.raises(BadStore, match="another site key"):
        empty.restore(tmp_path / "backup", key=key_fingerprint(b"x" * 32))
    assert not empty.folder.exists()


def test_a_restore_takes_nothing_away(site: Site, empty: Empty, tmp_path: Path) -> None:
    """A database, or a case file of another origin, is in the way and named; so is a backup of that name."""
    site.back_up(tmp_path / "backup")
    with pytest.raises(BadStore, match="never written over"):
        site.back_up(tmp_path / "backup")
    with pytest.raises(BadStore, match="there is a database at"):
        restore_backup(tmp_path / "backup", site.url, site.folder, site.folder / "vault", key=_PRINT)
    Vault(empty.folder / "vault", _KEY).keep(b"of another origin")
    with pytest.raises(BadStore, match="not of this backup"):
        empty.restore(tmp_path / "backup")
    with pytest.raises(BadStore, match="holds a sqlite database"):
        restore_backup(tmp_path / "backup", "postgresql://x@127.0.0.1:1/x", tmp_path, tmp_path / "v", key=_PRINT)


def test_a_cut_restore_is_repeated_and_no_service_starts_before(
    site: Site, empty: Empty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database comes last: killed before that, the store is refused by name and the same restore goes through."""
    site.back_up(tmp_path / "backup")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("adapter.store.backup._load", die)
        with pytest.raises(KeyboardInterrupt):
            empty.restore(tmp_path / "backup")
    with pytest.raises(BadStore, match="was not finished"):
        require_restored(empty.folder)
    empty.restore(tmp_path / "backup")
    require_restored(empty.folder)
    assert empty.cases() == ["p1:1"]


def test_a_cut_backup_has_no_name_and_does_not_stop_the_next(site: Site, tmp_path: Path) -> None:
    """Until it is whole it lies under another name; what a killed one left is removed."""
    partial = tmp_path / "backup.partial"
    (partial / "vault").mkdir(parents=True)
    (partial / "rubbish").touch()
    site.back_up(tmp_path / "backup")
    assert not partial.exists()
    assert sorted(path.name for path in (tmp_path / "backup").iterdir()) == ["database", "manifest.json", "vault"]


def test_a_damaged_database_is_no_backup(site: Site, tmp_path: Path) -> None:
    """F-27: better no backup than one that would be found out on the worst day."""
    site.engine.dispose()
    path = site.folder / "adjuvant.db"
    content = bytearray(path.read_bytes())
    content[4096 : 3 * 4096] = b"?" * (2 * 4096)
    path.write_bytes(content)
    with pytest.raises(BadStore, match=r"damaged|cannot be copied"):
        site.back_up(tmp_path / "backup")
    assert not (tmp_path / "backup").exists()
    with pytest.raises(BadStore, match="there is no database"):
        take_backup(f"sqlite:///{tmp_path}/none.db", tmp_path / "v", tmp_path / "other", key=_PRINT, at=_NOW)
