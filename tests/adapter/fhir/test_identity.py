"""Merged patients: followed where the server confirms the merge, refused where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from adapter.domain.ids import PatientId
from adapter.errors import AmbiguousPatient, NoSuchPatient
from adapter.fhir.client import FhirClient
from adapter.fhir.identity import resolve_identity
from adapter.sandbox.faults import FhirFaults
from adapter.sandbox.fhir_server import FhirServer

_NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[FhirServer]:
    """One pretend server; each test uses ids of its own."""
    with FhirServer(lambda: _NOW) as running:
        yield running


@pytest.fixture
def client(server: FhirServer) -> Iterator[FhirClient]:
    """A client of it."""
    with FhirClient(server.base_url) as opened:
        yield opened


def patient(server: FhirServer, name: str, active: bool | None = None, **links: str) -> None:
    """Store a Patient; links: kind (underscore for dash) to the reference it names."""
    written: dict[str, object] = {"resourceType": "Patient", "id": name}
    if active is not None:
        written["active"] = active
    written["link"] = [
        {"type": kind.replace("_", "-"), "other": {"reference": reference}} for kind, reference in links.items()
    ]
    server.repository.update("Patient", name, written, None)


def ids(client: FhirClient, name: str) -> tuple[str, ...]:
    """The ids that count as one person, survivor first."""
    return tuple(resolve_identity(client, PatientId(name)).ids)


def test_whoever_is_asked_for_the_survivor_answers(server: FhirServer, client: FhirClient) -> None:
    """A chain of merges ends at one survivor, from whichever end it is entered; all resources come along."""
    patient(server, "a1", active=False, replaced_by="Patient/a2")
    patient(server, "a2", active=False, replaced_by="Patient/a3")
    patient(server, "a3", active=True)
    for name in ("a1", "a2", "a3"):
        assert ids(client, name) == ("a3", "a1", "a2")
    found = resolve_identity(client, PatientId("a1")).patients
    assert [resource.version.resource_id for resource in found] == ["a1", "a2", "a3"]


def test_a_server_that_cannot_search_links_is_served_by_the_survivors_own(
    server: FhirServer, client: FhirClient
) -> None:
    """`replaces` on the survivor leads back; a deleted alias still counts, because data may name it."""
    patient(server, "b1", active=False)
    patient(server, "b0")
    patient(server, "b2", replaces="Patient/b1", refer="Patient/b7", seealso="Patient/b8")
    assert ids(client, "b2") == ("b2", "b1")
    patient(server, "b2", replaces="Patient/b0")
    server.repository.delete("Patient", "b0")
    assert ids(client, "b2") == ("b2", "b0")


def test_one_who_was_never_merged_stands_alone(server: FhirServer, client: FhirClient) -> None:
    """No link, no alias; links of other kinds (`seealso`, `refer`) join nobody."""
    patient(server, "c1", seealso="Patient/c2")
    assert ids(client, "c1") == ("c1",)


def test_two_active_patients_are_not_joined_by_a_one_sided_claim(server: FhirServer, client: FhirClient) -> None:
    """A survivor claims a patient who does not confirm it: two people could become one, so it is refused."""
    patient(server, "d1", active=True)
    patient(server, "d2", active=True, replaces="Patient/d1")
    with pytest.raises(AmbiguousPatient):
        ids(client, "d2")
    assert ids(client, "d1") == ("d1",)


@pytest.mark.parametrize(
    "links",
    [
        {"e1": "Patient/e2", "e2": "Patient/e1"},
        {"e1": "Patient/e1"},
        {"e1": "Patient/e404"},
        {"e1": "http://elsewhere.invalid/fhir/Patient/e2"},
        {"e1": "Person/e2"},
        {"e1": "#contained"},
    ],
)
def test_links_that_lead_nowhere_are_refused(server: FhirServer, client: FhirClient, links: dict[str, str]) -> None:
    """A circle, a missing successor, another server, something that is no patient: AmbiguousPatient."""
    for name, successor in links.items():
        patient(server, name, replaced_by=successor)
    with pytest.raises(AmbiguousPatient):
        ids(client, "e1")


def test_two_successors_are_refused(server: FhirServer, client: FhirClient) -> None:
    """One patient replaced by two others: no rule says which."""
    written = {"type": "replaced-by"}
    links = [{**written, "other": {"reference": f"Patient/f{n}"}} for n in (2, 3)]
    server.repository.update("Patient", "f1", {"resourceType": "Patient", "id": "f1", "link": links}, None)
    with pytest.raises(AmbiguousPatient, match="2 patients"):
        ids(client, "f1")


def test_an_unknown_or_deleted_patient_is_named(server: FhirServer, client: FhirClient) -> None:
    """Never stored and deleted are told apart in the reason."""
    with pytest.raises(NoSuchPatient, match="is not on the server"):
        ids(client, "g404")
    patient(server, "g1")
    server.repository.delete("Patient", "g1")
    with pytest.raises(NoSuchPatient, match="was deleted"):
        ids(client, "g1")


def test_nothing_is_searched_that_the_server_does_not_offer() -> None:
    """Without a declared `link` search the survivor alone is read: one request for metadata, one for the Patient."""
    with FhirServer(lambda: _NOW, faults=FhirFaults(without_last_updated=True)) as server:
        patient(server, "h1")
        with FhirClient(server.base_url) as client:
            assert ids(client, "h1") == ("h1",)
