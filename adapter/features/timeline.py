"""The record cut at a landmark, in one order whatever order it came in."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeVar

from adapter.domain.imaging import ImageDescriptors
from adapter.domain.record import (
    Diagnosis,
    ImagingReference,
    Measurement,
    MedicationEvent,
    PatientRecord,
    ProcedureEvent,
)
from adapter.domain.risk import AtRisk
from adapter.domain.timeline import Timeline
from adapter.features.at_risk import is_fact_at, when

_Dated = TypeVar("_Dated", Measurement, ProcedureEvent, Diagnosis, MedicationEvent, ImagingReference)
_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


def build_timeline(record: PatientRecord, images: tuple[ImageDescriptors, ...], at_risk: AtRisk) -> Timeline:
    """Keep what was a fact and known by the landmark, sorted by effective time, time known and source.

    The landmark law: nothing known later changes a byte of what comes out.
    """
    moment = at_risk.landmark.time
    return Timeline(
        landmark=at_risk.landmark,
        person=record.person,
        index_surgery=at_risk.index_surgery,
        measurements=_kept(record.measurements, moment),
        procedures=_kept(record.procedures, moment),
        diagnoses=_kept(record.diagnoses, moment),
        medications=_kept(record.medications, moment),
        imaging=_kept(record.imaging, moment),
        images=tuple(
            sorted(
                (image for image in images if image.known <= moment), key=lambda image: (image.acquired, image.digest)
            )
        ),
        quarantined=record.quarantined,
    )


def _kept(entries: Iterable[_Dated], moment: datetime) -> tuple[_Dated, ...]:
    return tuple(sorted((entry for entry in entries if is_fact_at(entry, moment)), key=_order))


def _order(entry: Measurement | ProcedureEvent | Diagnosis | MedicationEvent | ImagingReference) -> tuple[object, ...]:
    effective = when(entry)
    start, end = (effective.earliest, effective.latest) if effective else (_BEFORE_ALL, _BEFORE_ALL)
    # repr last: two findings of one source (a panel) must not keep the order they came in
    return (start, end, entry.known, entry.source, repr(entry))
