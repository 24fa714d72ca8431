"""The thirteen seeded defects of V-1, each one change to a valid resource of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

Json = dict[str, Any]


def _text(resource: Json) -> None:
    """Scripts in a narrative run in whoever shows it."""
    div = '<div xmlns="http://www.w3.org/1999/xhtml"><script>alert(1)</script></div>'
    resource["text"] = {"status": "generated", "div": div}


def _both(resource: Json) -> None:
    """cpl-3: an activity has a reference or a detail."""
    resource["activity"][0]["reference"] = {"reference": "ServiceRequest/s1"}


def _two_choices(resource: Json) -> None:
    resource["prediction"][0]["probabilityRange"] = {"high": {"value": 1}}


# name: the resource type it is sown into, and the change
DEFECTS: Mapping[str, tuple[str, Callable[[Json], object]]] = {
    "unknown element": ("RiskAssessment", lambda resource: resource.update(weather="fine")),
    "bad required code": ("RiskAssessment", lambda resource: resource.update(status="nope")),
    "ras-2": ("RiskAssessment", lambda resource: resource["prediction"][0].update(probabilityDecimal=180)),
    "cpl-3": ("CarePlan", _both),
    "missing subject": ("RiskAssessment", lambda resource: resource.pop("subject")),
    "missing intent": ("CarePlan", lambda resource: resource.pop("intent")),
    "wrong reference target": (
        "RiskAssessment",
        lambda resource: resource.update(subject={"reference": "Observation/o1"}),
    ),
    "bad date": ("RiskAssessment", lambda resource: resource.update(occurrenceDateTime="2026-13-45")),
    "string for number": (
        "RiskAssessment",
        lambda resource: resource["prediction"][0].update(probabilityDecimal="16.0"),
    ),
    "two choice types": ("RiskAssessment", _two_choices),
    "empty array": ("RiskAssessment", lambda resource: resource.update(note=[])),
    "bad id": ("RiskAssessment", lambda resource: resource.update(id="not a legal id!")),
    "script in narrative": ("RiskAssessment", _text),
}


def with_defect(name: str, resources: Mapping[str, bytes]) -> bytes:
    """Sow one defect into one of our own resources."""
    resource_type, spoil = DEFECTS[name]
    resource: Json = json.loads(resources[resource_type])
    spoil(resource)
    return json.dumps(resource).encode()
