"""PostgreSQL 15 in a temporary folder, on a loopback port of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.peers.process import PeerMissing, Process, answers, free_port

_PROGRAMS = Path("/usr/lib/postgresql/15/bin")


@dataclass(frozen=True, slots=True)
class Postgresql:
    """A running cluster. url: for SQLAlchemy with psycopg 3, database `postgres`."""

    url: str
    process: Process


def start_postgresql(folder: Path) -> Postgresql:
    """Create the cluster, start it and wait until it answers."""
    if not (_PROGRAMS / "initdb").exists():
        raise PeerMissing("PostgreSQL 15 is not installed: run scripts/install-test-peers")
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    cluster = folder / "cluster"
    if user:
        for reachable in (folder, *folder.parents):
            if reachable.stat().st_mode & 0o001 == 0:
                reachable.chmod(reachable.stat().st_mode | 0o011)
        shutil.chown(folder, user)
    arguments = ["--username", "adjuvant", "--auth", "trust", "--no-sync", "--pgdata", str(cluster)]
    subprocess.run([str(_PROGRAMS / "initdb"), *arguments], check=True, capture_output=True, user=user, cwd=folder)
    port = free_port()
    settings = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
    command = [str(_PROGRAMS / "postgres"), "-D", str(cluster), "-p", str(port), *settings]
    process = Process(command, folder.parent / f"{folder.name}.log", user=user, folder=folder)
    process.wait_until(lambda: answers("127.0.0.1", port), 30, "PostgreSQL")
    return Postgresql(f"postgresql+psycopg://adjuvant@127.0.0.1:{port}/postgres", process)
