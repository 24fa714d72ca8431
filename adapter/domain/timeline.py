"""What was known at a landmark, in order."""

from __future__ import annotations

from dataclasses import dataclass

from adapter.domain.ids import ResourceVersion
from adapter.domain.imaging import ImageDescriptors
from adapter.domain.landmark import Landmark
from adapter.domain.record import (
    Diagnosis,
    ImagingReference,
    Measurement,
    MedicationEvent,
    Person,
    ProcedureEvent,
    Quarantined,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """One patient cut at a landmark: every entry was known by then, and sorted by (effective, known, source).

    index_surgery: the definitive resection that starts the postoperative clock.
    """

    landmark: Landmark
    person: Person
    index_surgery: ProcedureEvent
    measurements: tuple[Measurement, ...]
    procedures: tuple[ProcedureEvent, ...]
    diagnoses: tuple[Diagnosis, ...]
    medications: tuple[MedicationEvent, ...]
    imaging: tuple[ImagingReference, ...]
    images: tuple[ImageDescriptors, ...]
    quarantined: tuple[Quarantined, ...]

    def of(self, feature: str) -> tuple[Measurement, ...]:
        """Every measurement of one feature, oldest first."""
        return tuple(entry for entry in self.measurements if entry.feature == feature)

    def latest(self, feature: str) -> Measurement | None:
        """The measurement of one feature that was true last; None when nothing was known."""
        found = self.of(feature)
        return found[-1] if found else None

    def sources(self) -> tuple[ResourceVersion, ...]:
        """Every resource version the timeline rests on, sorted, once each."""
        groups = (self.measurements, self.procedures, self.diagnoses, self.medications, self.imaging)
        cited = {entry.source for group in groups for entry in group}
        return tuple(sorted({self.person.source, self.index_surgery.source} | cited))
