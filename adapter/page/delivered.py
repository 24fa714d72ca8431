"""The resources of an assessment as they were delivered: the elements that a page shows, and no more.

Source: FHIR R4 4.0.1, RiskAssessment, CarePlan, Device, Provenance; written by `adapter.fhir.encode`.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from adapter.errors import MalformedResource
from adapter.fhir.encode import FORECAST_BAND


class _Element(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Elements that are not named are left out."""


class Text(_Element, frozen=True, kw_only=True):
    """Annotation, CodeableConcept or narrative: what of it a person reads."""

    text: str = ""


class Coding(_Element, frozen=True, kw_only=True):
    """A code of a system."""

    system: str = ""
    code: str = ""
    display: str = ""


class Concept(Text, frozen=True, kw_only=True):
    """CodeableConcept."""

    coding: tuple[Coding, ...] = ()


class Reference(_Element, frozen=True, kw_only=True):
    """Reference, literal or logical."""

    reference: str = ""
    display: str = ""
    identifier: Identifier | None = None


class Identifier(_Element, frozen=True, kw_only=True):
    """A business identifier."""

    value: str = ""


class Period(_Element, frozen=True, kw_only=True):
    """Both ends are always written."""

    start: str
    end: str


class Quantity(_Element, frozen=True, kw_only=True):
    """A number; percent here."""

    value: Decimal


class Range(_Element, frozen=True, kw_only=True):
    """A band."""

    low: Quantity
    high: Quantity


class Extension(_Element, frozen=True, kw_only=True):
    """An extension that may hold a range."""

    url: str
    value_range: Range | None = None


class Meta(_Element, frozen=True, kw_only=True):
    """The tags tell the mode."""

    tag: tuple[Coding, ...] = ()


class Prediction(_Element, frozen=True, kw_only=True):
    """RiskAssessment.prediction."""

    outcome: Concept
    probability_decimal: Decimal
    when_period: Period
    extension: tuple[Extension, ...] = ()

    @property
    def band(self) -> Range | None:
        """Where the model says how sure it is."""
        return next((one.value_range for one in self.extension if one.url == FORECAST_BAND), None)


class RiskAssessment(_Element, frozen=True, kw_only=True, tag_field="resourceType", tag=True):
    """The forecast."""

    id: str
    meta: Meta
    subject: Reference
    occurrence_date_time: str
    prediction: tuple[Prediction, ...]
    note: tuple[Text, ...] = ()


class Repeat(_Element, frozen=True, kw_only=True):
    """Timing.repeat."""

    bounds_period: Period
    period: Decimal
    period_unit: str


class Timing(_Element, frozen=True, kw_only=True):
    """Timing."""

    repeat: Repeat


class Detail(_Element, frozen=True, kw_only=True):
    """CarePlan.activity.detail."""

    code: Concept
    description: str = ""
    do_not_perform: bool = False
    scheduled_timing: Timing | None = None
    scheduled_period: Period | None = None


class Activity(_Element, frozen=True, kw_only=True):
    """CarePlan.activity."""

    detail: Detail


class CarePlan(_Element, frozen=True, kw_only=True, tag_field="resourceType", tag=True):
    """The proposal."""

    description: str
    activity: tuple[Activity, ...] = ()
    instantiates_uri: tuple[str, ...]
    note: tuple[Text, ...] = ()


class DeviceName(_Element, frozen=True, kw_only=True):
    """Device.deviceName."""

    name: str


class DeviceVersion(_Element, frozen=True, kw_only=True):
    """Device.version."""

    type: Text
    value: str


class Device(_Element, frozen=True, kw_only=True, tag_field="resourceType", tag=True):
    """The model."""

    device_name: tuple[DeviceName, ...]
    version: tuple[DeviceVersion, ...]


class Entity(_Element, frozen=True, kw_only=True):
    """Provenance.entity."""

    what: Reference


class Provenance(_Element, frozen=True, kw_only=True, tag_field="resourceType", tag=True):
    """What the result rests on."""

    entity: tuple[Entity, ...] = ()


class Entry(_Element, frozen=True, kw_only=True):
    """Bundle.entry."""

    resource: RiskAssessment | CarePlan | Device | Provenance


class Delivered(_Element, frozen=True, kw_only=True):
    """The transaction."""

    entry: tuple[Entry, ...]


def read(content: bytes) -> tuple[RiskAssessment, CarePlan, Device, Provenance]:
    """One of each. Raises MalformedResource for a transaction that is not one assessment."""
    try:
        resources = [entry.resource for entry in msgspec.json.decode(content, type=Delivered).entry]
    except msgspec.MsgspecError as error:
        raise MalformedResource("this transaction is no assessment that can be shown") from error
    risks = [one for one in resources if isinstance(one, RiskAssessment)]
    plans = [one for one in resources if isinstance(one, CarePlan)]
    devices = [one for one in resources if isinstance(one, Device)]
    origins = [one for one in resources if isinstance(one, Provenance)]
    if not len(risks) == len(plans) == len(devices) == len(origins) == 1:
        raise MalformedResource("this transaction does not hold one assessment")
    return risks[0], plans[0], devices[0], origins[0]
