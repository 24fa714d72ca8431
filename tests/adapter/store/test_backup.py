"""A backup is whole or refused by name; a restore loses nothing that is there."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Engine

from adapter.checkup import check_site
from adapter.domain.ids import PatientId
from adapter.domain.outcome import Skipped
from adapter.errors import BadStore, StoreInUse, StoreUnavailable
from adapter.rooms import StoreRoom, opened_ledger
from adapter.service import Role, Service
from adapter.settings import settings_from
from adapter.store.backup import Manifest, read_manifest, require_restored, restore_backup, take_backup
from adapter.store.database import open_database
from adapter.store.ledger import Ledger
from adapter.store.vault import Vault, key_fingerprint
from adapter.store.workers import WorkerRegister
from tests.peers.postgresql import Postgresql

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
    private = (*files, tmp_path / "backup", empty.folder / "adjuvant.db", empty.folder / "vault")
    assert {path.stat().st_mode & 0o077 for path in private} == {0}
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
        backups = 0
        while backups < 3 or len(written) <= 3:  # on a busy machine the writer may come late
            site.back_up(tmp_path / f"backup-{backups}")
            backups += 1
    finally:
        stop.set()
        writer.join()
    empty.restore(tmp_path / f"backup-{backups - 1}")
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


# killed by the kernel, in a process of its own, as it is about to do the named thing to the named file
_KILLED = """
import os, signal, sys
from pathlib import Path
from adapter.store.backup import restore_backup

source, url, folder, key, deed, name = sys.argv[1:]

def watch(event, arguments):
    if event == deed and any(str(one).endswith(name) for one in arguments):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
restore_backup(Path(source), url, Path(folder), Path(folder) / "vault", key=key)
"""


def _kill_a_restore(source: Path, empty: Empty, deed: str, name: str) -> None:
    arguments = [str(source), empty.url, str(empty.folder), _PRINT, deed, name]
    killed = subprocess.run([sys.executable, "-c", _KILLED, *arguments], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("deed", "name"),
    [("os.rename", "/adjuvant.db"), ("os.remove", "/restore.unfinished")],
    ids=["before the database is there", "when all is there but said"],
)
def test_a_cut_restore_is_repeated_and_no_service_starts_before(
    site: Site, empty: Empty, tmp_path: Path, deed: str, name: str
) -> None:
    """Killed before or after the database came: the store is refused by name and the same restore goes through."""
    site.back_up(tmp_path / "backup")
    _kill_a_restore(tmp_path / "backup", empty, deed, name)
    with pytest.raises(BadStore, match="was not finished"):
        require_restored(empty.folder)
    empty.restore(tmp_path / "backup")
    require_restored(empty.folder)
    assert empty.cases() == ["p1:1"]


def _back_up_on_postgresql(site: Site, empty: Empty, backup: Path, postgresql: Postgresql) -> None:
    """Of a database with one case; `empty` is then a second one, without tables."""
    saved = postgresql.create_database("saved")
    engine = open_database(saved)
    Ledger(engine, lambda: _NOW).request(PatientId("p1"))
    engine.dispose()
    take_backup(saved, site.folder / "vault", backup, key=_PRINT, at=_NOW)
    empty.url = postgresql.create_database("restored")


@pytest.mark.real
@pytest.mark.timeout(300)
def test_a_cut_restore_is_repeated_on_postgresql(
    site: Site, empty: Empty, tmp_path: Path, postgresql: Postgresql
) -> None:
    """With a password; and what was loaded is left as it is, because others may work on it already."""
    _back_up_on_postgresql(site, empty, tmp_path / "backup", postgresql)
    _kill_a_restore(tmp_path / "backup", empty, "os.remove", "/restore.unfinished")
    engine = open_database(empty.url)
    Ledger(engine, lambda: _NOW).request(PatientId("p2"))
    engine.dispose()
    empty.restore(tmp_path / "backup")
    require_restored(empty.folder)
    assert empty.cases() == ["p1:1", "p2:1"]
    with pytest.raises(BadStore, match="has tables already"):
        empty.restore(tmp_path / "backup")


@pytest.mark.real
@pytest.mark.timeout(300)
@pytest.mark.parametrize("cut", [("os.mkdir", "/vault"), ("os.remove", "/restore.unfinished")], ids=["before", "after"])
def test_tables_of_another_origin_are_not_taken_for_the_dump(
    site: Site, empty: Empty, tmp_path: Path, postgresql: Postgresql, cut: tuple[str, str]
) -> None:
    """Law: 'restored' is said only of this dump. Cut, and another made empty tables in its place: refused by name.

    Once before the dump was loaded, once after, where the database was made anew. Emptied, the restore goes through.
    """
    _back_up_on_postgresql(site, empty, tmp_path / "backup", postgresql)
    deed, name = cut
    _kill_a_restore(tmp_path / "backup", empty, deed, name)
    postgresql.create_database("restored")
    open_database(empty.url).dispose()  # by a watcher whose data folder is another
    for _ in range(2):
        with pytest.raises(BadStore, match="nothing says that this restore made them"):
            empty.restore(tmp_path / "backup")
        with pytest.raises(BadStore, match="was not finished"):
            require_restored(empty.folder)
    postgresql.create_database("restored")
    empty.restore(tmp_path / "backup")
    assert empty.cases() == ["p1:1"]


def test_no_door_opens_where_a_restore_was_cut(site: Site, empty: Empty, tmp_path: Path) -> None:
    """Law: nobody makes tables before the dump is loaded. Service of every role, look and check are refused by name."""
    site.back_up(tmp_path / "backup")
    _kill_a_restore(tmp_path / "backup", empty, "os.rename", "/adjuvant.db")
    settings = settings_from(
        {
            "fhir": {"base_url": "http://127.0.0.1:9/fhir"},
            "cohort": {"patients": ["Patient/p1"]},
            "store": {"url": empty.url, "folder": str(empty.folder)},
            "web": {"port": 0},
        }
    )
    for door in (StoreRoom(settings), opened_ledger(settings), Service(settings, role=Role.WEB), Service(settings)):
        with pytest.raises(BadStore, match="was not finished"), door:
            pass
    store = next(finding for finding in check_site(settings) if finding.what == "store")
    assert (store.passed, "was not finished" in store.detail) == (False, True)
    empty.restore(tmp_path / "backup")
    with opened_ledger(settings) as ledger:
        assert [entry.case_id for entry in ledger.list_cases()] == ["p1:1"]


def test_a_restore_replaces_a_database_in_which_nothing_was_ever_asked(
    site: Site, empty: Empty, tmp_path: Path
) -> None:
    """Law: nothing that anybody asked for is written over. Breach: a service that was only started blocked a restore.

    Also with the log of a service that was killed, and not under a worker that holds it; one case, and it is refused.
    """
    site.back_up(tmp_path / "backup")
    engine = open_database(empty.url)
    assert Path(f"{empty.folder}/adjuvant.db-wal").exists()
    register = WorkerRegister(engine)
    register.join("a worker")
    with pytest.raises(StoreInUse):
        empty.restore(tmp_path / "backup")
    register.leave("a worker")
    empty.restore(tmp_path / "backup")
    engine.dispose()
    assert empty.cases() == ["p1:1"]
    with pytest.raises(BadStore, match="there is a database at"):
        empty.restore(tmp_path / "backup")


def test_a_cut_restore_makes_no_way_for_another_database(site: Site, empty: Empty, tmp_path: Path) -> None:
    """What came to its place meanwhile, or another backup, is not taken for what the cut restore had loaded."""
    site.back_up(tmp_path / "backup")
    empty.folder.mkdir()
    (empty.folder / "adjuvant.db.partial").mkdir()  # where the copy of the database would be written
    with pytest.raises(StoreUnavailable):
        empty.restore(tmp_path / "backup")
    (empty.folder / "adjuvant.db.partial").rmdir()
    (empty.folder / "adjuvant.db").write_bytes(b"of somebody")
    with pytest.raises(BadStore, match="there is a database at"):
        empty.restore(tmp_path / "backup")
    site.settle("p2")
    site.back_up(tmp_path / "later")
    shutil.copy(tmp_path / "later" / "database", empty.folder / "adjuvant.db")
    with pytest.raises(BadStore, match="there is a database at"):
        empty.restore(tmp_path / "later")


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
def test_what_another_database_left_beside_is_in_the_way(site: Site, empty: Empty, tmp_path: Path, ending: str) -> None:
    """SQLite would play it back into the restored database: the old site's rows would come back."""
    site.back_up(tmp_path / "backup")
    empty.folder.mkdir()
    (empty.folder / f"adjuvant.db{ending}").write_bytes(b"of the old site")
    with pytest.raises(BadStore, match=f"adjuvant.db{ending} is left of another database"):
        empty.restore(tmp_path / "backup")
    assert [path.name for path in empty.folder.iterdir()] == [f"adjuvant.db{ending}"]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pg_dump on the path that is written by the test."""
    (tmp_path / "programs").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    path = tmp_path / "programs" / "pg_dump"
    path.touch(mode=0o700)
    return path


def test_pg_dump_is_told_all_that_the_service_s_driver_is_told(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS is verified as the address, or the environment, says; the password is in the environment and nowhere else."""
    monkeypatch.setenv("PGSSLROOTCERT", "/etc/ca.pem")
    monkeypatch.setenv("PGUSER", "somebody")
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/told\nprintf %s "$PGPASSWORD" > {tmp_path}/secret\n'
        'while [ "$1" != --file ]; do shift; done\necho dump > "$2"\n'
    )
    url = "postgresql+psycopg://reader:s%40cret%25@/cases?host=/run/db&sslmode=verify-full&options=-c%20x%3Dy"
    take_backup(url, tmp_path / "vault", tmp_path / "backup", key=_PRINT, at=_NOW)
    told = (tmp_path / "told").read_text().splitlines()
    named = conninfo_to_dict(told[0].removeprefix("--dbname="))
    assert named == {
        "user": "reader",
        "dbname": "cases",
        "host": "/run/db",
        "sslmode": "verify-full",
        "sslrootcert": "/etc/ca.pem",
        "options": "-c x=y",
    }
    assert (tmp_path / "secret").read_text() == "s@cret%"
    assert not any("cret%" in one for one in told)


def test_a_pg_dump_that_does_not_end_is_waited_for_so_long(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says neither the address nor the user, and nothing half written is left."""
    program.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    monkeypatch.setattr("adapter.store.backup._TOOL_SECONDS", 0.5)
    user = "reader"
    with pytest.raises(StoreUnavailable, match="pg_dump did not end") as raised:
        take_backup(f"postgresql://{user}@db/cases", tmp_path / "v", tmp_path / "backup", key=_PRINT, at=_NOW)
    assert "reader@" not in "".join(traceback.format_exception(raised.value))
    assert "user=reader" not in "".join(traceback.format_exception(raised.value))
    assert [path.name for path in tmp_path.iterdir()] == ["programs"]


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
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    with pytest.raises(BadStore, match="there is no database"):
        take_backup(f"sqlite:///{tmp_path}/none.db", tmp_path / "v", tmp_path / "other", key=_PRINT, at=_NOW)
