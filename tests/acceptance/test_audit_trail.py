"""From a proposed treatment back to its rule, its evidence and the data it read, by what is on the server alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from adapter.decision.policy import load_policy
from adapter.decision.propose import propose
from adapter.fhir.client import FhirClient
from adapter.fhir.submit import submit
from adapter.sandbox.fhir_server import FhirServer
from tests.fakes.assessments import assessment, complete_records
from tests.fakes.postoperative import forecast, timeline

Json = dict[str, Any]
_MOST_STEPS = 3


@dataclass
class Reader:
    """Somebody with read access to the EHR and nothing else. steps: links followed so far."""

    base_url: str
    steps: int = 0

    def follow(self, link: str) -> Json:
        """One step: a reference or a search, of which the one match counts."""
        self.steps += 1
        found: Json = httpx.get(f"{self.base_url}/{link}").raise_for_status().json()
        return found["entry"][0]["resource"] if found["resourceType"] == "Bundle" else found


@pytest.fixture
def plan() -> Iterator[tuple[str, Json]]:
    """A delivered plan on a server, and the server's address."""
    with FhirServer(lambda: datetime(2026, 3, 21, tzinfo=UTC)) as server:
        server.repository.update("Patient", "p1", {"resourceType": "Patient", "id": "p1"}, None)
        with FhirClient(server.base_url) as client:
            bundle = submit(client, assessment(policy=complete_records()))
        yield server.base_url, server.repository.read("CarePlan", f"cp-{bundle.assessment_id}").resource


def _treatments(plan: Json) -> list[Json]:
    details = [activity["detail"] for activity in plan["activity"]]
    return [detail for detail in details if not detail["code"]["coding"][-1]["code"].startswith("FU-")]


def test_from_an_activity_to_its_rule_row(plan: tuple[str, Json]) -> None:
    """One step: the activity names policy version and row, which are those of the tables in force."""
    policy = complete_records()
    for detail in _treatments(plan[1]):
        (uri,) = detail["instantiatesUri"]
        version, _, row = uri.removeprefix("urn:adjuvant:policy:").partition("#")
        assert version == policy.version
        assert policy.action(row).title == detail["code"]["text"]


def test_from_an_activity_to_the_publication(plan: tuple[str, Json]) -> None:
    """Evidence id in the activity, Provenance of the plan, doi: every cited trial that has one, in three steps."""
    base_url, content = plan
    cited = 0
    for detail in _treatments(content):
        named = re.search(r"Evidence: ([A-Z0-9, \-]+)\.", detail["description"])
        for code in named[1].split(", ") if named else []:
            published = load_policy().evidence[code].doi
            if published is None:
                continue
            reader = Reader(base_url, steps=1)  # the id was read in the activity
            provenance = reader.follow(f"Provenance?target=CarePlan/{content['id']}")
            reader.steps += 1
            (doi,) = [
                entity["what"]["identifier"]["value"]
                for entity in provenance["entity"]
                if entity["what"].get("display") == code
            ]
            assert doi == f"https://doi.org/{published}"
            assert reader.steps <= _MOST_STEPS
            cited += 1
    assert cited > 0


def test_from_an_activity_to_the_version_that_was_read(plan: tuple[str, Json]) -> None:
    """Reason of the activity, Provenance, version: the rule's own sources, also where a server strips versions."""
    base_url, content = plan
    patient, policy = timeline(), complete_records()
    read = {entry.action: entry.reasons for entry in propose(forecast(patient), patient, policy).actions}
    followed = 0
    for detail in _treatments(content):
        action = detail["code"]["coding"][-1]["code"]
        sources = {str(source) for reason in read[action] for source in reason.sources}
        found = set()
        for reason in detail.get("reasonReference", []):
            bare = reason["reference"].partition("/_history/")[0]  # as HAPI would give it back
            reader = Reader(base_url, steps=1)
            provenance = reader.follow(f"Provenance?target=CarePlan/{content['id']}")
            reader.steps += 1
            found |= {
                entity["what"]["identifier"]["value"]
                for entity in provenance["entity"]
                if entity["role"] == "source" and entity["what"].get("reference", "").startswith(f"{bare}/")
            }
            assert reader.steps <= _MOST_STEPS
            followed += 1
        assert found == {source for source in sources if source.startswith(("Observation/", "Condition/"))}
    assert followed > 0


def test_from_a_plan_to_its_numbers_and_their_model(plan: tuple[str, Json]) -> None:
    """SupportingInfo leads to the forecast, its performer to the Device, and that to the model card: three steps."""
    base_url, content = plan
    reader = Reader(base_url)
    risk = reader.follow(content["supportingInfo"][0]["reference"])
    device = reader.follow(risk["performer"]["reference"])
    cards = [one["valueReference"]["reference"] for one in device["extension"] if "valueReference" in one]
    card = reader.follow(cards[0])
    assert card["content"][0]["attachment"]["contentType"] == "text/markdown"
    assert reader.steps == _MOST_STEPS
