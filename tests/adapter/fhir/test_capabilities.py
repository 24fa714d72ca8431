"""Reading what a server declares."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from adapter.domain.tristate import TriState
from adapter.errors import UnsupportedPeer
from adapter.fhir.capabilities import read_capabilities
from adapter.sandbox.faults import FhirFaults
from adapter.sandbox.fhir_server import capability_statement


def statement(**more: object) -> bytes:
    """A CapabilityStatement with members replaced."""
    return json.dumps({**capability_statement(FhirFaults()), **more}).encode()


def test_a_full_server_has_no_gaps() -> None:
    """The pretend hospital declares all that reading and writing need."""
    capabilities = read_capabilities(statement())
    assert capabilities.gaps() == ()
    assert capabilities.transaction
    assert capabilities.update_create("CarePlan")
    assert capabilities.conditional_create("CarePlan")
    assert capabilities.patient_parameter("Observation") == "patient"
    assert capabilities.searches_by("Observation", "_lastUpdated")


@pytest.mark.parametrize("lacking", ["Observation", "Procedure", "Patient"])
def test_a_missing_type_is_named(lacking: str) -> None:
    """What the work cannot do without is in `gaps`, one phrase each."""
    rest = json.loads(statement())["rest"][0]
    kept = [entry for entry in rest["resource"] if entry["type"] != lacking]
    capabilities = read_capabilities(statement(rest=[{**rest, "resource": kept}]))
    assert len(capabilities.gaps()) == 1
    assert lacking in capabilities.gaps()[0]


@pytest.mark.fault("F-44")
def test_degraded_writing_is_seen() -> None:
    """No transaction, no client ids, no conditional create: each is told apart."""
    faults = FhirFaults(without_transaction=True, without_update_create=True)
    capabilities = read_capabilities(json.dumps(capability_statement(faults)).encode())
    assert (capabilities.transaction, capabilities.update_create("Device")) == (False, False)
    assert capabilities.conditional_create("Device")
    assert capabilities.client_ids("Device") is TriState.FALSE
    without = replace(faults, without_conditional_create=True)
    capabilities = read_capabilities(json.dumps(capability_statement(without)).encode())
    assert not capabilities.conditional_create("Device")


def test_silence_about_client_ids_is_unknown() -> None:
    """HAPI does not declare `updateCreate` and allows it: neither promise nor refusal."""
    rest = json.loads(statement())["rest"][0]
    for entry in rest["resource"]:
        del entry["updateCreate"]
    capabilities = read_capabilities(statement(rest=[rest]))
    assert capabilities.client_ids("Device") is TriState.UNKNOWN
    assert not capabilities.update_create("Device")


def test_parameters_for_every_type_count() -> None:
    """A server may declare `_lastUpdated` once for all; `subject` serves where `patient` is not declared."""
    kind = {"type": "Observation", "interaction": [{"code": "search-type"}], "searchParam": [{"name": "subject"}]}
    rest = [{"mode": "client"}, {"mode": "server", "searchParam": [{"name": "_lastUpdated"}], "resource": [kind]}]
    capabilities = read_capabilities(statement(rest=rest))
    assert capabilities.searches_by("Observation", "_lastUpdated")
    assert not capabilities.searches_by("Procedure", "_lastUpdated")
    assert capabilities.patient_parameter("Observation") == "subject"


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"[]", statement(resourceType="Bundle"), statement(fhirVersion="3.0.2"),
     statement(fhirVersion="4.3.0"),
     statement(fhirVersion="5.0.0"), statement(rest=[{"mode": "client"}]), statement(rest="none"), b"[" * 10_000],
)  # fmt: skip
def test_another_version_or_no_statement_is_refused(content: bytes) -> None:
    """Only R4 (4.0.x) is spoken; anything else is the administrator's to solve."""
    with pytest.raises(UnsupportedPeer):
        read_capabilities(content)
