"""What every feed missed: each record of the cohort read whole and compared with what its last case was decided on.

No search by time shows a deletion, a resource that was committed long after it was stamped, or one that was stamped by
a clock that was wrong. Nor does any feed show that the EHR has lost what we delivered: each result is asked for too.
Source: checklist FR-05, faults F-21 and F-26.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import structlog

from adapter.domain.ids import PatientId
from adapter.domain.record import RawRecord
from adapter.domain.tristate import TriState
from adapter.errors import BadData, BadStore, CaseFileGone, Misconfigured, Transient
from adapter.fhir.changes import ContentHashes, contents_of, digest_of, digest_of_unreadable
from adapter.fhir.client import FhirClient
from adapter.fhir.cohort import Cohort, find_members
from adapter.fhir.fetch import fetch_record
from adapter.fhir.lost import is_lost
from adapter.pipeline.case_file import CaseFile, unseal
from adapter.pipeline.ports import CaseFiles
from adapter.store.cases import DEAD_LETTER, DELIVERED
from adapter.store.ledger import Ledger, LedgerEntry
from adapter.store.rounds import ASKED, Round, RoundBook
from adapter.store.watermark import WatermarkStore

RESULT_MISSING = "result-missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One record that is not what its last case was decided on, and the case that was asked for.

    what: `differs`, `unreadable` (detail names the error), `never-assessed`, `damaged`: the case file of the last case
    is there and does not open, and the new look seals it again; or `result-missing`: the record is what it was, and the
    EHR has lost what the last case delivered (detail names it). new, changed, deleted: how many resources; None where
    only a digest, or nothing, was there to compare with.
    """

    patient_id: PatientId
    what: str
    case_id: str
    detail: str = ""
    new: int | None = None
    changed: int | None = None
    deleted: int | None = None


@dataclass(slots=True, kw_only=True)
class Reconciliation:
    """One round so far. left: who is not in the cohort any more. open: records whose case waits or runs anyway.

    refused: records the server does not let us read; unasked: results it does not let us ask for. dead_letters: records
    that are what they were and whose last case ended as one, so that a person has to act. interrupted: why the round
    stopped before its end; it goes on where it stopped.
    """

    name: str
    compared: int = 0
    open: int = 0
    refused: int = 0
    unasked: int = 0
    dead_letters: int = 0
    found: list[Found] = field(default_factory=list)
    left: list[PatientId] = field(default_factory=list)
    interrupted: str = ""

    @property
    def missing(self) -> int:
        """How many results the EHR has lost."""
        return sum(found.what == RESULT_MISSING for found in self.found)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many of each."""
        return {
            "compared": self.compared,
            "found": len(self.found),
            "missing": self.missing,
            "open": self.open,
            "refused": self.refused,
            "unasked": self.unasked,
            "dead_letters": self.dead_letters,
            "left": len(self.left),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """One patient's record as the server has it now. contents: None where it cannot be read."""

    patient_id: PatientId
    digest: str
    contents: ContentHashes | None
    refusal: str = ""


class Reconciler:
    """Compares one EHR's cohort with the ledger. One patient at a time: memory and load do not grow with the cohort."""

    def __init__(
        self,
        client: FhirClient,
        cohort: Cohort,
        *,
        feed: WatermarkStore,
        book: RoundBook,
        ledger: Ledger,
        files: CaseFiles,
    ) -> None:
        """feed, book: of this server."""
        self._client = client
        self._cohort = cohort
        self._feed = feed
        self._book = book
        self._ledger = ledger
        self._files = files

    def reconcile(
        self, name: str, clock: Callable[[], datetime], stopping: Callable[[], bool] = lambda: False
    ) -> Reconciliation | None:
        """Go through the round of this name, or first through the rest of one that was cut; None when it was finished.

        A new look is asked for wherever the record differs; asking twice does nothing. What a case waits or runs for
        is left to that case. Raises Misconfigured where not even the cohort can be read.
        """
        begun = self._book.begin(name)
        if begun is None:
            return None
        result = Reconciliation(name=begun.name)
        try:
            members = find_members(self._client, self._cohort, changed_since=None)
            result.left = self._part_from_leavers(members)
            for member in sorted(members):
                if member <= begun.after:
                    continue
                if stopping():
                    result.interrupted = "stopped"
                    return result
                begun = self._compare(member, begun, result)
            self._book.end(begun, clock())
        except Transient as error:
            result.interrupted = f"{type(error).__name__}: {error}"
            return result
        return result

    def _part_from_leavers(self, members: Iterable[PatientId]) -> list[PatientId]:
        """Who was followed and is neither a member nor the survivor of one."""
        people, _ = self._feed.remembered()
        staying = {people.get(member, member) for member in members} | set(members)
        left = sorted(one for one, survivor in people.items() if survivor not in staying and one not in staying)
        if left:
            self._book.part_from(left)
        return left

    def _compare(self, member: PatientId, begun: Round, result: Reconciliation) -> Round:
        """Returns how far the round has come."""
        known = self._ledger.newest_case(member)
        if known is not None and known.settled is None:
            result.open += 1
            return begun
        try:
            record = self._read(member)
        except Misconfigured:
            result.refused += 1  # one patient may be closed to us; a lost permission must not make a case for everybody
            return begun
        newest = known if record.patient_id == member else self._ledger.newest_case(record.patient_id)
        if newest is not None and newest.settled is None:
            result.open += 1
            return begun
        found = self._difference(record, newest) or self._loss(newest, result)
        case = self._book.compared(begun, member, record.digest, record.patient_id, ask=found is not None)
        result.compared += 1
        result.dead_letters += found is None and newest is not None and newest.state == DEAD_LETTER
        if found is not None and case is not None:
            result.found.append(found(case.case_id))
        return replace(begun, after=member)

    def _read(self, member: PatientId) -> _Record:
        try:
            record = fetch_record(self._client, member)
        except BadData as error:
            name = type(error).__name__
            return _Record(patient_id=member, digest=digest_of_unreadable(error), contents=None, refusal=name)
        contents = contents_of(record.resources)
        return _Record(patient_id=record.patient_id, digest=digest_of(contents), contents=contents)

    def _difference(self, record: _Record, newest: LedgerEntry | None) -> Callable[[str], Found] | None:
        """What to say once the case has its id; None where the record is what it was."""
        if newest is None:
            if self._ledger.was_asked_for(record.patient_id):
                return None  # forgotten on purpose: only a change in the record brings the patient back
            return lambda case_id: Found(patient_id=record.patient_id, what="never-assessed", case_id=case_id)
        try:
            before = self._decided_on(newest)
        except BadStore as error:
            structlog.get_logger().warning("case file damaged", case=newest.case_id, error=str(error))
            return lambda case_id: Found(patient_id=record.patient_id, what="damaged", case_id=case_id)
        if before is None or record.contents is None:
            return self._difference_from_last_night(record)
        if digest_of(before) == record.digest:
            return None
        return lambda case_id: _compared(record.patient_id, case_id, before, record.contents or {})

    def _difference_from_last_night(self, record: _Record) -> Callable[[str], Found] | None:
        """As `_difference`, where nothing is left of what the case was decided on but a digest."""
        if self._book.digest(record.patient_id) == record.digest:
            return None
        what = "unreadable" if record.refusal else "differs"
        return lambda case_id: Found(patient_id=record.patient_id, what=what, case_id=case_id, detail=record.refusal)

    def _loss(self, newest: LedgerEntry | None, result: Reconciliation) -> Callable[[str], Found] | None:
        """As `_difference`, where the EHR has lost what the newest case delivered.

        Older results are not asked for: the new case could not write them again, and would be asked for every night.
        """
        if newest is None or newest.state != DELIVERED or newest.assessment_id is None:
            return None
        named = (resource.split("/") for resource in newest.resources)
        resource_id = next((parts[1] for parts in named if parts[0] == "RiskAssessment"), None)
        if resource_id is None:
            return None  # it had been withdrawn before that case looked
        lost = is_lost(self._client, resource_id, newest.assessment_id)
        result.unasked += lost is TriState.UNKNOWN
        if lost is not TriState.TRUE:
            return None
        patient_id, detail = PatientId(newest.patient_id), f"RiskAssessment/{resource_id}"
        return lambda case_id: Found(patient_id=patient_id, what=RESULT_MISSING, case_id=case_id, detail=detail)

    def _decided_on(self, newest: LedgerEntry) -> ContentHashes | None:
        """What the record said when the case was decided; None where its case file has expired, or it never had one.

        Raises BadStore where it is damaged: nobody may take that for expired.
        """
        if newest.case_file is None:
            return None
        try:
            case_file = unseal(self._files.recall(newest.case_file), CaseFile)
            record = unseal(self._files.recall(case_file.record), RawRecord)
        except CaseFileGone:
            return None
        return contents_of(record.resources)


def night_of(now: datetime, at: time, zone: ZoneInfo) -> str:
    """The name of the round that is due: the date of the night that began last, the same for whoever asks."""
    local = now.astimezone(zone)
    began = timedelta(hours=at.hour, minutes=at.minute)
    return (local.replace(tzinfo=None) - began).date().isoformat()


def asked_at(now: datetime) -> str:
    """The name of a round that a person asks for, beside the night's."""
    return f"{ASKED}{int(now.timestamp()):x}"


def _compared(patient_id: PatientId, case_id: str, before: ContentHashes, after: ContentHashes) -> Found:
    both = before.keys() & after.keys()
    return Found(
        patient_id=patient_id,
        what="differs",
        case_id=case_id,
        new=len(after.keys() - both),
        changed=sum(before[name] != after[name] for name in both),
        deleted=len(before.keys() - both),
    )
