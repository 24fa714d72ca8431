"""One patient's record: whole, theirs alone, the same every time, or an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter.domain.ids import PatientId
from adapter.domain.record import RawRecord
from adapter.errors import MalformedResource, PullIncomplete, UnsupportedPeer, WrongPatient
from adapter.fhir.client import FhirClient
from adapter.fhir.fetch import fetch_record
from adapter.fhir.limits import Limits
from adapter.sandbox.faults import FhirFaults, LinkStyle
from adapter.sandbox.fhir_server import FhirServer
from tests.fakes.fhir_wire import FhirWire, WireReply, WireRequest, bundle

_NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_TYPES = (
    "Observation", "Procedure", "Condition", "MedicationAdministration", "ImagingStudy", "DiagnosticReport"
)  # fmt: skip


@pytest.fixture
def server() -> Iterator[FhirServer]:
    """A pretend server with two patients: p1 has 130 Observations and one of each other type, p2 the same."""
    with FhirServer(lambda: _NOW) as running:
        for name in ("p1", "p2"):
            running.repository.update("Patient", name, {"resourceType": "Patient", "id": name}, None)
            for kind in _TYPES:
                for number in range(130 if kind == "Observation" else 1):
                    store(running, kind, f"{kind}-{name}-{number}", f"Patient/{name}")
        yield running


def store(server: FhirServer, kind: str, resource_id: str, subject: str | None) -> None:
    """Put one resource about a subject on the server."""
    written: dict[str, object] = {"resourceType": kind, "id": resource_id}
    if subject is not None:
        written["subject"] = {"reference": subject}
    server.repository.update(kind, resource_id, written, None)


def fetch(server: FhirServer, name: str = "p1") -> RawRecord:
    """Fetch one record, without waiting for retries."""
    with FhirClient(server.base_url, sleep=lambda _: None, limits=Limits(page_size=20)) as client:
        return fetch_record(client, PatientId(name))


def names(record: RawRecord) -> list[str]:
    """`Type/id` of all resources."""
    return [f"{entry.version.resource_type}/{entry.version.resource_id}" for entry in record.resources]


def test_a_record_is_everything_and_only_theirs(server: FhirServer) -> None:
    """The Patient, 130 Observations over several pages, one of each other type; nothing of the other patient."""
    record = fetch(server)
    assert len(record.resources) == 1 + 130 + 5
    assert not [name for name in names(record) if "p2" in name]
    assert names(record) == sorted(names(record))
    assert {tally.resource_type: tally.entries for tally in record.tallies} == {
        kind: 130 if kind == "Observation" else 1 for kind in _TYPES
    }
    assert record.quarantined == ()


@pytest.mark.fault("F-19")
@pytest.mark.parametrize("style", LinkStyle)
def test_faults_on_the_way_change_nothing(server: FhirServer, style: LinkStyle) -> None:
    """Duplicates, outcome entries, an expired page and 503s, in each link style: the same record, byte for byte."""
    expected = fetch(server)
    server.faults = FhirFaults(
        link_style=style, duplicate_entries=True, outcome_entry=True, expired_pages=1, unavailable_every=3
    )
    record = fetch(server)
    assert record.resources == expected.resources
    observations = record.tallies[0]
    expires = style is not LinkStyle.OFFSET  # an offset names no snapshot that could expire
    assert (observations.entries, observations.restarts) == (130, int(expires))
    assert observations.duplicates == observations.pages - 1


def test_fetching_twice_gives_the_same_record(server: FhirServer) -> None:
    """Same server, same record, tallies and quarantine included: a replay depends on it."""
    server.faults = FhirFaults(bad_entry=True)
    assert fetch(server) == fetch(server)


@pytest.mark.fault("F-23")
def test_a_bad_entry_is_listed_on_the_record(server: FhirServer) -> None:
    """What could not be read is in `quarantined`; everything else is there."""
    server.faults = FhirFaults(bad_entry=True)
    record = fetch(server)
    assert len(record.resources) == 136
    assert {entry.reason for entry in record.quarantined} == {"malformed-entry"}


@pytest.mark.fault("F-44")
def test_a_dropped_patient_filter_never_mixes_patients(server: FhirServer) -> None:
    """The self link shows that `patient` was ignored: refused, although the pages themselves look fine."""
    server.faults = FhirFaults(dropped_parameters=frozenset({"patient"}))
    with pytest.raises(PullIncomplete, match="dropped patient"):
        fetch(server)


def test_one_foreign_resource_spoils_the_searchset(server: FhirServer) -> None:
    """A server that filters wrongly and says nothing is caught by the subject of each resource."""
    honest = scripted_patient("p1", {"subject": {"reference": "Patient/p1"}})
    astray = scripted_patient("p1", {"subject": {"reference": "Patient/p2"}})
    with FhirWire(honest) as wire, FhirClient(wire.base_url) as client:
        assert len(fetch_record(client, PatientId("p1")).resources) == 3
    with FhirWire(astray) as wire, FhirClient(wire.base_url) as client, pytest.raises(WrongPatient):
        fetch_record(client, PatientId("p1"))


@pytest.mark.parametrize(
    "subject",
    [{}, {"subject": {"identifier": {"value": "1"}}}, {"subject": {"reference": "#me"}},
     {"subject": {"reference": "Group/p1"}}, {"subject": {"reference": "http://other.invalid/fhir/Patient/p1"}},
     {"subject": {"reference": "urn:uuid:0b1f2c3d-0000-0000-0000-000000000000"}}],
)  # fmt: skip
def test_a_resource_whose_owner_cannot_be_checked_is_not_used(subject: dict[str, object]) -> None:
    """No subject, or one that names no Patient of this server: set aside with a reason, not guessed."""
    with FhirWire(scripted_patient("p1", subject)) as wire, FhirClient(wire.base_url) as client:
        record = fetch_record(client, PatientId("p1"))
    assert names(record) == ["Patient/p1"]
    assert {entry.reason for entry in record.quarantined} == {"subject-not-verifiable", "type-not-offered"}


def test_absolute_and_versioned_references_are_theirs() -> None:
    """`http://base/Patient/p1` and `Patient/p1/_history/3` name the same patient."""
    for reference in ("{base}/Patient/p1", "Patient/p1/_history/3", "{base}/Patient/p1/_history/3"):
        script = scripted_patient("p1", {"subject": {"reference": reference}})
        with FhirWire(script) as wire, FhirClient(wire.base_url) as client:
            assert len(fetch_record(client, PatientId("p1")).resources) == 3


def test_fewer_than_the_server_counts_is_an_error() -> None:
    """`Bundle.total` is a lower bound: PullIncomplete with both numbers; a larger pull than total is fine."""
    mine = {"subject": {"reference": "Patient/p1"}}
    with FhirWire(scripted_patient("p1", mine, total=0)) as wire, FhirClient(wire.base_url) as client:
        assert len(fetch_record(client, PatientId("p1")).resources) == 3
    with (
        FhirWire(scripted_patient("p1", mine, total=7)) as wire,
        FhirClient(wire.base_url) as client,
        pytest.raises(PullIncomplete, match="1 came in 1 pages of 7 counted"),
    ):
        fetch_record(client, PatientId("p1"))


def test_a_type_that_is_not_offered_is_said_so() -> None:
    """Missing welcome types are noted; without Observation or Procedure there is no work here."""
    mine = {"subject": {"reference": "Patient/p1"}}
    with FhirWire(scripted_patient("p1", mine)) as wire, FhirClient(wire.base_url) as client:
        record = fetch_record(client, PatientId("p1"))
    assert [entry.source for entry in record.quarantined] == sorted(_TYPES[2:])
    script = scripted_patient("p1", mine, offered=("Patient", "Observation"))
    with FhirWire(script) as wire, FhirClient(wire.base_url) as client, pytest.raises(UnsupportedPeer):
        fetch_record(client, PatientId("p1"))


def test_a_server_that_withholds_data_says_so() -> None:
    """A warning on the searchset reaches the result; "incomplete" or an error ends the pull."""
    mine = {"subject": {"reference": "Patient/p1"}}
    remarked = scripted_patient("p1", mine, issue={"severity": "warning", "code": "suppressed"})
    with FhirWire(remarked) as wire, FhirClient(wire.base_url) as client:
        record = fetch_record(client, PatientId("p1"))
    assert {entry.detail for entry in record.quarantined if entry.reason == "server-remark"} == {"suppressed"}
    for issue in ({"severity": "warning", "code": "incomplete"}, {"severity": "error", "code": "processing"}):
        with (
            FhirWire(scripted_patient("p1", mine, issue=issue)) as wire,
            FhirClient(wire.base_url) as client,
            pytest.raises(PullIncomplete),
        ):
            fetch_record(client, PatientId("p1"))


@pytest.mark.fault("F-14")
def test_a_merged_patient_brings_all_their_data(server: FhirServer) -> None:
    """Asked by the old id or the new: one record under the survivor, with what was filed under the old id."""
    link = [{"type": "replaced-by", "other": {"reference": "Patient/p2"}}]
    merged = {"resourceType": "Patient", "id": "p1", "active": False, "link": link}
    server.repository.update("Patient", "p1", merged, None)
    by_old, by_new = fetch(server, "p1"), fetch(server, "p2")
    assert by_old == by_new
    assert (by_old.patient_id, by_old.aliases) == ("p2", ("p1",))
    assert len(by_old.resources) == 2 * 136


@pytest.mark.fault("F-19")
@settings(max_examples=25)
@given(st.permutations(range(12)), st.integers(1, 5), st.sets(st.integers(0, 11)))
def test_order_and_repetition_on_the_wire_do_not_matter(order: list[int], page_size: int, repeated: set[int]) -> None:
    """Pages duplicated, shuffled and overlapping give the same set, with the newest version of each resource."""
    resources = [
        {"resourceType": "Observation", "id": f"o{number % 9}", "meta": {"versionId": str(1 + number // 9)}}
        for number in [*order, *sorted(repeated)]
    ]

    def pages(request: WireRequest) -> WireReply:
        start = int(request.parameters.get("start", "0"))
        link = [{"relation": "next", "url": f"?start={start + page_size}"}]
        more = link if start + page_size < len(resources) else []
        return WireReply(body=bundle(*resources[start : start + page_size], link=more))

    with FhirWire(pages) as wire, FhirClient(wire.base_url) as client:
        found = client.search("Observation", [])
    versions = {match.resource.version.resource_id: match.resource.version.version for match in found.matches}
    assert versions == {f"o{number}": "2" if number < 3 else "1" for number in range(9)}
    assert found.tally.duplicates == 3 + len(repeated)


@pytest.mark.fault("F-23")
def test_html_instead_of_a_page_leaves_no_partial_record(server: FhirServer) -> None:
    """A gateway's error page with status 200 is MalformedResource, not an empty chart."""
    server.faults = FhirFaults(html_page=True)
    with pytest.raises(MalformedResource):
        fetch(server)


def scripted_patient(
    name: str,
    about: Mapping[str, object],
    *,
    total: int | None = None,
    offered: tuple[str, ...] = ("Patient", "Observation", "Procedure"),
    issue: dict[str, str] | None = None,
) -> Callable[[WireRequest], WireReply]:
    """A server with one patient and one resource of each offered type; `{base}` in `about` becomes its base URL."""

    def answer(request: WireRequest) -> WireReply:
        kind = request.path.split("/")[2]
        if kind == "metadata":
            return WireReply(body=metadata(offered))
        if kind == "Patient":
            return WireReply(body=json.dumps({"resourceType": "Patient", "id": name}).encode())
        written = json.dumps(about).replace("{base}", f"http://{request.headers['host']}/fhir")
        entries: list[object] = [{"resource": {"resourceType": kind, "id": f"{kind}-1", **json.loads(written)}}]
        if issue is not None:
            outcome = {"resourceType": "OperationOutcome", "issue": [issue]}
            entries.append({"resource": outcome, "search": {"mode": "outcome"}})
        counted = {} if total is None else {"total": total}
        return WireReply(body=bundle(entry=entries, **counted))

    return answer


def metadata(offered: tuple[str, ...]) -> bytes:
    """A CapabilityStatement that offers reading and searching by patient of these types."""
    resources = [
        {"type": kind, "interaction": [{"code": "read"}, {"code": "search-type"}], "searchParam": [{"name": "patient"}]}
        for kind in offered
    ]
    rest = [{"mode": "server", "resource": resources}]
    return json.dumps({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": rest}).encode()
