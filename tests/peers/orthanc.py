"""Orthanc 1.10 from Debian: the archive of the tests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.peers.network import Network, open_network
from tests.peers.process import Process, answers, free_port, require_tool

AE_TITLE = "ORTHANC"
Secured = Callable[[str, str], Mapping[str, object]]
"""The keys of its configuration that make DICOM run over TLS, from its address and ours."""


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running archive. our_address: where our Storage SCP must bind so that it can reach us."""

    host: str
    dicom_port: int
    http_url: str
    ae_title: str
    our_address: str
    process: Process
    network: Network

    def allow(self, ae_title: str, port: int, *, tls: bool = False) -> None:
        """Make our AE a known modality: a C-MOVE destination and a permitted caller."""
        modality = {"AET": ae_title, "Host": self.our_address, "Port": port, "UseDicomTls": tls}
        httpx.put(f"{self.http_url}/modalities/{ae_title}", json=modality, timeout=10).raise_for_status()

    def upload(self, content: bytes) -> None:
        """Store one DICOM file."""
        httpx.post(f"{self.http_url}/instances", content=content, timeout=60).raise_for_status()

    def instances(self) -> int:
        """How many instances it holds."""
        return int(httpx.get(f"{self.http_url}/statistics", timeout=10).json()["CountInstances"])

    def wipe(self) -> None:
        """Forget everything."""
        for patient in httpx.get(f"{self.http_url}/patients", timeout=10).json():
            httpx.delete(f"{self.http_url}/patients/{patient}", timeout=60).raise_for_status()

    def stop(self) -> None:
        """End the process, then its network."""
        self.process.stop()
        self.network.close()


def start_orthanc(folder: Path, secured: Secured | None = None) -> Orthanc:
    """Start it with an own configuration and wait until HTTP and DICOM answer."""
    program = require_tool("Orthanc")
    network = open_network()
    dicom_port, http_port = free_port(), free_port()
    configuration = {
        "Name": "tests",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "DicomAet": AE_TITLE,
        "DicomPort": dicom_port,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowMove": True,
        "DicomModalitiesInDatabase": True,
        "DicomScpTimeout": 30,
        "TranscodeDicomProtocol": False,
        "HttpPort": http_port,
        "RemoteAccessAllowed": network.namespace is not None,
        "AuthenticationEnabled": False,
        "OverwriteInstances": False,
        "ConcurrentJobs": 2,
        **(secured(network.peer_address, network.our_address) if secured else {}),
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    # without TCP_NODELAY every object costs a delayed acknowledgement of about 46 ms
    environment = {**os.environ, "TCP_NODELAY": "1"}
    process = Process([*network.prefix, program, str(path)], folder / "orthanc.log", environment=environment)
    host = network.peer_address
    process.wait_until(lambda: answers(host, dicom_port) and answers(host, http_port), 30, "Orthanc")
    return Orthanc(host, dicom_port, f"http://{host}:{http_port}", AE_TITLE, network.our_address, process, network)
