"""Reading the head of a resource, an OperationOutcome, a reference."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.fhir.resource import identifiers_of, patient_in, read_issues

_BASE = "https://ehr.invalid/r4"


@given(st.text(max_size=60), st.sampled_from(["", "Patient/", f"{_BASE}/Patient/"]))
def test_a_reference_names_a_legal_patient_or_nobody(tail: str, head: str) -> None:
    """No reference, however odd, is taken for an id outside the FHIR grammar."""
    owner = patient_in(head + tail, _BASE)
    assert owner is None or (owner.isascii() and 1 <= len(owner) <= 64 and "/" not in owner)


@pytest.mark.fault("F-34")
@pytest.mark.parametrize(
    "reference",
    [None, "", "Patient", "Patient/", "Patient/a/b", "Patient/a/_history", "patient/a", "Group/a", "#a",
     "Patient/a?x", "Patient/a#b",
     "urn:uuid:0b1f2c3d", "https://other.invalid/r4/Patient/a", "https://ehr.invalid/r4x/Patient/a", "Patient/ a"],
)  # fmt: skip
def test_what_names_no_patient_of_ours_names_nobody(reference: str | None) -> None:
    """Other servers, other types, contained and logical references are not guessed at."""
    assert patient_in(reference, _BASE) is None


@pytest.mark.fault("F-37")
def test_an_outcome_loses_its_words() -> None:
    """Diagnostics, details and quoted values may name a patient: only code and path survive, and only legal ones."""
    issue = {
        "severity": "error",
        "code": "not-found",
        "diagnostics": "Secretname",
        "details": {"text": "Secretname"},
        "expression": ["Patient.name[0]", "Patient.name.where(family='Secretname')"],
    }
    odd = {"severity": "Secretname!", "code": "Secretname was born"}
    found = read_issues(json.dumps({"resourceType": "OperationOutcome", "issue": [issue, odd]}).encode())
    assert [str(entry) for entry in found] == ["not-found at Patient.name[0]", "unknown"]
    assert "Secretname" not in repr(found)


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b'{"resourceType":"Patient"}', b'{"issue":7}', b"\xff", b"[" * 10_000]
)
def test_an_error_page_has_no_issues(content: bytes) -> None:
    """A proxy's page is no OperationOutcome: the status has to be enough."""
    assert read_issues(content) == ()


def test_identifiers_are_pairs() -> None:
    """A list, a single one (as on Bundle and Device of some servers), or none that can be read."""
    pair = {"system": "urn:x", "value": "1"}
    assert identifiers_of(json.dumps({"identifier": [pair, {"value": "2"}]}).encode()) == {("urn:x", "1"), (None, "2")}
    assert identifiers_of(json.dumps({"identifier": pair}).encode()) == {("urn:x", "1")}
    assert identifiers_of(b'{"identifier":7}') == frozenset()
    assert identifiers_of(b"{}") == frozenset()
