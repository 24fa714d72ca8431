"""Which processes run cases now: each gives signs of life by the database's clock, so no two clocks are compared."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TextIO

from sqlalchemy import Engine
from sqlmodel import col, select

from adapter.errors import StoreInUse
from adapter.store.clock import database_now
from adapter.store.database import lock_file, only_reaper, store_session
from adapter.store.tables import WorkerRow

SILENT_AFTER = timedelta(seconds=15)
_REMEMBERED = timedelta(days=7)
_LONGEST_PLACE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOfLife:
    """What a worker was last heard of. seen, age: by the database's clock. place: host and process id, where known."""

    executor_id: str
    place: str
    seen: datetime
    age: timedelta


class WorkerRegister:
    """One process in the register of all."""

    def __init__(self, engine: Engine, *, place: str = "") -> None:
        """Use an opened database. place: of this process, for people."""
        self._engine = engine
        self._place = place[:_LONGEST_PLACE]
        self._lock: TextIO | None = None

    def join(self, executor_id: str) -> None:
        """Begin to work. Raises StoreInUse on SQLite while another process works on the same file."""
        self._lock = self._lock_beside()
        self.beat(executor_id)

    def beat(self, executor_id: str) -> None:
        """A sign of life."""
        self._write(executor_id, left=False)

    def leave(self, executor_id: str) -> None:
        """Say goodbye: what is left running here was interrupted on purpose, it did not crash."""
        try:
            self._write(executor_id, left=True)
        finally:
            if self._lock is not None:
                self._lock.close()

    def living(self, executor_id: str) -> frozenset[str]:
        """Who runs cases now, the asker included.

        On SQLite nobody else can: the lock that `join` took beside the file admits one process.
        """
        if self._engine.dialect.name == "sqlite":
            return frozenset({executor_id})
        with store_session(self._engine) as session:
            heard_since = database_now(session) - SILENT_AFTER
            query = select(WorkerRow.executor_id).where(WorkerRow.seen >= heard_since, col(WorkerRow.left).is_(False))
            return frozenset({executor_id, *session.exec(query)})

    def signs_of_life(self) -> tuple[SignOfLife, ...]:
        """Of every worker that gave one lately and has not said goodbye; for people, who does not own cases by it.

        On SQLite of one: the others are its predecessors.
        """
        with store_session(self._engine) as session:
            now = database_now(session)
            lately = select(WorkerRow).where(WorkerRow.seen >= now - SILENT_AFTER)
            newest = lately.order_by(col(WorkerRow.seen).desc(), col(WorkerRow.left), col(WorkerRow.executor_id))
            rows = session.exec(newest.limit(1) if self._engine.dialect.name == "sqlite" else newest).all()
            return tuple(
                SignOfLife(executor_id=row.executor_id, place=row.place, seen=row.seen, age=now - row.seen)
                for row in rows
                if not row.left
            )

    def anyone(self) -> bool:
        """Whether some process runs cases now, for one that does not itself."""
        if self._engine.dialect.name != "sqlite":
            return bool(self.living("") - {""})
        try:
            lock = self._lock_beside()
        except StoreInUse:
            return True
        if lock is not None:
            lock.close()
        return False

    def only_reaper(self) -> AbstractContextManager[bool]:
        """Whether no other process takes over cases while the block runs."""
        return only_reaper(self._engine)

    def left_in_order(self, executor_id: str) -> bool:
        """Whether the process stopped by itself."""
        with store_session(self._engine) as session:
            row = session.get(WorkerRow, executor_id)
            return row is not None and row.left

    def _lock_beside(self) -> TextIO | None:
        """On SQLite the file that one process holds while it works; None elsewhere."""
        database = self._engine.url.database
        if self._engine.dialect.name != "sqlite" or not database:
            return None
        return lock_file(Path(f"{database}.lock"), what=f"the database {database}")

    def _write(self, executor_id: str, *, left: bool) -> None:
        with store_session(self._engine) as session:
            now = database_now(session)
            session.merge(WorkerRow(executor_id=executor_id, seen=now, left=left, place=self._place))
            for row in session.exec(select(WorkerRow).where(WorkerRow.seen < now - _REMEMBERED)):
                session.delete(row)
            session.commit()
