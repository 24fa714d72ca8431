"""How far the EHR's changes were read: moved only together with the cases they made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, delete
from sqlmodel import Session, col, select

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case, Watermark
from adapter.moments import Moment, reach
from adapter.store.cases import request_case
from adapter.store.clock import database_now
from adapter.store.database import store_session, wait_for_other_polls
from adapter.store.tables import RememberedRow, WatermarkRow

_AT_ONCE = 500  # keys in one statement: SQLite takes 999 parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class LastPoll:
    """When a look at the feed last ended well, whichever process looked. age: both by the database's clock."""

    at: datetime
    age: timedelta


class WatermarkStore:
    """One feed's watermark and what its next poll must remember."""

    def __init__(self, engine: Engine, feed: str) -> None:
        """feed: the server's base URL, so that a change of server starts afresh."""
        self._engine = engine
        self._feed = feed[:200]

    def read(self) -> Watermark | None:
        """The last safe watermark; None before the first poll."""
        with store_session(self._engine) as session:
            row = session.get(WatermarkRow, self._feed)
            return Watermark(time=row.time) if row else None

    def last_poll(self) -> LastPoll | None:
        """The last look that ended well; None where there was none yet."""
        with store_session(self._engine) as session:
            polled = session.exec(select(WatermarkRow.polled).where(WatermarkRow.feed == self._feed)).one_or_none()
            return LastPoll(at=polled, age=database_now(session) - polled) if polled else None

    def remembered(self) -> tuple[Mapping[PatientId, PatientId], Mapping[str, str]]:
        """Known people (id to surviving id), and content hashes."""
        with store_session(self._engine) as session:
            people, hashes = self._kept(session, "person"), self._kept(session, "hash")
        return {PatientId(key): PatientId(content) for key, content in people.items()}, hashes

    def advance(
        self,
        watermark: Watermark,
        patients: Iterable[PatientId],
        *,
        people: Mapping[PatientId, PatientId],
        hashes: Mapping[str, str],
    ) -> tuple[Case, ...]:
        """In one transaction: ask for every changed patient, remember, move the watermark. Returns what to enqueue."""
        with store_session(self._engine) as session:
            wait_for_other_polls(session)
            cases = tuple(request_case(session, patient_id) for patient_id in sorted(set(patients)))
            self._remember(session, "person", {str(key): str(value) for key, value in people.items()})
            self._remember(session, "hash", hashes)
            session.merge(WatermarkRow(feed=self._feed, time=watermark.time, polled=database_now(session)))
            reach(Moment.BEFORE_WATERMARK)
            session.commit()
        reach(Moment.AFTER_WATERMARK)
        return cases

    def _kept(self, session: Session, kind: str) -> Mapping[str, str]:
        """Keys and contents as plain pairs: ten thousand rows as objects would cost every poll half a second."""
        query = select(RememberedRow.key, RememberedRow.content)
        rows = session.exec(query.where(RememberedRow.feed == self._feed, RememberedRow.kind == kind))
        return dict(rows.all())

    def _remember(self, session: Session, kind: str, content: Mapping[str, str]) -> None:
        kept = self._kept(session, kind)
        gone = sorted(kept.keys() - content.keys())
        for start in range(0, len(gone), _AT_ONCE):
            keys = gone[start : start + _AT_ONCE]
            of_kind = (col(RememberedRow.feed) == self._feed, col(RememberedRow.kind) == kind)
            session.execute(delete(RememberedRow).where(*of_kind, col(RememberedRow.key).in_(keys)))
        for key in content.keys() - kept.keys():
            session.add(RememberedRow(feed=self._feed, kind=kind, key=key, content=content[key]))
        for key in kept.keys() & content.keys():
            if kept[key] != content[key]:
                session.merge(RememberedRow(feed=self._feed, kind=kind, key=key, content=content[key]))
