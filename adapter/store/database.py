"""Opening the database: whole, ours, of this version, and held by one service only where it is a file."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session, SQLModel, select

from adapter.errors import BadStore
from adapter.store.tables import SCHEMA_VERSION, SchemaRow

_BUSY_MILLISECONDS = 30_000


def open_database(url: str) -> Engine:
    """Connect, check, and create the tables where the database is empty.

    Raises BadStore for a damaged file, another schema version, or a place that cannot be written.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        _make_folder(Path(parsed.database).parent)
    engine = create_engine(url)
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    try:
        _check_and_create(engine)
    except DatabaseError as error:
        engine.dispose()
        raise BadStore(f"the database at {parsed.render_as_string(hide_password=True)} cannot be used") from error
    except BadStore:
        engine.dispose()
        raise
    return engine


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadStore(f"the folder {folder} cannot be made: {error.strerror}") from error


def _prepare_sqlite(connection: object, entry: ConnectionPoolEntry) -> None:  # noqa: ARG001 (SQLAlchemy's signature)
    cursor = connection.cursor()  # type: ignore[attr-defined]  # the driver's own connection
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA journal_mode = WAL")  # readers do not wait for the writer
    cursor.execute("PRAGMA synchronous = FULL")  # what was acknowledged survives a power cut
    cursor.close()


def _check_and_create(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            verdict = connection.execute(text("PRAGMA quick_check")).scalar()
        if verdict != "ok":
            raise BadStore("the database file is damaged: restore it from a backup")
    SQLModel.metadata.create_all(engine)
    with Session(engine) as session:
        versions = session.exec(select(SchemaRow.version)).all()
        if not versions:
            session.add(SchemaRow(version=SCHEMA_VERSION))
            session.commit()
        elif list(versions) != [SCHEMA_VERSION]:
            raise BadStore(f"the database has schema {max(versions)}, this adjuvant needs {SCHEMA_VERSION}")


class StoreLock:
    """One service on one data folder: a second one is refused, a dead one's lock is gone with it."""

    def __init__(self, folder: Path) -> None:
        """Take the lock. Raises BadStore naming the process that holds it, or the folder that cannot be written."""
        _make_folder(folder)
        try:
            self._file = (folder / "adjuvant.lock").open("a+")
        except OSError as error:
            raise BadStore(f"the data folder {folder} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read(20).strip()
            self._file.close()
            raise BadStore(f"the data folder {folder} is in use by process {holder}") from error
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        """Let the next service in."""
        self._file.close()
