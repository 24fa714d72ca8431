"""Lost is what the server knows nothing of any more; withdrawn, or only called otherwise, is not lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import httpx
import pytest

from adapter.domain.tristate import TriState
from adapter.errors import PeerUnavailable
from adapter.fhir.client import FhirClient
from adapter.fhir.limits import Limits
from adapter.fhir.lost import is_lost
from adapter.fhir.submit import submit
from adapter.sandbox.faults import FhirFaults
from adapter.sandbox.fhir_server import FhirServer
from adapter.sandbox.repository import Resource
from tests.fakes.assessments import assessment

_NOW = datetime(2026, 3, 21, 12, tzinfo=timezone(timedelta(hours=5, minutes=45)))
_ID = assessment().assessment_id
_OTHER: Resource = {"resourceType": "RiskAssessment", "status": "final", "subject": {"reference": "Patient/p2"}}


class Ehr:
    """A server that was given one assessment. held: how it calls the RiskAssessment."""

    def __init__(self, server: FhirServer) -> None:
        """Deliver it."""
        self.server = server
        server.repository.update("Patient", "p1", {"resourceType": "Patient", "id": "p1"}, None)
        self.client = FhirClient(server.base_url, sleep=lambda _: None, limits=Limits(attempts=1))
        versions = submit(self.client, assessment()).versions
        self.held = next(version.resource_id for version in versions if version.resource_type == "RiskAssessment")

    def restore(self) -> None:
        """As from a backup that was taken before the delivery: no history, no tombstone."""
        del self.server.repository._versions["RiskAssessment", self.held]

    def lost(self) -> TriState:
        """What is said of it now."""
        return is_lost(self.client, self.held, _ID)


@pytest.fixture(params=[FhirFaults(), FhirFaults(without_update_create=True)], ids=["our ids", "its own ids"])
def ehr(request: pytest.FixtureRequest) -> Iterator[Ehr]:
    """Where we name resources, and where the server does."""
    with FhirServer(lambda: _NOW, faults=request.param) as server:
        running = Ehr(server)
        yield running
        running.client.close()


def test_what_is_there_takes_one_request(ehr: Ehr) -> None:
    """A night over a thousand patients must not cost more than a read each."""
    before = ehr.server.requests
    assert ehr.lost() is TriState.FALSE
    assert ehr.server.requests == before + 1


def test_what_a_restore_took_is_lost(ehr: Ehr) -> None:
    """404 and no resource of that name."""
    ehr.restore()
    assert ehr.lost() is TriState.TRUE


def test_a_search_that_is_no_search_leaves_the_read_standing(ehr: Ehr) -> None:
    """Where the server ignores `identifier`, or refuses to search, a 404 by id is answer enough."""
    ehr.restore()
    ehr.server.repository.create(_OTHER)
    ehr.server.faults = replace(ehr.server.faults, dropped_parameters=frozenset({"identifier"}))
    assert ehr.lost() is TriState.TRUE


def test_what_somebody_deleted_is_withdrawn(ehr: Ehr) -> None:
    """410: it is known and gone on purpose."""
    ehr.server.repository.delete("RiskAssessment", ehr.held)
    assert ehr.lost() is TriState.FALSE


def test_what_was_entered_in_error_is_withdrawn(ehr: Ehr) -> None:
    """It is there, and says of itself that it does not count."""
    stored = ehr.server.repository.read("RiskAssessment", ehr.held).resource
    ehr.server.repository.update("RiskAssessment", ehr.held, {**stored, "status": "entered-in-error"}, None)
    assert ehr.lost() is TriState.FALSE


def test_a_result_under_another_id_is_there(ehr: Ehr) -> None:
    """A server that was filled again numbers anew: the business identifier finds it."""
    stored = ehr.server.repository.read("RiskAssessment", ehr.held).resource
    ehr.restore()
    ehr.server.repository.create(stored)
    assert ehr.lost() is TriState.FALSE


def test_an_id_that_was_given_away_is_not_ours() -> None:
    """A restored server counts on from an older number, and the id that ours had belongs to somebody else's result."""
    with FhirServer(lambda: _NOW, faults=FhirFaults(without_update_create=True)) as server:
        ehr = Ehr(server)
        ehr.restore()
        server.repository.create(_OTHER, ehr.held)
        assert ehr.lost() is TriState.TRUE
        ehr.client.close()


def test_what_we_may_not_ask_is_not_said_to_be_lost(ehr: Ehr) -> None:
    """403 is the administrator's affair."""
    ehr.restore()
    ehr.server.faults = FhirFaults(forbidden=True)
    assert ehr.lost() is TriState.UNKNOWN


def test_a_server_that_offers_neither_way_is_not_asked(ehr: Ehr) -> None:
    """No read and no search declared: its 404 would be one for everybody."""
    bare = {
        "resourceType": "CapabilityStatement",
        "fhirVersion": "4.0.1",
        "rest": [{"mode": "server", "resource": [{"type": "RiskAssessment", "interaction": [{"code": "create"}]}]}],
    }

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=bare) if request.url.path.endswith("metadata") else httpx.Response(404)

    with FhirClient("http://ehr.test/fhir", transport=httpx.MockTransport(answer)) as client:
        assert is_lost(client, ehr.held, _ID) is TriState.UNKNOWN


def test_a_server_that_is_down_has_lost_nothing(ehr: Ehr) -> None:
    """The round stops and goes on later."""
    ehr.server.faults = FhirFaults(down=True)
    with pytest.raises(PeerUnavailable):
        ehr.lost()
