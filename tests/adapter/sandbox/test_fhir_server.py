"""The pretend EHR behaves as a FHIR R4 server must, and misbehaves only as it is told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from adapter.sandbox.faults import FhirFaults, LinkStyle
from adapter.sandbox.fhir_server import FhirServer

_START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[FhirServer]:
    """A server whose clock stands still, so that only the repository's own rule moves time."""
    with FhirServer(lambda: _START) as running:
        yield running


def _observation(number: int, patient: str = "p1") -> dict[str, object]:
    return {"resourceType": "Observation", "id": f"o{number}", "subject": {"reference": f"Patient/{patient}"}}


def _put(server: FhirServer, resource: dict[str, object], **headers: str) -> httpx.Response:
    address = f"{server.base_url}/{resource['resourceType']}/{resource['id']}"
    return httpx.put(address, json=resource, headers=headers)


def _walk(server: FhirServer, query: str) -> list[str]:
    found: list[str] = []
    address: str | None = f"{server.base_url}/{query}"
    while address:
        page = httpx.get(address).json()
        found += [entry["resource"]["id"] for entry in page.get("entry", [])]
        address = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    return found


@pytest.mark.parametrize("style", LinkStyle)
def test_every_link_style_reads_to_the_end(server: FhirServer, style: LinkStyle) -> None:
    """Following `next` verbatim returns each match once, in every style."""
    server.faults = FhirFaults(link_style=style)
    for number in range(25):
        _put(server, _observation(number))
    _put(server, _observation(99, patient="p2"))
    assert sorted(_walk(server, "Observation?patient=p1&_count=10")) == sorted(f"o{n}" for n in range(25))


def test_an_identical_put_makes_no_new_version(server: FhirServer) -> None:
    """As HAPI does: the same content again answers 200 at version 1."""
    assert _put(server, _observation(1)).status_code == 201
    again = _put(server, _observation(1))
    assert (again.status_code, again.headers["etag"]) == (200, 'W/"1"')


def test_a_stale_if_match_is_refused(server: FhirServer) -> None:
    """Somebody else's edit is not overwritten: 412."""
    _put(server, _observation(1))
    _put(server, _observation(1, patient="p2"))
    assert _put(server, _observation(1, patient="p3"), **{"If-Match": 'W/"1"'}).status_code == 412


def test_a_transaction_with_one_bad_entry_leaves_nothing(server: FhirServer) -> None:
    """Rollback: the good entry before the bad one is gone too."""
    good = {"request": {"method": "PUT", "url": "Observation/o1"}, "resource": _observation(1)}
    bad = {"request": {"method": "PUT", "url": "Observation/other"}, "resource": _observation(2)}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [good, bad]}
    assert httpx.post(server.base_url, json=bundle).status_code == 400
    assert server.repository.counts() == {}


def test_a_conditional_create_creates_once(server: FhirServer) -> None:
    """If-None-Exist: 201, then 200 with the same resource; two matches are 412."""
    device = {"resourceType": "Device", "identifier": [{"system": "urn:x", "value": "1"}]}
    asked = {"If-None-Exist": "identifier=urn:x|1"}
    first = httpx.post(f"{server.base_url}/Device", json=device, headers=asked)
    second = httpx.post(f"{server.base_url}/Device", json=device, headers=asked)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    httpx.post(f"{server.base_url}/Device", json=device)
    assert httpx.post(f"{server.base_url}/Device", json=device, headers=asked).status_code == 412


def test_a_lost_reply_hides_a_write_that_happened(server: FhirServer) -> None:
    """F-06: the connection breaks, and the resource is there."""
    server.faults = FhirFaults(lost_replies=1)
    with pytest.raises(httpx.TransportError):
        _put(server, _observation(1))
    assert server.repository.counts() == {"Observation": 1}


def test_last_updated_finds_what_came_later(server: FhirServer) -> None:
    """Time only rises, and `ge` includes the moment itself."""
    _put(server, _observation(1))
    _put(server, _observation(2))
    later = server.repository.read("Observation", "o2").last_updated
    assert later - _START < timedelta(seconds=1)
    stamp = later.isoformat().replace("+00:00", "Z")
    assert _walk(server, f"Observation?_lastUpdated=ge{stamp}") == ["o2"]


def test_a_dropped_parameter_is_absent_from_self(server: FhirServer) -> None:
    """F-44: the server ignores `patient` and its `self` link admits it."""
    server.faults = FhirFaults(dropped_parameters=frozenset({"patient"}))
    _put(server, _observation(1, patient="p2"))
    page = httpx.get(f"{server.base_url}/Observation?patient=p1").json()
    assert [entry["resource"]["id"] for entry in page["entry"]] == ["o1"]
    assert "patient" not in page["link"][0]["url"]


@pytest.mark.parametrize("query", ["Observation?nonsense=1", "Observation?_lastUpdated=ge2026-99"])
def test_what_the_server_cannot_search_is_an_outcome(server: FhirServer, query: str) -> None:
    """400 with an OperationOutcome, as HAPI answers."""
    reply = httpx.get(f"{server.base_url}/{query}")
    assert (reply.status_code, reply.json()["resourceType"]) == (400, "OperationOutcome")


def test_every_version_can_be_read_again(server: FhirServer) -> None:
    """By vread and history, what an output cites as its basis stays readable."""
    _put(server, _observation(1))
    _put(server, _observation(1, patient="p2"))
    first = httpx.get(f"{server.base_url}/Observation/o1/_history/1").json()
    assert first["subject"] == {"reference": "Patient/p1"}
    assert len(httpx.get(f"{server.base_url}/Observation/o1/_history").json()["entry"]) == 2
