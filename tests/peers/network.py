"""A network namespace of our own, because Orthanc and DCMTK listen on every interface.

The namespace has loopback and one veth pair to us; where namespaces are not permitted, the plain host is used.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from dataclasses import dataclass

from tests.peers.process import require_tool

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Network:
    """Where a server runs. peer_address: how we reach it; our_address: how it reaches us; prefix: of its command."""

    peer_address: str
    our_address: str
    prefix: tuple[str, ...]
    namespace: str | None

    def close(self) -> None:
        """Remove the namespace, and with it the veth pair."""
        if self.namespace:
            _ip("netns", "delete", self.namespace)


def open_network() -> Network:
    """A fresh namespace, or the host's loopback where none may be made."""
    number = next(_numbers)
    name = f"adjuvant{os.getpid()}n{number}"
    ours, theirs = f"adj{os.getpid() % 100000}a{number}", f"adj{os.getpid() % 100000}b{number}"
    block = f"10.213.{os.getpid() % 250}.{4 * number}"
    our_address, peer_address = _host(block, 1), _host(block, 2)
    try:
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        return Network("127.0.0.1", "127.0.0.1", (), None)
    try:
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        _ip("address", "add", f"{our_address}/30", "dev", ours)
        _ip("link", "set", ours, "up")
        _ip("-n", name, "address", "add", f"{peer_address}/30", "dev", theirs)
        _ip("-n", name, "link", "set", theirs, "up")
        _ip("-n", name, "link", "set", "lo", "up")
    except subprocess.CalledProcessError:
        _ip("netns", "delete", name)
        return Network("127.0.0.1", "127.0.0.1", (), None)
    return Network(peer_address, our_address, (require_tool("ip"), "netns", "exec", name), name)


def _host(block: str, offset: int) -> str:
    head, _, last = block.rpartition(".")
    return f"{head}.{int(last) + offset}"


def _ip(*arguments: str) -> None:
    subprocess.run([require_tool("ip"), *arguments], check=True, capture_output=True)
