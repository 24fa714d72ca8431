"""Merge what is known of a patient, cut at the landmark, in one canonical order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from adapter.domain.imaging import ImageDescriptors
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
)
from adapter.domain.risk import AtRisk
from adapter.domain.timeline import Timeline
from adapter.domain.tristate import TriState

Dated = Measurement | ProcedureEvent | Diagnosis | MedicationEvent | ImagingReference
_DatedEntry = TypeVar("_DatedEntry", Measurement, ProcedureEvent, Diagnosis, MedicationEvent, ImagingReference)


def build_timeline(record: PatientRecord, images: Iterable[ImageDescriptors], at_risk: AtRisk) -> Timeline:
    """Keep what was known, and had happened, by the landmark; the order of the inputs changes nothing.

    An entry known early but dated wholly after the landmark is a plan, not a fact, and is left out; one whose partial
    date may lie before it stays. Images count once acquired and known.
    """
    time = at_risk.landmark.time
    return Timeline(
        landmark=at_risk.landmark,
        person=_person_at(record.person, time),
        index_surgery=at_risk.index_surgery,
        measurements=_cut(record.measurements, time, _measurement_order),
        procedures=_cut(record.procedures, time, lambda entry: (entry.kind,)),
        diagnoses=_cut(record.diagnoses, time, _diagnosis_order),
        medications=_cut(record.medications, time, lambda entry: (entry.ingredient,)),
        imaging=_cut(record.imaging, time, lambda entry: (entry.study_uid, entry.modalities)),
        images=tuple(sorted((image for image in images if _had_image(image, time)), key=_image_order)),
        quarantined=_quarantined_at(record.quarantined, time),
    )


def effective_of(entry: Dated) -> Period | None:
    """When the entry was true; None for a diagnosis without onset."""
    match entry:
        case Measurement():
            return entry.effective
        case ProcedureEvent():
            return entry.performed
        case Diagnosis():
            return entry.onset
        case MedicationEvent():
            return entry.given
        case ImagingReference():
            return entry.started


def is_fact_at(entry: Dated, moment: datetime) -> bool:
    """Whether the hospital had the entry by the moment, and it does not lie wholly after it."""
    effective = effective_of(entry)
    return entry.known <= moment and (effective is None or effective.earliest <= moment)


def _cut(
    entries: Iterable[_DatedEntry], time: datetime, distinguish: Callable[[_DatedEntry], tuple[object, ...]]
) -> tuple[_DatedEntry, ...]:
    """Sorted by (effective, known, source); `distinguish` orders what one source says at one time.

    The text of the entry comes last: one moment written with two offsets is equal and still two entries.
    """
    facts = [entry for entry in entries if is_fact_at(entry, time)]
    return tuple(sorted(facts, key=lambda entry: (*_when(entry), entry.source, distinguish(entry), repr(entry))))


def _when(entry: Dated) -> tuple[Period, datetime]:
    """A diagnosis without onset stands where it became known."""
    return effective_of(entry) or Period.instant(entry.known), entry.known


def _measurement_order(entry: Measurement) -> tuple[object, ...]:
    comparator = entry.comparator.value if entry.comparator else ""
    return entry.feature, repr(entry.value), entry.unit or "", comparator


def _diagnosis_order(entry: Diagnosis) -> tuple[object, ...]:
    return entry.kind, entry.site_group or "", entry.confirmed.value


def _had_image(image: ImageDescriptors, time: datetime) -> bool:
    return image.known <= time and image.acquired.earliest <= time


def _image_order(image: ImageDescriptors) -> tuple[object, ...]:
    return image.acquired, image.known, image.study_uid, image.series_uid, image.digest


def _person_at(person: Person, time: datetime) -> Person:
    """Birth and sex are as old as the person; a death belongs to standing, never to what a landmark sees.

    The Patient resource is touched for many reasons (an address, a death), so its time known is capped at the cut.
    """
    return replace(person, deceased=TriState.UNKNOWN, died=None, known=min(person.known, time))


def _quarantined_at(quarantined: Iterable[Quarantined], time: datetime) -> tuple[Quarantined, ...]:
    """What was refused by then, once each; an entry whose time could not be read is shown rather than hidden."""
    shown = {entry for entry in quarantined if entry.known is None or entry.known <= time}
    return tuple(sorted(shown, key=lambda entry: (entry.source, entry.reason, entry.detail, str(entry.known))))
