"""A newer assessment takes the place of an older one, once, and never of what somebody else has touched."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from adapter.domain.ids import BusinessIdentifier, ResourceVersion
from adapter.domain.outcome import TransactionBundle, WriteReceipt
from adapter.errors import PeerUnavailable, PullIncomplete, UnknownOutcome, WrongPatient
from adapter.fhir.client import FhirClient
from adapter.fhir.delivery import OutputMode
from adapter.fhir.fingerprint import FINGERPRINT, SUPERSEDED
from adapter.fhir.limits import Limits
from adapter.fhir.submit import submit
from adapter.sandbox.faults import FhirFaults
from adapter.sandbox.fhir_server import FhirServer
from tests.fakes.assessments import abstention, assessment
from tests.fakes.postoperative import LANDMARK, timeline, version

_SERVERS = {
    "transaction and client ids": FhirFaults(),
    "client ids only": FhirFaults(without_transaction=True),
    "transaction, server ids": FhirFaults(without_update_create=True),
    "server ids, one by one": FhirFaults(without_update_create=True, without_transaction=True),
}
_MARKED = ("RiskAssessment", "CarePlan", "DetectedIssue", "Task")
Json = dict[str, Any]


def _clock() -> Callable[[], datetime]:
    moment = datetime(2026, 3, 21, 12, 0, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    return lambda: moment


def _open(faults: FhirFaults) -> FhirServer:
    server = FhirServer(_clock(), faults=faults)
    for name in ("p1", "p2"):
        server.repository.update("Patient", name, {"resourceType": "Patient", "id": name}, None)
    return server


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[FhirServer]:
    with _open(getattr(request, "param", FhirFaults())) as running:
        yield running


on_every_server = pytest.mark.parametrize("server", _SERVERS.values(), ids=_SERVERS.keys(), indirect=True)


def _submit(
    server: FhirServer, bundle: TransactionBundle, transport: httpx.BaseTransport | None = None
) -> WriteReceipt:
    limits = Limits(attempts=2, backoff_start_seconds=0.0, backoff_cap_seconds=0.0)
    with FhirClient(server.base_url, transport=transport, limits=limits) as client:
        return submit(client, bundle)


def _older(**changes: Any) -> TransactionBundle:  # noqa: ANN401 (of `assessment`)
    return assessment(**changes)


def _newer(**changes: Any) -> TransactionBundle:  # noqa: ANN401 (of `assessment`)
    return assessment(timeline(landmark=LANDMARK + timedelta(days=3)), **changes)


def _held(server: FhirServer, bundle: TransactionBundle) -> dict[str, Json]:
    """What the server holds of one assessment, by type; ids may be the server's own."""
    found: dict[str, Json] = {}
    for kind in _MARKED:
        for stored in server.repository.current(kind):
            names = [entry["value"] for entry in stored.resource.get("identifier", [])]  # type: ignore[attr-defined]
            if any(name.endswith(bundle.assessment_id) for name in names):
                found[kind] = stored.resource
    return found


def _superseded_by(resource: Json) -> str | None:
    return next((tag["code"] for tag in resource["meta"]["tag"] if tag["system"] == SUPERSEDED), None)


def _is_marked(held: dict[str, Json], by: TransactionBundle) -> bool:
    return all(_superseded_by(resource) == by.assessment_id for resource in held.values())


@on_every_server
def test_a_later_landmark_takes_the_place_of_our_untouched_draft(server: FhirServer) -> None:
    """The old draft is revoked, its task cancelled, forecast and issue noted; the new plan names what it replaces."""
    older, newer = _older(), _newer()
    _submit(server, older)
    receipt = _submit(server, newer)
    old, new = _held(server, older), _held(server, newer)
    assert _is_marked(old, newer)
    assert old["CarePlan"]["status"] == "revoked"
    assert old["Task"]["status"] == "cancelled"
    assert newer.assessment_id in old["Task"]["statusReason"]["text"]
    assert old["RiskAssessment"]["status"] == "preliminary"
    assert "Superseded by assessment" in old["RiskAssessment"]["note"][-1]["text"]
    assert "Superseded by assessment" in old["DetectedIssue"]["mitigation"][-1]["action"]["text"]
    assert new["CarePlan"]["replaces"] == [{"reference": f"CarePlan/{old['CarePlan']['id']}"}]
    assert (new["CarePlan"]["status"], new["Task"]["status"]) == ("draft", "requested")
    assert sorted(mark.resource_type for mark in receipt.superseded) == sorted(_MARKED)
    assert receipt.kept == ()


def test_a_corrected_input_takes_the_place_at_the_same_landmark(server: FhirServer) -> None:
    """A finding in a second version is another assessment at the same landmark: the one delivered now stands."""
    patient = timeline()
    corrected = replace(
        patient,
        measurements=tuple(
            replace(entry, source=version("Observation", "creatinine", "2")) if entry.feature == "creatinine" else entry
            for entry in patient.measurements
        ),
    )
    older, newer = assessment(patient), assessment(corrected)
    assert older.assessment_id != newer.assessment_id
    _submit(server, older)
    _submit(server, newer)
    assert _is_marked(_held(server, older), newer)
    assert not _is_marked(_held(server, newer), older)


@on_every_server
def test_ten_deliveries_mark_once(server: FhirServer) -> None:
    """Marking again changes nothing: the old resources stay at their second version, the new at their first."""
    older, newer = _older(), _newer()
    _submit(server, older)
    for _ in range(10):
        receipt = _submit(server, newer)
    assert sorted(version.resource_type for version in receipt.superseded) == sorted(_MARKED)
    assert {version.version for version in receipt.superseded} == {"2"}
    assert {one["meta"]["versionId"] for one in _held(server, older).values()} == {"2"}
    assert {one["meta"]["versionId"] for one in _held(server, newer).values()} == {"1"}


def _accept(plan: Json) -> None:
    plan["status"] = "active"


def _change_words(plan: Json) -> None:
    plan["note"] = [*plan["note"], {"text": "Patient declines cisplatin."}]


def _label(plan: Json) -> None:
    plan["meta"]["tag"] = [*plan["meta"]["tag"], {"system": "urn:example:ward", "code": "board"}]


def _unlabel(plan: Json) -> None:
    plan["meta"]["security"] = []


def _take_over(plan: Json) -> None:
    plan["author"] = {"reference": "Practitioner/somebody"}


@pytest.mark.parametrize("touch", [_accept, _change_words, _label, _unlabel, _take_over])
def test_what_somebody_has_touched_is_kept(server: FhirServer, touch: Callable[[Json], None]) -> None:
    """An accepted, edited, labelled or taken-over plan stays byte for byte; the receipt names it (F-42)."""
    older, newer = _older(), _newer()
    _submit(server, older)
    plan = dict(_held(server, older)["CarePlan"])
    plan["meta"] = dict(plan["meta"])
    touch(plan)
    server.repository.update("CarePlan", str(plan["id"]), plan, None)
    theirs = _held(server, older)["CarePlan"]
    receipt = _submit(server, newer)
    assert _held(server, older)["CarePlan"] == theirs
    assert receipt.kept == (ResourceVersion("CarePlan", str(plan["id"]), "2"),)
    assert f"kept: CarePlan/{plan['id']}/_history/2" in receipt.remarks
    assert "replaces" not in _held(server, newer)["CarePlan"]
    assert _held(server, older)["Task"]["status"] == "cancelled"


def test_an_edit_that_was_undone_is_still_somebodys_version(server: FhirServer) -> None:
    """Whoever changed a plan and changed it back has looked at it: a version after the first is not ours."""
    older, newer = _older(), _newer()
    _submit(server, older)
    plan = _held(server, older)["CarePlan"]
    server.repository.update("CarePlan", str(plan["id"]), {**plan, "status": "active"}, None)
    server.repository.update("CarePlan", str(plan["id"]), plan, None)
    assert _submit(server, newer).kept == (ResourceVersion("CarePlan", str(plan["id"]), "3"),)
    assert _held(server, older)["CarePlan"]["status"] == "draft"


class _Meanwhile(httpx.HTTPTransport):
    """A real wire on which something happens just before the first write; conflicts come as the status given."""

    def __init__(self, event: Callable[[], None], *, conflict: int = 412) -> None:
        super().__init__()
        self._event: Callable[[], None] | None = event
        self._conflict = conflict

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != "GET" and self._event is not None:
            self._event()
            self._event = None
        response = super().handle_request(request)
        if response.status_code != 412:
            return response
        response.read()
        return httpx.Response(self._conflict, content=response.content, headers=response.headers, request=request)


@pytest.mark.parametrize("conflict", [412, 409])
@on_every_server
def test_an_edit_between_our_look_and_our_write_is_kept(server: FhirServer, conflict: int) -> None:
    """412, or 409 as HAPI says, is looked at again: theirs stays, ours is written, the conflict is no failure."""
    older, newer = _older(), _newer()
    _submit(server, older)
    plan = _held(server, older)["CarePlan"]

    def accepted() -> None:
        server.repository.update("CarePlan", str(plan["id"]), {**plan, "status": "active"}, None)

    receipt = _submit(server, newer, _Meanwhile(accepted, conflict=conflict))
    assert _held(server, older)["CarePlan"]["status"] == "active"
    assert _superseded_by(_held(server, older)["CarePlan"]) is None
    assert _held(server, newer)["CarePlan"]["status"] == "draft"
    assert receipt.kept == (ResourceVersion("CarePlan", str(plan["id"]), "2"),)


@on_every_server
def test_an_assessment_of_an_earlier_landmark_does_not_stand(server: FhirServer) -> None:
    """Delivered after a later one, it is written for the record, marked at once, and replaces nothing."""
    older, newer = _older(), _newer()
    _submit(server, newer)
    _submit(server, older)
    assert _is_marked(_held(server, older), newer)
    assert {_superseded_by(one) for one in _held(server, newer).values()} == {None}
    assert "replaces" not in _held(server, older)["CarePlan"]


def test_a_delivery_that_wakes_late_does_not_mark_its_successor(server: FhirServer) -> None:
    """A superseded assessment delivered once more at the same landmark changes nothing: no two mark each other."""
    first, second = assessment(), assessment(timeline(changes={"ecog": None}))
    _submit(server, first)
    _submit(server, second)
    before = [stored.resource for kind in _MARKED for stored in server.repository.current(kind)]
    receipt = _submit(server, first)
    assert [stored.resource for kind in _MARKED for stored in server.repository.current(kind)] == before
    assert not receipt.written


def _other_person() -> TransactionBundle:
    """An assessment of somebody else."""
    patient = timeline()
    identifiers = (BusinessIdentifier("urn:oid:1.2.3", "4712"),)
    return assessment(replace(patient, person=replace(patient.person, identifiers=identifiers)), patient_id="p2")


def test_others_are_left_alone(server: FhirServer) -> None:
    """Neither another patient's assessment, nor one in another mode, nor a plan that is not ours is marked."""
    others = [_other_person(), _older(mode=OutputMode.DEMO)]
    foreign: Json = {
        "resourceType": "CarePlan",
        "id": "ward",
        "status": "draft",
        "intent": "proposal",
        "created": "2026-03-01",
        "subject": {"reference": "Patient/p1"},
    }
    for other in others:
        _submit(server, other)
    server.repository.update("CarePlan", "ward", foreign, None)
    _submit(server, _newer())
    assert server.repository.read("CarePlan", "ward").version == 1
    for other in others:
        assert {_superseded_by(one) for one in _held(server, other).values()} == {None}


class _SilentlyUnfiltered(httpx.HTTPTransport):
    """A real wire to a server that drops the patient filter and does not say so."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        asked = request.url
        if "patient" not in asked.params:
            return super().handle_request(request)
        kept = asked.params.remove("patient")
        response = super().handle_request(httpx.Request("GET", asked.copy_with(params=kept), headers=request.headers))
        searchset = json.loads(response.read())
        searchset["link"] = [{"relation": "self", "url": str(asked)}]
        return httpx.Response(response.status_code, json=searchset, request=request)


@pytest.mark.parametrize("silently", [False, True], ids=["said in the self link", "said nowhere"])
@on_every_server
def test_a_dropped_patient_filter_marks_nobody(server: FhirServer, silently: bool) -> None:
    """A server that answers with everybody's resources is an error by name, and no record is changed (F-09)."""
    other = _other_person()
    _submit(server, other)
    dropped = frozenset() if silently else frozenset({"patient", "subject"})
    server.faults = replace(server.faults, dropped_parameters=dropped)
    with pytest.raises(WrongPatient if silently else PullIncomplete):
        _submit(server, _newer(), _SilentlyUnfiltered() if silently else None)
    assert {one["meta"]["versionId"] for one in _held(server, other).values()} == {"1"}
    assert {_superseded_by(one) for one in _held(server, other).values()} == {None}
    assert _held(server, _newer()) == {}


def test_a_merged_patients_older_plan_is_marked(server: FhirServer) -> None:
    """What a server returns under the name of a patient merged into this one is the same person's."""
    server.repository.update(
        "Patient",
        "p2",
        {"resourceType": "Patient", "id": "p2", "active": False, "link": [_LINK]},
        None,
    )
    older = _other_person()
    _submit(server, older)
    _submit(server, _newer(), _SilentlyUnfiltered())
    assert _is_marked(_held(server, older), _newer())


_LINK = {"type": "replaced-by", "other": {"reference": "Patient/p1"}}


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


@pytest.mark.parametrize("name", ["client ids only", "server ids, one by one"])
@pytest.mark.parametrize("writes", [1, 7, 8, 10])
def test_a_worker_killed_between_writes_leaves_what_the_next_completes(name: str, writes: int) -> None:
    """Wherever the line is cut, the next delivery ends in the same state: one new of each, every old one marked."""
    older, newer = _older(), _newer()
    with _open(_SERVERS[name]) as server:
        _submit(server, older)
        with suppress(PeerUnavailable, UnknownOutcome):
            _submit(server, newer, _CutAfter(writes=writes))
        receipt = _submit(server, newer)
        assert sorted(version.resource_type for version in receipt.superseded) == sorted(_MARKED)
        assert _is_marked(_held(server, older), newer)
        assert {one["meta"]["versionId"] for one in _held(server, older).values()} == {"2"}
        assert {one["meta"]["versionId"] for one in _held(server, newer).values()} == {"1"}
        assert len(_held(server, newer)) == len(_MARKED)


@pytest.mark.parametrize("name", ["client ids only", "server ids, one by one"])
@pytest.mark.parametrize("writes", [7, 8, 9])
def test_a_worker_killed_while_an_older_assessment_marks_itself_leaves_no_open_draft(name: str, writes: int) -> None:
    """Breach: one marked part of its own was taken for all, and the draft plan beside it stayed open."""
    older, newer = _older(), _newer()
    with _open(_SERVERS[name]) as server:
        _submit(server, newer)
        with suppress(PeerUnavailable, UnknownOutcome):
            _submit(server, older, _CutAfter(writes=writes))
        assert not _is_marked(_held(server, older), newer)
        _submit(server, older)
        assert _is_marked(_held(server, older), newer)
        assert {_superseded_by(one) for one in _held(server, newer).values()} == {None}


@pytest.mark.parametrize("name", ["transaction and client ids", "transaction, server ids"])
def test_a_lost_reply_marks_once(name: str) -> None:
    """A transaction whose reply was lost is found done: nothing is marked twice (F-06)."""
    older, newer = _older(), _newer()
    with _open(_SERVERS[name]) as server:
        _submit(server, older)
        server.faults = replace(server.faults, lost_replies=1)
        receipt = _submit(server, newer)
        assert sorted(version.resource_type for version in receipt.superseded) == sorted(_MARKED)
        assert {one["meta"]["versionId"] for one in _held(server, older).values()} == {"2"}


def test_a_withdrawn_assessment_outdates_nothing(server: FhirServer) -> None:
    """Whoever deleted the newer plan did not mean the older one to be revoked by the next delivery."""
    older, newer = _older(), _newer()
    _submit(server, newer)
    server.repository.delete("CarePlan", f"cp-{newer.assessment_id}")
    with _open(FhirFaults()) as other:
        _submit(other, older)
    _submit(server, newer)
    assert _held(server, older) == {}


def test_an_abstention_at_a_later_landmark_neither_stands_nor_is_marked_by_an_earlier_one(server: FhirServer) -> None:
    """An assessment delivered again beside a later refusal stays as it is; the next later one answers both."""
    older, refusal = _older(), abstention(landmark=LANDMARK + timedelta(days=1))
    _submit(server, older)
    _submit(server, refusal)
    assert _submit(server, older).superseded == ()
    _submit(server, _newer())
    assert _is_marked({**_held(server, older), **_held(server, refusal)}, _newer())


class _Refusing(httpx.HTTPTransport):
    """A real wire to a server that refuses every change of what is there, or the search for it."""

    def __init__(self, *, status: int, searching: bool = False) -> None:
        super().__init__()
        self._status = status
        self._searching = searching

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        changes = b'"ifMatch"' in request.read() or "if-match" in request.headers
        searches = self._searching and request.method == "GET" and "patient=" in str(request.url)
        if changes or searches:
            outcome = {"resourceType": "OperationOutcome", "issue": []}
            return httpx.Response(self._status, json=outcome, request=request)
        return super().handle_request(request)


@pytest.mark.parametrize(("status", "searching"), [(422, False), (403, False), (403, True)])
@on_every_server
def test_where_older_ones_may_not_be_changed_the_new_one_is_written_all_the_same(
    server: FhirServer, status: int, searching: bool
) -> None:
    """Refused marks cost nobody the new result: written once, untouched since; the receipt names what is unmarked."""
    older, newer = _older(), _newer()
    _submit(server, older)
    receipt = _submit(server, newer, _Refusing(status=status, searching=searching))
    assert receipt.written
    assert receipt.superseded == ()
    assert set(receipt.left_out) == {f"marking of older {kind}" for kind in _MARKED}
    assert _held(server, older)["CarePlan"]["status"] == "draft"
    assert len(_held(server, newer)) == len(_MARKED)
    _assert_each_once(server, assessments=2)


def _assert_each_once(server: FhirServer, *, assessments: int) -> None:
    """Everything on the server is in its first version, and of each assessment there is one of each type."""
    kinds = {kind: count for kind, count in server.repository.counts().items() if kind != "Patient"}
    shared = {"DocumentReference", "Device"}
    assert kinds == {kind: 1 if kind in shared else assessments for kind in (*shared, *_MARKED, *_UNMARKED)}
    assert {stored.version for kind in kinds for stored in server.repository.current(kind)} == {1}


class _AcceptedThenRefused(httpx.HTTPTransport):
    """A real wire: the new plan is accepted by somebody before the first mark, and that mark is refused."""

    def __init__(self, accept: Callable[[], None]) -> None:
        super().__init__()
        self._accept: Callable[[], None] | None = accept

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if "if-match" not in request.headers:
            return super().handle_request(request)
        if self._accept is not None:
            self._accept()
            self._accept = None
        return httpx.Response(422, json={"resourceType": "OperationOutcome", "issue": []}, request=request)


@pytest.mark.parametrize("name", ["client ids only", "server ids, one by one", "neither conditional"])
def test_a_refused_mark_never_touches_what_was_written_before_it(name: str) -> None:
    """A plan that somebody accepted between our writes and the refusal of our mark stays theirs (F-42)."""
    older, newer = _older(), _newer()
    with _open({**_SERVERS, **_BARE}[name]) as server:
        _submit(server, older)

        def accept() -> None:
            plan = _held(server, newer)["CarePlan"]
            server.repository.update("CarePlan", str(plan["id"]), {**plan, "status": "active"}, None)

        _submit(server, newer, _AcceptedThenRefused(accept))
        plan = _held(server, newer)["CarePlan"]
        assert (plan["status"], plan["meta"]["versionId"]) == ("active", "2")
        assert server.repository.counts()["CarePlan"] == 2
        assert {server.repository.counts()[kind] for kind in (*_MARKED, *_UNMARKED)} == {2}


_BARE = {
    "neither conditional": FhirFaults(
        without_update_create=True, without_transaction=True, without_conditional_create=True
    )
}
_UNMARKED = ("GuidanceResponse", "Provenance")


@pytest.mark.parametrize("refused", range(1, 9))
def test_ids_refused_halfway_leave_one_of_each(server: FhirServer, refused: int) -> None:
    """A server that takes our ids for some types and then refuses gets the rest another way, and nothing twice."""
    server.faults = replace(server.faults, without_transaction=True)
    wire = _RefusesPuts(after=refused - 1)
    assert _submit(server, _older(), wire).written
    _assert_each_once(server, assessments=1)


class _RefusesPuts(httpx.HTTPTransport):
    """A real wire to a server that says nothing of ids of ours and refuses them after some."""

    def __init__(self, *, after: int) -> None:
        super().__init__()
        self._left = after

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            if self._left == 0:
                return httpx.Response(422, json={"resourceType": "OperationOutcome", "issue": []}, request=request)
            self._left -= 1
        response = super().handle_request(request)
        if not request.url.path.endswith("/metadata"):
            return response
        statement = json.loads(response.read())
        for resource in statement["rest"][0]["resource"]:
            resource["updateCreate"] = False
        return httpx.Response(200, json=statement, request=request)


def test_every_resource_carries_the_fingerprint_of_what_was_sent(server: FhirServer) -> None:
    """Without it nobody could tell our draft from a clinician's."""
    bundle = _older()
    _submit(server, bundle)
    for resource in _held(server, bundle).values():
        assert [tag["system"] for tag in resource["meta"]["tag"]].count(FINGERPRINT) == 1
