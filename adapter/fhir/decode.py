"""RawRecord -> PatientRecord: our features, canonical units, a time known and a source for each entry.

Pure. One bad resource is quarantined with its id and a reason, and the rest go on; nothing is dropped in silence and
nothing is guessed. The reasons are listed in `docs/quarantine.md`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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
from adapter.fhir.elements import BadDate, Concept, period_of, span_of
from adapter.terminology import Feature, Terminology
from adapter.units import UnknownUnit, factor_between

_UCUM = "http://unitsofmeasure.org"
_FINAL = frozenset({"final", "amended", "corrected"})
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


def decode_record(raw: RawRecord, reading: Reading) -> PatientRecord:
    """Read every resource of the record.

    Raises AmbiguousPatient when merged Patients contradict each other in sex or birth date, MalformedResource when
    the Patient itself cannot be read: without it nothing else has an owner.
    """
    decoder = _Decoder(reading)
    people = [resource for resource in raw.resources if resource.version.resource_type == "Patient"]
    others = [resource for resource in raw.resources if resource.version.resource_type != "Patient"]
    person = decoder.person(raw, people)
    entries: list[_Entry] = [entry for resource in others for entry in decoder.entries(resource)]
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

    def __init__(self, reading: Reading) -> None:
        self._terminology = reading.terminology
        self._known_time = reading.known_time
        self._zone = reading.zone
        self._refused: list[Quarantined] = []
        self._unmapped: Counter[str] = Counter()
        self._readers: Mapping[str, Callable[[RawResource], Iterator[_Entry]]] = {
            "Observation": self._observation,
            "Procedure": self._procedure,
            "Condition": self._condition,
            "MedicationAdministration": self._medication,
            "ImagingStudy": self._imaging,
        }

    def quarantined(self) -> Iterator[Quarantined]:
        """What was refused, in order, then the most frequent codes that no table knows, with their counts."""
        yield from self._refused
        for source, count in self._unmapped.most_common(_SHOWN_UNMAPPED):
            yield Quarantined(source=source, reason="unmapped-code", detail=f"{count} times")
        rest = len(self._unmapped) - _SHOWN_UNMAPPED
        if rest > 0:
            yield Quarantined(source="record", reason="unmapped-code", detail=f"and {rest} further codes")

    def entries(self, resource: RawResource) -> Iterator[_Entry]:
        """Everything one resource says; what cannot be used is remembered with its reason."""
        reader = self._readers.get(resource.version.resource_type)
        if reader is None:
            return
        try:
            yield from reader(resource)
        except _Refused as refusal:
            self._refuse(resource.version, refusal)
        except BadDate as error:
            self._refuse(resource.version, _Refused("bad-date", str(error)))
        except msgspec.MsgspecError:
            self._refuse(resource.version, _Refused("malformed"))

    def _refuse(self, version: ResourceVersion, refusal: _Refused) -> None:
        self._refused.append(Quarantined(source=str(version), reason=refusal.reason, detail=refusal.detail))

    # Patient

    def person(self, raw: RawRecord, people: Iterable[RawResource]) -> Person:
        """The surviving Patient, with the identifiers of those merged into it."""
        read = {resource.version: _struct(resource, elements.Patient) for resource in people}
        surviving = [version for version in read if version.resource_id == raw.patient_id]
        if not surviving:
            raise MalformedResource(f"Patient/{raw.patient_id} is not in its own record")
        for what in ("gender", "birth_date"):
            stated = {getattr(patient, what) for patient in read.values()} - {None, "unknown"}
            if len(stated) > 1:
                raise AmbiguousPatient(f"Patient/{raw.patient_id} and its merged records differ in {what}")
        version, patient = surviving[-1], read[surviving[-1]]
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
        _require_unmodified(observation.modifier_extension)
        findings = [observation, *observation.component]
        mapped = [(finding, self._feature(resource.version, finding.code)) for finding in findings]
        if not any(feature for _, feature in mapped):
            return
        if observation.status not in _FINAL:
            raise _Refused("status", observation.status or "missing")
        effective = self._effective(observation)
        edition = self._edition(observation)
        for finding, feature in mapped:
            if feature is None or (finding is observation and _is_panel(observation)):
                continue
            try:
                measured = self._measured(finding, feature)
            except _Refused as refusal:
                self._refuse(resource.version, _Refused(refusal.reason, f"{feature.key} {refusal.detail}".strip()))
                continue
            if measured is None:
                continue
            value, comparator = measured
            yield Measurement(
                feature=feature.key,
                value=value,
                unit=feature.unit,
                comparator=comparator,
                effective=effective,
                known=self._known(observation.issued, observation.meta, effective, feature.group),
                source=resource.version,
            )
            if edition is not None and feature.key in _STAGED:
                yield Measurement(
                    feature="tnm_edition",
                    value=edition,
                    effective=effective,
                    known=self._known(observation.issued, observation.meta, effective, feature.group),
                    source=resource.version,
                )

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
            for coding in code.coding[:1]:
                self._unmapped[f"{version.resource_type} {coding.system}|{coding.code}"[:120]] += 1
            return None
        if len(found) > 1:
            self._refuse(version, _Refused("conflicting-codes", " ".join(sorted(found))))
            return None
        feature = next(iter(found.values()))
        if self._contradicted(feature, code.words()):
            self._refuse(version, _Refused("code-and-text-conflict", feature.key))
            return None
        return feature

    def _contradicted(self, feature: Feature, text: str) -> bool:
        """Wrong code for right words: the text names another feature and not this one (an eGFR under creatinine)."""
        if not text or any(_names(word, text) for word in feature.words):
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
        written = observation.effective_date_time or observation.effective_instant or observation.issued
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
        _require_unmodified(procedure.modifier_extension)
        kind = self._first(procedure.code, self._terminology.procedure_of, resource.version)
        if kind is None or procedure.status in {"not-done", "entered-in-error", "preparation", "in-progress"}:
            return
        if procedure.status != "completed":
            raise _Refused("status", procedure.status or "missing")
        performed = self._when(procedure.performed_date_time, procedure.performed_period)
        if performed is None:
            raise _Refused("no-effective-time", kind.kind)
        known = self._known(None, procedure.meta, performed, "procedure")
        yield ProcedureEvent(kind=kind.kind, performed=performed, known=known, source=resource.version)

    def _condition(self, resource: RawResource) -> Iterator[Diagnosis]:
        condition = _struct(resource, elements.Condition)
        _require_unmodified(condition.modifier_extension)
        kind = self._first(condition.code, self._terminology.condition_of, resource.version)
        status = _code_in(condition.verification_status)
        if kind is None or status == "entered-in-error":
            return
        onset = self._when(condition.onset_date_time, condition.onset_period)
        recorded = condition.recorded_date
        fallback = onset or period_of(recorded or condition.meta.last_updated or "", self._zone)
        yield Diagnosis(
            kind=kind.kind,
            site_group=kind.site_group,
            confirmed=_CONFIRMED.get(status or "", TriState.UNKNOWN),
            onset=onset,
            known=self._known(recorded, condition.meta, fallback, "condition"),
            source=resource.version,
        )

    def _medication(self, resource: RawResource) -> Iterator[MedicationEvent]:
        given = _struct(resource, elements.MedicationAdministration)
        _require_unmodified(given.modifier_extension)
        concept = given.medication_codeable_concept or _contained_code(given)
        if concept is None:
            raise _Refused("unresolved-reference")
        ingredient = self._first(concept, self._terminology.ingredient_of, resource.version)
        if ingredient is None or given.status in {"not-done", "entered-in-error"}:
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
        _require_unmodified(study.modifier_extension)
        if study.status in {"entered-in-error", "cancelled"}:
            return
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

    def _first(
        self, concept: Concept, find: Callable[[str, str], _Meaning | None], version: ResourceVersion
    ) -> _Meaning | None:
        for coding in concept.coding:
            if coding.system and coding.code:
                found = find(coding.system, coding.code)
                if found is not None:
                    return found
        for coding in concept.coding[:1]:
            self._unmapped[f"{version.resource_type} {coding.system}|{coding.code}"[:120]] += 1
        return None

    def _when(self, moment: str | None, span: elements.DatePeriod | None) -> Period | None:
        if moment is not None:
            return period_of(moment, self._zone)
        return span_of(span, self._zone) if span is not None else None

    def _known(self, reported: str | None, meta: elements.Meta, effective: Period, group: str) -> datetime:
        """When the hospital had it: as reported, or effective time plus the table's delay; never before it was true."""
        if self._known_time is KnownTime.EFFECTIVE_PLUS_DELAY:
            return effective.latest + timedelta(days=self._terminology.delay_days[group])
        return self._moment(reported or meta.last_updated, "known")

    def _moment(self, text: str | None, what: str) -> datetime:
        if text is None:
            raise _Refused(f"no-{what}-time")
        return period_of(text, self._zone).latest


_Meaning = TypeVar("_Meaning")
_STAGED = frozenset({"pT", "cT", "pN", "cN", "cM", "pM", "stage_group"})


def _struct(resource: RawResource, kind: type[_Struct]) -> _Struct:
    return msgspec.json.decode(resource.content, type=kind)


def _require_unmodified(modifiers: tuple[msgspec.Raw, ...]) -> None:
    """A modifier extension may turn the meaning round, and we know none: FHIR R4 forbids to go on."""
    if modifiers:
        raise _Refused("modifier-extension")


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
