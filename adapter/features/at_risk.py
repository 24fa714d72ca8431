"""Where a patient stands: at risk after curative surgery, at which landmark, or why not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

from adapter.domain.ids import ResourceVersion
from adapter.domain.landmark import Landmark
from adapter.domain.period import require_aware, years_between
from adapter.domain.record import Diagnosis, Measurement, PatientRecord, ProcedureEvent
from adapter.domain.risk import AtRisk, LandmarkKind, NotAtRisk, SkipReason
from adapter.domain.tristate import TriState
from adapter.features.timeline import is_fact_at

STAGE_FEATURES = frozenset({"pT", "pN"})
MARGIN_FEATURES = frozenset({"margin_class", "margin_mm"})
RELAPSES = frozenset({"recurrence", "local_recurrence", "regional_recurrence", "distant_metastasis", "progression"})
_DISTANT = frozenset({("cM", "cM1"), ("pM", "pM1"), ("disease_status", "distant_metastasis")})
_SPECIMEN_SLACK = timedelta(days=1)  # a specimen may be dated up to a day before the procedure that removed it
_EPISODE = timedelta(days=30)  # a re-resection within it belongs to the same episode


@dataclass(frozen=True, slots=True, kw_only=True)
class LandmarkPolicy:
    """How a site draws landmarks.

    quiet_time: changes closer together are one landmark. adult_years: age at surgery. last_year: years after surgery up
    to which the model may be asked. widest_surgery_date: a surgery dated no better has no clock; a month is
    the widest that still places it. horizons: whole months after the landmark.
    """

    quiet_time: timedelta = timedelta(minutes=15)
    adult_years: float = 18.0
    last_year: float = 5.0
    widest_surgery_date: timedelta = timedelta(days=31)
    horizons: tuple[int, ...] = (12, 24, 36, 60)

    def __post_init__(self) -> None:
        """Raise ValueError for a negative quiet time, age or span."""
        if min(self.quiet_time, self.widest_surgery_date) < timedelta(0):
            raise ValueError("a landmark policy cannot have a negative time")
        if min(self.adult_years, self.last_year) < 0:
            raise ValueError("a landmark policy cannot have a negative age or follow-up")


def standing(record: PatientRecord, policy: LandmarkPolicy, at: datetime | None = None) -> AtRisk | NotAtRisk:
    """Decide whether the patient is ours to assess, and at which landmark; the clock never enters.

    at: stand there instead of at the end of the record, aware: nothing known later counts. The first moment when index
    surgery, pathological stage and margin status of one episode are known is the decision landmark; whatever material
    became known later makes follow-up landmarks, of which the newest is returned. Material known within the quiet time
    of the last one joins its landmark, whose time is the largest `known`. Raises ValueError for an `at` without offset.
    """
    known = record if at is None else _known_by(record, at)
    surgery = _index_surgery(known, policy)
    if isinstance(surgery, NotAtRisk):
        return surgery
    excluded = _excluded(known, surgery, policy)
    if excluded is not None:
        return excluded
    decided = _decided(known, surgery)
    if decided is None:
        return NotAtRisk(reason=SkipReason.PATHOLOGY_PENDING, detail=_awaited(known, surgery))
    return _stand(known, surgery, decided, policy)


def landmarks(record: PatientRecord, policy: LandmarkPolicy) -> tuple[AtRisk, ...]:
    """Every landmark the record holds, oldest first, each as it stood when it was the newest.

    For retrospective cohorts: what happened later, death included, hides no earlier landmark. Empty when there was
    none; `standing` says why.
    """
    times = _material_times(record)
    ends = [time for time, following in pairwise(times) if following - time > policy.quiet_time] + times[-1:]
    stood = (standing(record, policy, at=end) for end in ends)
    return tuple(place for place in stood if isinstance(place, AtRisk))


def is_of_the_episode(entry: Measurement, surgery: ProcedureEvent) -> bool:
    """Whether a finding can be about the specimen of this surgery and not of an earlier one."""
    return entry.effective.latest >= surgery.performed.earliest - _SPECIMEN_SLACK


def _known_by(record: PatientRecord, at: datetime) -> PatientRecord:
    """The record as the hospital had it at a moment; a death later than that had not happened."""
    require_aware(at, "the moment to stand at")
    return replace(
        record,
        measurements=tuple(entry for entry in record.measurements if entry.known <= at),
        procedures=tuple(entry for entry in record.procedures if entry.known <= at),
        diagnoses=tuple(entry for entry in record.diagnoses if entry.known <= at),
        medications=tuple(entry for entry in record.medications if entry.known <= at),
        imaging=tuple(entry for entry in record.imaging if entry.known <= at),
        quarantined=tuple(entry for entry in record.quarantined if entry.known is None or entry.known <= at),
        person=replace(record.person, deceased=_deceased_by(record, at)),
    )


def _deceased_by(record: PatientRecord, at: datetime) -> TriState:
    """A dated death counts from its date on, whenever it was recorded; an undated one once it is known."""
    person = record.person
    if person.died is not None:
        return TriState.FALSE if person.died.earliest > at else TriState.TRUE
    return person.deceased if person.known <= at else TriState.UNKNOWN


# ---- the index surgery


def _index_surgery(record: PatientRecord, policy: LandmarkPolicy) -> ProcedureEvent | NotAtRisk:
    """The first resection of the newest episode: earlier episodes make this one a salvage, which the rules judge."""
    if not _has_primary(record):
        return NotAtRisk(reason=SkipReason.NO_PRIMARY_CANCER, detail=_why_no_primary(record))
    resections = [entry for entry in record.procedures if entry.kind == "definitive_resection"]
    if not resections:
        return _without_surgery(record)
    dated = [entry for entry in resections if _is_dated(entry, policy)]
    if len(dated) < len(resections):
        return NotAtRisk(
            reason=SkipReason.SURGERY_DATE_UNKNOWN,
            detail=" ".join(sorted(str(entry.source) for entry in resections if entry not in dated)),
        )
    return _first_of_newest_episode(dated)


def _has_primary(record: PatientRecord) -> bool:
    """A confirmed carcinoma, or one without a status that histology bears out; never where histology denies it."""
    histology = _newest_histology(record)
    if histology == {"not_scc"}:
        return False
    stated = {entry.confirmed for entry in record.diagnoses if entry.kind == "hnscc"}
    return TriState.TRUE in stated or (TriState.UNKNOWN in stated and bool(histology - {"not_scc"}))


def _newest_histology(record: PatientRecord) -> set[float | str]:
    found = [entry for entry in record.measurements if entry.feature == "histology"]
    newest = max((entry.effective for entry in found), default=None)
    return {entry.value for entry in found if entry.effective == newest}


def _why_no_primary(record: PatientRecord) -> str:
    cancers = [entry for entry in record.diagnoses if entry.kind == "hnscc"]
    if not cancers:
        return "no such diagnosis"
    if _newest_histology(record) == {"not_scc"}:
        return "histology is not squamous"
    return "not confirmed: " + " ".join(sorted(str(entry.source) for entry in cancers))


def _without_surgery(record: PatientRecord) -> NotAtRisk:
    """A resection refused for want of a date is not the same as no resection."""
    undated = [
        entry.source
        for entry in record.quarantined
        if entry.source.startswith("Procedure/") and "definitive_resection" in entry.detail
    ]
    if undated:
        return NotAtRisk(reason=SkipReason.SURGERY_DATE_UNKNOWN, detail=" ".join(sorted(undated)))
    return NotAtRisk(reason=SkipReason.NO_DEFINITIVE_SURGERY)


def _is_dated(entry: ProcedureEvent, policy: LandmarkPolicy) -> bool:
    """Precise enough, and not dated after the hospital knew of it."""
    width = entry.performed.latest - entry.performed.earliest
    return width <= policy.widest_surgery_date and entry.performed.earliest <= entry.known


def _first_of_newest_episode(resections: Iterable[ProcedureEvent]) -> ProcedureEvent:
    """One operation is many Procedure resources, and a further resection within 30 days is the same episode."""
    ordered = sorted(resections, key=lambda entry: (entry.performed, entry.known, entry.source))
    first = ordered[0]
    for entry in ordered[1:]:
        if entry.performed.earliest - first.performed.latest > _EPISODE:
            first = entry
    return first


# ---- who is not ours, or no longer


def _excluded(record: PatientRecord, surgery: ProcedureEvent, policy: LandmarkPolicy) -> NotAtRisk | None:
    """The first reason that applies."""
    birth = record.person.birth
    if birth is not None and years_between(birth.latest, surgery.performed.earliest) < policy.adult_years:
        return NotAtRisk(reason=SkipReason.UNDER_AGE, detail="adulthood at surgery is not certain")
    person = record.person
    if person.deceased is TriState.TRUE or (person.died is not None and person.deceased is TriState.UNKNOWN):
        return NotAtRisk(reason=SkipReason.DECEASED)
    distant = sorted(str(source) for source in _distant_at_surgery(record, surgery))
    if distant:
        return NotAtRisk(reason=SkipReason.DISTANT_METASTASIS, detail=" ".join(distant))
    relapses = sorted(str(source) for source in _relapses(record, surgery))
    if relapses:
        return NotAtRisk(reason=SkipReason.ALREADY_RECURRED, detail=" ".join(relapses))
    return None


def _distant_at_surgery(record: PatientRecord, surgery: ProcedureEvent) -> Iterator[ResourceVersion]:
    """Signs of M1 that do not surely arise after the surgery."""
    for entry in record.measurements:
        if (entry.feature, entry.value) in _DISTANT and entry.effective.earliest <= surgery.performed.latest:
            yield entry.source
    for diagnosis in _confirmed_metastases(record):
        if diagnosis.onset is None or diagnosis.onset.earliest <= surgery.performed.latest:
            yield diagnosis.source


def _relapses(record: PatientRecord, surgery: ProcedureEvent) -> Iterator[ResourceVersion]:
    """Signs that the disease came back: whatever cannot be placed before the surgery forbids `disease-free`."""
    start = surgery.performed.earliest
    for entry in record.measurements:
        relapsed = entry.feature == "disease_status" and entry.value in RELAPSES
        if (relapsed or (entry.feature, entry.value) in _DISTANT) and entry.effective.before(
            start
        ) is not TriState.TRUE:
            yield entry.source
    for diagnosis in _confirmed_metastases(record):
        yield diagnosis.source


def _confirmed_metastases(record: PatientRecord) -> Iterator[Diagnosis]:
    for diagnosis in record.diagnoses:
        if diagnosis.kind == "distant_metastasis" and diagnosis.confirmed is TriState.TRUE:
            yield diagnosis


# ---- the landmark


def _decided(record: PatientRecord, surgery: ProcedureEvent) -> datetime | None:
    """The first moment when surgery, stage and margin were known; None while one of them is awaited."""
    stage = _first_known(record, surgery, STAGE_FEATURES)
    margin = _first_known(record, surgery, MARGIN_FEATURES)
    return None if stage is None or margin is None else max(surgery.known, stage, margin)


def _first_known(record: PatientRecord, surgery: ProcedureEvent, features: frozenset[str]) -> datetime | None:
    """Any answer counts, also `pTX` and `RX`: assessed and not determinable is final."""
    return min(
        (
            entry.known
            for entry in record.measurements
            if entry.feature in features and is_of_the_episode(entry, surgery) and is_fact_at(entry, entry.known)
        ),
        default=None,
    )


def _awaited(record: PatientRecord, surgery: ProcedureEvent) -> str:
    parts = {"pathological stage": STAGE_FEATURES, "margin status": MARGIN_FEATURES}
    return ", ".join(name for name, features in parts.items() if _first_known(record, surgery, features) is None)


def _stand(
    record: PatientRecord, surgery: ProcedureEvent, decided: datetime, policy: LandmarkPolicy
) -> AtRisk | NotAtRisk:
    decision, newest = _landmarks(_material_times(record), decided, policy.quiet_time)
    if years_between(surgery.performed.latest, newest) > policy.last_year:
        return NotAtRisk(reason=SkipReason.BEYOND_HORIZON, detail=f"over {policy.last_year:g} years")
    kind = LandmarkKind.DECISION if newest == decision else LandmarkKind.FOLLOW_UP
    return AtRisk(kind=kind, landmark=Landmark(time=newest, horizons=policy.horizons), index_surgery=surgery)


def _material_times(record: PatientRecord) -> list[datetime]:
    """When each fact became known, in order; what is dated after it was known is a plan and moves nothing.

    What was entered in error keeps its place: the look without it stands where the one that rests on it stood, and
    takes its place. With an earlier landmark, the older result would outrank the correction.
    """
    withdrawn = (entry.known for entry in record.quarantined if entry.withdrawn and entry.known)
    return sorted([*withdrawn, *(entry.known for entry in record.dated() if is_fact_at(entry, entry.known))])


def _landmarks(times: Iterable[datetime], decided: datetime, quiet_time: timedelta) -> tuple[datetime, datetime]:
    """The decision landmark and the newest one: each is the end of a chain without a gap over the quiet time."""
    decision = newest = decided
    in_decision = True
    for time in times:
        if time <= newest:
            continue
        in_decision = in_decision and time - newest <= quiet_time
        newest = time
        decision = time if in_decision else decision
    return decision, newest
