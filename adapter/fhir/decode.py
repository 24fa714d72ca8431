"""RawRecord -> PatientRecord: our features, canonical units, a time known and a source for each entry.

Pure. One bad resource is quarantined with its id and a reason, and the rest go on; nothing is dropped in silence and
nothing is guessed. The reasons are listed in `docs/quarantine.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

import msgspec

from adapter.domain.ids import BusinessIdentifier, ResourceVersion, StudyUid
from adapter.domain.period import Period
from adapter.domain.record import (
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
from adapter.fhir.corrections import FINAL, superseded
from adapter.fhir.elements import BadDate, Concept, period_of, span_of
from adapter.fhir.known_time import KnownTime, Times
from adapter.fhir.labels import Labels
from adapter.fhir.refused import Refused, as_refused, require_unmodified
from adapter.fhir.tnm import STAGED
from adapter.fhir.values import Values
from adapter.terminology import Feature, Terminology

_PATIENT = msgspec.json.Decoder(elements.Patient)
_OBSERVATION = msgspec.json.Decoder(elements.Observation)
_CONTAINED = msgspec.json.Decoder(elements.Contained)
_PROCEDURE = msgspec.json.Decoder(elements.Procedure)
_CONDITION = msgspec.json.Decoder(elements.Condition)
_ADMINISTRATION = msgspec.json.Decoder(elements.MedicationAdministration)
_STUDY = msgspec.json.Decoder(elements.ImagingStudy)
_CONFIRMED = {"confirmed": TriState.TRUE, "refuted": TriState.FALSE}
_DICOM_UID_SYSTEM = "urn:dicom:uid"
_SHOWN_UNMAPPED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How this site's resources are read. zone: for dates, which carry none; the same zone gives the same record."""

    terminology: Terminology
    known_time: KnownTime = KnownTime.REPORTED
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))


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
    entries = decoder.entries_of(raw.resources)
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
        self._zone = reading.zone
        self._labels = Labels(reading.terminology)
        self._values = Values(reading.terminology)
        self._times = Times(reading.terminology, reading.known_time, reading.zone)
        self._at = at
        self._refused: list[Quarantined] = []
        self._unmapped: dict[str, list[datetime | None]] = {}
        self._known_now: datetime | None = None  # when the resource that is being read became known
        self._readers: Mapping[str, Callable[[RawResource], Iterator[_Entry]]] = {
            "Observation": self._observation,
            "Procedure": self._procedure,
            "Condition": self._condition,
            "MedicationAdministration": self._medication,
            "ImagingStudy": self._imaging,
            "DiagnosticReport": self._report,
        }

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

    def _is_seen(self, known: datetime | None) -> bool:
        """Whether it was known at the moment of the reading; what has no readable time is shown, not hidden."""
        return self._at is None or known is None or known <= self._at

    def entries_of(self, resources: Iterable[RawResource]) -> list[_Entry]:
        """Everything these resources say, as far as it is seen, but for what a later one of them replaced."""
        entries: list[_Entry] = []
        stamps = (self._times.stamped(one) for one in resources if one.version.resource_type in self._readers)
        seen = [stamped for stamped in stamps if self._is_seen(stamped.known)]
        replaced = superseded(seen)
        for stamped in seen:
            if stamped.resource.version in replaced:
                self._refused.append(replaced[stamped.resource.version])
                continue
            self._known_now = stamped.known
            entries.extend(entry for entry in self._entries(stamped.resource) if self._is_seen(entry.known))
        return entries

    def _entries(self, resource: RawResource) -> Iterator[_Entry]:
        """Everything one resource says; what cannot be used is remembered with its reason."""
        try:
            yield from self._readers[resource.version.resource_type](resource)
        except (Refused, BadDate, msgspec.MsgspecError) as error:
            self._refuse(resource.version, as_refused(error))

    def _refuse(self, version: ResourceVersion, refusal: Refused) -> None:
        self._refused.append(
            Quarantined(source=str(version), reason=refusal.reason, detail=refusal.detail, known=self._known_now)
        )

    def _count_unmapped(self, version: ResourceVersion, code: Concept) -> None:
        for coding in code.coding[:1]:
            name = f"{version.resource_type} {coding.system}|{coding.code}"[:120]
            self._unmapped.setdefault(name, []).append(self._known_now)

    # Patient

    def person(self, raw: RawRecord, people: Iterable[RawResource]) -> Person:
        """The surviving Patient, with the identifiers of those merged into it."""
        try:
            read = {resource.version: _PATIENT.decode(resource.content) for resource in people}
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
                known=self._times.reported(patient.meta.last_updated),
                source=version,
            )
        except (BadDate, Refused) as error:
            raise MalformedResource(f"Patient/{raw.patient_id}: {error}") from error

    # Observation

    def _observation(self, resource: RawResource) -> Iterator[Measurement]:
        observation = _OBSERVATION.decode(resource.content)
        yield from self._findings(resource.version, observation)
        yield from self._contained(resource.version, observation)

    def _report(self, resource: RawResource) -> Iterator[Measurement]:
        """A DiagnosticReport says nothing itself; the results it points to stand alone or are contained in it."""
        report = _OBSERVATION.decode(resource.content)
        if report.contained:
            require_unmodified(report)
            yield from self._contained(resource.version, report)

    def _contained(self, version: ResourceVersion, container: elements.Observation) -> Iterator[Measurement]:
        """Results without an identity of their own: true and reported when their container was, unless they say more.

        One that cannot be used is listed, and its siblings go on.
        """
        for content in container.contained:
            try:
                if _CONTAINED.decode(content).resource_type == "Observation":
                    result = _OBSERVATION.decode(content)
                    yield from self._findings(version, _within(container, result))
            except (Refused, BadDate, msgspec.MsgspecError) as error:
                self._refuse(version, as_refused(error))

    def _findings(self, version: ResourceVersion, observation: elements.Observation) -> Iterator[Measurement]:
        """What an Observation and its components say."""
        require_unmodified(observation)
        findings = [observation, *observation.component]
        mapped = [(finding, self._feature(version, finding.code)) for finding in findings]
        if not any(feature for _, feature in mapped):
            return
        if observation.status not in FINAL:
            raise Refused("status", observation.status or "missing")
        effective = self._effective(observation)
        edition, staged = self._edition(observation), None
        for finding, feature in mapped:
            if feature is None or (finding is observation and _is_panel(observation)):
                continue
            try:
                require_unmodified(finding)
                measured = self._values.measured(finding, feature)
            except Refused as refusal:
                self._refuse(version, Refused(refusal.reason, f"{feature.key} {refusal.detail}".strip()))
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
                    known=self._times.known(observation.issued, observation.meta, effective, feature.group),
                    source=version,
                )
            )
            staged = measurement if feature.key in STAGED else staged
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
            self._refuse(version, Refused("conflicting-codes", " ".join(sorted(found))))
            return None
        feature = next(iter(found.values()))
        if self._labels.contradict(feature, code.labels()):
            self._refuse(version, Refused("code-and-text-conflict", feature.key))
            return None
        return feature

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
            raise Refused("no-effective-time")
        return period_of(written, self._zone)

    # the other types

    def _procedure(self, resource: RawResource) -> Iterator[ProcedureEvent]:
        procedure = _PROCEDURE.decode(resource.content)
        require_unmodified(procedure)
        kind = self._meaning(procedure.code, self._terminology.procedure_of, resource.version)
        if kind is None:
            return
        if procedure.status != "completed":
            raise Refused("status", procedure.status or "missing")
        try:
            performed = self._times.when(procedure.performed_date_time, procedure.performed_period)
        except BadDate as error:
            raise Refused("bad-date", f"{kind.kind}: {error}") from error
        if performed is None:
            raise Refused("no-effective-time", kind.kind)
        known = self._times.known(None, procedure.meta, performed, "procedure")
        yield ProcedureEvent(kind=kind.kind, performed=performed, known=known, source=resource.version)

    def _condition(self, resource: RawResource) -> Iterator[Diagnosis]:
        condition = _CONDITION.decode(resource.content)
        require_unmodified(condition)
        kind = self._meaning(condition.code, self._terminology.condition_of, resource.version)
        status = _code_in(condition.verification_status)
        if kind is None:
            return
        if status == "entered-in-error":
            raise Refused("status", status)
        onset = self._times.when(condition.onset_date_time, condition.onset_period)
        recorded = condition.recorded_date
        written = period_of(recorded, self._zone) if recorded else None
        yield Diagnosis(
            kind=kind.kind,
            site_group=kind.site_group,
            confirmed=_CONFIRMED.get(status or "", TriState.UNKNOWN),
            onset=onset,
            known=self._times.known(recorded, condition.meta, onset or written, "condition"),
            source=resource.version,
        )

    def _medication(self, resource: RawResource) -> Iterator[MedicationEvent]:
        given = _ADMINISTRATION.decode(resource.content)
        require_unmodified(given)
        concept = given.medication_codeable_concept or _contained_code(given)
        if concept is None:
            raise Refused("unresolved-reference")
        ingredient = self._meaning(concept, self._terminology.ingredient_of, resource.version)
        if ingredient is None:
            return
        if given.status not in {"completed", "in-progress", "stopped"}:
            raise Refused("status", given.status or "missing")
        when = self._times.when(given.effective_date_time, given.effective_period)
        if when is None:
            raise Refused("no-effective-time", ingredient)
        known = self._times.known(None, given.meta, when, "medication")
        yield MedicationEvent(ingredient=ingredient, given=when, known=known, source=resource.version)

    def _imaging(self, resource: RawResource) -> Iterator[ImagingReference]:
        study = _STUDY.decode(resource.content)
        require_unmodified(study)
        if study.status in {"entered-in-error", "cancelled"}:
            raise Refused("status", study.status)
        uids = [
            identifier.value.removeprefix("urn:oid:")
            for identifier in study.identifier
            if identifier.system == _DICOM_UID_SYSTEM and identifier.value
        ]
        if len(uids) != 1:
            raise Refused("no-study-uid")
        if study.started is None:
            raise Refused("no-effective-time")
        started = period_of(study.started, self._zone)
        try:
            study_uid = StudyUid(uids[0])
        except BadIdentifier as error:
            raise Refused("bad-study-uid") from error
        yield ImagingReference(
            study_uid=study_uid,
            modalities=tuple(sorted({coding.code for coding in study.modality if coding.code})),
            started=started,
            known=self._times.known(None, study.meta, started, "imaging"),
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
            raise Refused("conflicting-codes")
        if not found:
            self._count_unmapped(version, concept)
            return None
        return found.pop()


_Meaning = TypeVar("_Meaning")


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
