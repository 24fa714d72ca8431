"""The database is whole, ours and held once, or the service does not start."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text
from sqlmodel import Session, SQLModel

from adapter.domain.outcome import Watermark
from adapter.errors import BadStore, NoStore, OldStore, StoreUnreachable
from adapter.store.database import StoreLock, open_database, open_existing_database
from adapter.store.ledger import Ledger
from adapter.store.tables import CaseRow, WatermarkRow
from adapter.store.watermark import WatermarkStore
from tests.peers.postgresql import Postgresql


def _url(folder: Path) -> str:
    return f"sqlite:///{folder / 'store' / 'adjuvant.db'}"


def _file(folder: Path) -> Path:
    return folder / "store" / "adjuvant.db"


def _execute(path: Path, statement: str, *values: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, values)
    connection.close()


def _tables(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    names = {row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")}
    connection.close()
    return names


def test_an_empty_place_becomes_a_database_and_opens_again(tmp_path: Path) -> None:
    """The first start creates folder, file and tables; the second finds them."""
    open_database(_url(tmp_path)).dispose()
    open_database(_url(tmp_path)).dispose()
    assert _file(tmp_path).exists()


def test_a_database_is_its_owners_alone(tmp_path: Path) -> None:
    """Law: ids of patients are nobody else's to read. Breach: mode 0644 under the umask of most machines."""
    engine = open_database(_url(tmp_path))
    assert {path.stat().st_mode & 0o077 for path in _file(tmp_path).parent.iterdir()} == {0}
    assert len(list(_file(tmp_path).parent.iterdir())) > 1  # what lies beside it, too
    engine.dispose()
    _file(tmp_path).chmod(0o644)
    open_database(_url(tmp_path)).dispose()
    assert _file(tmp_path).stat().st_mode & 0o077 == 0


def test_a_look_makes_no_database(tmp_path: Path) -> None:
    """Law: who only looks leaves no trace. Breach: a mistyped address was a healthy service that never did anything."""
    with pytest.raises(NoStore, match=r"no database at .*adjuvant\.db: has the service ever run here\?"):
        open_existing_database(_url(tmp_path))
    assert not _file(tmp_path).parent.exists()
    _file(tmp_path).parent.mkdir()
    _file(tmp_path).touch()
    with pytest.raises(NoStore, match="no tables in the database at"):
        open_existing_database(_url(tmp_path))
    assert _tables(_file(tmp_path)) == set()


def test_a_look_upgrades_no_database(tmp_path: Path) -> None:
    """Law: tables are upgraded at a start. Breach: `status` of the new version did it under a service of the old."""
    open_database(_url(tmp_path)).dispose()
    open_existing_database(_url(tmp_path)).dispose()
    _execute(_file(tmp_path), "update alembic_version set version_num = ?", "0001")
    with pytest.raises(OldStore, match="its next start upgrades it"):
        open_existing_database(_url(tmp_path))


def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path) -> None:
    """Write-ahead log, synchronised in full: each connection says so itself."""
    engine = open_database(_url(tmp_path))
    with engine.connect() as connection:
        modes = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    engine.dispose()
    assert modes == ["wal", 2]


@pytest.mark.fault("F-27")
def test_a_damaged_page_is_refused(tmp_path: Path) -> None:
    """F-27: a page overwritten in the middle of the file is found at the start, not in the middle of a case."""
    open_database(_url(tmp_path)).dispose()
    content = bytearray(_file(tmp_path).read_bytes())
    content[4096:8192] = b"\xff" * 4096
    _file(tmp_path).write_bytes(content)
    with pytest.raises(BadStore):
        open_database(_url(tmp_path))


@pytest.mark.fault("F-27")
def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """F-27: somebody else's file is not overwritten."""
    _file(tmp_path).parent.mkdir()
    _file(tmp_path).write_bytes(b"not a database " * 100)
    with pytest.raises(BadStore, match="cannot be used"):
        open_database(_url(tmp_path))
    assert _file(tmp_path).read_bytes().startswith(b"not a database")


@pytest.mark.fault("F-27", "F-49")
def test_a_newer_schema_is_refused_naming_both(tmp_path: Path) -> None:
    """F-27: an older program on a newer database stops before it writes."""
    open_database(_url(tmp_path)).dispose()
    _execute(_file(tmp_path), "update alembic_version set version_num = ?", "9999")
    with pytest.raises(BadStore, match=r"schema 9999.*needs \d{4}"):
        open_database(_url(tmp_path))


def test_somebody_else_s_tables_are_left_alone(tmp_path: Path) -> None:
    """A database that has our names but not our version was not made by us: refused, nothing half done."""
    _file(tmp_path).parent.mkdir()
    _execute(_file(tmp_path), "create table adjuvant_worker (executor_id text)")
    with pytest.raises(BadStore, match="cannot be used"):
        open_database(_url(tmp_path))
    assert _tables(_file(tmp_path)) == {"adjuvant_worker"}


def test_the_migrations_make_exactly_the_declared_tables(tmp_path: Path) -> None:
    """A column added to a table without a migration, or the other way round, fails here."""
    engine = open_database(_url(tmp_path))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []
    engine.dispose()


@pytest.mark.fault("F-27")
def test_two_processes_that_start_at_once_make_one_database(tmp_path: Path) -> None:
    """K14: the second waits for the first, and finds what it made."""
    script = "import sys; from adapter.store.database import open_database; open_database(sys.argv[1]).dispose()"
    command = [sys.executable, "-c", script, _url(tmp_path)]
    children = [subprocess.Popen(command, cwd=Path(__file__).parents[3]) for _ in range(3)]
    assert [child.wait(timeout=60) for child in children] == [0, 0, 0]
    assert "adjuvant_case" in _tables(_file(tmp_path))


def test_two_databases_made_at_once_by_one_process_are_both_whole(tmp_path: Path) -> None:
    """Alembic keeps the migration at work in globals: without a lock one thread's columns go to the other's tables."""

    def made(number: int) -> bool:
        engine = open_database(_url(tmp_path / str(number)))
        columns = {column["name"] for column in inspect(engine).get_columns("adjuvant_case")}
        engine.dispose()
        return columns == set(CaseRow.__table__.columns.keys())  # type: ignore[attr-defined]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(made, range(16)))


@pytest.mark.parametrize("url", ["no address", "mysql://127.0.0.1/adjuvant"])
def test_another_kind_of_database_is_refused(url: str) -> None:
    """SQLite and PostgreSQL are known; the rest is named and refused, not tried."""
    with pytest.raises(BadStore, match=r"store\.url"):
        open_database(url)


@pytest.mark.fault("F-27")
def test_a_postgresql_that_hangs_up_is_away_and_not_wrong() -> None:
    """One that is restarted ends who connects just then: exit code 3, and nobody mends the configuration."""

    def hang_up() -> None:
        connection, _ = listening.accept()
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        pool.submit(hang_up)
        with pytest.raises(StoreUnreachable, match="it hung up"):
            open_existing_database(f"postgresql://127.0.0.1:{listening.getsockname()[1]}/adjuvant?sslmode=disable")


@pytest.mark.fault("F-16")
def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A folder where the file should be: our own error, with the place and without a password."""
    _file(tmp_path).mkdir(parents=True)
    with pytest.raises(BadStore, match="cannot be used"):
        open_database(_url(tmp_path))


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """The data folder's name is taken: still our own error."""
    (tmp_path / "store").write_text("a file")
    with pytest.raises(BadStore, match="cannot be made"):
        open_database(_url(tmp_path))
    with pytest.raises(BadStore, match="cannot be made"):
        StoreLock(tmp_path / "store")


@pytest.mark.fault("F-27")
def test_a_second_service_is_refused_by_the_lock(tmp_path: Path) -> None:
    """F-27: two services on one folder would take each other's cases; the message names the process."""
    held = StoreLock(tmp_path)
    with pytest.raises(BadStore, match=r"in use by process \d+"):
        StoreLock(tmp_path)
    held.release()
    StoreLock(tmp_path).release()


@pytest.mark.fault("F-01")
def test_the_lock_of_a_dead_service_is_gone_with_it(tmp_path: Path) -> None:
    """F-01: after kill -9 the next start needs no cleaning."""
    script = (
        "import os, pathlib, sys; from adapter.store.database import StoreLock; "
        "StoreLock(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    child = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[3], check=False)
    assert child.returncode == -9
    StoreLock(tmp_path).release()


def test_times_come_back_aware_and_a_naive_one_is_refused(tmp_path: Path) -> None:
    """SQLite keeps no offset: what goes in at +05:45 comes out as the same moment in UTC."""
    engine = open_database(_url(tmp_path))
    moment = datetime(2025, 3, 10, 8, 0, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    with Session(engine) as session:
        session.add(WatermarkRow(feed="a", time=moment))
        session.commit()
    with Session(engine) as session:
        read = session.get_one(WatermarkRow, "a").time
    assert (read, read.tzinfo) == (moment, UTC)
    with Session(engine) as session:
        session.add(WatermarkRow(feed="b", time=datetime(2025, 3, 10)))
        with pytest.raises(Exception, match="without offset"):
            session.commit()
    engine.dispose()


def test_cases_of_an_older_adjuvant_survive_the_upgrade(tmp_path: Path) -> None:
    """F-49: tables are brought to this version with every case in them; those of before count as asked for then.

    The watermark stays; when its last poll was is not known.
    """
    engine = open_database(_url(tmp_path))
    with engine.begin() as connection:
        connection.execute(text("insert into adjuvant_patient values ('p1', 1, 0)"))
        connection.execute(text("alter table adjuvant_case drop column asked"))
        connection.execute(text("alter table adjuvant_watermark drop column polled"))
        connection.execute(text("alter table adjuvant_worker drop column place"))
        connection.execute(text("insert into adjuvant_watermark values ('a', '2026-02-28 12:00:00')"))
        connection.execute(
            text(
                "insert into adjuvant_case (case_id, patient_id, revision, state, reason, detail, resources, crashes, "
                "crashed_after, begun_after) values ('p1:1', 'p1', 1, 'waiting', '', '', '', 0, 0, 0)"
            )
        )
        connection.execute(text("update alembic_version set version_num = '0002'"))
    engine.dispose()
    engine = open_database(_url(tmp_path))
    ledger = Ledger(engine, lambda: datetime(2026, 3, 1, tzinfo=UTC))
    assert [case.case_id for case in ledger.unsettled_cases()] == ["p1:1"]
    assert ledger.oldest_waiting() is not None
    feed = WatermarkStore(engine, "a")
    assert (feed.read(), feed.last_poll()) == (Watermark(time=datetime(2026, 2, 28, 12, tzinfo=UTC)), None)
    engine.dispose()


@pytest.mark.parametrize(
    ("host", "cause"), [("127.0.0.1:9", "connection refused"), ("database.invalid:5432", "host name not found")]
)
def test_a_database_that_is_down_is_named_with_its_cause(host: str, cause: str) -> None:
    """Law: where and why, and no secret. Breach: the options of the driver stood there, and the cause did not."""
    with pytest.raises(StoreUnreachable) as refusal:
        open_existing_database(f"postgresql://adjuvant:s3cret@{host}/cases")
    assert str(refusal.value) == f"the database at {host}/cases: {cause}"


def test_a_database_that_lets_us_not_in_is_the_sites_to_mend(postgresql: Postgresql) -> None:
    """A password or a name that is wrong is no outage: BadStore, as nothing changes by itself."""
    address = postgresql.url.partition("@")[2].partition("/")[0]
    user, _, rest = postgresql.url.rpartition("@")
    for url, cause in (
        (f"{user}x@{rest}", f"{address}/postgres: password refused"),
        (postgresql.url.replace("/postgres", "/absent"), f"{address}/absent: no such database"),
    ):
        with pytest.raises(BadStore) as refusal:
            open_database(url)
        assert str(refusal.value) == f"the database at {cause}"


def test_a_look_makes_no_tables(postgresql: Postgresql) -> None:
    """Law: a look at an empty PostgreSQL database leaves it empty. Breach: the restore that came next was refused."""
    url = postgresql.create_database("looked_at")
    with pytest.raises(NoStore, match=r"no tables in the database at 127\.0\.0\.1:\d+/looked_at: has the service ever"):
        open_existing_database(url)
    engine = create_engine(url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()
