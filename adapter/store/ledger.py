"""What became of each case, and what is still open: written in the engine's transactions, read by everyone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, func
from sqlalchemy.orm import Session as PlainSession
from sqlmodel import Session, col, select

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Abstained, Case, DeadLetter, Delivered, Settled, Skipped
from adapter.store.tables import CaseRow, PatientRow

RUNNING = "running"
DELIVERED, ABSTAINED, SKIPPED, DEAD_LETTER = "delivered", "abstained", "skipped", "dead-letter"
TERMINAL = (DELIVERED, ABSTAINED, SKIPPED, DEAD_LETTER)
_LONGEST_DETAIL = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One case as people see it. resources: versioned references that were written."""

    case_id: str
    patient_id: str
    revision: int
    state: str
    reason: str
    detail: str
    assessment_id: str | None
    case_file: str | None
    resources: tuple[str, ...]
    started: datetime
    settled: datetime | None


class Ledger:
    """The cases. clock: aware time, for when a case started and settled; it enters no result."""

    def __init__(self, engine: Engine, clock: Callable[[], datetime]) -> None:
        """Use an opened database."""
        self._engine = engine
        self._clock = clock

    # inside a transaction of the durable engine

    def mark_started(self, session: PlainSession, case: Case) -> None:
        """Before anything is fetched: from here on, a further change makes the next revision."""
        patient = session.get(PatientRow, case.patient_id) or PatientRow(patient_id=case.patient_id)
        patient.started = max(patient.started, case.revision)
        patient.requested = max(patient.requested, case.revision)
        session.add(patient)
        if session.get(CaseRow, case.case_id) is None:
            session.add(
                CaseRow(
                    case_id=case.case_id,
                    patient_id=case.patient_id,
                    revision=case.revision,
                    state=RUNNING,
                    started=self._clock(),
                )
            )

    def settle(self, session: PlainSession, case: Case, settled: Settled, case_file: str | None) -> None:
        """Close the case; closing it again with the same outcome changes nothing."""
        row = session.get(CaseRow, case.case_id)
        if row is None or row.state in TERMINAL:
            return
        row.state, row.reason, row.detail = _described(settled)
        row.case_file = case_file
        if isinstance(settled, Delivered):
            row.assessment_id = settled.receipt.assessment_id
            row.resources = json.dumps([str(version) for version in settled.receipt.versions])
        row.settled = self._clock()
        session.add(row)

    # transactions of its own

    def request(self, patient_id: PatientId) -> Case:
        """Ask for one more look at the patient: the revision after the one that began last; at most one waits."""
        with Session(self._engine) as session:
            patient = session.get(PatientRow, patient_id) or PatientRow(patient_id=patient_id)
            patient.requested = max(patient.requested, patient.started + 1)
            revision = patient.requested
            session.add(patient)
            session.commit()
        return Case(patient_id=patient_id, revision=revision)

    def record(self, case: Case, settled: Settled, case_file: str | None = None) -> None:
        """Write down a case that ran, or ended, outside the durable queue."""
        with Session(self._engine) as session:
            self.mark_started(session, case)
            session.flush()
            self.settle(session, case, settled, case_file)
            session.commit()

    def forget(self, patient_id: PatientId) -> int:
        """Remove every case of a patient from the ledger; returns how many there were."""
        with Session(self._engine) as session:
            rows = session.exec(select(CaseRow).where(CaseRow.patient_id == patient_id)).all()
            for row in rows:
                session.delete(row)
            session.commit()
            return len(rows)

    # reading

    def open_cases(self) -> tuple[Case, ...]:
        """Every case that was asked for and has not begun."""
        with Session(self._engine) as session:
            rows = session.exec(select(PatientRow).where(PatientRow.requested > PatientRow.started)).all()
            return tuple(Case(patient_id=PatientId(row.patient_id), revision=row.requested) for row in rows)

    def running_cases(self) -> tuple[Case, ...]:
        """Every case that began and has not settled."""
        with Session(self._engine) as session:
            rows = session.exec(select(CaseRow).where(CaseRow.state == RUNNING)).all()
            return tuple(Case(patient_id=PatientId(row.patient_id), revision=row.revision) for row in rows)

    def counts(self) -> Mapping[str, int]:
        """How many cases are waiting, running, and in each terminal state."""
        with Session(self._engine) as session:
            rows = session.exec(select(CaseRow.state, func.count()).group_by(CaseRow.state)).all()
            found = dict(rows)
        return {"waiting": len(self.open_cases()), **{state: found.get(state, 0) for state in (RUNNING, *TERMINAL)}}

    def list_cases(self, *, state: str | None = None, patient_id: str | None = None) -> tuple[LedgerEntry, ...]:
        """Cases, newest first."""
        query = select(CaseRow).order_by(col(CaseRow.started).desc(), col(CaseRow.revision).desc())
        if state is not None:
            query = query.where(CaseRow.state == state)
        if patient_id is not None:
            query = query.where(CaseRow.patient_id == patient_id)
        with Session(self._engine) as session:
            return tuple(_entry(row) for row in session.exec(query))

    def find_case(self, case_id: str) -> LedgerEntry | None:
        """One case by its id."""
        with Session(self._engine) as session:
            row = session.get(CaseRow, case_id)
            return _entry(row) if row else None

    def find_assessment(self, assessment_id: str) -> LedgerEntry | None:
        """The case that delivered an assessment first."""
        query = select(CaseRow).where(CaseRow.assessment_id == assessment_id).order_by(col(CaseRow.revision))
        with Session(self._engine) as session:
            row = session.exec(query).first()
            return _entry(row) if row else None

    def case_files(self) -> frozenset[str]:
        """Digests of every case file that a case still points to."""
        with Session(self._engine) as session:
            return frozenset(digest for digest in session.exec(select(CaseRow.case_file)) if digest)


def _described(settled: Settled) -> tuple[str, str, str]:
    if isinstance(settled, Delivered):
        return DELIVERED, "", ""
    state = {Abstained: ABSTAINED, Skipped: SKIPPED, DeadLetter: DEAD_LETTER}[type(settled)]
    return state, settled.reason, settled.detail[:_LONGEST_DETAIL]


def _entry(row: CaseRow) -> LedgerEntry:
    return LedgerEntry(
        case_id=row.case_id,
        patient_id=row.patient_id,
        revision=row.revision,
        state=row.state,
        reason=row.reason,
        detail=row.detail,
        assessment_id=row.assessment_id,
        case_file=row.case_file,
        resources=tuple(json.loads(row.resources)) if row.resources else (),
        started=row.started,
        settled=row.settled,
    )
