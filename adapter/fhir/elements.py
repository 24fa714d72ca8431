"""The needed fields of the resources we read, and what a FHIR date or quantity means to us.

Only what is used is declared: unknown elements are tolerated, as FHIR R4 asks of a client.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from adapter.domain.period import Period

_PARTIAL = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_EARLIEST_YEAR, _LATEST_YEAR = 1900, 2200  # outside: a typing error or a filler date, never a patient
_MOMENT = timedelta(microseconds=1)


class BadDate(ValueError):
    """Not a FHIR date or dateTime, without an offset, or outside 1900 to 2200."""


class Coding(msgspec.Struct, frozen=True):
    """Source: FHIR R4 datatypes, Coding."""

    system: str | None = None
    code: str | None = None
    display: str | None = None


class Concept(msgspec.Struct, frozen=True):
    """Source: FHIR R4 datatypes, CodeableConcept."""

    coding: tuple[Coding, ...] = ()
    text: str | None = None

    def labels(self) -> tuple[str, ...]:
        """Every display and the text, folded, to look for words in."""
        shown = [coding.display for coding in self.coding if coding.display]
        return tuple(label.casefold() for label in [*shown, *([self.text] if self.text else [])])


class Reference(msgspec.Struct, frozen=True):
    """Source: FHIR R4, Reference."""

    reference: str | None = None


class Quantity(msgspec.Struct, frozen=True):
    """Source: FHIR R4 datatypes, Quantity."""

    value: float | None = None
    comparator: str | None = None
    unit: str | None = None
    system: str | None = None
    code: str | None = None


class DatePeriod(msgspec.Struct, frozen=True):
    """Source: FHIR R4 datatypes, Period."""

    start: str | None = None
    end: str | None = None


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """Source: FHIR R4, Meta."""

    last_updated: str | None = None


class Identifier(msgspec.Struct, frozen=True):
    """Source: FHIR R4 datatypes, Identifier."""

    system: str | None = None
    value: str | None = None
    use: str | None = None


class Modifiable(msgspec.Struct, frozen=True, rename="camel"):
    """What may turn the meaning of a resource round. Source: FHIR R4, Extensibility and Resource.implicitRules."""

    modifier_extension: tuple[msgspec.Raw, ...] = ()
    implicit_rules: str | None = None


class Component(Modifiable, frozen=True, rename="camel"):
    """A part of an Observation that is a finding of its own."""

    code: Concept = Concept()
    value_quantity: Quantity | None = None
    value_codeable_concept: Concept | None = None
    value_string: str | None = None
    value_boolean: bool | None = None
    value_integer: int | None = None
    data_absent_reason: Concept | None = None


class Observation(Component, frozen=True, rename="camel"):
    """Source: FHIR R4, Observation."""

    status: str | None = None
    meta: Meta = Meta()
    identifier: tuple[Identifier, ...] = ()
    effective_date_time: str | None = None
    effective_instant: str | None = None
    effective_period: DatePeriod | None = None
    issued: str | None = None
    method: Concept | None = None
    component: tuple[Component, ...] = ()
    has_member: tuple[Reference, ...] = ()
    contained: tuple[msgspec.Raw, ...] = ()


class Stamp(msgspec.Struct, frozen=True, rename="camel"):
    """What any resource says of its own standing: when it was true, when it was reported, what it replaces."""

    meta: Meta = Meta()
    identifier: tuple[Identifier, ...] = ()
    status: str | None = None
    code: Concept = Concept()
    issued: str | None = None
    recorded_date: str | None = None
    effective_date_time: str | None = None
    effective_instant: str | None = None
    effective_period: DatePeriod | None = None
    performed_date_time: str | None = None
    performed_period: DatePeriod | None = None
    onset_date_time: str | None = None
    onset_period: DatePeriod | None = None
    started: str | None = None


class Condition(Modifiable, frozen=True, rename="camel"):
    """Source: FHIR R4, Condition."""

    code: Concept = Concept()
    meta: Meta = Meta()
    verification_status: Concept | None = None
    onset_date_time: str | None = None
    onset_period: DatePeriod | None = None
    recorded_date: str | None = None


class Procedure(Modifiable, frozen=True, rename="camel"):
    """Source: FHIR R4, Procedure."""

    status: str | None = None
    code: Concept = Concept()
    meta: Meta = Meta()
    performed_date_time: str | None = None
    performed_period: DatePeriod | None = None


class Contained(msgspec.Struct, frozen=True, rename="camel"):
    """What kind of resource is contained; of a Medication only the code is read."""

    resource_type: str | None = None
    id: str | None = None
    code: Concept | None = None


class MedicationAdministration(Modifiable, frozen=True, rename="camel"):
    """Source: FHIR R4, MedicationAdministration."""

    status: str | None = None
    meta: Meta = Meta()
    medication_codeable_concept: Concept | None = None
    medication_reference: Reference | None = None
    contained: tuple[Contained, ...] = ()
    effective_date_time: str | None = None
    effective_period: DatePeriod | None = None


class ImagingStudy(Modifiable, frozen=True, rename="camel"):
    """Source: FHIR R4, ImagingStudy."""

    status: str | None = None
    meta: Meta = Meta()
    identifier: tuple[Identifier, ...] = ()
    modality: tuple[Coding, ...] = ()
    started: str | None = None


class Patient(Modifiable, frozen=True, rename="camel"):
    """Source: FHIR R4, Patient."""

    meta: Meta = Meta()
    identifier: tuple[Identifier, ...] = ()
    gender: str | None = None
    birth_date: str | None = None
    deceased_boolean: bool | None = None
    deceased_date_time: str | None = None
    active: bool | None = None


def period_of(text: str, zone: ZoneInfo) -> Period:
    """What a FHIR date, dateTime or instant says: a moment, or the whole day, month or year in the site's zone.

    Raises BadDate. A time of day without an offset is refused: FHIR R4 requires one, and guessing it moves a datum
    across a landmark.
    """
    partial = _PARTIAL.fullmatch(text)
    if partial:
        return _whole(*partial.groups(), zone=zone)
    try:
        moment = datetime.fromisoformat(_leap_second_folded(text))
    except ValueError as error:
        raise BadDate("not a FHIR date") from error
    if moment.utcoffset() is None:
        raise BadDate("a time without an offset")
    _require_plausible(moment.year)
    return Period.instant(moment)


def _leap_second_folded(text: str) -> str:
    """FHIR allows second 60; Python does not: it becomes the last moment of second 59."""
    if ":60" not in text:
        return text
    return re.sub(r"(T\d{2}:\d{2}):60(\.\d+)?", r"\1:59.999999", text)


def _whole(year: str, month: str | None, day: str | None, *, zone: ZoneInfo) -> Period:
    _require_plausible(int(year))
    try:
        start = datetime(int(year), int(month or 1), int(day or 1), tzinfo=zone)
    except ValueError as error:
        raise BadDate("not a FHIR date") from error
    if day:
        end = start + timedelta(days=1)
    elif month:
        end = (start + timedelta(days=32)).replace(day=1)
    else:
        end = start.replace(year=start.year + 1)
    # in UTC, so that a day across a clock change keeps its true length and equal periods are equal
    return Period(earliest=start.astimezone(UTC), latest=end.astimezone(UTC) - _MOMENT)


def _require_plausible(year: int) -> None:
    """The year as it was written: in UTC the first day of 1900 may lie in 1899."""
    if not _EARLIEST_YEAR <= year <= _LATEST_YEAR:
        raise BadDate("outside 1900 to 2200")


def span_of(written: DatePeriod, zone: ZoneInfo) -> Period | None:
    """A FHIR Period as one interval; None when it has no start. Raises BadDate."""
    if written.start is None:
        return None
    start = period_of(written.start, zone)
    end = period_of(written.end, zone) if written.end else start
    if end.latest < start.earliest:
        raise BadDate("ends before it starts")
    return Period(earliest=start.earliest, latest=end.latest)
