"""Backup beside a running service, and restore on an empty machine: database and case files, never the site key.

The database first, then the case files: a case file is sealed before any row names it, and none is ever changed, so
whatever the snapshot names is in the copy, but what expires or is forgotten meanwhile: a backup does not hold that
back, and where it is restored it counts as expired. A backup is a folder that gets its name when it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from psycopg import ProgrammingError
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo
from sqlalchemy import URL, Connection, create_engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from adapter.errors import BadStore, StoreUnavailable
from adapter.store.address import database_address
from adapter.store.database import lock_file
from adapter.store.tables import CaseRow, PatientRow
from adapter.store.vault import case_file_paths, make_private_folder, sync_folder

_FORMAT = 1
_MANIFEST, _DATABASE, _VAULT = "manifest.json", "database", "vault"
_PIECE_BYTES = 2**20
_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700
_UNFINISHED = "restore.unfinished"
_TOOL_SECONDS = 3600.0
_ASKED = (PatientRow.__tablename__, CaseRow.__tablename__)
_BESIDE = ("-wal", "-shm", "-journal")  # Source: SQLite, temporary files used by SQLite, sections 2.1 to 2.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup holds. database: sqlite or postgresql. key: fingerprint of the site key the case files need.

    files: path within the backup to SHA-256, hexadecimal.
    """

    format: int
    taken: str
    database: str
    key: str
    files: Mapping[str, str]

    @property
    def case_files(self) -> int:
        """How many case files."""
        return len(self.files) - 1


def take_backup(url: str, vault: Path, destination: Path, *, key: str, at: datetime) -> Manifest:
    """Copy database and case files into a new folder; a service may run on them meanwhile.

    key: the fingerprint of the site key. Raises BadStore where the destination exists or the database cannot be read,
    StoreUnavailable when the copy cannot be written; then no folder of that name is left.
    """
    if destination.exists():
        raise BadStore(f"{destination} exists: a backup is never written over")
    partial = destination.with_name(f"{destination.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a backup that was cut
        partial.mkdir(parents=True, mode=_PRIVATE_FOLDER)
        kind = _dump(_address_with_database(url), partial / _DATABASE)
        files = {_DATABASE: _digest(partial / _DATABASE), **dict(_copy_case_files(vault, partial / _VAULT))}
        manifest = Manifest(format=_FORMAT, taken=at.isoformat(), database=kind, key=key, files=files)
        _write(partial / _MANIFEST, json.dumps(asdict(manifest), indent=1, sort_keys=True).encode())
        sync_folder(partial)
        partial.rename(destination)
        sync_folder(destination.parent)
    except OSError as error:
        raise StoreUnavailable(f"the backup cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # there only where it did not get its name
    return manifest


def read_manifest(source: Path) -> Manifest:
    """What a backup says it holds. Raises BadStore for a folder that is none, was cut, or is of a newer adjuvant."""
    try:
        content = json.loads((source / _MANIFEST).read_bytes())
        manifest = Manifest(**content)
    except FileNotFoundError as error:
        raise BadStore(f"{source} is no backup, or one that was not finished: it has no {_MANIFEST}") from error
    except (OSError, ValueError, TypeError) as error:
        raise BadStore(f"{source}: its {_MANIFEST} cannot be read") from error
    if manifest.format != _FORMAT:
        raise BadStore(f"{source} is a backup of format {manifest.format}, this adjuvant reads {_FORMAT}")
    return manifest


def restore_backup(source: Path, url: str, folder: Path, vault: Path, *, key: str) -> Manifest:
    """Put a backup where nothing is yet. Every file is checked before anything is written.

    folder: the data folder, on which no service runs. key: the fingerprint of the site key that is there now. A SQLite
    database in which nothing was ever asked counts as nothing. A restore that was cut can be repeated, and no service
    starts before. Raises BadStore naming what is in the way.
    """
    manifest, target = read_manifest(source), _address_with_database(url)
    _check(source, manifest)
    if manifest.key != key:
        raise BadStore(f"{source} was sealed under another site key (fingerprint {manifest.key})")
    if manifest.database != target.get_backend_name():
        raise BadStore(f"{source} holds a {manifest.database} database, store.url names {target.get_backend_name()}")
    name, mark = _digest(source / _MANIFEST), _read_mark(folder)
    loaded = mark.startswith(name) and _is_loaded(target, manifest, mark)
    unused = not loaded and _is_unused(target)
    if not loaded and not unused:
        _require_no_database(target)
    if not unused:
        _require_nothing_beside(target)
    _require_no_other_case_files(vault, manifest)
    try:
        if not loaded:
            folder.mkdir(parents=True, exist_ok=True)
            _write_mark(folder, name)
        make_private_folder(vault)
        for path in sorted(manifest.files.keys() - {_DATABASE}):
            place = vault / Path(path).relative_to(_VAULT)
            make_private_folder(place.parent)
            _copy_whole(source / path, place)
        if unused:
            _remove_unused(target)
        if not loaded:
            _load(target, source / _DATABASE)  # last: it names the case files
            if manifest.database == "postgresql":
                _write_mark(folder, f"{name} {_identity(target)}")
        (folder / _UNFINISHED).unlink()
        sync_folder(folder)
    except OSError as error:
        raise StoreUnavailable(f"the backup cannot be restored: {error.strerror}") from error
    return manifest


def require_restored(folder: Path) -> None:
    """Return unless a restore into this data folder was cut. Raises BadStore, also where nobody may look."""
    try:
        unfinished = (folder / _UNFINISHED).exists()
    except PermissionError as error:
        raise BadStore(f"store.folder {folder} cannot be read: run this as the user of the service") from error
    if unfinished:
        raise BadStore(f"a restore into {folder} was not finished: run it again")


# ---- the database


def _dump(url: URL, place: Path) -> str:
    """One consistent state of the whole database, ours and the engine's tables."""
    if url.get_backend_name() == "sqlite":
        _copy_sqlite(Path(url.database or ""), place)
    else:
        _run_tool("pg_dump", url, ["--format=custom", "--no-owner", "--file", str(place)])
        place.chmod(_PRIVATE_FILE)
    _sync_file(place)
    return url.get_backend_name()


def _copy_sqlite(database: Path, place: Path) -> None:
    """SQLite's own online backup, in one step: readers see one state, and writers are not held up (WAL)."""
    if not database.is_file():
        raise BadStore(f"there is no database at {database}")
    try:
        place.touch(mode=_PRIVATE_FILE)
        with (
            contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(place)) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, nothing beside it
            verdict = copy.execute("PRAGMA integrity_check").fetchone()[0]
    except sqlite3.Error as error:
        raise BadStore(f"the database at {database} cannot be copied to {place.parent}: {error}") from error
    if verdict != "ok":
        raise BadStore(f"the database at {database} is damaged: this backup would be too")


def _load(url: URL, dump: Path) -> None:
    if url.get_backend_name() == "sqlite":
        place = Path(url.database or "")
        place.parent.mkdir(parents=True, exist_ok=True)
        _copy_whole(dump, place)
    else:
        _run_tool("pg_restore", url, ["--no-owner", "--single-transaction", "--exit-on-error", str(dump)])


def _run_tool(name: str, url: URL, arguments: list[str]) -> None:
    """One of PostgreSQL's own programs; the password goes by its environment, where no list of processes shows it.

    Raises BadStore where it fails, StoreUnavailable where it does not end.
    """
    program = shutil.which(name)
    if program is None:
        raise BadStore(f"{name} is not installed: PostgreSQL's client programs are needed")
    connection, password = _connection(url)
    try:
        finished = subprocess.run(  # noqa: S603 (a program of PostgreSQL, an address of the configuration)
            [program, f"--dbname={connection}", *arguments],
            env={"PGPASSWORD": password} if password else {},
            capture_output=True,
            timeout=_TOOL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        # without its cause, which says the whole command line
        raise StoreUnavailable(f"{name} did not end within {_TOOL_SECONDS:g} seconds") from None
    if finished.returncode != 0:
        raise BadStore(f"{name} ended with code {finished.returncode}")  # what it says may hold a row


def _connection(url: URL) -> tuple[str, str | None]:
    """What the service's own driver would tell libpq, TLS and sockets too; and apart from it the password.

    What the environment says is told as well: the program gets none but the password.
    """
    _, named = url.get_dialect()().create_connect_args(url)
    environment = {
        option.keyword.decode(): option.val.decode()
        for option in Conninfo.get_defaults()
        if option.envvar and option.val and option.val != option.compiled
    }
    told = {**environment, **named}
    password = told.pop("password", None)
    try:
        return make_conninfo(**told), password
    except ProgrammingError as error:
        raise BadStore("store.url says something that PostgreSQL's programs do not know") from error


def _address_with_database(written: str) -> URL:
    address = database_address(written)
    if not address.database:
        raise BadStore("store.url names no database that can be backed up")
    return address


# ---- what is there


def _read_mark(folder: Path) -> str:
    """Which backup's restore was cut here, and what it had loaded; empty where none was."""
    try:
        return (folder / _UNFINISHED).read_text()
    except FileNotFoundError:
        return ""


def _write_mark(folder: Path, mark: str) -> None:
    """The new mark or the old one, whenever it is cut."""
    fresh = folder / f"{_UNFINISHED}.partial"
    _write(fresh, mark.encode())
    fresh.replace(folder / _UNFINISHED)
    sync_folder(folder)


def _is_loaded(url: URL, manifest: Manifest, mark: str) -> bool:
    """Whether the cut restore had loaded the very database that is there; one that others made is not taken for it."""
    if url.get_backend_name() == "sqlite":
        place = Path(url.database or "")
        return place.is_file() and _digest(place) == manifest.files[_DATABASE]
    return mark.endswith(f" {_identity(url)}")


def _identity(url: URL) -> str:
    """The number that PostgreSQL gave the table of cases: one that is made in its place has another."""
    with _looking(url) as connection:
        number = connection.execute(text("SELECT to_regclass(:name)::oid"), {"name": CaseRow.__tablename__}).scalar()
    return str(number)


def _is_unused(url: URL) -> bool:
    """Whether a SQLite database is there in which nothing was ever asked: a service only started, or a look made it."""
    place = Path(url.database or "")
    if url.get_backend_name() != "sqlite" or not place.is_file():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"file:{place}?mode=ro", uri=True)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            asked = [f"SELECT EXISTS (SELECT 1 FROM {name})" for name in _ASKED]  # noqa: S608 (names of our tables)
            return tables >= set(_ASKED) and not any(database.execute(query).fetchone()[0] for query in asked)
    except sqlite3.Error:
        return False


def _remove_unused(url: URL) -> None:
    """With what lies beside it, and only where no worker holds it. Raises StoreInUse."""
    with contextlib.closing(lock_file(Path(f"{url.database}.lock"), what=f"the database {url.database}")):
        for ending in (*_BESIDE, ""):
            Path(f"{url.database}{ending}").unlink(missing_ok=True)


def _require_no_database(url: URL) -> None:
    if url.get_backend_name() == "sqlite":
        if Path(url.database or "").exists():
            raise BadStore(f"there is a database at {url.database}: a backup is restored on an empty machine")
    elif _tables(url):
        raise BadStore("the database has tables already, and nothing says that this restore made them: empty it first")


def _require_nothing_beside(url: URL) -> None:
    """What a SQLite database of this name left behind would be played back into the restored one."""
    if url.get_backend_name() != "sqlite":
        return
    for left in (Path(f"{url.database}{ending}") for ending in _BESIDE):
        if left.exists():
            raise BadStore(f"{left} is left of another database and would be read into this one: move it away")


def _require_no_other_case_files(vault: Path, manifest: Manifest) -> None:
    known = {Path(name).name for name in manifest.files}
    if any(path.name not in known for path in case_file_paths(vault)):
        raise BadStore(f"{vault} holds case files that are not of this backup")


def _tables(url: URL) -> list[str]:
    with _looking(url) as connection:
        found = inspect(connection)
        return [*found.get_table_names(), *(name for name in found.get_schema_names() if name == "dbos")]


@contextlib.contextmanager
def _looking(url: URL) -> Iterator[Connection]:
    """At PostgreSQL, without our patience and our tables."""
    engine = create_engine(url, hide_parameters=True)
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise BadStore(f"the database of store.url cannot be reached: {type(error).__name__}") from error
    finally:
        engine.dispose()


def _check(source: Path, manifest: Manifest) -> None:
    for name, digest in manifest.files.items():
        path = source / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise BadStore(f"{source}: a file of the backup lies outside of it")
        if not path.is_file():
            raise BadStore(f"{source} is not whole: {name} is missing")
        if _digest(path) != digest:
            raise BadStore(f"{source} is damaged: {name} is not what was backed up")


# ---- files


def _copy_case_files(vault: Path, place: Path) -> Iterator[tuple[str, str]]:
    """Every case file with its digest; one that expires meanwhile is left out."""
    for path in sorted(case_file_paths(vault)):
        copy = place / path.parent.name / path.name
        make_private_folder(copy.parent)
        try:
            digest = _copy_whole(path, copy)
        except FileNotFoundError:
            continue
        yield f"{_VAULT}/{path.parent.name}/{path.name}", digest


def _copy_whole(source: Path, place: Path) -> str:
    """Copy under the final name only when whole and on the disk; returns the SHA-256."""
    temporary = place.with_name(f"{place.name}.partial")
    seen = hashlib.sha256()
    with source.open("rb") as content, temporary.open("wb") as copy:
        temporary.chmod(_PRIVATE_FILE)
        for piece in _pieces(content):
            seen.update(piece)
            copy.write(piece)
        copy.flush()
        os.fsync(copy.fileno())
    temporary.replace(place)
    sync_folder(place.parent)
    return seen.hexdigest()


def _pieces(content: BinaryIO) -> Iterator[bytes]:
    while piece := content.read(_PIECE_BYTES):
        yield piece


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=_PRIVATE_FILE)
    path.write_bytes(content)
    _sync_file(path)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
