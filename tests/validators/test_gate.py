"""What we write passes three offline validators, which together see every seeded defect."""

from __future__ import annotations

import json
import os
from datetime import datetime

import pytest

from adapter.decision.policy import load_policy
from adapter.fhir.delivery import OutputMode
from tests.fakes.assessments import assessment, complete_records, resources_of
from tests.fakes.postoperative import banded_curves, timeline
from tests.validators.defects import DEFECTS, with_defect
from tests.validators.gate import GateMissing, errors_of


def _ask(resources: list[bytes]) -> list[dict[str, list[str]]]:
    try:
        return errors_of(resources)
    except GateMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


pytestmark = pytest.mark.real  # a validator in Node.js, started anew for each file set


def test_together_they_catch_thirteen_of_thirteen() -> None:
    """The gate itself is tested: each seeded defect is seen by at least one of the three."""
    ours = resources_of(assessment())
    found = dict(zip(DEFECTS, _ask([with_defect(name, ours) for name in DEFECTS]), strict=True))
    assert len(found) == 13
    assert [name for name, errors in found.items() if not any(errors.values())] == []


def test_no_single_one_is_enough() -> None:
    """Whoever drops one of the three loses a defect; the gate keeps all."""
    ours = resources_of(assessment())
    answers = _ask([with_defect(name, ours) for name in DEFECTS])
    for dropped in ("fhirkit", "pyrofile", "medplum"):
        kept = [any(errors for name, errors in answer.items() if name != dropped) for answer in answers]
        assert not all(kept), dropped


def test_everything_we_write_passes() -> None:
    """Every kind of assessment, in every mode that may be written, has no error in any validator."""
    complete = complete_records()
    bundles = [
        assessment(mode=OutputMode.DEMO),
        assessment(policy=complete),
        assessment(policy=complete, output=banded_curves()),
        assessment(timeline(changes={"creatinine": 250.0}), policy=complete),
        assessment(timeline(changes={"ene_path": "negative", "pN": "pN1", "pT": "pT2"}), policy=complete),
        assessment(timeline(changes={"histology": "not_scc"}), policy=complete),
        assessment(timeline(landmark=datetime.fromisoformat("2027-04-01T08:00:00+08:00")), policy=load_policy()),
    ]
    resources = [content for bundle in bundles for content in resources_of(bundle).values()]
    for content, answer in zip(resources, _ask(resources), strict=True):
        assert not any(answer.values()), (json.loads(content)["resourceType"], answer)
