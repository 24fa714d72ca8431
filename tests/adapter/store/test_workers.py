"""Who works now is known by the database's clock; on a file there is only one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from adapter.errors import BadStore
from adapter.store.database import open_database
from adapter.store.workers import WorkerRegister
from tests.peers.postgresql import Postgresql


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty database."""
    opened = open_database(f"sqlite:///{tmp_path / 'adjuvant.db'}")
    yield opened
    opened.dispose()


@pytest.mark.fault("F-27")
def test_a_second_process_on_one_file_is_refused_by_name(engine: Engine) -> None:
    """F-27: two services with two data folders and one database; the message names the process that works."""
    first = WorkerRegister(engine)
    first.join("one")
    with pytest.raises(BadStore, match=rf"adjuvant\.db is in use by process {os.getpid()}"):
        WorkerRegister(engine).join("two")
    first.leave("one")
    second = WorkerRegister(engine)
    second.join("two")
    second.leave("two")


def test_on_a_file_everyone_else_is_dead(engine: Engine) -> None:
    """Whatever the register says: the lock admits one process, so a predecessor seen a second ago is dead."""
    WorkerRegister(engine).beat("before")
    assert WorkerRegister(engine).living("now") == {"now"}


def test_who_left_in_order_is_told_from_who_crashed(engine: Engine) -> None:
    """A case interrupted on purpose is not counted against itself."""
    register = WorkerRegister(engine)
    register.join("one")
    assert not register.left_in_order("one")
    register.leave("one")
    assert register.left_in_order("one")
    assert not register.left_in_order("never seen")


def test_on_a_file_the_last_one_heard_of_is_told(engine: Engine) -> None:
    """Law: a person sees who runs cases, where, and when it was heard of; who left, or came before, is not told."""
    assert WorkerRegister(engine).signs_of_life() == ()
    with engine.begin() as connection:
        connection.execute(text("insert into adjuvant_worker values ('before', datetime('now', '-9 seconds'), 0, '')"))
    register = WorkerRegister(engine, place="node1:4711")
    register.join("one")
    (sign,) = register.signs_of_life()
    assert (sign.executor_id, sign.place) == ("one", "node1:4711")
    assert timedelta(0) <= sign.age < timedelta(seconds=5)
    register.leave("one")
    assert register.signs_of_life() == ()


@pytest.mark.fault("F-26")
def test_times_are_the_database_s_own(engine: Engine) -> None:
    """A worker whose own clock is wrong is as alive as the others."""
    WorkerRegister(engine).beat("one")
    with engine.connect() as connection:
        seen = connection.execute(text("select seen from adjuvant_worker")).scalar_one()
    assert abs((datetime.fromisoformat(seen).replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()) < 5


def test_on_postgresql_silence_for_fifteen_seconds_is_death(postgresql: Postgresql) -> None:
    """Many machines: whoever beat lately lives, who was silent or said goodbye does not, who is old is forgotten."""
    own = postgresql.create_database("workers")
    engine = open_database(own.replace("+psycopg", ""))
    register = WorkerRegister(engine)
    for name in ("lively", "silent", "gone", "ancient"):
        register.join(name)
    register.leave("gone")
    with engine.begin() as connection:
        for name, age in (("silent", "16 seconds"), ("ancient", "8 days")):
            statement = text(
                "update adjuvant_worker set seen = now() - cast(:age as interval) where executor_id = :name"
            )
            connection.execute(statement, {"age": age, "name": name})
    assert register.living("me") == {"me", "lively"}
    assert [sign.executor_id for sign in register.signs_of_life()] == ["lively"]
    register.beat("lively")
    with engine.connect() as connection:
        assert "ancient" not in connection.execute(text("select executor_id from adjuvant_worker")).scalars().all()
    engine.dispose()
