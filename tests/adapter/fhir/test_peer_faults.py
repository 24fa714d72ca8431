"""F-05, F-07, F-08: a peer not found, with a wrong certificate, silent or dripping is named, in time."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from adapter.errors import PeerTimeout, PeerUnavailable, UnsupportedPeer
from adapter.fhir.client import FhirClient
from adapter.fhir.limits import Limits
from tests.fakes.fhir_wire import FhirWire, WireReply

_NOW = datetime.now(UTC)


def _certificate(folder: Path, host: str, ends: datetime) -> Path:
    """A key and a certificate for one host that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(ends - timedelta(days=400))
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    return path


@contextmanager
def _greeting(certificate: Path) -> Iterator[tuple[int, list[int]]]:
    """A server that only shakes hands: its port, and an entry for each that came."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    came: list[int] = []

    def greet() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                came.append(1)
                with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet)
        thread.start()
        try:
            yield listener.getsockname()[1], came
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=5)


@contextmanager
def _plain() -> Iterator[int]:
    """A server that knows no TLS and answers one caller in plain: its port."""

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(5)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(timeout=5)


@pytest.mark.parametrize(
    ("host", "ends"),
    [("localhost", _NOW - timedelta(days=1)), ("elsewhere.invalid", _NOW + timedelta(days=1))],
    ids=["expired", "of another host"],
)
def test_a_trusted_authority_does_not_make_up_for_a_wrong_certificate(
    tmp_path: Path, host: str, ends: datetime
) -> None:
    """F-05: expired, or of another host: refused by name at the first handshake, nothing sent, never tried without."""
    certificate = _certificate(tmp_path, host, ends)
    trusted = ssl.create_default_context(cafile=certificate)
    with _greeting(certificate) as (port, came):
        base_url = f"https://localhost:{port}/fhir"
        with (
            FhirClient(base_url, tls=trusted, sleep=lambda _: None) as client,
            pytest.raises(UnsupportedPeer, match="certificate is refused"),
        ):
            client.read("Patient", "p1")
    assert came == [1]


def test_a_name_that_no_dns_knows_is_named_and_tried_again() -> None:
    """F-05: DNS is gone for a while: PeerUnavailable after every attempt, for nothing was sent."""
    naps: list[float] = []
    limits = Limits(attempts=3)
    with (
        FhirClient("http://ehr.invalid/fhir", limits=limits, sleep=naps.append) as client,
        pytest.raises(PeerUnavailable, match=r"Patient/p1: host name not found: ehr\.invalid"),
    ):
        client.read("Patient", "p1")
    assert len(naps) == 2


def test_a_refused_port_and_a_failed_handshake_are_told_apart() -> None:
    """F-05: law: the sentence says whom to call, for a port or for TLS. Breach: both were a ConnectError."""
    limits = Limits(attempts=1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        FhirClient(f"http://127.0.0.1:{port}/fhir", limits=limits) as client,
        pytest.raises(PeerUnavailable, match=f"metadata: connection refused at 127.0.0.1:{port}"),
    ):
        client.capabilities()
    with (
        _plain() as port,
        FhirClient(f"https://127.0.0.1:{port}/fhir", limits=limits) as client,
        pytest.raises(PeerUnavailable, match=f"metadata: TLS handshake failed at 127.0.0.1:{port}"),
    ):
        client.capabilities()


def test_a_socket_that_dies_within_a_page_frees_its_worker() -> None:
    """F-07: half a page, then nothing and no end of the connection: over within the longest silence."""
    page = WireReply(pieces=_half_then_silence(), headers={"content-length": "1000"})
    limits = Limits(first_byte_seconds=0.2, attempts=1)
    with FhirWire(lambda _: page) as wire, FhirClient(wire.base_url, limits=limits) as client:
        started = time.monotonic()
        with pytest.raises(PeerTimeout):
            client.read("Patient", "p1")
        assert time.monotonic() - started < 3


def _half_then_silence() -> Iterator[bytes]:
    yield b'{"resourceType":'
    time.sleep(4)


def test_one_byte_a_second_is_too_slow() -> None:
    """F-08: never silent for long and never done: the least rate ends it, long before the whole time is over."""
    page = WireReply(pieces=(b" " for _ in range(60)), pause=0.1)
    limits = Limits(first_byte_seconds=1.0, grace_seconds=0.5, attempts=1)
    with FhirWire(lambda _: page) as wire, FhirClient(wire.base_url, limits=limits) as client:
        started = time.monotonic()
        with pytest.raises(PeerTimeout):
            client.read("Patient", "p1")
        assert time.monotonic() - started < 3
