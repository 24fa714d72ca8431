"""The page for the integration engineer says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from adapter.fhir.delivery import load_delivery
from adapter.fhir.encode import AI_CONFIDENCE
from adapter.fhir.fingerprint import FINGERPRINT, SUPERSEDED
from tests.fakes.assessments import assessment, resources_of

_PAGE = (Path(__file__).parents[3] / "docs" / "fhir_outputs.md").read_text(encoding="utf-8")


def _rows() -> list[tuple[str, str]]:
    """Resource type and id prefix of each row of the first table, in order."""
    return re.findall(r"^\| `(\w+)` \| `(\w+)-…` \|", _PAGE, re.MULTILINE)


def test_the_table_lists_what_is_written_in_its_order() -> None:
    """Every resource type, with the prefix of its id, in the order of the transaction."""
    written = [tuple(reference.split("-")[0].split("/")) for reference in assessment().resources]
    assert _rows() == written


@pytest.mark.parametrize("example", re.findall(r"```json\n(.*?)```", _PAGE, re.DOTALL))
def test_each_example_is_part_of_a_resource_as_it_is_written(example: str) -> None:
    """Not one value of an example differs from what an assessment of the test patient holds."""
    shown = json.loads(example)
    written = json.loads(resources_of(assessment())[shown["resourceType"]])
    assert {key: written[key] for key in shown} == shown


def test_systems_and_severities_are_those_of_the_tables() -> None:
    """Each system, tag and number of days that the page names is in force."""
    delivery = load_delivery()
    named = set(re.findall(r"urn:adjuvant:[a-z-]+", _PAGE))
    assert named <= {*delivery.systems.values(), FINGERPRINT, SUPERSEDED}
    assert {FINGERPRINT, SUPERSEDED, delivery.systems["assessment"], delivery.systems["mode"]} <= named
    assert f"ends {delivery.review_days} days after the landmark" in _PAGE
    assert all(f"`{tag}`" in _PAGE for tag in delivery.tags.values())
    assert AI_CONFIDENCE.endswith("/AIconfidence")
    assert {row.kind for row in delivery.issues.values()} - {"settled"} == {
        "insufficient-data",
        "out-of-distribution",
        "out-of-scope",
        "conflicting-data",
    }
