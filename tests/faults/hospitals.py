"""The hospitals that the service is disturbed at: the sandbox for speed, HAPI FHIR and Orthanc for truth."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from adapter.domain.ids import PatientId
from adapter.sandbox.hospital import SandboxHospital
from adapter.sandbox.pacs import SandboxPacs
from tests.faults.proxy import TcpProxy
from tests.peers.hapi import Hapi
from tests.peers.orthanc import Orthanc

# How a server is asked for what we wrote about a patient; what is not listed is about ourselves.
_OF_A_PATIENT = {
    **dict.fromkeys(("RiskAssessment", "CarePlan", "DetectedIssue", "GuidanceResponse", "Task"), "patient=Patient/{}"),
    "Provenance": "target:GuidanceResponse.patient=Patient/{}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One resource as the EHR holds it."""

    resource: Mapping[str, Any]
    version: int


class Ehr(Protocol):
    """What a judge needs of one."""

    def resource(self, reference: str) -> Mapping[str, Any] | None:
        """What the EHR holds under `Type/id`; None when nothing."""

    def written(self, kind: str) -> Sequence[Written]:
        """Every live resource of a type."""


class Hospital(Ehr, Protocol):
    """What a schedule needs of one. dicom_bind: where our Storage SCP must listen so that the archive reaches it."""

    base_url: str
    dicom_host: str
    dicom_port: int
    dicom_ae_title: str
    dicom_bind: str
    known_time: str
    pretend_archive: SandboxPacs | None

    def seen_through(self, proxy: TcpProxy) -> str:
        """The EHR's base URL behind a proxy."""

    @property
    def patients(self) -> tuple[PatientId, ...]:
        """The ids of all patients, present and to come."""

    def allow(self, ae_title: str, port: int) -> None:
        """Make a worker's application entity a move destination."""

    @property
    def to_come(self) -> int:
        """How many events are not learned yet."""

    def unfold(self, count: int) -> None:
        """Learn the next events."""


class PretendHospital:
    """The sandbox."""

    dicom_host, dicom_bind, known_time = "127.0.0.1", "127.0.0.1", "reported"

    def __init__(self, sandbox: SandboxHospital) -> None:
        """sandbox: open."""
        self.sandbox = sandbox
        self.base_url = sandbox.ehr.base_url
        self.dicom_port = sandbox.archive.port
        self.dicom_ae_title = sandbox.archive.ae_title
        self.patients = sandbox.patients
        self.pretend_archive: SandboxPacs | None = sandbox.archive

    def seen_through(self, proxy: TcpProxy) -> str:
        """Its links are to lead through the proxy too."""
        self.sandbox.ehr.public_url = _moved(self.base_url, proxy)
        return self.sandbox.ehr.public_url

    def allow(self, ae_title: str, port: int) -> None:
        """On loopback."""
        self.sandbox.archive.allow(ae_title, "127.0.0.1", port)

    @property
    def to_come(self) -> int:
        """As the sandbox says."""
        return self.sandbox.to_come

    def unfold(self, count: int) -> None:
        """As the sandbox does."""
        self.sandbox.unfold(count)

    def resource(self, reference: str) -> Mapping[str, Any] | None:
        """From memory."""
        return self.sandbox.resource(reference)

    def written(self, kind: str) -> Sequence[Written]:
        """From memory."""
        return [
            Written(resource=one.resource, version=one.version) for one in self.sandbox.ehr.repository.current(kind)
        ]


class RealHospital:
    """HAPI FHIR and Orthanc with simulated patients; times of the courses count, not those of the test load.

    All ids get the prefix, because a server serves many schedules.
    """

    known_time = "effective-plus-delay"
    pretend_archive: SandboxPacs | None = None

    def __init__(self, hapi: Hapi, orthanc: Orthanc, sandbox: SandboxHospital) -> None:
        """sandbox: its courses are played back, and its images are stored in Orthanc."""
        self._orthanc = orthanc
        self._http = httpx.Client(base_url=hapi.base_url, timeout=60)
        self._sandbox = sandbox
        self.base_url = hapi.base_url
        self.dicom_host, self.dicom_port = orthanc.host, orthanc.dicom_port
        self.dicom_ae_title, self.dicom_bind = orthanc.ae_title, orthanc.our_address
        self.patients = sandbox.patients
        for instance in sandbox.archive.sendable():
            content = io.BytesIO()
            instance.save_as(content, enforce_file_format=True)
            orthanc.upload(content.getvalue())

    def seen_through(self, proxy: TcpProxy) -> str:
        """HAPI's links go where a request came from."""
        return _moved(self.base_url, proxy)

    def close(self) -> None:
        """Let the connection go."""
        self._http.close()

    def allow(self, ae_title: str, port: int) -> None:
        """As a modality."""
        self._orthanc.allow(ae_title, port)

    @property
    def to_come(self) -> int:
        """As the sandbox says."""
        return self._sandbox.to_come

    def unfold(self, count: int) -> None:
        """One transaction an event."""
        for reveal in self._sandbox.unfold(count):
            entries = [
                {"resource": dict(one), "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
                for one in reveal.resources
            ]
            bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
            self._http.post("", json=bundle).raise_for_status()

    def resource(self, reference: str) -> Mapping[str, Any] | None:
        """Read over HTTP."""
        reply = self._http.get(f"/{reference}")
        found: dict[str, Any] | None = reply.json() if reply.status_code == httpx.codes.OK else None
        return found

    def written(self, kind: str) -> Sequence[Written]:
        """Everything of our patients, or of ourselves, page after page."""
        queries = [_OF_A_PATIENT[kind].format(patient) for patient in self.patients] if kind in _OF_A_PATIENT else [""]
        return [
            Written(resource=one, version=int(one["meta"]["versionId"]))
            for query in queries
            for one in self._found(f"/{kind}?{query}&_count=200")
        ]

    def _found(self, url: str) -> Iterator[dict[str, Any]]:
        while url:
            bundle = self._http.get(url).raise_for_status().json()
            for entry in bundle.get("entry", []):
                yield entry["resource"]
            url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")


def _moved(base_url: str, proxy: TcpProxy) -> str:
    return str(httpx.URL(base_url).copy_with(port=proxy.port))
