"""Submitting: once, however often, from however many processes, whatever the server can or cannot do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import httpx
import pytest

from adapter.domain.ids import ResourceVersion
from adapter.domain.outcome import TransactionBundle, WriteReceipt
from adapter.errors import PeerUnavailable, UnknownOutcome, UnsupportedPeer, VersionConflict, WriteRefused
from adapter.fhir.client import FhirClient
from adapter.fhir.entries import canonical_json, read_json
from adapter.fhir.limits import Limits
from adapter.fhir.submit import submit
from adapter.sandbox.faults import FhirFaults
from adapter.sandbox.fhir_server import FhirServer
from tests.fakes.assessments import assessment, resources_of
from tests.fakes.postoperative import timeline

_WRITTEN = (
    "DocumentReference",
    "Device",
    "RiskAssessment",
    "CarePlan",
    "DetectedIssue",
    "GuidanceResponse",
    "Task",
    "Provenance",
)
_SERVERS = {
    "transaction and client ids": FhirFaults(),
    "client ids only": FhirFaults(without_transaction=True),
    "transaction, server ids": FhirFaults(without_update_create=True),
    "server ids, one by one": FhirFaults(without_update_create=True, without_transaction=True),
    "neither conditional": FhirFaults(
        without_update_create=True, without_transaction=True, without_conditional_create=True
    ),
}


def _clock() -> Callable[[], datetime]:
    """A clock that stands still at an odd offset; the server makes its times rise by itself."""
    moment = datetime(2026, 3, 21, 12, 0, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    return lambda: moment


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[FhirServer]:
    with FhirServer(_clock(), faults=getattr(request, "param", FhirFaults())) as running:
        _load_patient(running)
        yield running


def _load_patient(server: FhirServer) -> None:
    """The patient whom the result is about."""
    server.repository.update("Patient", "p1", {"resourceType": "Patient", "id": "p1"}, None)


def _client(server: FhirServer, transport: httpx.BaseTransport | None = None) -> FhirClient:
    limits = Limits(attempts=2, backoff_start_seconds=0.0, backoff_cap_seconds=0.0)
    return FhirClient(server.base_url, transport=transport, limits=limits)


def _submit(server: FhirServer, bundle: TransactionBundle) -> WriteReceipt:
    with _client(server) as client:
        return submit(client, bundle)


def _version(receipt: WriteReceipt, resource_type: str) -> ResourceVersion:
    """What was written of one type."""
    return next(version for version in receipt.versions if version.resource_type == resource_type)


def _counts(server: FhirServer) -> dict[str, int]:
    return {kind: server.repository.counts().get(kind, 0) for kind in _WRITTEN}


_ONCE = dict.fromkeys(_WRITTEN, 1)


@pytest.mark.parametrize("server", _SERVERS.values(), ids=_SERVERS.keys(), indirect=True)
def test_submitting_ten_times_writes_once(server: FhirServer) -> None:
    """Ten submissions leave one of each resource, each in its first version, on every kind of server."""
    bundle = assessment()
    receipts = [_submit(server, bundle) for _ in range(10)]
    assert _counts(server) == _ONCE
    assert [receipt.written for receipt in receipts] == [True] + [False] * 9
    assert len({receipt.versions for receipt in receipts}) == 1
    assert all(version.version == "1" for version in receipts[0].versions)
    assert tuple(version.resource_type for version in receipts[0].versions) == _WRITTEN


@pytest.mark.parametrize("server", _SERVERS.values(), ids=_SERVERS.keys(), indirect=True)
def test_what_stands_on_the_server_is_what_was_encoded(server: FhirServer) -> None:
    """Only ids and references differ where the server chooses ids; every reference leads to a resource."""
    bundle = assessment()
    receipt = _submit(server, bundle)
    for version in receipt.versions:
        stored = server.repository.read(version.resource_type, version.resource_id).resource
        ours = json.loads(resources_of(bundle)[version.resource_type])
        assert {key for key in stored if key != "meta"} == {key for key in ours if key != "meta"}
    plan = server.repository.read("CarePlan", _version(receipt, "CarePlan").resource_id).resource
    assessed = f"RiskAssessment/{_version(receipt, 'RiskAssessment').resource_id}"
    assert plan["supportingInfo"] == [{"reference": assessed}]
    provenance = server.repository.read("Provenance", _version(receipt, "Provenance").resource_id).resource
    assert {"reference": assessed} in provenance["target"]  # type: ignore[operator]


@pytest.mark.fault("F-43")
@pytest.mark.parametrize("name", ["transaction and client ids", "transaction, server ids"])
def test_two_writers_at_once_write_once(name: str) -> None:
    """Eight writers at the same moment leave one of each resource in its first version (F-43)."""
    bundle = assessment()
    with FhirServer(_clock(), faults=_SERVERS[name]) as server:
        _load_patient(server)
        barrier = threading.Barrier(8)

        def write() -> WriteReceipt:
            barrier.wait()
            return _submit(server, bundle)

        with ThreadPoolExecutor(8) as pool:
            receipts = [future.result() for future in [pool.submit(write) for _ in range(8)]]
        assert len({receipt.versions for receipt in receipts}) == 1
        assert _counts(server) == _ONCE
        assert all(version.version == "1" for version in receipts[0].versions)


@pytest.mark.fault("F-06")
@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_reply_is_looked_up_not_repeated(lost: int) -> None:
    """A write whose reply was lost is found by the next look: no second resource (F-06)."""
    for faults in (FhirFaults(lost_replies=lost), FhirFaults(lost_replies=lost, without_update_create=True)):
        with FhirServer(_clock(), faults=faults) as server:
            _load_patient(server)
            receipt = _submit(server, assessment())
            assert receipt.written
            assert _counts(server) == _ONCE


@pytest.mark.fault("F-42")
def test_a_clinicians_edit_is_kept(server: FhirServer) -> None:
    """A CarePlan that somebody accepted stays as it is, at its version, however often we submit (F-42)."""
    bundle = assessment()
    first = _submit(server, bundle)
    plan_id = _version(first, "CarePlan").resource_id
    edited = dict(server.repository.read("CarePlan", plan_id).resource)
    edited["status"] = "active"
    server.repository.update("CarePlan", plan_id, edited, None)
    receipt = _submit(server, bundle)
    assert not receipt.written
    assert _version(receipt, "CarePlan").version == "2"
    assert server.repository.read("CarePlan", plan_id).resource["status"] == "active"


@pytest.mark.fault("F-42")
def test_a_withdrawn_assessment_stays_withdrawn(server: FhirServer) -> None:
    """What somebody deleted on the server is not written again."""
    bundle = assessment()
    plan = _version(_submit(server, bundle), "CarePlan")
    server.repository.delete("CarePlan", plan.resource_id)
    receipt = _submit(server, bundle)
    assert not receipt.written
    assert "CarePlan" not in {version.resource_type for version in receipt.versions}


def test_a_second_assessment_shares_the_device(server: FhirServer) -> None:
    """Other inputs of the same model write what is theirs; Device and model card stay at their first version."""
    _submit(server, assessment())
    later = timeline(changes={"ecog": None})
    receipt = _submit(server, assessment(later))
    assert receipt.written
    assert _counts(server) == {kind: 1 if kind in {"DocumentReference", "Device"} else 2 for kind in _WRITTEN}
    assert _version(receipt, "Device").version == "1"


def test_a_half_written_assessment_is_completed() -> None:
    """Where there is no transaction, a worker killed after two writes leaves what the next one completes."""
    bundle = assessment()
    # The second server first refuses one PUT, which the wire counts and the repository does not.
    for faults, writes in ((_SERVERS["client ids only"], 2), (_SERVERS["server ids, one by one"], 3)):
        with FhirServer(_clock(), faults=faults) as server:
            _load_patient(server)
            with (
                _client(server, _CutAfter(writes=writes)) as client,
                pytest.raises((PeerUnavailable, UnknownOutcome)),
            ):
                submit(client, bundle)
            assert sum(_counts(server).values()) == 2
            assert _submit(server, bundle).written
            assert _counts(server) == _ONCE


class _CutAfter(httpx.HTTPTransport):
    """A real wire that is cut after a number of writes."""

    def __init__(self, *, writes: int) -> None:
        super().__init__()
        self._left = writes

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != "GET":
            if self._left == 0:
                raise httpx.ConnectError("cut")
            self._left -= 1
        return super().handle_request(request)


@pytest.mark.parametrize("server", [_SERVERS["transaction, server ids"]], indirect=True)
def test_a_doubled_resource_stops_with_its_name(server: FhirServer) -> None:
    """Two resources with our identifier are a conflict for a person: named, and nothing more is written (FR-08)."""
    bundle = assessment()
    ours = json.loads(resources_of(bundle)["RiskAssessment"])
    for _ in range(2):
        server.repository.create(ours)
    with pytest.raises(WriteRefused, match=r"RiskAssessment .* 2 times"):
        _submit(server, bundle)
    assert _counts(server)["CarePlan"] == 0


class _ReplacedReply(httpx.BaseTransport):
    """The real server behind a door that answers some requests itself."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response | None]) -> None:
        self._wire = httpx.HTTPTransport()
        self._answer = answer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._answer(request) or self._wire.handle_request(request)

    def close(self) -> None:
        self._wire.close()


def _without(*resource_types: str, server: FhirServer) -> Callable[[httpx.Request], httpx.Response | None]:
    """A server that neither declares nor knows some types."""

    def answer(request: httpx.Request) -> httpx.Response | None:
        if any(f"/{kind}" in request.url.path for kind in resource_types):
            return httpx.Response(404, json={"resourceType": "OperationOutcome", "issue": []}, request=request)
        if not request.url.path.endswith("/metadata"):
            return None
        statement = read_json(httpx.get(f"{server.base_url}/metadata").content)
        rest = statement["rest"][0]  # type: ignore[index]
        rest["resource"] = [entry for entry in rest["resource"] if entry["type"] not in resource_types]
        return httpx.Response(200, content=canonical_json(statement), request=request)

    return answer


_OPTIONAL = ("DocumentReference", "DetectedIssue", "GuidanceResponse", "Task")


@pytest.mark.parametrize("server", [FhirFaults(), FhirFaults(without_update_create=True)], indirect=True)
@pytest.mark.parametrize("missing", [*((kind,) for kind in _OPTIONAL), _OPTIONAL])
def test_what_a_server_does_not_offer_is_left_out_by_name(server: FhirServer, missing: tuple[str, ...]) -> None:
    """The result and whence it comes are written, nothing refers to what is not there, the receipt names the gap."""
    with _client(server, _ReplacedReply(_without(*missing, server=server))) as client:
        receipt = submit(client, assessment())
        again = submit(client, assessment())
    assert receipt.left_out == missing
    assert f"left out, the server does not offer: {', '.join(missing)}" in receipt.remarks
    assert _counts(server) == {kind: 0 if kind in missing else 1 for kind in _WRITTEN}
    for version in receipt.versions:
        written = json.dumps(server.repository.read(version.resource_type, version.resource_id).resource)
        assert not any(f'"{kind}/' in written for kind in missing)
        assert "[]" not in written
    assert (again.written, again.left_out) == (False, missing)


@pytest.mark.parametrize("lacking", ["update", "patient"])
def test_older_ones_that_cannot_be_marked_are_named(server: FhirServer, lacking: str) -> None:
    """Where tasks cannot be searched by patient, or only created, the receipt says that older ones stay unmarked."""

    def answer(request: httpx.Request) -> httpx.Response | None:
        if not request.url.path.endswith("/metadata"):
            return None
        statement = read_json(httpx.get(f"{server.base_url}/metadata").content)
        for entry in statement["rest"][0]["resource"]:  # type: ignore[index]
            if entry["type"] == "Task" and lacking == "patient":
                entry["searchParam"] = [
                    one for one in entry["searchParam"] if one["name"] not in {"patient", "subject"}
                ]
            elif lacking == "update":
                entry["interaction"] = [one for one in entry["interaction"] if one["code"] != "update"]
                entry["updateCreate"] = False
        return httpx.Response(200, content=canonical_json(statement), request=request)

    with _client(server, _ReplacedReply(answer)) as client:
        receipt = submit(client, assessment())
    assert "marking of older Task" in receipt.left_out
    assert _counts(server) == _ONCE


def test_a_server_without_risk_assessments_is_named(server: FhirServer) -> None:
    """An EHR that cannot hold RiskAssessment gets nothing, and the error says which type."""
    with (
        _client(server, _ReplacedReply(_without("RiskAssessment", server=server))) as client,
        pytest.raises(UnsupportedPeer, match="create RiskAssessment"),
    ):
        submit(client, assessment())
    assert sum(_counts(server).values()) == 0


def test_a_server_that_always_conflicts_is_left_after_three_tries(server: FhirServer) -> None:
    """409 on every transaction ends in the conflict itself, after a bounded number of attempts."""
    posts: list[httpx.Request] = []

    def conflict(request: httpx.Request) -> httpx.Response | None:
        if request.method != "POST":
            return None
        posts.append(request)
        return httpx.Response(409, json={"resourceType": "OperationOutcome", "issue": []}, request=request)

    with _client(server, _ReplacedReply(conflict)) as client, pytest.raises(VersionConflict):
        submit(client, assessment())
    assert len(posts) == 3


def test_a_server_that_takes_and_forgets_is_an_unknown_outcome(server: FhirServer) -> None:
    """A 200 that leaves nothing behind is not believed."""
    done = {"resourceType": "Bundle", "type": "transaction-response", "entry": []}

    def pretend(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(200, json=done, request=request) if request.method == "POST" else None

    with (
        _client(server, _ReplacedReply(pretend)) as client,
        pytest.raises(UnknownOutcome, match="still absent: DocumentReference/mc-"),
    ):
        submit(client, assessment())


def test_a_refusal_leaves_nothing(server: FhirServer) -> None:
    """422 for the transaction is a refusal for a data steward, and no part of it stands."""

    def refuse(request: httpx.Request) -> httpx.Response | None:
        if request.method != "POST":
            return None
        return httpx.Response(422, json={"resourceType": "OperationOutcome", "issue": []}, request=request)

    with (
        _client(server, _ReplacedReply(refuse)) as client,
        pytest.raises(WriteRefused),
    ):
        submit(client, assessment())
    assert sum(_counts(server).values()) == 0
