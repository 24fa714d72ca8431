"""Reading a transaction-response."""

from __future__ import annotations

import json

import pytest

from adapter.domain.ids import ResourceVersion
from adapter.errors import UnknownOutcome
from adapter.fhir.transaction import read_transaction_reply, version_in_location


def test_each_entry_says_what_became_of_it() -> None:
    """Status, version and issues, in the order they were sent; the outcome's words are dropped."""
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "information", "code": "informational"}]}
    entries = [
        {
            "response": {
                "status": "201 Created",
                "location": "CarePlan/c1/_history/1",
                "etag": 'W/"1"',
                "outcome": outcome,
            }
        },
        {"response": {"status": "200"}},
    ]
    content = json.dumps({"resourceType": "Bundle", "type": "transaction-response", "entry": entries}).encode()
    first, second = read_transaction_reply(content).entries
    assert (first.status, first.version) == (201, ResourceVersion("CarePlan", "c1", "1"))
    assert [issue.code for issue in first.issues] == ["informational"]
    assert (second.status, second.version, second.issues) == (200, None, ())


@pytest.mark.fault("F-06")
@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"{}", b'{"resourceType":"Bundle","type":"batch-response"}', b"[" * 10_000,
     b'{"resourceType":"Bundle","type":"transaction-response","entry":[{}]}',
     b'{"resourceType":"Bundle","type":"transaction-response","entry":[{"response":{"status":"fine"}}]}'],
)  # fmt: skip
def test_a_reply_that_cannot_be_read_leaves_the_outcome_unknown(content: bytes) -> None:
    """The server took it: what became of it has to be looked up, not assumed."""
    with pytest.raises(UnknownOutcome):
        read_transaction_reply(content)


@pytest.mark.parametrize(
    ("location", "version"),
    [
        ("https://ehr.invalid/r4/CarePlan/c1/_history/7", ResourceVersion("CarePlan", "c1", "7")),
        ("CarePlan/c1/_history/7", ResourceVersion("CarePlan", "c1", "7")),
        ("CarePlan/c1", None),
        ("CarePlan/c 1/_history/7", None),
        ("careplan/c1/_history/7", None),
        (None, None),
    ],
)
def test_a_location_names_a_version_or_none(location: str | None, version: ResourceVersion | None) -> None:
    """Absolute or relative; anything illegal is no version."""
    assert version_in_location(location) == version
