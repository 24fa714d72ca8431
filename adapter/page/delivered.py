"""The resources of an assessment as they were delivered: the elements that a page shows, and no more.

Source: FHIR R4 4.0.1, RiskAssessment, CarePlan, Device, Provenance; written by `adapter.fhir.encode`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

import msgspec

from adapter.errors import MalformedResource
from adapter.fhir.encode import AI_CONFIDENCE

# What the band is called now, and in assessments stored before: they are shown as they were delivered.
_BANDS = frozenset({AI_CONFIDENCE, "urn:adjuvant:forecast-band"})


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
        return next((one.value_range for one in self.extension if one.url in _BANDS), None)


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


class Filter(_Element, frozen=True, kw_only=True):
    """DataRequirement.codeFilter."""

    code: tuple[Coding, ...] = ()


class Requirement(_Element, frozen=True, kw_only=True):
    """DataRequirement: one finding that is missing."""

    code_filter: tuple[Filter, ...] = ()


class GuidanceResponse(_Element, frozen=True, kw_only=True, tag_field="resourceType", tag=True):
    """How the call ended."""

    status: str
    data_requirement: tuple[Requirement, ...] = ()


class DetectedIssue(_Element, frozen=True, kw_only=True, tag_field="resourceType", tag=True):
    """Why the assessment stopped."""

    severity: str
    detail: str


class Restriction(_Element, frozen=True, kw_only=True):
    """Task.restriction."""

    period: Period


class Task(_Element, frozen=True, kw_only=True, tag_field="resourceType", tag=True):
    """Who is asked to look, and until when."""

    description: str
    restriction: Restriction


class DocumentReference(_Element, frozen=True, kw_only=True, tag_field="resourceType", tag=True):
    """The model card; a page does not repeat it."""


class Entry(_Element, frozen=True, kw_only=True):
    """Bundle.entry."""

    resource: (
        RiskAssessment | CarePlan | Device | Provenance | GuidanceResponse | DetectedIssue | Task | DocumentReference
    )


class Delivered(_Element, frozen=True, kw_only=True):
    """The transaction."""

    entry: tuple[Entry, ...]


_DELIVERED = msgspec.json.Decoder(Delivered)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One assessment. guidance, issue, task: None where there is none, as in those stored by earlier versions."""

    risk: RiskAssessment
    plan: CarePlan
    device: Device
    provenance: Provenance
    guidance: GuidanceResponse | None
    issue: DetectedIssue | None
    task: Task | None


_Kind = TypeVar("_Kind")


def read(content: bytes) -> Parts:
    """Take it apart. Raises MalformedResource for a transaction that is not one assessment."""
    try:
        resources = [entry.resource for entry in _DELIVERED.decode(content).entry]
    except msgspec.MsgspecError as error:
        raise MalformedResource("this transaction is no assessment that can be shown") from error
    return Parts(
        risk=_only(resources, RiskAssessment),
        plan=_only(resources, CarePlan),
        device=_only(resources, Device),
        provenance=_only(resources, Provenance),
        guidance=_first(resources, GuidanceResponse),
        issue=_first(resources, DetectedIssue),
        task=_first(resources, Task),
    )


def _only(resources: Iterable[object], kind: type[_Kind]) -> _Kind:
    found = [one for one in resources if isinstance(one, kind)]
    if len(found) != 1:
        raise MalformedResource("this transaction does not hold one assessment")
    return found[0]


def _first(resources: Iterable[object], kind: type[_Kind]) -> _Kind | None:
    return next((one for one in resources if isinstance(one, kind)), None)
