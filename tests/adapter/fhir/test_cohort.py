"""Who is watched."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from adapter.domain.ids import PatientId, ResourceId
from adapter.errors import BadSettings, MalformedResource, PullIncomplete
from adapter.fhir.client import FhirClient
from adapter.fhir.cohort import GroupCohort, PatientList, SelectCohort, find_members
from adapter.sandbox.faults import FhirFaults
from adapter.sandbox.fhir_server import FhirServer

_NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_SELECT = SelectCohort.parse("Condition?code=http://snomed.info/sct|363505006")


@pytest.fixture
def server() -> Iterator[FhirServer]:
    """A server with a Group and two coded Conditions."""
    with FhirServer(lambda: _NOW) as running:
        for name, code in (("p1", "363505006"), ("p2", "363505006"), ("p3", "38341003")):
            condition: dict[str, object] = {
                "resourceType": "Condition",
                "id": f"c-{name}",
                "code": {"coding": [{"system": "http://snomed.info/sct", "code": code}]},
                "subject": {"reference": f"Patient/{name}"},
            }
            running.repository.update("Condition", f"c-{name}", condition, None)
        yield running


@pytest.fixture
def client(server: FhirServer) -> Iterator[FhirClient]:
    """A client of it."""
    with FhirClient(server.base_url) as opened:
        yield opened


def test_a_written_list_is_taken_as_it_is(client: FhirClient) -> None:
    """No request is needed to know a list."""
    cohort = PatientList(patients=(PatientId("p1"), PatientId("p9")))
    assert find_members(client, cohort, changed_since=None) == {"p1", "p9"}


def test_a_group_has_its_active_patients(server: FhirServer, client: FhirClient) -> None:
    """Inactive members, and members that are no patients of this server, do not belong."""
    members = [
        {"entity": {"reference": "Patient/p1"}},
        {"entity": {"reference": "Patient/p2"}, "inactive": True},
        {"entity": {"reference": "Device/d1"}},
        {"entity": {"reference": f"{server.base_url}/Patient/p3"}},
    ]
    server.repository.update("Group", "g1", {"resourceType": "Group", "id": "g1", "member": members}, None)
    assert find_members(client, GroupCohort(group_id=ResourceId("g1")), changed_since=None) == {"p1", "p3"}


def test_a_group_that_is_not_there_stops_the_start(server: FhirServer, client: FhirClient) -> None:
    """A wrong Group id is the administrator's; an unreadable member list is the steward's."""
    with pytest.raises(BadSettings):
        find_members(client, GroupCohort(group_id=ResourceId("g404")), changed_since=None)
    server.repository.update("Group", "g2", {"resourceType": "Group", "id": "g2", "member": "all"}, None)
    with pytest.raises(MalformedResource):
        find_members(client, GroupCohort(group_id=ResourceId("g2")), changed_since=None)


def test_a_search_selects_its_subjects(server: FhirServer, client: FhirClient) -> None:
    """The subjects of a coded search; of Patients themselves; only recent ones where asked."""
    assert find_members(client, _SELECT, changed_since=None) == {"p1", "p2"}
    assert find_members(client, _SELECT, changed_since=datetime(2027, 1, 1, tzinfo=UTC)) == frozenset()
    server.repository.update("Patient", "p7", {"resourceType": "Patient", "id": "p7"}, None)
    assert find_members(client, SelectCohort.parse("Patient?_id=p7"), changed_since=None) == {"p7"}


@pytest.mark.fault("F-44")
def test_a_dropped_filter_never_enrols_the_hospital(server: FhirServer, client: FhirClient) -> None:
    """A server that ignores the selection would put every patient under watch: PullIncomplete."""
    server.faults = FhirFaults(dropped_parameters=frozenset({"code"}))
    with pytest.raises(PullIncomplete, match="code"):
        find_members(client, _SELECT, changed_since=None)


@pytest.mark.parametrize("text", ["", "Condition", "Condition?", "?code=x", "http://x/Condition?code=1"])
def test_a_selection_without_a_filter_is_refused(text: str) -> None:
    """A bare type would select everybody."""
    with pytest.raises(BadSettings):
        SelectCohort.parse(text)
