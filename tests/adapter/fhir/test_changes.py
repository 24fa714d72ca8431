"""What changed: nothing missed, nothing reported twice, no clock of ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Watermark
from adapter.errors import PeerUnavailable
from adapter.fhir.changes import PolledChanges, fetch_changes, reread_cohort
from adapter.fhir.client import FhirClient
from adapter.fhir.cohort import Cohort, PatientList, SelectCohort
from adapter.fhir.limits import Limits
from adapter.sandbox.faults import FhirFaults
from adapter.sandbox.fhir_server import FhirServer

_START = datetime(2026, 3, 29, 1, 30, tzinfo=timezone(timedelta(hours=5, minutes=45)))
_COHORT = PatientList(patients=(PatientId("p1"), PatientId("p2")))


class Clock:
    """The server's clock, moved by the test."""

    def __init__(self) -> None:
        self.now = _START

    def __call__(self) -> datetime:
        """The server's time."""
        return self.now

    def pass_minutes(self, minutes: float) -> None:
        """Move on."""
        self.now += timedelta(minutes=minutes)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands until moved."""
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[FhirServer]:
    """A server with three patients, two of them in the cohort, one Observation each."""
    with FhirServer(clock) as running:
        for name in ("p1", "p2", "p3"):
            put(running, "Patient", name)
            put(running, "Observation", f"o-{name}", f"Patient/{name}", 1)
        clock.pass_minutes(60)
        yield running


@pytest.fixture
def client(server: FhirServer) -> Iterator[FhirClient]:
    """A client that does not wait."""
    with FhirClient(server.base_url, sleep=lambda _: None, limits=Limits(attempts=2)) as opened:
        yield opened


def put(
    server: FhirServer, kind: str, name: str, subject: str | None = None, value: object = None, **more: object
) -> None:
    """Store one resource."""
    written: dict[str, object] = {"resourceType": kind, "id": name, "note": [{"text": str(value)}], **more}
    if subject is not None:
        written["subject"] = {"reference": subject}
    server.repository.update(kind, name, written, None)


def again(client: FhirClient, last: PolledChanges, cohort: Cohort = _COHORT) -> PolledChanges:
    """The next poll, with all that the last one asks to be kept."""
    return fetch_changes(client, last.next_watermark, cohort, remembered=last.remembered)


def reported(poll: PolledChanges) -> list[tuple[str, str]]:
    """(patient, resource id) of each change."""
    return [(str(change.patient_id), change.version.resource_id) for change in poll.changes]


def test_the_first_poll_reports_every_member_once(client: FhirClient) -> None:
    """Everybody in the cohort, nobody else; the watermark is the server's time."""
    first = fetch_changes(client, None, _COHORT)
    assert reported(first) == [("p1", "p1"), ("p2", "p2")]
    assert first.next_watermark.time == _START + timedelta(minutes=60)


def test_a_change_is_reported_once(server: FhirServer, client: FhirClient, clock: Clock) -> None:
    """The overlap reads it again and again; what has been reported is recognised by its content."""
    last = fetch_changes(client, None, _COHORT)
    clock.pass_minutes(1)
    put(server, "Observation", "o-p1", "Patient/p1", 2)
    put(server, "Observation", "o-p3", "Patient/p3", 2)
    polls = []
    for _ in range(4):
        clock.pass_minutes(1)
        last = again(client, last)
        polls.append(reported(last))
    assert polls == [[("p1", "o-p1")], [], [], []]


def test_forgetting_reports_again_but_loses_nothing(server: FhirServer, client: FhirClient, clock: Clock) -> None:
    """A caller that kept only the watermark sees the window once more."""
    first = fetch_changes(client, None, _COHORT)
    clock.pass_minutes(1)
    put(server, "Observation", "o-p1", "Patient/p1", 2)
    clock.pass_minutes(1)
    for _ in range(2):
        seen = reported(fetch_changes(client, first.next_watermark, _COHORT))
        assert ("p1", "o-p1") in seen


@pytest.mark.fault("F-21")
def test_a_late_commit_is_found(server: FhirServer, client: FhirClient, clock: Clock) -> None:
    """Stamped before the watermark, committed after it: the overlap catches it."""
    first = fetch_changes(client, None, _COHORT)
    clock.pass_minutes(5)
    put(server, "Observation", "o-new", "Patient/p2", 1)
    second = again(client, first)
    assert second.next_watermark.time == clock.now
    _backdate(server, "Observation", "o-late", "Patient/p1", clock.now - timedelta(minutes=4))
    clock.pass_minutes(1)
    assert reported(again(client, second)) == [("p1", "o-late")]


@pytest.mark.fault("F-26")
def test_a_future_date_does_not_push_the_watermark(server: FhirServer, client: FhirClient, clock: Clock) -> None:
    """A resource stamped in 2099 is reported once, and what comes after it is still seen."""
    first = fetch_changes(client, None, _COHORT)
    clock.pass_minutes(1)
    _backdate(server, "Observation", "o-future", "Patient/p1", datetime(2099, 1, 1, tzinfo=UTC))
    second = again(client, first)
    assert reported(second) == [("p1", "o-future")]
    assert second.next_watermark.time <= clock.now
    clock.pass_minutes(1)
    put(server, "Procedure", "x-1", "Patient/p2")
    third = again(client, second)
    assert ("p2", "x-1") in reported(third)
    assert reported(again(client, third)) == []


def test_the_number_of_requests_does_not_grow_with_the_cohort(server: FhirServer, client: FhirClient) -> None:
    """Nothing changed: three searches, whether two patients are watched or two hundred."""
    many = PatientList(patients=tuple(PatientId(f"m{number}") for number in range(60)))
    for patient in many.patients:
        put(server, "Patient", patient)
    for cohort in (_COHORT, many):
        last = fetch_changes(client, None, cohort)
        last = again(client, last, cohort)
        before = server.requests
        again(client, last, cohort)
        assert server.requests - before == 3


def test_whoever_joins_is_reported(server: FhirServer, client: FhirClient, clock: Clock) -> None:
    """A patient who enters the cohort later is reported though nothing of theirs changed."""
    code = {"code": {"coding": [{"system": "urn:x", "code": "1"}]}}
    select = SelectCohort.parse("Condition?code=urn:x|1")
    put(server, "Condition", "c1", "Patient/p1", **code)
    first = fetch_changes(client, None, select)
    assert reported(first) == [("p1", "p1")]
    clock.pass_minutes(30)
    put(server, "Condition", "c3", "Patient/p3", **code)
    clock.pass_minutes(1)
    second = again(client, first, select)
    assert reported(second) == [("p3", "p3")]
    assert reported(again(client, second, select)) == []
    assert reported(again(client, second, PatientList(patients=(PatientId("p2"),)))) == [("p2", "p2")]


@pytest.mark.fault("F-14")
def test_a_merge_wakes_the_survivor(server: FhirServer, client: FhirClient, clock: Clock) -> None:
    """Data filed under the old id, or news of the survivor outside the cohort: the case is the survivor's."""
    last = fetch_changes(client, None, _COHORT)
    clock.pass_minutes(1)
    link = [{"type": "replaced-by", "other": {"reference": "Patient/p3"}}]
    put(server, "Patient", "p1", active=False, link=link)
    last = again(client, last)
    assert reported(last) == [("p3", "p1")]
    clock.pass_minutes(1)
    put(server, "Observation", "o-p3", "Patient/p3", 5)
    put(server, "Observation", "o-p1", "Patient/p1", 6)
    last = again(client, last)
    assert reported(last) == [("p3", "o-p3"), ("p3", "o-p1")]


def test_one_unresolvable_patient_delays_nobody(server: FhirServer, client: FhirClient) -> None:
    """A cohort member who is not on the server is reported, so that their own case says why; the rest go on."""
    cohort = PatientList(patients=(PatientId("p1"), PatientId("p404")))
    first = fetch_changes(client, None, cohort)
    assert reported(first) == [("p1", "p1"), ("p404", "p404")]
    assert reported(again(client, first, cohort)) == []


@pytest.mark.fault("F-44")
@pytest.mark.parametrize(
    "faults",
    [FhirFaults(without_last_updated=True), FhirFaults(dropped_parameters=frozenset({"_lastUpdated"}))],
    ids=["declared", "dropped in silence"],
)
def test_a_server_without_last_updated_is_reread(
    server: FhirServer, client: FhirClient, clock: Clock, faults: FhirFaults
) -> None:
    """Only patients whose content differs are reported: a new value, a deletion, but not a mere new version."""
    server.faults = faults
    last = fetch_changes(client, None, _COHORT)
    assert reported(last) == [("p1", "p1"), ("p2", "p2")]
    if not faults.without_last_updated:
        last = again(client, last)  # the first poll searched nothing, so only now the lie comes out
    clock.pass_minutes(1)
    put(server, "Observation", "o-p3", "Patient/p3", 2)
    last = again(client, last)
    assert reported(last) == []
    put(server, "Observation", "o-p1", "Patient/p1", 2)
    last = again(client, last)
    assert reported(last) == [("p1", "p1")]
    server.repository.delete("Observation", "o-p2")
    last = again(client, last)
    assert reported(last) == [("p2", "p2")]
    put(server, "Observation", "o-p1", "Patient/p1", 3)
    put(server, "Observation", "o-p1", "Patient/p1", 2)
    last = again(client, last)
    assert reported(last) == []
    assert set(last.remembered.hashes) == {"Patient/p1", "Patient/p2"}


def test_a_reread_notices_what_no_search_by_time_shows(server: FhirServer, client: FhirClient) -> None:
    """Deletions leave no trace in `_lastUpdated` searches; the nightly reread reports them."""
    before = reread_cohort(client, _COHORT)
    server.repository.delete("Observation", "o-p2")
    after = reread_cohort(client, _COHORT, remembered=before.remembered)
    assert reported(after) == [("p2", "p2")]


def test_a_failing_poll_moves_nothing(server: FhirServer, client: FhirClient) -> None:
    """An error leaves the caller with the old watermark; there is no partial page of changes."""
    server.faults = FhirFaults(unavailable_every=1)
    for number in range(250):
        put(server, "Observation", f"n{number}", "Patient/p1")
    with pytest.raises(PeerUnavailable):
        fetch_changes(client, Watermark(time=_START), _COHORT)


def _backdate(server: FhirServer, kind: str, name: str, subject: str, moment: datetime) -> None:
    """Store a resource as if it had been stamped at another moment."""
    put(server, kind, name, subject)
    versions = server.repository._versions[kind, name]
    stored = versions[-1]
    meta = {"versionId": "1", "lastUpdated": moment.astimezone(UTC).isoformat().replace("+00:00", "Z")}
    versions[-1] = replace(stored, resource={**stored.resource, "meta": meta}, last_updated=moment)
