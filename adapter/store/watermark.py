"""How far the EHR's changes were read: moved only together with the cases they made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Engine
from sqlmodel import Session, select

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case, Watermark
from adapter.moments import Moment, reach
from adapter.store.cases import request_case
from adapter.store.database import store_session, wait_for_other_polls
from adapter.store.tables import RememberedRow, WatermarkRow


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

    def remembered(self) -> tuple[Mapping[PatientId, PatientId], Mapping[str, str]]:
        """Known people (id to surviving id), and content hashes."""
        with store_session(self._engine) as session:
            rows = session.exec(select(RememberedRow).where(RememberedRow.feed == self._feed)).all()
        people = {PatientId(row.key): PatientId(row.content) for row in rows if row.kind == "person"}
        return people, {row.key: row.content for row in rows if row.kind == "hash"}

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
            session.merge(WatermarkRow(feed=self._feed, time=watermark.time))
            reach(Moment.BEFORE_WATERMARK)
            session.commit()
        reach(Moment.AFTER_WATERMARK)
        return cases

    def _remember(self, session: Session, kind: str, content: Mapping[str, str]) -> None:
        query = select(RememberedRow).where(RememberedRow.feed == self._feed, RememberedRow.kind == kind)
        kept = {row.key: row for row in session.exec(query)}
        for key in kept.keys() - content.keys():
            session.delete(kept[key])
        for key, value in content.items():
            row = kept.get(key)
            if row is None:
                session.add(RememberedRow(feed=self._feed, kind=kind, key=key, content=value))
            elif row.content != value:
                row.content = value
                session.add(row)
