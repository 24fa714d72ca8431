"""DCMTK's dcmqrscp: a second archive, by other hands."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.peers.network import Network, open_network
from tests.peers.process import Process, answers, free_port, require_tool

AE_TITLE = "DCMQRSCP"
_ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


@dataclass(frozen=True, slots=True)
class Dcmqrscp:
    """A running archive. It knows one move destination: `our_ae_title` at `our_address:our_port`."""

    host: str
    dicom_port: int
    ae_title: str
    our_ae_title: str
    our_address: str
    our_port: int
    syntax: str
    process: Process
    network: Network

    def upload(self, files: list[Path]) -> None:
        """Store DICOM files by DCMTK's storescu, each in its own transfer syntax."""
        command = [require_tool("storescu"), "-aec", self.ae_title, f"-x{self.syntax}", self.host, str(self.dicom_port)]
        command[1:1] = ["-R"]
        subprocess.run([*command, *map(str, files)], check=True, env=_ENVIRONMENT, capture_output=True)

    def stop(self) -> None:
        """End the process, then its network."""
        self.process.stop()
        self.network.close()


def start_dcmqrscp(folder: Path, syntax: str = "s") -> Dcmqrscp:
    """Start it with an AE table of its own and wait until its port answers.

    syntax: DCMTK's letter of the one compressed transfer syntax it takes and sends beside the uncompressed ones: `s`
    JPEG lossless, `t` JPEG-LS, `v` JPEG 2000, `r` RLE.
    """
    program = require_tool("dcmqrscp")
    network = open_network()
    port, our_port = free_port(), free_port()
    storage = folder / "storage"
    storage.mkdir(parents=True)
    our_ae_title = "ADJUVANT"
    table = f"""
NetworkTCPPort = {port}
MaxPDUSize = 131072
MaxAssociations = 16
HostTable BEGIN
adjuvant = ({our_ae_title}, {network.our_address}, {our_port})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
{AE_TITLE} {storage} RW (9, 1024mb) ANY
AETable END
"""
    path = folder / "dcmqrscp.cfg"
    path.write_text(table)
    command = [*network.prefix, program, f"+x{syntax}", f"-x{syntax}", "-c", str(path)]
    process = Process(command, folder / "dcmqrscp.log", environment=_ENVIRONMENT)
    process.wait_until(lambda: answers(network.peer_address, port), 30, "dcmqrscp")
    return Dcmqrscp(
        network.peer_address, port, AE_TITLE, our_ae_title, network.our_address, our_port, syntax, process, network
    )
