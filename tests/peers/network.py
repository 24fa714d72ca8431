"""A network namespace of our own, because Orthanc and DCMTK listen on every interface.

The namespace has loopback and one veth pair to us. Where namespaces are not permitted the servers run on the plain
host, open to its network while the tests run: they hold simulated and public data only.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

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
    try:
        _remove_abandoned()
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        return Network("127.0.0.1", "127.0.0.1", (), None)
    try:
        our_address, peer_address = _free_addresses()
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


def _remove_abandoned() -> None:
    """Delete the namespaces of test runs that were killed; their servers ended with them."""
    for name in re.findall(r"^adjuvant\d+n\d+", _ip("netns", "list"), re.MULTILINE):
        owner = name.removeprefix("adjuvant").partition("n")[0]
        if not Path("/proc", owner).exists():
            _ip("netns", "delete", name)


def _free_addresses() -> tuple[str, str]:
    """Ours and theirs, the two hosts of a /30 in 10.213.0.0/16 that no interface here has."""
    taken = set(re.findall(r"10\.213\.\d+\.\d+", _ip("-o", "-4", "address", "show")))
    blocks = 2**14
    for step in range(blocks):  # runs side by side begin at different places
        third, fourth = divmod(4 * ((os.getpid() + step) % blocks), 256)
        ours = f"10.213.{third}.{fourth + 1}"
        if ours not in taken:
            return ours, f"10.213.{third}.{fourth + 2}"
    raise RuntimeError("every block of 10.213.0.0/16 is in use")


def _ip(*arguments: str) -> str:
    return subprocess.run([require_tool("ip"), *arguments], check=True, capture_output=True, text=True).stdout
