"""How far a comparison of all records has come, and what each record was when it was last compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Delete, Engine, delete
from sqlmodel import Session, col

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case
from adapter.errors import StoreUnavailable
from adapter.store.cases import request_case
from adapter.store.database import store_session
from adapter.store.tables import RememberedRow

_ROUND, _DIGEST, _PERSON = "round", "whole", "person"
_CURRENT, _LAST = "current", "last"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A comparison that is not finished. name: the same for whoever begins it. after: the last patient it compared."""

    name: str
    after: str


class RoundBook:
    """One feed's comparisons, remembered across restarts."""

    def __init__(self, engine: Engine, feed: str) -> None:
        """feed: the server's base URL."""
        self._engine = engine
        self._feed = feed[:200]

    def begin(self, name: str) -> Round | None:
        """The round to go on with: the one that is not finished, else the named one; None when that was finished.

        Beginning twice does nothing.
        """
        with store_session(self._engine) as session:
            found = self._read(session, _ROUND, _CURRENT)
            if found is not None:
                begun, _, after = found.partition(" ")
                return Round(name=begun, after=after)
            last = self._read(session, _ROUND, _LAST)
            if last is not None and last.partition(" ")[0] == name:
                return None
            self._write(session, _ROUND, _CURRENT, f"{name} ")
            session.commit()
        return Round(name=name, after="")

    def compared(
        self, begun: Round, member: PatientId, digest: str, patient_id: PatientId, *, ask: bool
    ) -> Case | None:
        """In one transaction: remember what the record was, ask for a new look where wanted, and how far we are.

        begun: the round as this process last left it. Raises StoreUnavailable where another process went on with it.
        """
        with store_session(self._engine) as session:
            if self._read(session, _ROUND, _CURRENT) != f"{begun.name} {begun.after}":
                raise StoreUnavailable("another process goes on with this comparison")
            case = request_case(session, patient_id) if ask else None
            self._write(session, _DIGEST, patient_id, digest)
            self._write(session, _ROUND, _CURRENT, f"{begun.name} {member}")
            session.commit()
        return case

    def end(self, name: str, at: datetime) -> None:
        """The round is finished."""
        with store_session(self._engine) as session:
            session.execute(self._rows(_ROUND, [_CURRENT]))
            self._write(session, _ROUND, _LAST, f"{name} {at.isoformat(timespec='seconds')}")
            session.commit()

    def ended(self) -> datetime | None:
        """When the last round was finished."""
        with store_session(self._engine) as session:
            last = self._read(session, _ROUND, _LAST)
        return None if last is None else datetime.fromisoformat(last.partition(" ")[2])

    def digest(self, patient_id: PatientId) -> str | None:
        """What the record was when it was last compared."""
        with store_session(self._engine) as session:
            return self._read(session, _DIGEST, patient_id)

    def part_from(self, people: Iterable[PatientId]) -> None:
        """These are not in the cohort any more: changes of theirs are nobody's business here."""
        with store_session(self._engine) as session:
            session.execute(self._rows(_PERSON, people))
            session.execute(self._rows(_DIGEST, people))
            session.commit()

    def _rows(self, kind: str, keys: Iterable[str]) -> Delete:
        of_kind = (col(RememberedRow.feed) == self._feed, col(RememberedRow.kind) == kind)
        return delete(RememberedRow).where(*of_kind, col(RememberedRow.key).in_(list(keys)))

    def _read(self, session: Session, kind: str, key: str) -> str | None:
        row = session.get(RememberedRow, (self._feed, kind, key))
        return None if row is None else row.content

    def _write(self, session: Session, kind: str, key: str, content: str) -> None:
        session.merge(RememberedRow(feed=self._feed, kind=kind, key=key, content=content))
