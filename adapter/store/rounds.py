"""How far a comparison of all records has come, and what each record was when it was last compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Delete, Engine, Executable, delete, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case
from adapter.errors import Overtaken
from adapter.store.cases import request_case
from adapter.store.database import store_session
from adapter.store.tables import RememberedRow

_ROUND, _DIGEST, _PERSON = "round", "whole", "person"
_CURRENT, _LAST, _LAST_ASKED = "current", "last", "last-asked"
ASKED = "asked-"
"""How the name of a round begins that a person asked for: the night's is due whether or not there was one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A comparison that is not finished. name: the same for whoever begins it. after: the last patient it compared."""

    name: str
    after: str

    @property
    def content(self) -> str:
        """How it is stored."""
        return f"{self.name} {self.after}"

    @property
    def ended_as(self) -> str:
        """Under which key the book remembers that it was finished."""
        return _LAST_ASKED if self.name.startswith(ASKED) else _LAST


class RoundBook:
    """One feed's comparisons, remembered across restarts."""

    def __init__(self, engine: Engine, feed: str) -> None:
        """feed: the server's base URL."""
        self._engine = engine
        self._feed = feed[:200]

    def begin(self, name: str) -> Round | None:
        """The round to go on with: the one that is not finished, else the named one; None when that was finished.

        Beginning twice does nothing. Raises Overtaken where another process begins at the same moment.
        """
        fresh = Round(name=name, after="")
        with store_session(self._engine) as session:
            found = self._read(session, _ROUND, _CURRENT)
            if found is not None:
                begun, _, after = found.partition(" ")
                return Round(name=begun, after=after)
            last = self._read(session, _ROUND, fresh.ended_as)
            if last is not None and last.partition(" ")[0] == name:
                return None
            session.add(RememberedRow(feed=self._feed, kind=_ROUND, key=_CURRENT, content=fresh.content))
            try:
                session.commit()
            except IntegrityError as error:
                raise _overtaken() from error
        return fresh

    def compared(
        self, begun: Round, member: PatientId, digest: str, patient_id: PatientId, *, ask: bool
    ) -> Case | None:
        """In one transaction: remember what the record was, ask for a new look where wanted, and how far we are.

        begun: the round as this process last left it. Raises Overtaken where another process went on with it.
        """
        further = Round(name=begun.name, after=member)
        with store_session(self._engine) as session:
            # first, and as one statement: whoever comes at the same moment waits here, and then finds it changed
            self._take(session, update(RememberedRow).where(*self._as_left(begun)).values(content=further.content))
            case = request_case(session, patient_id) if ask else None
            self._write(session, _DIGEST, patient_id, digest)
            session.commit()
        return case

    def end(self, begun: Round, at: datetime) -> None:
        """The round is finished. begun: as this process last left it. Raises Overtaken as `compared` does."""
        with store_session(self._engine) as session:
            self._take(session, delete(RememberedRow).where(*self._as_left(begun)))
            self._write(session, _ROUND, begun.ended_as, f"{begun.name} {at.isoformat(timespec='seconds')}")
            session.commit()

    def ended(self) -> datetime | None:
        """When the last round was finished, the night's or one that was asked for."""
        with store_session(self._engine) as session:
            last = [self._read(session, _ROUND, key) for key in (_LAST, _LAST_ASKED)]
        return max((datetime.fromisoformat(one.partition(" ")[2]) for one in last if one is not None), default=None)

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

    def _take(self, session: Session, change: Executable) -> None:
        changed = session.connection().execute(change)
        if changed.rowcount == 0:
            raise _overtaken()

    def _as_left(self, begun: Round) -> tuple[ColumnElement[bool], ...]:
        """Our row, as long as nobody else has written it."""
        row = {"feed": self._feed, "kind": _ROUND, "key": _CURRENT, "content": begun.content}
        return tuple(getattr(RememberedRow, name) == value for name, value in row.items())

    def _rows(self, kind: str, keys: Iterable[str]) -> Delete:
        of_kind = (col(RememberedRow.feed) == self._feed, col(RememberedRow.kind) == kind)
        return delete(RememberedRow).where(*of_kind, col(RememberedRow.key).in_(list(keys)))

    def _read(self, session: Session, kind: str, key: str) -> str | None:
        row = session.get(RememberedRow, (self._feed, kind, key))
        return None if row is None else row.content

    def _write(self, session: Session, kind: str, key: str, content: str) -> None:
        session.merge(RememberedRow(feed=self._feed, kind=kind, key=key, content=content))


def _overtaken() -> Overtaken:
    return Overtaken("another process goes on with this comparison")
