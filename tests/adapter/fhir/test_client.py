"""The client against a real socket that says what a test wants said, and against the pretend hospital."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from adapter.breaker import CircuitState
from adapter.domain.ids import ResourceVersion
from adapter.errors import (
    AccessRefused,
    AdjuvantError,
    BadSettings,
    ForeignLink,
    MalformedResource,
    PeerDown,
    PeerTimeout,
    PeerUnavailable,
    PullIncomplete,
    SearchExpired,
    TooLarge,
    UnknownOutcome,
    UnsupportedPeer,
    VersionConflict,
    WriteRefused,
    WrongPatient,
)
from adapter.fhir.client import FhirClient
from adapter.fhir.limits import Limits
from adapter.fhir.replies import Gone
from tests.fakes.fhir_wire import FhirWire, LinkStyle, PagedObservations, WireReply, WireRequest, bundle

_PATIENT = b'{"resourceType":"Patient","id":"p1","meta":{"versionId":"3"}}'
_OUTCOME = json.dumps(
    {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "invalid", "diagnostics": "Secretname", "expression": ["Patient.id"]}],
    }
).encode()


class Naps:
    """A sleep that does not wait and remembers what it was asked."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        """Take note."""
        self.seconds.append(seconds)


def client_of(wire: FhirWire, limits: Limits | None = None, naps: Naps | None = None) -> FhirClient:
    """A client that never waits and always draws the largest jitter."""
    return FhirClient(wire.base_url, limits=limits, sleep=naps or Naps(), jitter=lambda: 1.0)


def scripted(*replies: WireReply) -> Callable[[WireRequest], WireReply]:
    """Answer with these in turn, the last one for ever."""
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize("style", LinkStyle)
def test_every_link_style_is_complete(style: LinkStyle) -> None:
    """All 200 Observations come, once each, whatever a next link looks like and though every 7th request fails."""
    with FhirWire(PagedObservations(style, per_patient=200, page_size=7)) as wire, client_of(wire) as client:
        found = client.search("Observation", [("patient", "p1")])
    assert {match.resource.version.resource_id for match in found.matches} == {f"p1-{n}" for n in range(200)}
    assert (found.tally.pages, found.tally.entries, found.tally.duplicates) == (29, 200, 0)


def test_a_next_link_reaches_the_server_byte_for_byte() -> None:
    """A cursor's raw plus, slash and escapes stand on the request line as the server wrote them."""
    cursor = "/fhir/Observation?_cursor=a+b/c==%2B%2f|{x}~'&q=%7e"
    pages = scripted(WireReply(body=bundle(link=[{"relation": "next", "url": cursor}])), WireReply(body=bundle()))
    with FhirWire(pages) as wire, client_of(wire) as client:
        client.search("Observation", [("patient", "p1")])
    assert wire.requests[1].target == cursor


def test_searches_say_what_they_want_and_want_it_fresh() -> None:
    """FHIR JSON is asked for, gzip at most, and no answer from a cache (HAPI repeats searches for a minute)."""
    with FhirWire(scripted(WireReply(body=bundle()))) as wire, client_of(wire) as client:
        client.search("Observation", [("code", "http://loinc.org|718-7"), ("_count", "5")])
    sent = wire.requests[0]
    assert sent.target == "/fhir/Observation?code=http://loinc.org|718-7&_count=5"
    assert sent.headers["accept"] == "application/fhir+json"
    assert sent.headers["cache-control"] == "no-cache"
    assert sent.headers["accept-encoding"] == "gzip"


@pytest.mark.fault("F-33")
@pytest.mark.parametrize(
    "link",
    [
        "http://elsewhere.invalid/fhir/Observation?page=2",
        "https://127.0.0.1:{port}/fhir?page=2",
        "http://127.0.0.1:1/fhir?page=2",
        "http://127.0.0.1:{port}/other?page=2",
        "http://127.0.0.1:{port}/fhir/../admin?page=2",
        "http://127.0.0.1:{port}/fhir/%2e%2E/admin?page=2",
        "http://127.0.0.1:{port}@elsewhere.invalid/fhir?page=2",
        "http://user:word@127.0.0.1:{port}/fhir?page=2",
        "//elsewhere.invalid/fhir?page=2",
        "http://[::ffff:169.254.169.254]/fhir?page=2",
        "http://127.0.0.1:{port}\\@elsewhere.invalid/fhir?page=2",
        "file:///etc/passwd",
    ],
)
def test_a_link_that_leaves_the_server_is_refused_before_connecting(link: str) -> None:
    """No request follows a foreign link, and the token goes nowhere."""
    page = WireReply()
    with FhirWire(lambda _: page) as wire, client_of(wire) as client:
        page = WireReply(body=bundle(link=[{"relation": "next", "url": link.format(port=wire.port)}]))
        with pytest.raises(ForeignLink):
            client.search("Observation", [("patient", "p1")])
    assert len(wire.requests) == 1


@pytest.mark.fault("F-33")
def test_a_redirect_off_the_server_is_refused_and_one_within_is_followed() -> None:
    """A read follows a redirect inside our base only; a write follows none."""
    away = WireReply(307, headers={"location": "http://elsewhere.invalid/fhir/Patient/p1"})
    with FhirWire(scripted(away)) as wire, client_of(wire) as client:
        with pytest.raises(ForeignLink):
            client.read("Patient", "p1")
        with pytest.raises(UnsupportedPeer):
            client.put("Patient", "p1", _PATIENT)
    inside = WireReply(302, headers={"location": "/fhir/Patient/p1?moved"})
    with FhirWire(scripted(inside, WireReply(body=_PATIENT))) as wire, client_of(wire) as client:
        assert client.read("Patient", "p1") is not None
    with FhirWire(scripted(inside)) as wire, client_of(wire) as client, pytest.raises(PullIncomplete):
        client.read("Patient", "p1")


@pytest.mark.fault("F-18")
def test_pages_that_lead_in_a_circle_are_an_error() -> None:
    """A link seen before ends the search as incomplete; nothing read so far is passed on."""
    page = WireReply(body=bundle(link=[{"relation": "next", "url": "/fhir/Observation?round=1"}]))
    with FhirWire(scripted(page)) as wire, client_of(wire) as client, pytest.raises(PullIncomplete):
        client.search("Observation", [("patient", "p1")])
    assert len(wire.requests) == 2


@pytest.mark.fault("F-18", "F-22")
def test_pages_without_end_meet_a_cap() -> None:
    """Fresh links for ever end at the cap on pages, on entries, or when nothing new comes any more."""

    def endless(request: WireRequest) -> WireReply:
        number = int(request.parameters.get("n", "0")) + 1
        resource = {"resourceType": "Observation", "id": f"o{number}"}
        entries = [{"resource": resource}] if "full" in request.target else []
        url = request.target.partition("&n=")[0] + f"&n={number}"
        return WireReply(body=bundle(entry=entries, link=[{"relation": "next", "url": url}]))

    with FhirWire(endless) as wire:
        for limits, parameter in ((Limits(pages=9), "full"), (Limits(entries=9), "full"), (Limits(), "empty")):
            with client_of(wire, limits) as client, pytest.raises(PullIncomplete):
                client.search("Observation", [(parameter, "1")])


@pytest.mark.fault("F-20")
def test_an_expired_page_restarts_the_search_once() -> None:
    """404 or 410 on a page link starts over and forgets the first attempt; a second one is SearchExpired."""
    first = WireReply(body=bundle({"resourceType": "Observation", "id": "o1", "meta": {"versionId": "1"}},
                                  link=[{"relation": "next", "url": "?page=2"}]))  # fmt: skip
    for gone in (WireReply(404), WireReply(410)):
        with FhirWire(scripted(first, gone, WireReply(body=bundle()))) as wire, client_of(wire) as client:
            found = client.search("Observation", [("patient", "p1")])
            assert (found.matches, found.tally.restarts, found.tally.duplicates) == ((), 1, 0)
        with (
            FhirWire(scripted(first, gone, first, gone)) as wire,
            client_of(wire) as client,
            pytest.raises(SearchExpired),
        ):
            client.search("Observation", [("patient", "p1")])


@pytest.mark.fault("F-03")
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_reads_are_tried_again_with_full_jitter(status: int) -> None:
    """A passing failure is answered by waiting up to a doubling ceiling; the read then succeeds."""
    naps = Naps()
    script = scripted(WireReply(status), WireReply(status), WireReply(status), WireReply(body=_PATIENT))
    with FhirWire(script) as wire, client_of(wire, Limits(backoff_start_seconds=1.0), naps) as client:
        assert client.read("Patient", "p1") is not None
    assert naps.seconds == [1.0, 2.0, 4.0]


def test_other_refusals_are_final() -> None:
    """400, 403, 405 and 501 are asked once: asking again cannot help."""
    for status, error in ((400, UnsupportedPeer), (401, AccessRefused), (403, AccessRefused), (501, UnsupportedPeer)):
        with FhirWire(scripted(WireReply(status))) as wire, client_of(wire) as client, pytest.raises(error):
            client.search("Observation", [])
        assert len(wire.requests) == 1


@pytest.mark.fault("F-04")
@pytest.mark.parametrize(
    ("written", "waited"),
    [
        ("7", 7.0),
        ("999999", 30.0),
        ("-5", 0.0),
        ("nan", 1.0),
        ("soon", 1.0),
        ("0", 0.0),
        ("date+7", 7.0),
        ("date-7", 0.0),
    ],
)
def test_retry_after_is_honoured_and_capped(written: str, waited: float) -> None:
    """Seconds, dates by the server's own clock, absurd and negative ones: believed up to a cap, else backed off."""
    now = datetime(2021, 3, 28, 1, 59, 50, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    headers = {"date": format_datetime(now.astimezone(UTC), usegmt=True)}
    if written.startswith("date"):
        then = (now + timedelta(seconds=int(written[4:]))).astimezone(UTC)
        headers["retry-after"] = format_datetime(then, usegmt=True)
    else:
        headers["retry-after"] = written
    naps = Naps()
    script = scripted(WireReply(503, headers=headers), WireReply(body=_PATIENT))
    with FhirWire(script) as wire, client_of(wire, Limits(backoff_start_seconds=1.0), naps) as client:
        client.read("Patient", "p1")
    assert naps.seconds == [waited]


@pytest.mark.fault("F-04")
def test_patience_ends_and_says_how_long_to_wait() -> None:
    """A server that always asks for more time gets an error carrying its wish, not a worker asleep for hours."""
    naps = Naps()
    busy = WireReply(429, headers={"retry-after": "25"})
    with (
        FhirWire(scripted(busy)) as wire,
        client_of(wire, Limits(patience_seconds=60.0), naps) as client,
        pytest.raises(PeerUnavailable) as caught,
    ):
        client.read("Patient", "p1")
    assert caught.value.retry_after_seconds == 25.0
    assert sum(naps.seconds) <= 60.0


@pytest.mark.fault("F-03")
def test_a_failing_server_is_left_alone() -> None:
    """F-03: after enough failures in a row nothing goes out until the rest is over; then one question decides."""
    now = [0.0]
    status = 500
    with FhirWire(lambda _: WireReply(status, body=_PATIENT if status == 200 else b"")) as wire:
        limits = Limits(attempts=2, breaker_failures=4, breaker_seconds=30.0)
        with FhirClient(wire.base_url, limits=limits, sleep=Naps(), clock=lambda: now[0]) as client:
            for _ in range(5):
                with pytest.raises(PeerUnavailable):
                    client.read("Patient", "p1")
            assert len(wire.requests) == 4
            now[0] = 31.0
            with pytest.raises(PeerDown) as caught:
                client.read("Patient", "p1")
            assert len(wire.requests) == 5
            assert "p1" not in wire.requests[-1].target
            assert caught.value.retry_after_seconds == 60.0
            status = 200
            now[0] = 92.0
            assert client.read("Patient", "p1") is not None
            assert client.circuit().state is CircuitState.CLOSED


@pytest.mark.parametrize("reply", [WireReply(500), WireReply(headers={"content-length": "10"}, cut=True)])
def test_writes_that_fail_open_the_circuit_too(reply: WireReply) -> None:
    """F-03: a server that answers no write is down, though no write is ever sent twice."""
    with (
        FhirWire(scripted(reply)) as wire,
        client_of(wire, Limits(attempts=1, breaker_failures=2)) as client,
    ):
        for _ in range(2):
            with pytest.raises(UnknownOutcome):
                client.post_transaction(b"{}")
        with pytest.raises(PeerDown):
            client.post_transaction(b"{}")
        assert len(wire.requests) == 2


def test_a_refusal_is_no_failure_of_the_server() -> None:
    """404s and 403s in any number keep the circuit closed."""
    with FhirWire(scripted(WireReply(404))) as wire, client_of(wire, Limits(breaker_failures=2)) as client:
        for _ in range(5):
            assert client.read("Patient", "p1") is None
        assert client.circuit().failures == ()


@pytest.mark.fault("F-05")
def test_a_refused_connection_has_a_name() -> None:
    """Nobody listens: PeerUnavailable after the attempts, for a write as well because nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with FhirClient(f"http://127.0.0.1:{port}/fhir", sleep=Naps()) as client:
        with pytest.raises(PeerUnavailable):
            client.read("Patient", "p1")
        with pytest.raises(PeerUnavailable):
            client.put("Patient", "p1", _PATIENT)


@pytest.mark.fault("F-05")
def test_a_certificate_that_does_not_hold_is_never_retried(tmp_path: Path) -> None:
    """A certificate nobody vouches for is the administrator's: one handshake, nothing sent, UnsupportedPeer."""
    handshakes = 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))

    def greet(listener: socket.socket) -> None:
        nonlocal handshakes
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                handshakes += 1
                with contextlib.suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet, args=(listener,))
        thread.start()
        base_url = f"https://127.0.0.1:{listener.getsockname()[1]}/fhir"
        with FhirClient(base_url, sleep=Naps()) as client, pytest.raises(UnsupportedPeer, match="certificate"):
            client.read("Patient", "p1")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)
    assert handshakes == 1


def self_signed(folder: Path) -> Path:
    """Write a key and a certificate for 127.0.0.1 that only it vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    return path


@pytest.mark.fault("F-07")
def test_silence_is_noticed() -> None:
    """A socket that stays open and says nothing is PeerTimeout, a write into it UnknownOutcome."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        base_url = f"http://127.0.0.1:{silent.getsockname()[1]}/fhir"
        limits = Limits(first_byte_seconds=0.05, attempts=2)
        with FhirClient(base_url, limits=limits, sleep=Naps()) as client:
            with pytest.raises(PeerTimeout):
                client.read("Patient", "p1")
            with pytest.raises(UnknownOutcome):
                client.put("Patient", "p1", _PATIENT)


@pytest.mark.fault("F-08")
def test_a_page_that_drips_is_aborted() -> None:
    """A body slower than the least rate ends in PeerTimeout instead of holding a worker for hours."""
    drip = WireReply(pieces=(b" " for _ in range(1000)), pause=0.01)
    limits = Limits(grace_seconds=0.05, slowest_bytes_per_second=5000.0, attempts=1)
    with FhirWire(lambda _: drip) as wire, client_of(wire, limits) as client, pytest.raises(PeerTimeout):
        client.read("Patient", "p1")


@pytest.mark.fault("F-22")
def test_a_gzip_bomb_is_refused_at_the_cap() -> None:
    """64 MB of zeros in 64 kB: TooLarge while unpacking, and ordinary gzip is read."""
    bomb = WireReply(body=gzip.compress(bytes(64 * 2**20)), headers={"content-encoding": "gzip"})
    fine = WireReply(body=gzip.compress(_PATIENT), headers={"content-encoding": "gzip"})
    with FhirWire(scripted(fine, bomb)) as wire, client_of(wire, Limits(body_bytes=2**20)) as client:
        assert client.read("Patient", "p1") is not None
        with pytest.raises(TooLarge):
            client.read("Patient", "p1")


def test_a_body_cut_short_is_tried_again() -> None:
    """Fewer bytes than promised are no page: the read is repeated, never parsed."""
    cut = WireReply(body=_PATIENT[:20], headers={"content-length": str(len(_PATIENT))}, cut=True)
    with FhirWire(scripted(cut, WireReply(body=_PATIENT))) as wire, client_of(wire) as client:
        read = client.read("Patient", "p1")
    assert not isinstance(read, Gone)
    assert read is not None
    assert read.content == _PATIENT


@pytest.mark.fault("F-23")
@pytest.mark.parametrize(
    "body",
    [
        b"<html>gateway</html>",
        b"\xef\xbb\xbf" + bundle(),
        b'{"resourceType":"Bundle","type":"searchset","total":NaN}',
        b'{"resourceType":"Bundle","type":"searchset","type":"searchset"}',
        b'{"resourceType":"Bundle","type":"searchset","id":"\\ud800"}',
        b'{"resourceType":"Bundle","type":"searchset","entry":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        bundle()[:-1],
        b'{"resourceType":"Bundle","type":"history"}',
        _PATIENT,
        b"",
        bundle(link=[{"relation": "next", "url": "?a"}, {"relation": "next", "url": "?b"}]),
    ],
)
def test_a_page_that_cannot_be_trusted_is_a_named_error(body: bytes) -> None:
    """Whatever stands there instead of a searchset, with status 200: MalformedResource, never a short result."""
    with (
        FhirWire(scripted(WireReply(body=body))) as wire,
        client_of(wire) as client,
        pytest.raises(MalformedResource),
    ):
        client.search("Observation", [("patient", "p1")])
    assert len(wire.requests) == 1


def test_missing_deleted_and_forbidden_are_three_answers() -> None:
    """404 is None, 410 is Gone, 403 an error: a record that was deleted is not one that never was."""
    with FhirWire(scripted(WireReply(404), WireReply(410), WireReply(403))) as wire, client_of(wire) as client:
        assert client.read("Patient", "p1") is None
        assert client.read("Patient", "p1") == Gone(resource_type="Patient", resource_id="p1")
        with pytest.raises(AccessRefused):
            client.read("Patient", "p1")


def test_a_read_returns_what_was_asked_or_nothing() -> None:
    """Another patient's resource under our address is WrongPatient; other mix-ups are malformed."""
    with FhirWire(scripted(WireReply(body=_PATIENT))) as wire, client_of(wire) as client:
        with pytest.raises(WrongPatient):
            client.read("Patient", "p2")
        with pytest.raises(MalformedResource):
            client.read("Group", "p1")


@pytest.mark.fault("F-32")
def test_a_token_is_renewed_once_and_the_page_resumed() -> None:
    """An expired token costs one more request; a token that stays refused is AccessRefused."""
    tokens = iter(["old", "new", "new", "new"])

    def guarded(request: WireRequest) -> WireReply:
        return WireReply(body=_PATIENT) if request.headers["authorization"] == "Bearer new" else WireReply(401)

    with FhirWire(guarded) as wire, FhirClient(wire.base_url, token=lambda: next(tokens)) as client:
        assert client.read("Patient", "p1") is not None
    with FhirWire(guarded) as wire, FhirClient(wire.base_url, token=lambda: "old") as client:
        with pytest.raises(AccessRefused):
            client.read("Patient", "p1")
        assert len(wire.requests) == 1


@pytest.mark.fault("F-32")
def test_a_question_about_nobody_tells_a_lapsed_token_from_a_closed_record() -> None:
    """401 is everybody's, with whatever it was asked for; 403 and 404 are answers."""
    with FhirWire(scripted(WireReply(401), WireReply(403), WireReply(404))) as wire, client_of(wire) as client:
        with pytest.raises(AccessRefused):
            client.knock()
        client.knock()
        client.knock()


@pytest.mark.fault("F-06")
def test_a_write_whose_reply_is_lost_is_not_repeated() -> None:
    """Cut, unreadable or 5xx after sending: UnknownOutcome and exactly one request on the wire."""
    cut = WireReply(headers={"content-length": "10"}, cut=True)
    for lost in (cut, WireReply(500), WireReply(502), WireReply(504), WireReply(408), WireReply(body=b"<html>")):
        with FhirWire(scripted(lost)) as wire, client_of(wire) as client, pytest.raises(UnknownOutcome):
            client.post_transaction(b"{}")
        assert len(wire.requests) == 1


def test_a_write_that_was_turned_away_is_repeated() -> None:
    """429 and 503 say "not now": nothing was carried out, so the same write goes out again."""
    done = WireReply(201, headers={"location": "Patient/p1/_history/1"})
    with FhirWire(scripted(WireReply(503), WireReply(429), done)) as wire, client_of(wire) as client:
        assert client.put("Patient", "p1", _PATIENT).created
    assert [request.body for request in wire.requests] == [_PATIENT] * 3


@pytest.mark.parametrize(
    ("status", "error"),
    [(409, VersionConflict), (412, VersionConflict), (400, WriteRefused), (422, WriteRefused), (403, AccessRefused),
     (405, UnsupportedPeer)],
)  # fmt: skip
def test_a_refused_write_says_who_acts(status: int, error: type[AdjuvantError]) -> None:
    """Each refusal ends in its branch, with issue code and place but without the server's words."""
    with (
        FhirWire(scripted(WireReply(status, _OUTCOME))) as wire,
        client_of(wire) as client,
        pytest.raises(error) as caught,
    ):
        client.put("Patient", "p1", _PATIENT, if_match="3")
    assert "Secretname" not in str(caught.value)
    if error is WriteRefused:
        assert "invalid at Patient.id" in str(caught.value)
    assert wire.requests[0].headers["if-match"] == 'W/"3"'


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"location": "http://ehr.invalid/fhir/Patient/p1/_history/2"}, b""),
        ({"etag": 'W/"2"'}, b""),
        ({}, b'{"resourceType":"Patient","id":"p1","meta":{"versionId":"2"}}'),
    ],
)
def test_the_written_version_is_found_where_the_server_names_it(headers: dict[str, str], body: bytes) -> None:
    """Location, ETag or the returned resource: whichever the server sends, and None when it sends nothing."""
    with FhirWire(scripted(WireReply(200, body, headers), WireReply(200))) as wire, client_of(wire) as client:
        assert client.put("Patient", "p1", _PATIENT).version == ResourceVersion("Patient", "p1", "2")
        assert client.put("Patient", "p1", _PATIENT).version is None
    assert wire.requests[0].headers["prefer"] == "return=minimal"


def test_a_conditional_create_carries_its_condition() -> None:
    """If-None-Exist goes out as given; 200 means that it existed."""
    reply = WireReply(200, headers={"location": "Device/7/_history/1"})
    with FhirWire(scripted(reply)) as wire, client_of(wire) as client:
        written = client.create("Device", b"{}", if_none_exist="identifier=urn:x%7C1")
    assert (written.created, written.version) == (False, ResourceVersion("Device", "7", "1"))
    assert (wire.requests[0].method, wire.requests[0].headers["if-none-exist"]) == ("POST", "identifier=urn:x%7C1")


def test_a_search_by_identifier_refuses_strangers() -> None:
    """A server that ignores `identifier` would hand us any resource as ours: UnsupportedPeer."""
    mine = {"resourceType": "Device", "id": "d1", "identifier": [{"system": "urn:x", "value": "1"}]}
    other = {"resourceType": "Device", "id": "d2", "identifier": [{"system": "urn:x", "value": "2"}]}
    script = scripted(WireReply(body=bundle(mine)), WireReply(body=bundle(mine, other)), WireReply(body=bundle()))
    with FhirWire(script) as wire, client_of(wire) as client:
        assert [found.version.resource_id for found in client.search_by_identifier("Device", "urn:x", "1")] == ["d1"]
        with pytest.raises(UnsupportedPeer):
            client.search_by_identifier("Device", "urn:x", "1")
        assert client.search_by_identifier("Device", "urn:x", "1") == ()
    assert wire.requests[0].parameters["identifier"] == "urn:x|1"


@pytest.mark.parametrize(
    "base_url",
    ["ftp://ehr.invalid/fhir", "ehr.invalid/fhir", "http://", "http://user:word@ehr.invalid/fhir",
     "http://ehr.invalid/fhir?x=1", "http://ehr.invalid:port/fhir"],
)  # fmt: skip
def test_a_base_url_that_is_none_stops_the_start(base_url: str) -> None:
    """Refused when the client is built, without repeating what may be a password."""
    with pytest.raises(BadSettings) as caught:
        FhirClient(base_url)
    assert "word" not in str(caught.value)


@pytest.fixture
def memory() -> Iterator[FhirClient]:
    """A client over a transport in memory, whose replies are already read."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=_PATIENT, headers={"date": "nonsense"}))
    with FhirClient("http://ehr.invalid/fhir", transport=transport) as client:
        yield client


def test_a_transport_in_memory_serves_as_well(memory: FhirClient) -> None:
    """Tests may swap the transport; a Date that is none is no time."""
    assert memory.read("Patient", "p1") is not None
    assert memory.server_time() is None
