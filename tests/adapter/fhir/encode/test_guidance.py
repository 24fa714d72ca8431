"""What a stop leaves behind in the EHR: the response, the issue, the review, each pointing at the same inputs."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from adapter.decision.gates import STOP_CODES
from adapter.decision.policy import load_policy
from adapter.decision.propose import propose
from adapter.domain.outcome import TransactionBundle
from adapter.domain.plan import GateState, Verdict
from adapter.fhir.delivery import OutputMode, load_delivery
from adapter.fhir.encode import account_of, encode_transaction, subject_of
from adapter.fhir.policy_export import export_policy
from adapter.terminology import load_terminology
from tests.fakes.assessments import BASE_URL, MAPPING_DIGEST, assessment, complete_records, resources_of
from tests.fakes.postoperative import LANDMARK, SURGERY, forecast, timeline
from tests.fakes.vignettes import timeline_of, vignettes

Json = dict[str, Any]


def _read(bundle: TransactionBundle, resource_type: str) -> Json:
    resource: Json = json.loads(resources_of(bundle)[resource_type])
    return resource


def test_every_missing_finding_is_asked_for() -> None:
    """`data-required` exactly where a rule could not be assessed, each feature once, in every hand-written case."""
    seen = set()
    for case in vignettes():
        patient = timeline_of(case)
        proposal = propose(forecast(patient), patient, case.policy)
        missing = sorted({feature for reason in proposal.reasons for feature in reason.missing})
        response = _read(assessment(patient, policy=case.policy), "GuidanceResponse")
        asked = [entry["codeFilter"][0]["code"][-1]["code"] for entry in response.get("dataRequirement", [])]
        assert asked == missing, case.name
        assert response["status"] == ("data-required" if missing else "success")
        seen.add(response["status"])
    assert seen == {"data-required", "success"}


def test_what_is_missing_is_asked_for_in_the_sites_own_codes() -> None:
    """A stranger's EHR knows LOINC and not our names: every verified code of the feature stands beside our own."""
    terminology, policy = load_terminology(), complete_records()
    patient = timeline(changes={"ecog": None})
    risk = forecast(patient)
    bundle = encode_transaction(
        risk,
        propose(risk, patient, policy),
        subject=subject_of(patient, base_url=BASE_URL),
        account=account_of(patient, policy, mapping_digest=MAPPING_DIGEST, vocabulary=terminology.features),
        policy=policy,
        delivery=load_delivery(),
        mode=OutputMode.RESEARCH,
    )
    wanted = [
        {code["code"] for code in entry["codeFilter"][0]["code"]}
        for entry in _read(bundle, "GuidanceResponse")["dataRequirement"]
    ]
    assert any({"89247-1", "ecog"} <= codes for codes in wanted)


def test_what_is_no_observation_is_asked_for_as_what_it_is() -> None:
    """Earlier radiotherapy would come as a Procedure, another cancer as a Condition."""
    response = _read(assessment(), "GuidanceResponse")  # the shipped policy assumes nothing of what is not on record
    types = {entry["codeFilter"][0]["code"][-1]["code"]: entry["type"] for entry in response["dataRequirement"]}
    assert types["prior_rt_neck"] == "Procedure"
    assert types["second_primary"] == "Condition"


def test_the_response_names_the_definitions_that_policy_export_writes() -> None:
    """The module called, and each activity's definition, are canonicals of the exported policy in its version."""
    policy = complete_records()
    exported = json.loads(export_policy(policy, load_delivery(), OutputMode.RESEARCH))
    known = {f"{entry['resource']['url']}|{entry['resource']['version']}" for entry in exported["entry"]}
    bundle = assessment(policy=policy)
    plan = _read(bundle, "CarePlan")
    assert _read(bundle, "GuidanceResponse")["moduleCanonical"] in known
    assert set(plan["instantiatesCanonical"]) <= known
    named = {name for activity in plan["activity"] for name in activity["detail"]["instantiatesCanonical"]}
    assert named
    assert named <= known


def test_a_stop_is_one_issue_and_a_settled_matter_none() -> None:
    """Every case whose gate stopped has one final issue with the gate's code, unless the rules have settled it."""
    delivery = load_delivery()
    silent = set()
    for case in vignettes():
        patient = timeline_of(case)
        proposal = propose(forecast(patient), patient, case.policy)
        stop = next((gate for gate in proposal.gates if gate.state is GateState.STOPPED), None)
        board = any(one.action == "MDT" and one.verdict is Verdict.CONCORDANT for one in proposal.actions)
        found = resources_of(assessment(patient, policy=case.policy)).get("DetectedIssue")
        if found is None:
            assert stop is None or delivery.issues[stop.code].severity is None
            assert not board or stop is None
            silent.add(stop.code if stop else "")
            continue
        issue = json.loads(found)
        assert stop is not None
        assert issue["status"] == "final"
        assert issue["code"]["coding"][0]["code"] == stop.code
        assert issue["severity"] in {"high", "moderate", "low"}
        assert stop.resolve in issue["detail"]
        assert issue["evidence"]
    assert silent == {"single-allowed-action"}


def test_an_issue_points_at_what_was_read() -> None:
    """An impossible kidney: the issue's evidence holds the very version of the creatinine that forbids cisplatin."""
    bundle = assessment(timeline(changes={"creatinine": 250.0}), policy=complete_records())
    issue = _read(bundle, "DetectedIssue")
    details = [detail["reference"] for entry in issue["evidence"] for detail in entry["detail"]]
    assert "Observation/creatinine/_history/1" in details
    implicated = {one["reference"] for one in issue["implicated"]}
    assert implicated == {f"RiskAssessment/ra-{bundle.assessment_id}", f"CarePlan/cp-{bundle.assessment_id}"}


def test_every_stop_has_its_row() -> None:
    """A gate with a new code and no wording for it is refused when the tables are read, not at the first patient."""
    assert load_delivery().issues.keys() == STOP_CODES


def test_the_review_is_due_a_fixed_time_after_the_landmark() -> None:
    """Fourteen days by the table, never by the clock; the board is asked for by name where the rules cannot decide."""
    bundle = assessment()
    task = _read(bundle, "Task")
    start, end = (datetime.fromisoformat(task["restriction"]["period"][name]) for name in ("start", "end"))
    assert (start, end) == (LANDMARK, LANDMARK + timedelta(days=14))
    assert (task["status"], task["intent"]) == ("requested", "order")
    assert task["code"]["coding"][0]["code"] == "approve"
    assert task["focus"] == {"reference": f"CarePlan/cp-{bundle.assessment_id}"}
    assert task["for"] == {"reference": "Patient/p1"}
    assert task["reasonReference"] == {"reference": f"DetectedIssue/di-{bundle.assessment_id}"}
    assert "tumour board" in task["description"]


def test_the_review_comes_before_radiotherapy_should_start() -> None:
    """Five weeks after surgery a week is left to start in time: the review is due by then, not after it."""
    late = timeline(landmark=SURGERY + timedelta(days=35), changes={"pN": "pN1", "ene_path": "negative"})
    bundle = assessment(late, policy=complete_records())
    windows = [
        activity["detail"]["scheduledPeriod"]["end"]
        for activity in _read(bundle, "CarePlan")["activity"]
        if activity["detail"]["code"]["coding"][-1]["code"] == "PORT"
    ]
    due = _read(bundle, "Task")["restriction"]["period"]["end"]
    assert [due] == windows
    assert datetime.fromisoformat(due) == SURGERY + timedelta(days=42)


def test_the_model_card_is_in_the_record_word_for_word() -> None:
    """Device, Provenance and the card itself are linked, and the card holds the text of the bundle."""
    bundle = assessment()
    card, device, provenance = (_read(bundle, kind) for kind in ("DocumentReference", "Device", "Provenance"))
    attachment = card["content"][0]["attachment"]
    text = base64.b64decode(attachment["data"])
    assert text.startswith(b"# Model card")
    assert attachment["hash"] == base64.b64encode(hashlib.sha1(text, usedforsecurity=False).digest()).decode()
    reference = f"DocumentReference/{card['id']}"
    assert reference in [one.get("valueReference", {}).get("reference") for one in device["extension"]]
    derived = [one["what"].get("reference") for one in provenance["entity"] if one["role"] == "derivation"]
    assert reference in derived


def test_another_policy_or_another_table_is_another_device_and_the_same_card() -> None:
    """A Device lists its versions and is never edited: model, operator set, contract, tables and policy."""
    shipped, site = assessment(), assessment(policy=complete_records())
    device = _read(shipped, "Device")
    assert [entry["type"]["text"] for entry in device["version"]] == [
        "model",
        "manifest SHA-256",
        "ONNX operator set",
        "model input contract SHA-256",
        "mapping tables SHA-256",
        "policy",
    ]
    assert device["version"][-1]["value"] == load_policy().version
    assert device["id"] != _read(site, "Device")["id"]
    assert resources_of(shipped)["DocumentReference"] == resources_of(site)["DocumentReference"]


@pytest.mark.parametrize("kind", ["RiskAssessment", "CarePlan", "DetectedIssue", "GuidanceResponse", "Task"])
def test_provenance_targets_everything_about_the_patient(kind: str) -> None:
    """Whoever asks whence a resource came finds the one Provenance of its assessment."""
    bundle = assessment()
    targets = {one["reference"] for one in _read(bundle, "Provenance")["target"]}
    assert next(name for name in bundle.resources if name.startswith(f"{kind}/")) in targets
