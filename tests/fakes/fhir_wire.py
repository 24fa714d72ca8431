"""A scripted HTTP/1.1 server on a loopback port: it says exactly the bytes a test, or the pull benchmark, wants said.

`adapter.sandbox.fhir_server` is a FHIR server; this is only a wire, for what no server library would send.
Run as a module it serves the searchset of the pull benchmark and prints its port.
"""

from __future__ import annotations

import base64
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One request as it was written. target: path and query, byte for byte; headers: lower-case names."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @property
    def parameters(self) -> dict[str, str]:
        """The query, decoded."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class WireReply:
    """One reply. pieces: sent one by one with `pause` seconds between; cut: hang up instead of finishing."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Iterable[bytes] | None = None
    pause: float = 0.0
    cut: bool = False


class FhirWire:
    """The server and its life: `with FhirWire(script) as wire: ...`. requests: all that came, in order."""

    def __init__(self, script: Callable[[WireRequest], WireReply]) -> None:
        self.requests: list[WireRequest] = []
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._closing = False
        self._thread = threading.Thread(target=self._accept, name="fhir-wire", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.getsockname()[1])

    @property
    def base_url(self) -> str:
        """The service base, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}/fhir"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            connection.close()
        self._thread.join(timeout=5)

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as lines:
                while (request := _read_request(lines)) is not None:
                    self.requests.append(request)
                    if not _send(connection, self._script(request)):
                        return
        except OSError:
            return  # the client hung up: that is its right


def _read_request(lines: BinaryIO) -> WireRequest | None:
    start = lines.readline()
    if not start:
        return None
    method, target, _ = start.decode("ascii").split(" ")
    headers: dict[str, str] = {}
    while (line := lines.readline()) not in {b"\r\n", b""}:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    body = lines.read(int(headers.get("content-length", "0")))
    return WireRequest(method, target, headers, body)


def _send(connection: socket.socket, reply: WireReply) -> bool:
    """Send one reply; False when the connection is spent."""
    headers = {"content-type": "application/fhir+json", **reply.headers}
    if reply.pieces is None and not reply.cut:
        headers.setdefault("content-length", str(len(reply.body)))
    else:
        headers.setdefault("connection", "close")
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    connection.sendall(f"HTTP/1.1 {reply.status} Scripted\r\n{head}\r\n".encode("latin-1") + reply.body)
    for piece in reply.pieces or ():
        time.sleep(reply.pause)
        connection.sendall(piece)
    return reply.pieces is None and not reply.cut


def bundle(*resources: object, **more: object) -> bytes:
    """A searchset of matches; `more` overrides or adds members, `entry` included."""
    entries = [{"resource": resource, "search": {"mode": "match"}} for resource in resources]
    return json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": entries, **more}).encode()


class LinkStyle(Enum):
    """The five ways of the pull benchmark: four spellings of `next`, and one that also fails now and then."""

    OFFSET = "plain offset"
    GETPAGES = "HAPI _getpages"
    ENCODED_CURSOR = "percent-encoded base64 cursor"
    RAW_PLUS = "cursor with raw +"
    UNAVAILABLE = "HAPI _getpages, every 7th request 503"


class PagedObservations:
    """A script that answers `Observation?patient=…` for any number of patients, in pages rendered once.

    Each cursor holds `+` or `/`, and is refused unless it comes back exactly as it was written.
    """

    def __init__(self, style: LinkStyle, *, per_patient: int, page_size: int) -> None:
        self._style = style
        self._per_patient = per_patient
        self._page_size = page_size
        self._continued = 0
        self._bodies: dict[int, str] = {}

    def __call__(self, request: WireRequest) -> WireReply:
        """Answer one request; anything not understood is a 400."""
        base = f"http://{request.headers['host']}/fhir"
        asked = request.parameters
        if "patient" in asked and "_offset" not in asked:
            return self._page(base, asked["patient"], 0)
        self._continued += 1
        if self._style is LinkStyle.UNAVAILABLE and self._continued % 7 == 0:
            return WireReply(503, headers={"retry-after": "0"})
        where = self._where(request)
        return WireReply(400) if where is None else self._page(base, *where)

    def _where(self, request: WireRequest) -> tuple[str, int] | None:
        asked = request.parameters
        if self._style is LinkStyle.OFFSET:
            return asked["patient"], int(asked["_offset"])
        if self._style in {LinkStyle.GETPAGES, LinkStyle.UNAVAILABLE}:
            if request.path != "/fhir":
                return None
            return asked["_getpages"], int(asked["_getpagesoffset"])
        written = request.target.partition("_cursor=")[2]
        cursor = unquote(written) if self._style is LinkStyle.ENCODED_CURSOR else written
        try:
            patient, offset = base64.b64decode(cursor, validate=True)[3:].decode().split(":")
        except ValueError:
            return None
        return patient, int(offset)

    def _next(self, base: str, patient: str, offset: int) -> str:
        if self._style is LinkStyle.OFFSET:
            return f"{base}/Observation?patient={patient}&_count={self._page_size}&_offset={offset}"
        if self._style in {LinkStyle.GETPAGES, LinkStyle.UNAVAILABLE}:
            return f"{base}?_getpages={patient}&_getpagesoffset={offset}&_count={self._page_size}"
        cursor = base64.b64encode(b"\xfb\xef\xff" + f"{patient}:{offset}".encode()).decode()
        written = quote(cursor, safe="") if self._style is LinkStyle.ENCODED_CURSOR else cursor
        return f"{base}/Observation?_cursor={written}"

    def _page(self, base: str, patient: str, offset: int) -> WireReply:
        if offset not in self._bodies:
            entries = [
                {
                    "fullUrl": f"{base}/Observation/@-{number}",
                    "resource": _haemoglobin("@", number),
                    "search": {"mode": "match"},
                }
                for number in range(offset, min(offset + self._page_size, self._per_patient))
            ]
            self._bodies[offset] = json.dumps(entries, separators=(",", ":"))
        links = [{"relation": "self", "url": f"{base}/Observation?patient={patient}&_count={self._page_size}"}]
        if offset + self._page_size < self._per_patient:
            links.append({"relation": "next", "url": self._next(base, patient, offset + self._page_size)})
        head = '{"resourceType":"Bundle","type":"searchset","link":' + json.dumps(links, separators=(",", ":"))
        return WireReply(body=(head + ',"entry":' + self._bodies[offset].replace("@", patient) + "}").encode())


def _haemoglobin(patient: str, number: int) -> dict[str, object]:
    """A laboratory Observation of a real one's size (about 800 bytes)."""
    gram = {"unit": "g/dL", "system": "http://unitsofmeasure.org", "code": "g/dL"}
    category = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {
        "resourceType": "Observation",
        "id": f"{patient}-{number}",
        "meta": {"versionId": "1", "lastUpdated": "2026-01-01T00:00:00.000Z"},
        "status": "final",
        "category": [{"coding": [{"system": category, "code": "laboratory", "display": "Laboratory"}]}],
        "code": {
            "coding": [{"system": "http://loinc.org", "code": "718-7", "display": "Hemoglobin [Mass/volume] in Blood"}],
            "text": "Hemoglobin",
        },
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": "2025-12-31T07:30:00+01:00",
        "issued": "2025-12-31T09:00:00.000+01:00",
        "valueQuantity": {"value": 8 + number % 70 / 10, **gram},
        "referenceRange": [{"low": {"value": 12.0, **gram}, "high": {"value": 16.0, **gram}}],
    }


def main(style: str, per_patient: str, page_size: str) -> None:
    """Serve one link style until standard input closes."""
    script = PagedObservations(LinkStyle[style], per_patient=int(per_patient), page_size=int(page_size))
    with FhirWire(script) as wire:
        print(wire.base_url, flush=True)  # noqa: T201
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
