"""F-06: whatever write loses its reply, carried out or not, it is looked up before anything is sent again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import httpx
import pytest

from adapter.errors import PeerUnavailable, UnknownOutcome
from adapter.fhir.client import FhirClient
from adapter.fhir.limits import Limits
from adapter.fhir.submit import submit
from adapter.sandbox.faults import FhirFaults
from adapter.sandbox.fhir_server import FhirServer
from tests.fakes.assessments import assessment

_ONE_BY_ONE = FhirFaults(without_transaction=True)
_SERVERS = {
    "transaction, client ids": FhirFaults(),
    "transaction, server ids": FhirFaults(without_update_create=True),
    "one by one, client ids": _ONE_BY_ONE,
    "one by one, server ids": FhirFaults(without_update_create=True, without_transaction=True),
    "nothing conditional": FhirFaults(
        without_update_create=True, without_transaction=True, without_conditional_create=True
    ),
}
_MOMENT = datetime(2026, 3, 21, 12, 0, tzinfo=timezone(timedelta(hours=5, minutes=45)))


class LosesOne(httpx.HTTPTransport):
    """A real wire that loses one reply. sent: the method of each request, `lost` where the reply never came."""

    def __init__(self, number: int, *, carried_out: bool) -> None:
        """number: which write, counted from one. carried_out: whether the server got it."""
        super().__init__()
        self._number = number
        self._carried_out = carried_out
        self._writes = 0
        self.sent: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Pass on, or lose."""
        if request.method != "GET":
            self._writes += 1
            if self._writes == self._number:
                self.sent.append("lost")
                if self._carried_out:
                    super().handle_request(request).read()
                raise httpx.ReadError("cut")
        self.sent.append(request.method)
        return super().handle_request(request)

    @property
    def happened(self) -> bool:
        """Whether there was such a write."""
        return "lost" in self.sent


@contextmanager
def _server(faults: FhirFaults) -> Iterator[FhirServer]:
    with FhirServer(lambda: _MOMENT, faults=faults) as running:
        running.repository.update("Patient", "p1", {"resourceType": "Patient", "id": "p1"}, None)
        yield running


def _client(server: FhirServer, transport: httpx.BaseTransport | None = None) -> FhirClient:
    limits = Limits(attempts=2, backoff_start_seconds=0.0, backoff_cap_seconds=0.0)
    return FhirClient(server.base_url, transport=transport, limits=limits)


def _undisturbed(faults: FhirFaults) -> Mapping[str, int]:
    with _server(faults) as server, _client(server) as client:
        submit(client, assessment())
        return server.repository.counts()


@pytest.mark.parametrize("carried_out", [True, False], ids=["carried out", "never arrived"])
@pytest.mark.parametrize("faults", _SERVERS.values(), ids=_SERVERS.keys())
def test_each_write_in_turn_loses_its_reply(faults: FhirFaults, carried_out: bool) -> None:
    """Afterwards the server holds what an undisturbed delivery leaves, each in its first version."""
    expected = _undisturbed(faults)
    for number in range(1, 20):
        wire = LosesOne(number, carried_out=carried_out)
        with _server(faults) as server:
            with _client(server, wire) as client:
                receipt = submit(client, assessment())
            assert server.repository.counts() == expected, f"write {number}"
            assert {version.version for version in receipt.versions} == {"1"}
        if not wire.happened:
            assert number > 1
            return
        after = wire.sent[wire.sent.index("lost") + 1 :]
        assert after[0] == "GET", f"write {number} was followed by {after[0]}"
    raise AssertionError("an assessment of twenty writes?")


def test_a_delivery_that_died_is_repaired_by_the_next() -> None:
    """Without transactions: the process that lost the reply is gone, another one completes what it began."""
    expected = _undisturbed(_ONE_BY_ONE)
    total = sum(expected.values()) - 1  # the patient was there
    for number in range(1, total + 1):
        with _server(_ONE_BY_ONE) as server:
            with _client(server, DiesAt(number)) as client, pytest.raises((UnknownOutcome, PeerUnavailable)):
                submit(client, assessment())
            assert sum(server.repository.counts().values()) == number + 1
            with _client(server) as client:
                assert submit(client, assessment()).written is (number < total)
            assert server.repository.counts() == expected


class DiesAt(httpx.HTTPTransport):
    """A wire that is gone for good with the reply to one write."""

    def __init__(self, number: int) -> None:
        """number: which write, counted from one."""
        super().__init__()
        self._left = number

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Pass on, or be gone."""
        if self._left <= 0:
            raise httpx.ReadError("gone")
        if request.method != "GET":
            self._left -= 1
            if self._left == 0:
                super().handle_request(request).read()
                raise httpx.ReadError("gone")
        return super().handle_request(request)


@pytest.mark.parametrize("status", [409, 412])
def test_a_conflict_is_looked_up_whatever_its_number(status: int) -> None:
    """HAPI answers 409 where others answer 412: either way somebody was faster, and theirs is found and kept."""

    def conflict_once() -> Callable[[httpx.Request], httpx.Response | None]:
        left = [1]

        def answer(request: httpx.Request) -> httpx.Response | None:
            if request.method == "GET" or not left[0]:
                return None
            left[0] -= 1
            return httpx.Response(status, json={"resourceType": "OperationOutcome", "issue": []}, request=request)

        return answer

    expected = _undisturbed(FhirFaults())
    with _server(FhirFaults()) as server:
        with _client(server, _Answering(conflict_once())) as client:
            assert submit(client, assessment()).written
        assert server.repository.counts() == expected


class _Answering(httpx.HTTPTransport):
    """The real server behind a door that answers some requests itself."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response | None]) -> None:
        super().__init__()
        self._answer = answer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._answer(request) or super().handle_request(request)
