"""On a real server: HAPI finds no error in any resource of any hand-written case, nor in the exported policy."""

from __future__ import annotations

import json

from adapter.decision.policy import load_policy
from adapter.fhir.delivery import OutputMode, load_delivery
from adapter.fhir.entries import canonical_json
from adapter.fhir.policy_export import export_policy
from tests.fakes.assessments import assessment, resources_of
from tests.fakes.postoperative import banded_curves
from tests.fakes.vignettes import timeline_of, vignettes
from tests.peers.hapi import Hapi


def test_hapi_finds_no_error_in_any_vignette(hapi: Hapi) -> None:
    """$validate gives zero errors for each resource type of each case under tests/golden/policy."""
    seen: set[bytes] = set()
    for case in vignettes():
        for resource_type, content in resources_of(
            assessment(timeline_of(case), policy=case.policy, output=banded_curves())
        ).items():
            if content not in seen:  # the Device is the same in every case
                assert hapi.validate(content, resource_type) == [], case.name
            seen.add(content)


def test_hapi_finds_no_error_in_the_exported_policy(hapi: Hapi) -> None:
    """$validate gives zero errors for the PlanDefinition and each ActivityDefinition."""
    bundle = json.loads(export_policy(load_policy(), load_delivery(), OutputMode.RESEARCH))
    for entry in bundle["entry"]:
        resource = entry["resource"]
        assert hapi.validate(canonical_json(resource), resource["resourceType"]) == [], resource["id"]
