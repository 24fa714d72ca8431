"""Whether a patient is ours to assess, and at which moment the assessment stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from adapter.domain.landmark import Landmark
from adapter.domain.period import Period, years_between
from adapter.domain.record import (
    Diagnosis,
    ImagingReference,
    Measurement,
    MedicationEvent,
    PatientRecord,
    ProcedureEvent,
)
from adapter.domain.risk import AtRisk, LandmarkKind, NotAtRisk, SkipReason
from adapter.domain.tristate import TriState

Entry = Measurement | ProcedureEvent | Diagnosis | MedicationEvent | ImagingReference

_RECURRED = frozenset({"recurrence", "local_recurrence", "regional_recurrence", "distant_metastasis", "progression"})
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LandmarkPolicy:
    """When a landmark stands.

    quiet_time: changes closer together are one. adult_years, last_year: bounds of the intended use, in years of age
    and in years after surgery. horizons: months.
    """

    quiet_time: timedelta = timedelta(minutes=15)
    adult_years: float = 18.0
    last_year: float = 5.0
    horizons: tuple[int, ...] = (12, 24, 36, 60)


def standing(record: PatientRecord, policy: LandmarkPolicy, at: datetime | None = None) -> AtRisk | NotAtRisk:
    """Decide with what was known by `at`, or with the whole record where it is None.

    The landmark's time is the largest `known` among what it rests on, never a clock: the same data gives the same
    landmark for ever. Source: design laws 1 and 2.
    """
    known = _known_by(record, at)
    refusal = _refusal_before_surgery(known, at)
    if refusal is not None:
        return refusal
    surgery = _index_surgery(known.procedures)
    if surgery is None:
        return NotAtRisk(reason=SkipReason.NO_DEFINITIVE_SURGERY)
    if surgery.performed.latest - surgery.performed.earliest > _DAY:
        return NotAtRisk(reason=SkipReason.SURGERY_DATE_UNKNOWN, detail=str(surgery.source))
    refusal = _refusal_after_surgery(known, surgery, policy)
    if refusal is not None:
        return refusal
    decisive = _decision_moment(known, surgery)
    if decisive is None:
        return NotAtRisk(reason=SkipReason.PATHOLOGY_PENDING, detail=str(surgery.source))
    return _stand(known, surgery, decisive, policy)


def when(entry: Entry) -> Period | None:
    """When an entry was true; None for a diagnosis without onset."""
    if isinstance(entry, Measurement):
        return entry.effective
    if isinstance(entry, ProcedureEvent):
        return entry.performed
    if isinstance(entry, MedicationEvent):
        return entry.given
    return entry.started if isinstance(entry, ImagingReference) else entry.onset


def is_fact_at(entry: Entry, moment: datetime) -> bool:
    """Whether it was known by the moment and not planned for later: what lies ahead is no fact yet."""
    effective = when(entry)
    return entry.known <= moment and (effective is None or effective.earliest <= moment)


def _known_by(record: PatientRecord, at: datetime | None) -> PatientRecord:
    if at is None:
        return record
    return replace(
        record,
        measurements=tuple(entry for entry in record.measurements if is_fact_at(entry, at)),
        procedures=tuple(entry for entry in record.procedures if is_fact_at(entry, at)),
        diagnoses=tuple(entry for entry in record.diagnoses if is_fact_at(entry, at)),
        medications=tuple(entry for entry in record.medications if is_fact_at(entry, at)),
        imaging=tuple(entry for entry in record.imaging if is_fact_at(entry, at)),
    )


def _refusal_before_surgery(record: PatientRecord, at: datetime | None) -> NotAtRisk | None:
    person = record.person
    already = person.died is None or at is None or person.died.earliest <= at
    if person.deceased is TriState.TRUE and already:
        return NotAtRisk(reason=SkipReason.DECEASED, detail=str(person.source))
    if not _has_primary_cancer(record):
        return NotAtRisk(reason=SkipReason.NO_PRIMARY_CANCER)
    return None


def _has_primary_cancer(record: PatientRecord) -> bool:
    """A confirmed Condition, or one without a status that pathology bears out as squamous."""
    histologies = sorted(
        (entry for entry in record.measurements if entry.feature == "histology"), key=lambda entry: entry.effective
    )
    latest = histologies[-1].category if histologies else None
    if latest == "not_scc":
        return False
    cancers = [entry for entry in record.diagnoses if entry.kind == "hnscc"]
    return any(
        entry.confirmed is TriState.TRUE or (entry.confirmed is TriState.UNKNOWN and latest is not None)
        for entry in cancers
    )


def _index_surgery(procedures: Iterable[ProcedureEvent]) -> ProcedureEvent | None:
    """The first definitive resection; biopsies, tracheostomies and re-looks are other kinds."""
    resections = [entry for entry in procedures if entry.kind == "definitive_resection"]
    return min(resections, key=lambda entry: (entry.performed, entry.known, entry.source), default=None)


def _refusal_after_surgery(record: PatientRecord, surgery: ProcedureEvent, policy: LandmarkPolicy) -> NotAtRisk | None:
    birth, operated = record.person.birth, surgery.performed.earliest
    if birth is not None and years_between(birth.earliest, operated) < policy.adult_years:
        return NotAtRisk(reason=SkipReason.UNDER_AGE, detail=str(record.person.source))
    for entry in sorted(record.diagnoses, key=lambda entry: entry.source):
        if entry.kind == "distant_metastasis" and entry.confirmed is TriState.TRUE:
            return NotAtRisk(reason=SkipReason.DISTANT_METASTASIS, detail=str(entry.source))
    for finding in sorted(record.measurements, key=lambda entry: entry.source):
        if finding.feature in {"cM", "pM"} and finding.category in {"cM1", "pM1"}:
            return NotAtRisk(reason=SkipReason.DISTANT_METASTASIS, detail=str(finding.source))
        after = finding.effective.earliest > surgery.performed.latest
        if finding.feature == "disease_status" and finding.category in _RECURRED and after:
            return NotAtRisk(reason=SkipReason.ALREADY_RECURRED, detail=str(finding.source))
    return None


def _decision_moment(record: PatientRecord, surgery: ProcedureEvent) -> datetime | None:
    """When surgery, the pathological category and the margins were first all known; None while one is missing.

    RX counts: it says that the margin was looked at and cannot be judged.
    """
    firsts = [surgery.known]
    for wanted in ({"pT", "pN"}, {"margin_class"}):
        known = [
            entry.known
            for entry in record.measurements
            if entry.feature in wanted and entry.effective.latest >= surgery.performed.earliest
        ]
        if not known:
            return None
        firsts.append(min(known))
    return max(firsts)


def _stand(
    record: PatientRecord, surgery: ProcedureEvent, decisive: datetime, policy: LandmarkPolicy
) -> AtRisk | NotAtRisk:
    """The last known time of all material entries; still the decision where no pause longer than the quiet time came."""
    # what is planned for later than it was known is no fact and moves no landmark
    moments = sorted(
        {entry.known for entry in record.dated() if entry.known > decisive and is_fact_at(entry, entry.known)}
    )
    time, kind = decisive, LandmarkKind.DECISION
    for moment in moments:
        if moment - time > policy.quiet_time:
            kind = LandmarkKind.FOLLOW_UP
        time = moment
    if years_between(surgery.performed.earliest, time) > policy.last_year:
        return NotAtRisk(reason=SkipReason.BEYOND_HORIZON, detail=str(surgery.source))
    return AtRisk(kind=kind, landmark=Landmark(time=time, horizons=policy.horizons), index_surgery=surgery)
