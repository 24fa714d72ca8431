"""What became of each case, and what is still open: written in the engine's transactions, read by everyone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Engine, func, or_, update
from sqlalchemy.orm import Session, aliased
from sqlmodel import col, select

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case, Settled
from adapter.store.cases import (
    DEAD_LETTER,
    OPEN,
    STATES,
    TERMINAL,
    WAITING,
    begin_apart,
    begin_step,
    count_crash,
    end_older,
    mark_started,
    request_case,
    settle,
)
from adapter.store.database import store_session
from adapter.store.tables import AwareTime, CaseRow, PatientRow


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One case as people see it.

    resources: versioned references that were written. asked: None where an older version of ours asked. started: None
    while it waits. begun_after: how many steps had finished when a worker last began one, the start included; 0 when
    none was begun, or none since a worker died. crashes: how often a worker died at the point it got to.
    """

    case_id: str
    patient_id: str
    revision: int
    state: str
    reason: str
    detail: str
    assessment_id: str | None
    case_file: str | None
    resources: tuple[str, ...]
    asked: datetime | None
    started: datetime | None
    settled: datetime | None
    begun_after: int
    crashes: int


class Ledger:
    """The cases. clock: aware time, for when a case started and settled; it enters no result."""

    def __init__(self, engine: Engine, clock: Callable[[], datetime]) -> None:
        """Use an opened database."""
        self._engine = engine
        self._clock = clock

    # inside a transaction of the durable engine

    def mark_started(self, session: Session, case: Case) -> bool:
        """Before anything is fetched: from here on, a further change makes the next revision. False where it ended."""
        return mark_started(session, case, self._clock())

    def settle(self, session: Session, case: Case, settled: Settled, case_file: str | None) -> None:
        """Close the case; one that is closed, or was forgotten meanwhile, stays as it is."""
        settle(session, case, settled, case_file=case_file, at=self._clock())

    # transactions of its own

    def request(self, patient_id: PatientId) -> Case:
        """Ask for one more look at the patient: the revision after the one that began last; at most one waits."""
        with store_session(self._engine) as session:
            case = request_case(session, patient_id)
            session.commit()
        return case

    def begin(self, case: Case) -> None:
        """Write down that somebody outside the durable queue begins: what changes from now on is another case.

        What an interrupted service left open for the patient ends as skipped.
        """
        with store_session(self._engine) as session:
            self.mark_started(session, case)
            end_older(session, case, self._clock())
            session.commit()

    def record(self, case: Case, settled: Settled, case_file: str | None = None) -> None:
        """Write down a case that ran, or ended, outside the durable queue."""
        with store_session(self._engine) as session:
            self.mark_started(session, case)
            self.settle(session, case, settled, case_file)
            session.commit()

    def record_and_request(self, case: Case, settled: Settled) -> Case:
        """Write down how a case ended and ask for another look: both, or neither."""
        with store_session(self._engine) as session:
            self.mark_started(session, case)
            self.settle(session, case, settled, None)
            asked = request_case(session, case.patient_id)
            session.commit()
        return asked

    def record_apart(self, patient_id: PatientId, settled: Settled, case_file: str | None) -> Case:
        """Write down a look that nobody had asked for: what waits for the patient still has to be seen."""
        with store_session(self._engine) as session:
            case = begin_apart(session, patient_id, self._clock())
            self.settle(session, case, settled, case_file)
            session.commit()
        return case

    def begin_step(self, case: Case, finished_steps: int) -> None:
        """Write down that a worker begins the step after so many finished ones, the start included."""
        with store_session(self._engine) as session:
            begin_step(session, case, finished_steps)
            session.commit()

    def count_crash(self, case: Case, finished_steps: int) -> int:
        """Count that a worker died on the case after so many steps; returns how often at this point."""
        with store_session(self._engine) as session:
            crashes = count_crash(session, case, finished_steps)
            session.commit()
        return crashes

    def release_case_files(self, before: datetime) -> int:
        """Point no longer to the case files of cases settled earlier; returns how many. The lines themselves stay."""
        expired = update(CaseRow).where(col(CaseRow.settled) < before, col(CaseRow.case_file).is_not(None))
        with store_session(self._engine) as session:
            released = session.connection().execute(expired.values(case_file=None)).rowcount
            session.commit()
        return released

    def forget(self, patient_id: PatientId) -> int:
        """Remove every settled case of a patient from the ledger; returns how many there were.

        What still waits or runs is left to settle. The patient's number of revisions stays, so that no case id is
        ever used twice.
        """
        query = select(CaseRow).where(CaseRow.patient_id == patient_id, col(CaseRow.state).in_(TERMINAL))
        with store_session(self._engine) as session:
            rows = session.exec(query).all()
            for row in rows:
                session.delete(row)
            session.commit()
            return len(rows)

    # reading

    def unsettled_cases(self) -> tuple[Case, ...]:
        """Every case that waits or runs: what the durable queue must hold, or must have given up."""
        query = select(CaseRow.patient_id, CaseRow.revision).where(col(CaseRow.state).in_(OPEN))
        with store_session(self._engine) as session:
            found = session.exec(query.order_by(CaseRow.patient_id, col(CaseRow.revision))).all()
        return tuple(Case(patient_id=PatientId(patient), revision=revision) for patient, revision in found)

    def counts(self) -> Mapping[str, int]:
        """How many cases wait, run, and ended in each way; of dead letters those that wait for a person."""
        query = select(CaseRow.state, func.count()).where(_stands()).group_by(CaseRow.state)
        with store_session(self._engine) as session:
            found = dict(session.exec(query).all())
        return {state: found.get(state, 0) for state in STATES}

    def oldest_waiting(self) -> datetime | None:
        """When the case that waits longest was asked for; None where nothing waits."""
        query = select(func.min(CaseRow.asked, type_=AwareTime)).where(CaseRow.state == WAITING)
        with store_session(self._engine) as session:
            found: datetime | None = session.exec(query).one()
            return found

    def endings(self) -> Mapping[tuple[str, str], int]:
        """How many cases ended in which state for which reason, whatever came after."""
        query = select(CaseRow.state, CaseRow.reason, func.count()).where(col(CaseRow.state).in_(TERMINAL))
        with store_session(self._engine) as session:
            found = session.exec(query.group_by(CaseRow.state, CaseRow.reason)).all()
        return {(state, reason): number for state, reason, number in found}

    def list_cases(self, *, state: str | None = None, patient_id: str | None = None) -> tuple[LedgerEntry, ...]:
        """Cases, newest first; those that wait before all."""
        of_patient = () if patient_id is None else (col(CaseRow.patient_id) == patient_id,)
        return self._listed(state, *of_patient)

    def list_standing_cases(self, *, state: str | None = None) -> tuple[LedgerEntry, ...]:
        """The same without the dead letters that wait for nobody any more, as the patient was looked at again since."""
        return self._listed(state, _stands())

    def _listed(self, state: str | None, *conditions: ColumnElement[bool]) -> tuple[LedgerEntry, ...]:
        query = select(CaseRow).order_by(col(CaseRow.started).desc().nulls_first(), col(CaseRow.revision).desc())
        in_state = () if state is None else (col(CaseRow.state) == state,)
        with store_session(self._engine) as session:
            return tuple(_entry(row) for row in session.exec(query.where(*in_state, *conditions)))

    def find_case(self, case_id: str) -> LedgerEntry | None:
        """One case by its id."""
        with store_session(self._engine) as session:
            row = session.get(CaseRow, case_id)
            return _entry(row) if row else None

    def newest_case(self, patient_id: PatientId) -> LedgerEntry | None:
        """The patient's last case; None where there is none, or all were forgotten."""
        query = select(CaseRow).where(CaseRow.patient_id == patient_id).order_by(col(CaseRow.revision).desc())
        with store_session(self._engine) as session:
            row = session.exec(query).first()
            return _entry(row) if row else None

    def was_asked_for(self, patient_id: PatientId) -> bool:
        """Whether there ever was a case of the patient, also one that was forgotten."""
        with store_session(self._engine) as session:
            return session.get(PatientRow, patient_id) is not None

    def find_deliveries(self, assessment_id: str) -> tuple[LedgerEntry, ...]:
        """Every case that delivered an assessment, newest first; those whose case file has expired after all others."""
        query = select(CaseRow).where(CaseRow.assessment_id == assessment_id)
        query = query.order_by(col(CaseRow.case_file).is_(None), col(CaseRow.revision).desc())
        with store_session(self._engine) as session:
            return tuple(_entry(row) for row in session.exec(query))

    def case_files(self, patient_id: PatientId | None = None) -> frozenset[str]:
        """Digests of every case file that a case, or a case of this patient, still points to."""
        query = select(CaseRow.case_file).where(col(CaseRow.case_file).is_not(None))
        if patient_id is not None:
            query = query.where(CaseRow.patient_id == patient_id)
        with store_session(self._engine) as session:
            return frozenset(digest for digest in session.exec(query) if digest)


def _stands() -> ColumnElement[bool]:
    """Any case but a dead letter after which the patient was asked for again.

    That look is waiting, or began later: one that began before, though it was asked for after, has not answered it.
    """
    later = aliased(CaseRow)
    began_later = or_(col(later.started).is_(None), col(later.started) >= col(CaseRow.started))
    of_patient = (later.patient_id == CaseRow.patient_id, later.revision > CaseRow.revision)
    return or_(col(CaseRow.state) != DEAD_LETTER, ~select(later.case_id).where(*of_patient, began_later).exists())


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
        asked=row.asked,
        started=row.started,
        settled=row.settled,
        begun_after=row.begun_after,
        crashes=row.crashes,
    )
