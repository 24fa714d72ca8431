"""HAPI FHIR 8.8 JPA R4, in memory, on a loopback port."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.peers.process import PeerMissing, Process, free_port, require_tool

_TARGET = Path(__file__).parent / "hapi" / "target"
_PROGRAM = _TARGET / "hapi.jar"  # a jar: the JVM archives no classes out of folders
_CLASSES = _TARGET / "hapi.jsa"
_READY_SECONDS = 120
_ARCHIVING_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Hapi:
    """A running server. base_url: without a trailing slash."""

    base_url: str
    process: Process
    new_classes: Path | None

    def stop(self) -> None:
        """End it, and keep the classes it archived, if it was asked to: later starts take a third less time."""
        self.process.stop(patience=_ARCHIVING_SECONDS)
        if self.new_classes and self.new_classes.exists():
            self.new_classes.replace(_CLASSES)

    def validate(self, resource: bytes, resource_type: str) -> list[str]:
        """The errors `$validate` finds, each with its place; an empty list is a valid resource."""
        reply = httpx.post(
            f"{self.base_url}/{resource_type}/$validate",
            content=resource,
            headers={"content-type": "application/fhir+json"},
            timeout=60,
        )
        return [
            f"{issue.get('expression', issue.get('location', ['?']))[0]}: {issue.get('diagnostics')}"
            for issue in reply.json()["issue"]
            if issue["severity"] in {"error", "fatal"}
        ]


def start_hapi(folder: Path) -> Hapi:
    """Start it and wait for its CapabilityStatement. Raises PeerMissing where it was not built."""
    if not _PROGRAM.exists():
        raise PeerMissing("HAPI FHIR is not built: run scripts/install-test-peers")
    port = free_port()
    # the archive of a first run serves the later ones; a CI machine, which has no later ones, saves the work
    new_classes = None if _CLASSES.exists() or os.environ.get("CI") == "true" else _TARGET / f"hapi.{os.getpid()}.jsa"
    command = [
        require_tool("java"),
        f"-XX:ArchiveClassesAtExit={new_classes}" if new_classes else f"-XX:SharedArchiveFile={_CLASSES}",
        "-Xmx1200m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
        f"{_PROGRAM}:{_TARGET}/lib/*",
        "HapiServer",
        str(port),
    ]
    process = Process(command, folder / "hapi.log")
    base_url = f"http://127.0.0.1:{port}/fhir"
    process.wait_until(lambda: _serves(base_url), _READY_SECONDS, "HAPI FHIR")
    _teach_newer_codes(base_url)
    return Hapi(base_url, process, new_classes)


def _teach_newer_codes(base_url: str) -> None:
    """Add the AI label to the judge's terminology: R4 4.0.1, which HAPI ships, is older than the code.

    Source: HL7 Terminology, v3-ObservationValue 5.0.0, and the value set ProvenanceVS of the AI transparency guide.
    """
    url = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"
    newer = {
        "resourceType": "CodeSystem",
        "id": "v3-ObservationValue",
        "url": url,
        "version": "5.0.0",
        "status": "active",
        "content": "complete",  # HAPI passes over a fragment
        "concept": [{"code": "AIAST", "display": "Artificial Intelligence asserted"}],
    }
    httpx.put(f"{base_url}/CodeSystem/v3-ObservationValue", json=newer, timeout=60).raise_for_status()


def _serves(base_url: str) -> bool:
    try:
        return httpx.get(f"{base_url}/metadata", timeout=30).status_code == 200
    except httpx.TransportError:
        return False
