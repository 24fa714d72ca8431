"""What the EHR said about one patient: first as it came, then in our own features and units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from adapter.domain.ids import BusinessIdentifier, PatientId, ResourceVersion, StudyUid
from adapter.domain.period import Period
from adapter.domain.tristate import TriState


@dataclass(frozen=True, slots=True, kw_only=True)
class RawResource:
    """One resource exactly as the server sent it. content: UTF-8 JSON, repr hidden because it names a person."""

    version: ResourceVersion
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTally:
    """How one searchset was read to its end: the evidence that a pull is complete.

    pages, entries, duplicates, restarts: counts. ignored: search parameters the server said it did not apply.
    """

    resource_type: str
    pages: int
    entries: int
    duplicates: int = 0
    restarts: int = 0
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Something that was read and not used, with the reason; shown on every result, never dropped in silence.

    reason: a stable code such as `unknown-unit`. detail: ids and codes only, no values. known: when the hospital had
    it, None where even that could not be read.
    """

    source: str
    reason: str
    detail: str
    known: datetime | None = None

    @property
    def withdrawn(self) -> bool:
        """Whether the hospital took it back: it may have been used before. FHIR R4 status `entered-in-error`."""
        return (self.reason, self.detail) == ("status", "entered-in-error")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRecord:
    """Everything a patient's searches returned, complete or it would not exist.

    aliases: ids of Patient resources merged into this one (`link.type` replaced-by); their data is included.
    resources: sorted by type, id and version.
    """

    patient_id: PatientId
    aliases: tuple[PatientId, ...]
    resources: tuple[RawResource, ...]
    tallies: tuple[SearchTally, ...]
    quarantined: tuple[Quarantined, ...] = ()


class Comparator(Enum):
    """How a measured number relates to the true one. Source: FHIR R4, Quantity.comparator."""

    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER_OR_EQUAL = ">="
    GREATER = ">"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One finding about one feature.

    feature: a key of `mappings/observations.toml`. value: a number in `unit` (the feature's canonical UCUM unit),
    or a key of the feature's value set, with `unit` None. `known`: when the hospital had it; the cut uses it.
    """

    feature: str
    value: float | str
    unit: str | None = None
    comparator: Comparator | None = None
    effective: Period
    known: datetime
    source: ResourceVersion

    @property
    def number(self) -> float:
        """The numeric value in canonical units. Raises TypeError for a coded finding."""
        if isinstance(self.value, str):
            raise TypeError(f"{self.feature} is coded, not numeric")
        return self.value

    @property
    def category(self) -> str:
        """The value-set key. Raises TypeError for a numeric finding."""
        if not isinstance(self.value, str):
            raise TypeError(f"{self.feature} is numeric, not coded")
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcedureEvent:
    """Something done to the patient. kind: a key of `mappings/procedures.toml`, such as `definitive_resection`."""

    kind: str
    performed: Period
    known: datetime
    source: ResourceVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A condition. kind: a key of `mappings/conditions.toml`; site_group: its anatomic group, where it has one.

    confirmed: false when refuted or entered to rule out, unknown when the status is missing or provisional.
    """

    kind: str
    site_group: str | None = None
    confirmed: TriState
    onset: Period | None
    known: datetime
    source: ResourceVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class MedicationEvent:
    """A drug that was given. ingredient: a key of `mappings/medications.toml`."""

    ingredient: str
    given: Period
    known: datetime
    source: ResourceVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagingReference:
    """An imaging study the EHR knows of; its pixels stay in the PACS. modalities: DICOM CS values."""

    study_uid: StudyUid
    modalities: tuple[str, ...]
    started: Period
    known: datetime
    source: ResourceVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who the record is about. sex: a key of FHIR administrative-gender. repr hides what identifies."""

    patient_id: PatientId
    identifiers: tuple[BusinessIdentifier, ...] = field(repr=False)
    birth: Period | None = field(repr=False)
    sex: str = field(repr=False)
    deceased: TriState
    died: Period | None
    known: datetime
    source: ResourceVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientRecord:
    """One patient in our own terms, every entry with its time known and its source version."""

    person: Person
    measurements: tuple[Measurement, ...] = ()
    procedures: tuple[ProcedureEvent, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    medications: tuple[MedicationEvent, ...] = ()
    imaging: tuple[ImagingReference, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()

    def dated(
        self,
    ) -> Iterator[Measurement | ProcedureEvent | Diagnosis | MedicationEvent | ImagingReference]:
        """Every entry that carries a time known, in no particular order."""
        yield from self.measurements
        yield from self.procedures
        yield from self.diagnoses
        yield from self.medications
        yield from self.imaging
