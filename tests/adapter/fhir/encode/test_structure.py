"""The structure check asks the library once for each form, and lets nothing through that the library refuses."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

from adapter.errors import MalformedResource
from adapter.fhir.encode.structure import require_r4
from tests.fakes.assessments import assessment, complete_records, resources_of
from tests.fakes.vignettes import timeline_of, vignettes

Json = dict[str, Any]


def _ours(resource_type: str) -> Json:
    """A resource of ours after many of its kind have been proven, so that every form of it is known."""
    resource: Json = json.loads(resources_of(assessment(policy=complete_records()))[resource_type], parse_float=Decimal)
    require_r4(resource)
    return resource


# Each is refused by fhir.resources itself; the last ones change the spelling of a value and no key.
_BREACHES: dict[str, tuple[str, Callable[[Json], object]]] = {
    "unknown element": ("RiskAssessment", lambda one: one.update(weather="fine")),
    "unknown element deep inside": ("CarePlan", lambda one: one["activity"][0]["detail"].update(weather="fine")),
    "missing subject": ("RiskAssessment", lambda one: one.pop("subject")),
    "missing focus of a choice": ("Provenance", lambda one: one["entity"][0].pop("what")),
    "two of a choice": ("RiskAssessment", lambda one: one["prediction"][0].update(probabilityRange={"text": "x"})),
    "an element that is a list": ("Task", lambda one: one.update(focus=[one["focus"]])),
    "a text where a number stands": (
        "RiskAssessment",
        lambda one: one["prediction"][0].update(probabilityDecimal="a lot"),
    ),
    "a month that is in no calendar": ("RiskAssessment", lambda one: one.update(occurrenceDateTime="2026-13-01")),
    "a day that is in no calendar": (
        "RiskAssessment",
        lambda one: one.update(occurrenceDateTime="2026-02-30T01:30:00.000Z"),
    ),
    "an id with blanks": ("RiskAssessment", lambda one: one.update(id="not a legal id!")),
}


@pytest.mark.parametrize(("resource_type", "spoil"), _BREACHES.values(), ids=_BREACHES.keys())
def test_a_breach_is_seen_though_the_rest_is_known(resource_type: str, spoil: Callable[[Json], object]) -> None:
    """One change to a resource all of whose forms were seen before is refused, as the library alone refuses it."""
    resource = _ours(resource_type)
    spoil(resource)
    with pytest.raises(ValueError, match="validation error"):
        get_fhir_model_class(resource_type).model_validate(copy.deepcopy(resource))
    for _ in range(2):  # a refusal teaches nothing
        with pytest.raises(MalformedResource, match=f"our own {resource_type} is not R4"):
            require_r4(resource)


@pytest.mark.parametrize(
    ("resource_type", "element", "code"),
    [("RiskAssessment", "status", "final"), ("DetectedIssue", "severity", "urgent"), ("Task", "intent", "plan")],
)
def test_a_code_we_do_not_write_is_refused(resource_type: str, element: str, code: str) -> None:
    """fhir.resources checks no codes; what we bind, we check, at every resource."""
    resource = _ours(resource_type)
    resource[element] = code
    with pytest.raises(MalformedResource, match=f"{resource_type}.{element}"):
        require_r4(resource)


def test_whatever_we_write_the_library_accepts_too() -> None:
    """For every hand-written case the library, asked about each whole resource, agrees with the check by forms."""
    for case in vignettes()[::5]:
        for resource_type, content in resources_of(assessment(timeline_of(case), policy=case.policy)).items():
            get_fhir_model_class(resource_type).model_validate(json.loads(content))
