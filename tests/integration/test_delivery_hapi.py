"""Delivery to a real HAPI FHIR over a bad wire: looked up before anything is sent again, repaired where it was cut."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import uuid4

import httpx
import pytest

from adapter.domain.ids import PatientId, ResourceVersion
from adapter.domain.outcome import TransactionBundle
from adapter.errors import PeerUnavailable, UnknownOutcome, VersionConflict
from adapter.fhir.client import FhirClient
from adapter.fhir.entries import canonical_json, read_json
from adapter.fhir.limits import Limits
from adapter.fhir.submit import submit
from tests.adapter.fhir.test_unknown_outcome import DiesAt, LosesOne
from tests.fakes.assessments import assessment
from tests.fakes.postoperative import timeline
from tests.peers.hapi import Hapi

_STUBS: dict[str, dict[str, object]] = {
    "Observation": {"status": "final", "code": {"text": "stub"}},
    "Procedure": {"status": "completed"},
    "Condition": {},
}


def _own_assessment(hapi: Hapi) -> TransactionBundle:
    """An assessment of a patient of this test's own, whose inputs are on the server."""
    name = f"del-{uuid4().hex[:12]}"
    patient = timeline()
    person = replace(
        patient.person, patient_id=PatientId(name), identifiers=(), source=ResourceVersion("Patient", name, "1")
    )
    patient = replace(patient, person=person)
    with FhirClient(hapi.base_url) as client:
        client.put("Patient", name, canonical_json({"resourceType": "Patient", "id": name}))
        for source in patient.sources():
            if source.resource_type in _STUBS:
                stub = {
                    "resourceType": source.resource_type,
                    "id": source.resource_id,
                    "subject": {"reference": f"Patient/{name}"},
                    **_STUBS[source.resource_type],
                }
                client.put(source.resource_type, source.resource_id, canonical_json(stub))
    return assessment(patient, patient_id=name)


def _held_once(hapi: Hapi, bundle: TransactionBundle) -> bool:
    """Whether each resource of the assessment is there in its first version."""
    found = [httpx.get(f"{hapi.base_url}/{reference}") for reference in bundle.resources]
    return all(reply.status_code == 200 and reply.json()["meta"]["versionId"] == "1" for reply in found)


def _patient_client(hapi: Hapi, transport: httpx.BaseTransport) -> FhirClient:
    return FhirClient(hapi.base_url, transport=transport, limits=Limits(attempts=2, backoff_cap_seconds=0.0))


@pytest.mark.parametrize("carried_out", [True, False], ids=["carried out", "never arrived"])
def test_a_lost_reply_is_looked_up(hapi: Hapi, carried_out: bool) -> None:
    """F-06: one transaction, its reply lost: the next request is a look, and each resource is there once."""
    bundle = _own_assessment(hapi)
    wire = LosesOne(1, carried_out=carried_out)
    with _patient_client(hapi, wire) as client:
        submit(client, bundle)
    assert _held_once(hapi, bundle)
    after = wire.sent[wire.sent.index("lost") + 1 :]
    assert after[0] == "GET"
    assert ("POST" in after) is not carried_out


class _WithoutTransactions(DiesAt):
    """HAPI as a server that takes no transaction: only its statement says so; and a wire that may die."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if not request.url.path.endswith("/metadata"):
            return response
        response.read()
        statement = read_json(response.content)
        statement["rest"][0]["interaction"] = []  # type: ignore[index]
        return httpx.Response(200, content=canonical_json(statement), request=request)


def test_without_transactions_what_was_cut_is_repaired(hapi: Hapi) -> None:
    """K13: dead after its second write, another process completes the assessment: each resource once, version 1."""
    bundle = _own_assessment(hapi)
    with _patient_client(hapi, _WithoutTransactions(2)) as client, pytest.raises((UnknownOutcome, PeerUnavailable)):
        submit(client, bundle)
    assert not _held_once(hapi, bundle)
    with _patient_client(hapi, _WithoutTransactions(10_000)) as client:
        assert submit(client, bundle).written
        assert not submit(client, bundle).written
    assert _held_once(hapi, bundle)


def test_a_stale_if_match_is_a_conflict_by_either_number(hapi: Hapi) -> None:
    """F-42: HAPI answers 409 where others answer 412; what a clinician wrote meanwhile stays."""
    name = f"del-{uuid4().hex[:12]}"
    seen: list[int] = []

    class Watched(httpx.HTTPTransport):
        """The wire, with what the server answered to writes."""

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = super().handle_request(request)
            if request.method == "PUT":
                seen.append(response.status_code)
            return response

    def patient(**more: object) -> bytes:
        return json.dumps({"resourceType": "Patient", "id": name, **more}).encode()

    with FhirClient(hapi.base_url, transport=Watched()) as client:
        client.put("Patient", name, patient())
        client.put("Patient", name, patient(active=True), if_match="1")
        with pytest.raises(VersionConflict):
            client.put("Patient", name, patient(active=False), if_match="1")
    assert seen[-1] in {409, 412}
    assert httpx.get(f"{hapi.base_url}/Patient/{name}").json()["active"] is True
