"""RawRecord -> PatientRecord: our features, canonical units, a time known and a source for each entry.

Pure. One bad resource is quarantined with its id and a reason, and the rest go on; nothing is dropped in silence and
nothing is guessed. The reasons are listed in `docs/quarantine.md`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import TypeVar
from zoneinfo import ZoneInfo

import msgspec

from adapter.domain.ids import BusinessIdentifier, ResourceVersion, StudyUid
from adapter.domain.period import Period
from adapter.domain.record import (
    Comparator,
    Diagnosis,
    ImagingReference,
    Measurement,
    MedicationEvent,
    PatientRecord,
    Person,
    ProcedureEvent,
    Quarantined,
    RawRecord,
    RawResource,
)
from adapter.domain.tristate import TriState
from adapter.errors import AmbiguousPatient, BadIdentifier, MalformedResource
from adapter.fhir import elements
from adapter.fhir.corrections import FINAL, Stamped, superseded
from adapter.fhir.elements import BadDate, Concept, Stamp, period_of, span_of
from adapter.terminology import Feature, Terminology
from adapter.units import UnknownUnit, factor_between

_UCUM = "http://unitsofmeasure.org"
_CONFIRMED = {"confirmed": TriState.TRUE, "refuted": TriState.FALSE}
_DICOM_UID_SYSTEM = "urn:dicom:uid"
_SHOWN_UNMAPPED = 20


class KnownTime(Enum):
    """Where the time the hospital had a datum comes from (design law 1)."""

    REPORTED = "reported"
    EFFECTIVE_PLUS_DELAY = "effective-plus-delay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How this site's resources are read. zone: for dates, which carry none; the same zone gives the same record."""

    terminology: Terminology
    known_time: KnownTime = KnownTime.REPORTED
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))


class _Refused(Exception):
    """An entry that cannot be used. reason: a stable code; detail: codes only."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


_Struct = TypeVar("_Struct", bound=msgspec.Struct)
_Entry = Measurement | ProcedureEvent | Diagnosis | MedicationEvent | ImagingReference


def decode_record(raw: RawRecord, reading: Reading, at: datetime | None = None) -> PatientRecord:
    """Read every resource of the record.

    at: as the hospital stood then, aware: what became known later is left out as if it had not been sent, corrections
    and refusals included; only the Patient, who has no history, is read as it is now. Raises AmbiguousPatient when
    merged Patients contradict each other in sex or birth date, MalformedResource when the Patient itself cannot be
    read: without it nothing else has an owner.
    """
    decoder = _Decoder(reading, at)
    people = [resource for resource in raw.resources if resource.version.resource_type == "Patient"]
    person = decoder.person(raw, people)
    others = [decoder.stamped(one) for one in raw.resources if one.version.resource_type in decoder.types]
    entries = decoder.entries_of([one for one in others if decoder.is_seen(one.known)])
    return PatientRecord(
        person=person,
        measurements=tuple(entry for entry in entries if isinstance(entry, Measurement)),
        procedures=tuple(entry for entry in entries if isinstance(entry, ProcedureEvent)),
        diagnoses=tuple(entry for entry in entries if isinstance(entry, Diagnosis)),
        medications=tuple(entry for entry in entries if isinstance(entry, MedicationEvent)),
        imaging=tuple(entry for entry in entries if isinstance(entry, ImagingReference)),
        quarantined=(*raw.quarantined, *decoder.quarantined()),
    )


class _Decoder:
    """The reading of one record; collects what is refused and counts what is not mapped."""

    def __init__(self, reading: Reading, at: datetime | None) -> None:
        self._terminology = reading.terminology
        self._known_time = reading.known_time
        self._zone = reading.zone
        self._at = at
        self._refused: list[Quarantined] = []
        self._unmapped: dict[str, list[datetime | None]] = {}
        self._now: datetime | None = None  # when the resource that is being read became known
        self._readers: Mapping[str, Callable[[RawResource], Iterator[_Entry]]] = {
            "Observation": self._observation,
            "Procedure": self._procedure,
            "Condition": self._condition,
            "MedicationAdministration": self._medication,
            "ImagingStudy": self._imaging,
            "DiagnosticReport": self._report,
        }
        self._conflicts: dict[tuple[str, tuple[str, ...]], bool] = {}
        self.types = frozenset(self._readers)

    def quarantined(self) -> Iterator[Quarantined]:
        """What was refused, in order, then the most frequent codes that no table knows, with their counts."""
        yield from self._refused
        ranked = sorted(self._unmapped.items(), key=lambda pair: (-len(pair[1]), pair[0]))
        for source, times in ranked[:_SHOWN_UNMAPPED]:
            detail = f"{len(times)} times"
            yield Quarantined(source=source, reason="unmapped-code", detail=detail, known=_latest(times))
        rest = [moment for _, times in ranked[_SHOWN_UNMAPPED:] for moment in times]
        if rest:
            detail = f"and {len(ranked) - _SHOWN_UNMAPPED} further codes"
            yield Quarantined(source="record", reason="unmapped-code", detail=detail, known=_latest(rest))

    # what is seen

    def is_seen(self, known: datetime | None) -> bool:
        """Whether it was known at the moment of the reading; what has no readable time is shown, not hidden."""
        return self._at is None or known is None or known <= self._at

    def stamped(self, resource: RawResource) -> Stamped:
        """The resource with its times, as far as they can be read."""
        try:
            stamp = _struct(resource, Stamp)
        except msgspec.MsgspecError:
            return Stamped(resource=resource, stamp=None, reported=None, known=None)
        reported = self._readable(stamp.issued or stamp.recorded_date or stamp.meta.last_updated)
        known = reported
        if self._known_time is KnownTime.EFFECTIVE_PLUS_DELAY:
            known = self._delayed(stamp, resource.version.resource_type)
        return Stamped(resource=resource, stamp=stamp, reported=reported, known=known)

    def _readable(self, text: str | None) -> datetime | None:
        try:
            return period_of(text, self._zone).latest if text else None
        except BadDate:
            return None

    def _delayed(self, stamp: Stamp, resource_type: str) -> datetime | None:
        """Effective time plus the delay of its kind."""
        moment = stamp.effective_date_time or stamp.effective_instant or stamp.performed_date_time
        span = stamp.effective_period or stamp.performed_period or stamp.onset_period
        try:
            when = self._when(moment or stamp.onset_date_time or stamp.started, span)
        except BadDate:
            return None
        features = (
            self._terminology.feature_of(coding.system or "", coding.code or "") for coding in stamp.code.coding
        )
        group = next((feature.group for feature in features if feature), _GROUPS[resource_type])
        return when.latest + timedelta(days=self._terminology.delay_days[group]) if when else None

    def entries_of(self, resources: list[Stamped]) -> list[_Entry]:
        """Everything these resources say, but for what a later one of them replaced."""
        entries: list[_Entry] = []
        replaced = superseded(resources)
        for stamped in resources:
            if stamped.resource.version in replaced:
                self._refused.append(replaced[stamped.resource.version])
                continue
            self._now = stamped.known
            entries.extend(entry for entry in self.entries(stamped.resource) if self.is_seen(entry.known))
        return entries

    def entries(self, resource: RawResource) -> Iterator[_Entry]:
        """Everything one resource says; what cannot be used is remembered with its reason."""
        try:
            yield from self._readers[resource.version.resource_type](resource)
        except (_Refused, BadDate, msgspec.MsgspecError) as error:
            self._refuse(resource.version, _as_refused(error))

    def _refuse(self, version: ResourceVersion, refusal: _Refused) -> None:
        self._refused.append(
            Quarantined(source=str(version), reason=refusal.reason, detail=refusal.detail, known=self._now)
        )

    def _count_unmapped(self, version: ResourceVersion, code: Concept) -> None:
        for coding in code.coding[:1]:
            name = f"{version.resource_type} {coding.system}|{coding.code}"[:120]
            self._unmapped.setdefault(name, []).append(self._now)

    # Patient

    def person(self, raw: RawRecord, people: Iterable[RawResource]) -> Person:
        """The surviving Patient, with the identifiers of those merged into it."""
        try:
            read = {resource.version: _struct(resource, elements.Patient) for resource in people}
        except msgspec.MsgspecError as error:
            raise MalformedResource(f"Patient/{raw.patient_id} or a merged record cannot be read") from error
        if any(patient.modifier_extension or patient.implicit_rules for patient in read.values()):
            raise MalformedResource(f"Patient/{raw.patient_id} or a merged record carries a modifier that is not known")
        surviving = [version for version in read if version.resource_id == raw.patient_id]
        if not surviving:
            raise MalformedResource(f"Patient/{raw.patient_id} is not in its own record")
        for what in ("gender", "birth_date"):
            stated = {getattr(patient, what) for patient in read.values()} - {None, "unknown"}
            if len(stated) > 1:
                raise AmbiguousPatient(f"Patient/{raw.patient_id} and its merged records differ in {what}")
        version = max(surviving)
        patient = read[version]
        identifiers = {
            BusinessIdentifier(identifier.system, identifier.value)
            for merged in read.values()
            for identifier in merged.identifier
            if identifier.system and identifier.value and identifier.use != "old"
        }
        try:
            return Person(
                patient_id=raw.patient_id,
                identifiers=tuple(sorted(identifiers)),
                birth=period_of(patient.birth_date, self._zone) if patient.birth_date else None,
                sex=patient.gender or "unknown",
                deceased=_deceased(patient),
                died=period_of(patient.deceased_date_time, self._zone) if patient.deceased_date_time else None,
                known=self._moment(patient.meta.last_updated, "known"),
                source=version,
            )
        except (BadDate, _Refused) as error:
            raise MalformedResource(f"Patient/{raw.patient_id}: {error}") from error

    # Observation

    def _observation(self, resource: RawResource) -> Iterator[Measurement]:
        observation = _struct(resource, elements.Observation)
        yield from self._findings(resource.version, observation)
        yield from self._contained(resource.version, observation)

    def _report(self, resource: RawResource) -> Iterator[Measurement]:
        """A DiagnosticReport says nothing itself; the results it points to stand alone or are contained in it."""
        report = _struct(resource, elements.Observation)
        if report.contained:
            _require_unmodified(report)
            yield from self._contained(resource.version, report)

    def _contained(self, version: ResourceVersion, container: elements.Observation) -> Iterator[Measurement]:
        """Results without an identity of their own: true and reported when their container was, unless they say more.

        One that cannot be used is listed, and its siblings go on.
        """
        for content in container.contained:
            try:
                if msgspec.json.decode(content, type=elements.Contained).resource_type == "Observation":
                    result = msgspec.json.decode(content, type=elements.Observation)
                    yield from self._findings(version, _within(container, result))
            except (_Refused, BadDate, msgspec.MsgspecError) as error:
                self._refuse(version, _as_refused(error))

    def _findings(self, version: ResourceVersion, observation: elements.Observation) -> Iterator[Measurement]:
        """What an Observation and its components say."""
        _require_unmodified(observation)
        findings = [observation, *observation.component]
        mapped = [(finding, self._feature(version, finding.code)) for finding in findings]
        if not any(feature for _, feature in mapped):
            return
        if observation.status not in FINAL:
            raise _Refused("status", observation.status or "missing")
        effective = self._effective(observation)
        edition, staged = self._edition(observation), None
        for finding, feature in mapped:
            if feature is None or (finding is observation and _is_panel(observation)):
                continue
            try:
                _require_unmodified(finding)
                measured = self._measured(finding, feature)
            except _Refused as refusal:
                self._refuse(version, _Refused(refusal.reason, f"{feature.key} {refusal.detail}".strip()))
                continue
            if measured is None:
                continue
            value, comparator = measured
            yield (
                measurement := Measurement(
                    feature=feature.key,
                    value=value,
                    unit=feature.unit,
                    comparator=comparator,
                    effective=effective,
                    known=self._known(observation.issued, observation.meta, effective, feature.group),
                    source=version,
                )
            )
            staged = measurement if feature.key in _STAGED else staged
        if edition is not None and staged is not None:
            yield replace(staged, feature="tnm_edition", value=edition)

    def _feature(self, version: ResourceVersion, code: Concept) -> Feature | None:
        """The one feature the codings agree on, whose words the text does not contradict."""
        found = {
            feature.key: feature
            for coding in code.coding
            if coding.system
            and coding.code
            and (feature := self._terminology.feature_of(coding.system, coding.code)) is not None
        }
        if not found:
            self._count_unmapped(version, code)
            return None
        if len(found) > 1:
            self._refuse(version, _Refused("conflicting-codes", " ".join(sorted(found))))
            return None
        feature = next(iter(found.values()))
        if self._contradicted(feature, code.labels()):
            self._refuse(version, _Refused("code-and-text-conflict", feature.key))
            return None
        return feature

    def _contradicted(self, feature: Feature, labels: tuple[str, ...]) -> bool:
        """Wrong code for right words: a label names another feature and not this one (an eGFR under creatinine).

        Laboratories name their tests in plain words, so each label of one counts; elsewhere the labels count together.
        """
        known = self._conflicts.get((feature.key, labels))
        if known is None:
            texts = labels if feature.group == "laboratory" else (" | ".join(labels),)
            known = any(self._names_another(feature, text) for text in texts)
            self._conflicts[feature.key, labels] = known
        return known

    def _names_another(self, feature: Feature, text: str) -> bool:
        if any(_names(word, text) for word in feature.never):
            return True
        if any(_names(word, text) for word in feature.words):
            return False
        return any(_names(word, text) for other in self._terminology.features.values() for word in other.words)

    def _measured(self, finding: elements.Component, feature: Feature) -> tuple[float | str, Comparator | None] | None:
        """Value and comparator; None when the source says that there is none."""
        if finding.data_absent_reason is not None:
            return None
        if feature.kind == "code":
            return self._category(finding, feature), None
        if finding.value_quantity is not None:
            return self._number(finding.value_quantity, feature)
        if finding.value_integer is not None and feature.unit == "1":
            return _in_range(float(finding.value_integer), feature), None
        if finding.value_codeable_concept is not None:
            return _in_range(float(self._category(finding, feature)), feature), None  # a grade sent as its concept
        if finding.value_string is not None:
            raise _Refused("number-in-text")
        raise _Refused("no-value")

    def _number(self, quantity: elements.Quantity, feature: Feature) -> tuple[float, Comparator | None]:
        if quantity.value is None:
            raise _Refused("no-value")
        if not math.isfinite(quantity.value):
            raise _Refused("not-a-number")
        number = quantity.value * self._factor(quantity, feature)
        try:
            comparator = Comparator(quantity.comparator) if quantity.comparator else None
        except ValueError as error:
            raise _Refused("unknown-comparator") from error
        return _in_range(number, feature), comparator

    def _factor(self, quantity: elements.Quantity, feature: Feature) -> float:
        """The unit's code, else its text; without either nothing is assumed from the magnitude."""
        if quantity.code is not None and quantity.system not in {None, _UCUM}:
            raise _Refused("unknown-unit-system")
        written = quantity.code or quantity.unit
        if not written or feature.unit is None:
            raise _Refused("no-unit")
        for spelling in feature.units:
            if spelling.unit == written:
                return spelling.factor
        try:
            return factor_between(written, feature.unit)
        except UnknownUnit as error:
            raise _Refused("unknown-unit", written[:24] if written.isprintable() else "") from error

    def _category(self, finding: elements.Component, feature: Feature) -> str:
        concept = finding.value_codeable_concept
        if concept is not None:
            found = {
                category
                for coding in concept.coding
                if coding.system
                and coding.code
                and (category := self._terminology.category_of(feature.key, coding.system, coding.code)) is not None
            }
            if len(found) > 1:
                raise _Refused("conflicting-values")
            if found:
                return found.pop()
        text = finding.value_string if concept is None else concept.text
        if text and feature.key in _STAGED:
            text = _of_the_primary(text)
        category = self._terminology.category_of_text(feature.key, text) if text else None
        if category is None:
            raise _Refused("unknown-value")
        return category

    def _edition(self, observation: elements.Observation) -> str | None:
        method = observation.method
        for coding in method.coding if method else ():
            if coding.system and coding.code:
                edition = self._terminology.category_of("tnm_edition", coding.system, coding.code)
                if edition is not None:
                    return edition
        return None

    def _effective(self, observation: elements.Observation) -> Period:
        written = observation.effective_date_time or observation.effective_instant
        if observation.effective_period is not None:
            span = span_of(observation.effective_period, self._zone)
            if span is not None:
                return span
        if written is None:
            raise _Refused("no-effective-time")
        return period_of(written, self._zone)

    # the other types

    def _procedure(self, resource: RawResource) -> Iterator[ProcedureEvent]:
        procedure = _struct(resource, elements.Procedure)
        _require_unmodified(procedure)
        kind = self._meaning(procedure.code, self._terminology.procedure_of, resource.version)
        if kind is None:
            return
        if procedure.status != "completed":
            raise _Refused("status", procedure.status or "missing")
        try:
            performed = self._when(procedure.performed_date_time, procedure.performed_period)
        except BadDate as error:
            raise _Refused("bad-date", f"{kind.kind}: {error}") from error
        if performed is None:
            raise _Refused("no-effective-time", kind.kind)
        known = self._known(None, procedure.meta, performed, "procedure")
        yield ProcedureEvent(kind=kind.kind, performed=performed, known=known, source=resource.version)

    def _condition(self, resource: RawResource) -> Iterator[Diagnosis]:
        condition = _struct(resource, elements.Condition)
        _require_unmodified(condition)
        kind = self._meaning(condition.code, self._terminology.condition_of, resource.version)
        status = _code_in(condition.verification_status)
        if kind is None:
            return
        if status == "entered-in-error":
            raise _Refused("status", status)
        onset = self._when(condition.onset_date_time, condition.onset_period)
        recorded = condition.recorded_date
        written = period_of(recorded, self._zone) if recorded else None
        yield Diagnosis(
            kind=kind.kind,
            site_group=kind.site_group,
            confirmed=_CONFIRMED.get(status or "", TriState.UNKNOWN),
            onset=onset,
            known=self._known(recorded, condition.meta, onset or written, "condition"),
            source=resource.version,
        )

    def _medication(self, resource: RawResource) -> Iterator[MedicationEvent]:
        given = _struct(resource, elements.MedicationAdministration)
        _require_unmodified(given)
        concept = given.medication_codeable_concept or _contained_code(given)
        if concept is None:
            raise _Refused("unresolved-reference")
        ingredient = self._meaning(concept, self._terminology.ingredient_of, resource.version)
        if ingredient is None:
            return
        if given.status not in {"completed", "in-progress", "stopped"}:
            raise _Refused("status", given.status or "missing")
        when = self._when(given.effective_date_time, given.effective_period)
        if when is None:
            raise _Refused("no-effective-time", ingredient)
        known = self._known(None, given.meta, when, "medication")
        yield MedicationEvent(ingredient=ingredient, given=when, known=known, source=resource.version)

    def _imaging(self, resource: RawResource) -> Iterator[ImagingReference]:
        study = _struct(resource, elements.ImagingStudy)
        _require_unmodified(study)
        if study.status in {"entered-in-error", "cancelled"}:
            raise _Refused("status", study.status)
        uids = [
            identifier.value.removeprefix("urn:oid:")
            for identifier in study.identifier
            if identifier.system == _DICOM_UID_SYSTEM and identifier.value
        ]
        if len(uids) != 1:
            raise _Refused("no-study-uid")
        if study.started is None:
            raise _Refused("no-effective-time")
        started = period_of(study.started, self._zone)
        try:
            study_uid = StudyUid(uids[0])
        except BadIdentifier as error:
            raise _Refused("bad-study-uid") from error
        yield ImagingReference(
            study_uid=study_uid,
            modalities=tuple(sorted({coding.code for coding in study.modality if coding.code})),
            started=started,
            known=self._known(None, study.meta, started, "imaging"),
            source=resource.version,
        )

    # shared readings

    def _meaning(
        self, concept: Concept, find: Callable[[str, str], _Meaning | None], version: ResourceVersion
    ) -> _Meaning | None:
        """The one meaning the codings agree on; None, and counted, when no table knows them."""
        found = {
            meaning
            for coding in concept.coding
            if coding.system and coding.code and (meaning := find(coding.system, coding.code)) is not None
        }
        if len(found) > 1:
            raise _Refused("conflicting-codes")
        if not found:
            self._count_unmapped(version, concept)
            return None
        return found.pop()

    def _when(self, moment: str | None, span: elements.DatePeriod | None) -> Period | None:
        if moment is not None:
            return period_of(moment, self._zone)
        return span_of(span, self._zone) if span is not None else None

    def _known(self, reported: str | None, meta: elements.Meta, effective: Period | None, group: str) -> datetime:
        """When the hospital had it: as reported, or effective time plus the table's delay."""
        if self._known_time is KnownTime.EFFECTIVE_PLUS_DELAY:
            if effective is None:
                raise _Refused("no-effective-time")
            return effective.latest + timedelta(days=self._terminology.delay_days[group])
        return self._moment(reported or meta.last_updated, "known")

    def _moment(self, text: str | None, what: str) -> datetime:
        if text is None:
            raise _Refused(f"no-{what}-time")
        return period_of(text, self._zone).latest


_Meaning = TypeVar("_Meaning")
_GROUPS = {
    "Observation": "clinical",
    "Procedure": "procedure",
    "Condition": "condition",
    "MedicationAdministration": "medication",
    "ImagingStudy": "imaging",
    "DiagnosticReport": "clinical",
}
_STAGED = frozenset({"pT", "cT", "pN", "cN", "cM", "pM", "stage_group"})


def _struct(resource: RawResource, kind: type[_Struct]) -> _Struct:
    return msgspec.json.decode(resource.content, type=kind)


def _as_refused(error: _Refused | BadDate | msgspec.MsgspecError) -> _Refused:
    """The reason for whatever stops the reading of one resource."""
    match error:
        case _Refused():
            return error
        case BadDate():
            return _Refused("bad-date", str(error))
    return _Refused("malformed")


def _within(container: elements.Observation, result: elements.Observation) -> elements.Observation:
    """A contained result with the times of its container where it has none of its own."""
    timed = result.effective_date_time or result.effective_instant or result.effective_period
    times = result if timed else container
    return msgspec.structs.replace(
        result,
        meta=container.meta,
        issued=result.issued or container.issued,
        effective_date_time=times.effective_date_time,
        effective_instant=times.effective_instant,
        effective_period=times.effective_period,
    )


def _require_unmodified(element: elements.Modifiable) -> None:
    """A modifier extension or implicit rules may turn the meaning round, and we know none: FHIR R4 forbids to go on."""
    if element.modifier_extension:
        raise _Refused("modifier-extension")
    if element.implicit_rules is not None:
        raise _Refused("implicit-rules")


_UICC = re.compile(
    r"(?P<prefix>[yra]*)(?P<category>[cp]?[TNM]\w+?)(?:\s*\((?:m|\d{1,2}|sn|i[+-]|mol[+-])\))*", re.IGNORECASE
)


def _of_the_primary(text: str) -> str:
    """The category of `pT4a(m)`: suffixes describe it and do not change it; what is no TNM stays as written.

    Raises _Refused for y, r and a, which say that it was staged after therapy, at recurrence or at autopsy.
    Source: UICC TNM Classification of Malignant Tumours, 8th edition, additional descriptors.
    """
    written = _UICC.fullmatch(text.strip())
    if written is None:
        return text
    if written["prefix"]:
        raise _Refused("tnm-not-primary")
    return written["category"]


def _is_panel(observation: elements.Observation) -> bool:
    """An Observation without a value of its own whose findings stand in its components or members."""
    has_value = any(
        value is not None
        for value in (
            observation.value_quantity,
            observation.value_codeable_concept,
            observation.value_string,
            observation.value_boolean,
            observation.value_integer,
        )
    )
    return not has_value and bool(observation.component or observation.has_member)


def _in_range(number: float, feature: Feature) -> float:
    if feature.hard is not None and not feature.hard[0] <= number <= feature.hard[1]:
        raise _Refused("out-of-range")
    return number


def _names(word: str, text: str) -> bool:
    """Whether the word stands in the text on its own, or begins one of its words when it is long enough to be clear."""
    position = text.find(word)
    while position >= 0:
        before = text[position - 1] if position else " "
        after = text[position + len(word)] if position + len(word) < len(text) else " "
        if not before.isalnum() and (not after.isalnum() or len(word) > _CLEAR_STEM):
            return True
        position = text.find(word, position + 1)
    return False


_CLEAR_STEM = 3


def _latest(times: list[datetime | None]) -> datetime | None:
    """The last of the times; None where one of them could not be read."""
    readable = [moment for moment in times if moment is not None]
    return max(readable) if len(readable) == len(times) else None


def _code_in(concept: Concept | None) -> str | None:
    return next((coding.code for coding in concept.coding if coding.code), None) if concept else None


def _deceased(patient: elements.Patient) -> TriState:
    if patient.deceased_date_time is not None:
        return TriState.TRUE
    return TriState.of(patient.deceased_boolean)


def _contained_code(given: elements.MedicationAdministration) -> Concept | None:
    reference = given.medication_reference.reference if given.medication_reference else None
    for contained in given.contained:
        if reference == f"#{contained.id}":
            return contained.code
    return None
