"""The state of each case, moved only here, in the transaction given: waiting, running, then one of four ends."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Table, select, update
from sqlalchemy import case as either
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from sqlmodel import col

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Abstained, Case, DeadLetter, Delivered, Settled, Skipped
from adapter.store.tables import CaseRow, PatientRow

WAITING, RUNNING = "waiting", "running"
DELIVERED, ABSTAINED, SKIPPED, DEAD_LETTER = "delivered", "abstained", "skipped", "dead-letter"
OPEN = (WAITING, RUNNING)
TERMINAL = (DELIVERED, ABSTAINED, SKIPPED, DEAD_LETTER)
STATES = (*OPEN, *TERMINAL)
_LONGEST_REASON, _LONGEST_DETAIL = 80, 500
_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def anybody_asked_for(session: Session) -> bool:
    """Whether there ever was a case of anybody, also one that was forgotten."""
    return session.execute(select(col(PatientRow.patient_id)).limit(1)).first() is not None


def request_case(session: Session, patient_id: PatientId) -> Case:
    """Ask for one more look at the patient: the revision after the one that began last, so that at most one waits.

    One statement each, so that two processes asking at once ask for the same case.
    """
    requested, started = col(PatientRow.requested), col(PatientRow.started)
    asked = (
        _insert(session, PatientRow)
        .values(patient_id=patient_id, requested=1, started=0)
        .on_conflict_do_update(
            index_elements=["patient_id"],
            set_={"requested": either((requested > started, requested), else_=started + 1)},
        )
        .returning(requested)
    )
    wanted = Case(patient_id=patient_id, revision=session.execute(asked).scalar_one())
    _write_waiting(session, wanted)
    return wanted


def begin_apart(session: Session, patient_id: PatientId, at: datetime) -> Case:
    """Begin a look that nobody asked for, under a revision of its own; a case that waits goes on waiting."""
    taken = (
        _insert(session, PatientRow)
        .values(patient_id=patient_id, requested=1, started=0)
        .on_conflict_do_update(index_elements=["patient_id"], set_={"requested": col(PatientRow.requested) + 1})
        .returning(col(PatientRow.requested))
    )
    begun = Case(patient_id=patient_id, revision=session.execute(taken).scalar_one())
    mark_started(session, begun, at)
    return begun


def end_older(session: Session, newest: Case, at: datetime) -> None:
    """Close what the patient's earlier cases left open: this one looks at the whole record, later than they did."""
    of_patient = (col(CaseRow.patient_id) == newest.patient_id, col(CaseRow.revision) < newest.revision)
    session.execute(
        update(CaseRow)
        .where(*of_patient, col(CaseRow.state).in_(OPEN))
        .values(state=SKIPPED, reason="assessed-since", detail=f"by {newest.case_id}", settled=at)
    )


def mark_started(session: Session, begun: Case, at: datetime) -> bool:
    """Before anything is fetched: from here on, a further change makes the next revision.

    Returns whether the case runs now; False where it had ended, or was forgotten since, and stays so.
    """
    if _has_ended(session, begun):
        return False
    requested, started, revision = col(PatientRow.requested), col(PatientRow.started), begun.revision
    session.execute(
        _insert(session, PatientRow)
        .values(patient_id=begun.patient_id, requested=revision, started=revision)
        .on_conflict_do_update(
            index_elements=["patient_id"],
            set_={
                "requested": either((requested > revision, requested), else_=revision),
                "started": either((started > revision, started), else_=revision),
            },
        )
    )
    _write_waiting(session, begun)
    session.execute(
        update(CaseRow)
        .where(col(CaseRow.case_id) == begun.case_id, col(CaseRow.state) == WAITING)
        .values(state=RUNNING, started=at)
    )
    return True


def settle(session: Session, ended: Case, settled: Settled, *, case_file: str | None, at: datetime) -> None:
    """Close a case; one that is closed, or was forgotten meanwhile, stays as it is."""
    state, reason, detail = _described(settled)
    delivered = settled.receipt if isinstance(settled, Delivered) else None
    session.execute(
        update(CaseRow)
        .where(col(CaseRow.case_id) == ended.case_id, col(CaseRow.state).in_(OPEN))
        .values(
            state=state,
            reason=reason[:_LONGEST_REASON],
            detail=detail[:_LONGEST_DETAIL],
            case_file=case_file,
            assessment_id=delivered.assessment_id if delivered else None,
            resources=json.dumps([str(version) for version in delivered.versions]) if delivered else "",
            settled=at,
        )
    )


def begin_step(session: Session, running: Case, finished_steps: int) -> None:
    """A worker begins the step after so many finished ones, the start included."""
    session.execute(update(CaseRow).where(col(CaseRow.case_id) == running.case_id).values(begun_after=finished_steps))


def count_crash(session: Session, crashed: Case, finished_steps: int) -> int:
    """Count one more death of a worker on this case; getting further than at the last one starts the count again.

    A case of which the dead worker had begun no step yet only waited there: nothing is counted.
    """
    row = session.get(CaseRow, crashed.case_id)
    if row is None:
        return 0
    if row.begun_after != finished_steps:
        return row.crashes
    row.begun_after = 0
    row.crashes = 1 if finished_steps > row.crashed_after else row.crashes + 1
    row.crashed_after = finished_steps
    session.add(row)
    return row.crashes


def _has_ended(session: Session, case: Case) -> bool:
    state = session.execute(select(col(CaseRow.state)).where(col(CaseRow.case_id) == case.case_id)).scalar()
    started = select(col(PatientRow.started)).where(col(PatientRow.patient_id) == case.patient_id)
    is_gone = state is None and (session.execute(started).scalar() or 0) >= case.revision
    return is_gone or state in TERMINAL


def _write_waiting(session: Session, wanted: Case) -> None:
    session.execute(
        _insert(session, CaseRow)
        .values(
            case_id=wanted.case_id,
            patient_id=wanted.patient_id,
            revision=wanted.revision,
            state=WAITING,
            reason="",
            detail="",
            resources="",
            crashes=0,
            crashed_after=0,
            begun_after=0,
        )
        .on_conflict_do_nothing(index_elements=["case_id"])
    )


def _insert(session: Session, row: type[CaseRow] | type[PatientRow]) -> Any:  # noqa: ANN401 (one of two dialects' own)
    table: Table = vars(row)["__table__"]  # SQLModel makes it without declaring it
    return _INSERT[session.get_bind().dialect.name](table)


def _described(settled: Settled) -> tuple[str, str, str]:
    if isinstance(settled, Delivered):
        return DELIVERED, "", settled.receipt.remarks
    state = {Abstained: ABSTAINED, Skipped: SKIPPED, DeadLetter: DEAD_LETTER}[type(settled)]
    return state, settled.reason, settled.detail
