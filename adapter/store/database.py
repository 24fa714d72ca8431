"""Opening the database: whole, ours, of this version, and held by one service only where it is a file."""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Self, TextIO

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session

from adapter.errors import BadStore, NoStore, OldStore, StoreInUse, StoreUnavailable, StoreUnreachable
from adapter.moments import Moment, reach
from adapter.store.address import database_address, is_postgresql

Database = Engine
"""An opened database."""

_BUSY_MILLISECONDS = 30_000
_MIGRATION_KEY, _POLL_KEY, _REAPER_KEY = 7_532_928, 7_532_929, 7_532_930  # any numbers that no other program locks
_POSTGRESQL_PORT = 5432
_PRIVATE = 0o600
_ONE_MIGRATION = threading.Lock()  # alembic holds the connection it migrates in globals of its modules
# A worker that was stopped inside a transaction loses it, and its locks, after ten seconds; a server that went without
# a word is noticed after fifteen. Source: libpq, connection parameters; design, section 7.
_POSTGRESQL_PATIENCE = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "15000",
    "options": "-c idle_in_transaction_session_timeout=10000",
}

# What to look for in the driver's words: a connection that is refused has no SQLSTATE in psycopg, only what libpq or
# the server says in English.
_POSTGRESQL_REFUSALS: tuple[tuple[str, type[BadStore | StoreUnreachable], str], ...] = (
    ("password authentication failed", BadStore, "password refused"),
    ("no password supplied", BadStore, "password refused, for none was given"),
    (r"no pg_hba\.conf entry", BadStore, "this host and user are not let in (pg_hba.conf)"),
    (r'database ".*" does not exist', BadStore, "no such database"),
    (r'role ".*" does not exist', BadStore, "no such user"),
    ("Connection refused", StoreUnreachable, "connection refused"),
    ("failed to resolve host", StoreUnreachable, "host name not found"),
    ("timeout expired", StoreUnreachable, "nobody answers"),
    ("the database system is", StoreUnreachable, "it starts up or shuts down"),
    ("too many clients", StoreUnreachable, "it has no connection left"),
    ("server closed the connection|terminating connection|connection is lost", StoreUnreachable, "it hung up"),
)


def open_database(url: str) -> Engine:
    """Connect, check, and bring the tables to this version: an empty database gets them, an older one is upgraded.

    Raises BadStore for a damaged file, the schema of a newer adjuvant, or a place that cannot be written,
    StoreUnreachable while PostgreSQL is down.
    """
    parsed = _address_with_patience(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        _make_folder(Path(parsed.database).parent)
        _make_private(Path(parsed.database))
    return _connected(parsed, _check_and_migrate)


def open_existing_database(url: str) -> Engine:
    """Connect and check; nothing is made and no table is changed. For who only looks, or asks.

    Raises NoStore where no service ever ran, OldStore before an upgrade's first start, BadStore as `open_database`.
    """
    parsed = _address_with_patience(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database and not Path(parsed.database).exists():
        raise NoStore(f"no database at {parsed.database}: has the service ever run here? (store.url)")
    return _connected(parsed, _check)


def _connected(parsed: URL, check: Callable[[Engine], None]) -> Engine:
    # messages of the driver carry no content; a connection that a restart of the server ended is noticed before use
    engine = create_engine(parsed, hide_parameters=True, pool_pre_ping=True)
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    try:
        check(engine)
    except DatabaseError as error:
        engine.dispose()
        raise _refusal(error, parsed) from error
    except BadStore:
        engine.dispose()
        raise
    return engine


def _refusal(error: DatabaseError, url: URL) -> BadStore | StoreUnreachable:
    """Why a database does not open: where it is and the cause, never the driver's words, which may hold anything."""
    if is_postgresql(url):
        said = str(error.orig)
        for words, kind, cause in _POSTGRESQL_REFUSALS:
            if re.search(words, said):
                return kind(f"the database at {_address(url)}: {cause}")
    return BadStore(f"the database at {_address(url)} cannot be used ({type(error.orig).__name__})")


def _address_with_patience(written: str) -> URL:
    """With how long PostgreSQL is waited for, where the site does not say."""
    address = database_address(written)
    return address.set(query={**_POSTGRESQL_PATIENCE, **address.query}) if is_postgresql(address) else address


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadStore(f"store.folder {folder} cannot be made: {error.strerror}") from error


def _make_private(database: Path) -> None:
    """For its owner only, from before it holds anything; what SQLite writes beside it takes the same mode."""
    try:
        database.touch(mode=_PRIVATE)
        with suppress(PermissionError):  # of another user, who let us write
            database.chmod(_PRIVATE)
    except OSError as error:
        raise BadStore(f"the database at {database} cannot be written: {error.strerror}") from error


def _prepare_sqlite(connection: object, entry: ConnectionPoolEntry) -> None:  # noqa: ARG001 (SQLAlchemy's signature)
    cursor = connection.cursor()  # type: ignore[attr-defined]  # the driver's own connection
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
    _use_write_ahead_log(cursor)
    cursor.execute("PRAGMA synchronous = FULL")  # what was acknowledged survives a power cut
    cursor.close()


def _use_write_ahead_log(cursor: sqlite3.Cursor) -> None:
    """Let readers not wait for the writer. SQLite does not wait for the lock of this one switch by itself."""
    deadline = time.monotonic() + _BUSY_MILLISECONDS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _check_and_migrate(engine: Engine) -> None:
    _require_whole(engine)
    script = _migrations()
    if _schema(engine) == script.get_current_head():
        return
    with _ONE_MIGRATION, _alone(engine) as connection:
        # another process may have been faster
        _require_known(MigrationContext.configure(connection).get_current_revision(), script)
        _upgrade(connection)


def _check(engine: Engine) -> None:
    _require_whole(engine)
    script, found = _migrations(), _schema(engine)
    if found is None:
        raise NoStore(f"no tables in the database at {_address(engine.url)}: has the service ever run here?")
    _require_known(found, script)
    if found != script.get_current_head():
        raise OldStore(f"the database at {_address(engine.url)} is of an older adjuvant: its next start upgrades it")


def _require_whole(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            verdict = connection.execute(text("PRAGMA quick_check")).scalar()
        if verdict != "ok":
            raise BadStore("the database file is damaged: restore it from a backup")


def _require_known(found: str | None, script: ScriptDirectory) -> None:
    if found is not None and found not in {step.revision for step in script.walk_revisions()}:
        wanted = script.get_current_head()
        raise BadStore(f"the database has schema {found}, this adjuvant needs {wanted} or an older one")


def _migrations() -> ScriptDirectory:
    return ScriptDirectory(str(files("adapter.store") / "migrations"))


def _address(url: URL) -> str:
    """Where a database is, without who asks and how: neither user, password nor options of the driver."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    host = url.host or url.query.get("host") or "this machine"
    return f"{host}:{url.port or _POSTGRESQL_PORT}/{url.database or ''}"


def _schema(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", "adapter.store:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """One transaction that no other process migrates beside, and that leaves all of its tables or none. Fault K14."""
    if engine.dialect.name == "sqlite":
        # the driver begins no transaction before CREATE TABLE: begin it here, as the writer
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            reach(Moment.MIGRATING)
            connection.exec_driver_sql("COMMIT")
    else:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_KEY})
            yield connection
            reach(Moment.MIGRATING)


@contextmanager
def store_session(engine: Engine) -> Iterator[Session]:
    """A session whose trouble is ours: StoreUnavailable while the database is locked, full, or away, or has cut us off.

    PostgreSQL ends the connection of a process that was stopped inside a transaction, under a class of its own.
    """
    try:
        with Session(engine) as session:
            yield session
    except DBAPIError as error:
        if not isinstance(error, OperationalError) and not error.connection_invalidated:
            raise
        raise StoreUnavailable("the database cannot be used now: locked, full, or away") from error


def wait_for_other_polls(session: Session) -> None:
    """Let no other process write down a poll until this transaction ends; on SQLite the writer is alone anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POLL_KEY})


@contextmanager
def only_reaper(engine: Engine) -> Iterator[bool]:
    """Whether nobody else takes over cases while the block runs; one that is stopped in it is alone for ten seconds."""
    if engine.dialect.name == "sqlite":  # one process works on the file
        yield True
        return
    with store_session(engine) as session:
        taken = session.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _REAPER_KEY})
        yield bool(taken.scalar_one())


class StoreLock:
    """One service on one data folder: a second one is refused, a dead one's lock is gone with it. A context manager."""

    def __init__(self, folder: Path) -> None:
        """Take the lock. Raises StoreInUse naming the process that holds it, BadStore where there can be none."""
        _make_folder(folder)
        self._file = lock_file(folder / "adjuvant.lock", what=f"the data folder {folder}")

    def release(self) -> None:
        """Let the next service in."""
        self._file.close()

    def __enter__(self) -> Self:
        """It is held already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let the next service in."""
        self.release()


def lock_file(path: Path, *, what: str) -> TextIO:
    """Hold the file until it is closed, or this process is gone.

    Raises StoreInUse naming the process that holds it, BadStore where the file cannot be made.
    """
    try:
        file = path.open("a+")
    except OSError as error:
        raise BadStore(f"{what} cannot be locked by {path.name}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read(20).strip()
        file.close()
        raise StoreInUse(f"{what} is in use by process {holder}") from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
