"""Whether what we write is FHIR R4, asked of fhir.resources once for each form that an element takes.

Building a library object for every element of every patient takes most of the time of an encoding and finds nothing
new: the rules of fhir.resources are local, each about the keys of one element or the spelling of one value. So a
resource is taken apart into such facts, and only one that holds a fact not seen before is validated whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date

from fhir.resources.R4B.careplan import CarePlan
from fhir.resources.R4B.detectedissue import DetectedIssue
from fhir.resources.R4B.device import Device
from fhir.resources.R4B.documentreference import DocumentReference
from fhir.resources.R4B.guidanceresponse import GuidanceResponse
from fhir.resources.R4B.provenance import Provenance
from fhir.resources.R4B.riskassessment import RiskAssessment
from fhir.resources.R4B.task import Task
from pydantic import BaseModel, ValidationError

from adapter.errors import MalformedResource
from adapter.fhir.entries import Json

_MODELS: Mapping[str, type[BaseModel]] = {
    "CarePlan": CarePlan,
    "DetectedIssue": DetectedIssue,
    "Device": Device,
    "DocumentReference": DocumentReference,
    "GuidanceResponse": GuidanceResponse,
    "Provenance": Provenance,
    "RiskAssessment": RiskAssessment,
    "Task": Task,
}
# Required bindings of what we write: fhir.resources does not check codes. Source: FHIR R4 4.0.1 value sets.
_BOUND_CODES = {
    ("RiskAssessment", "status"): frozenset({"preliminary"}),
    ("CarePlan", "status"): frozenset({"draft"}),
    ("CarePlan", "intent"): frozenset({"proposal"}),
    ("Device", "status"): frozenset({"active"}),
    ("DocumentReference", "status"): frozenset({"current"}),
    ("DetectedIssue", "status"): frozenset({"final"}),
    ("DetectedIssue", "severity"): frozenset({"high", "moderate", "low"}),
    ("GuidanceResponse", "status"): frozenset({"success", "data-required", "failure"}),
    ("Task", "status"): frozenset({"requested"}),
    ("Task", "intent"): frozenset({"order"}),
}
# Spellings that fhir.resources tells apart: the first that fits names the form.
_FORM = re.compile(
    r"(?P<instant>[12]\d{3}-\d\d-\d\dT(?:[01]\d|2[0-3])(?::[0-5]\d){2}\.\d{3}Z)|(?P<day>[12]\d{3}-\d\d-\d\d)"
    r"|(?P<id>[A-Za-z0-9\-.]{1,64})|(?P<token>\S+)|(?P<words>\S.*\S)"
)
_TIMES = frozenset({"instant", "day"})
_ODD = "odd"  # of no form: such a value is looked at every time
_Fact = tuple[str, object]

_proven: set[_Fact] = set()  # only ever grows, by facts of resources that were validated whole


def require_r4(resource: Json) -> None:
    """Hold a resource against R4's structure and its required codes. Raises MalformedResource naming the place."""
    resource_type = str(resource["resourceType"])
    for (bound_type, element), codes in _BOUND_CODES.items():
        if bound_type == resource_type and resource[element] not in codes:
            raise MalformedResource(f"our own {resource_type}.{element} is not a code of R4")
    facts = _facts(resource, resource_type)
    if facts <= _proven:
        return
    try:
        _MODELS[resource_type].model_validate(resource)
    except ValidationError as error:
        places = sorted({".".join(map(str, entry["loc"])) for entry in error.errors(include_input=False)})
        raise MalformedResource(f"our own {resource_type} is not R4 at {', '.join(places)}") from None
    _proven.update(fact for fact in facts if fact[1] is not _ODD)


def _facts(resource: Json, path: str) -> set[_Fact]:
    """The keys of each element and the form of each value, by where they stand; positions in a list do not count."""
    found: set[_Fact] = set()
    waiting: list[tuple[str, object]] = [(path, resource)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            found.add((path, _form(value)))
        elif isinstance(value, dict):
            found.add((path, tuple(value)))
            waiting += [(f"{path}.{key}", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            found.add((path, bool(value)))
            waiting += [(path, inner) for inner in value]
        else:
            found.add((path, type(value)))
    return found


def _form(text: str) -> str:
    """The form of a text; a time of a day that is in no calendar has none."""
    spelled = _FORM.fullmatch(text)
    if spelled is None:
        return _ODD
    form = str(spelled.lastgroup)
    return form if form not in _TIMES or _is_day(text[:10]) else _ODD


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
