"""Debian's PostgreSQL in a temporary folder, on a loopback port of its own, which lets nobody in without a password."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from tests.peers.process import PeerMissing, Process, free_port

_VERSIONS = Path("/usr/lib/postgresql")  # Debian: one folder for each major version


@dataclass(frozen=True, slots=True)
class Postgresql:
    """A running cluster. url: for SQLAlchemy with psycopg 3, with its password, database `postgres`."""

    url: str
    process: Process
    folder: Path

    def create_database(self, name: str) -> str:
        """Make an empty one in place of any of that name; returns its URL."""
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            for statement in ("drop database if exists {}", "create database {}"):
                connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
        return f"{self.url.rpartition('/')[0]}/{name}"

    def restart(self) -> None:
        """Kill it with everything it was about, and wait until it answers on the same port again."""
        self.process.crash_and_start_again()
        self.process.wait_until(lambda: _serves(self.url), 30, "PostgreSQL")

    def stop(self) -> None:
        """End the server and delete its data."""
        self.process.stop()
        shutil.rmtree(self.folder)


def start_postgresql(logs: Path) -> Postgresql:
    """Create a cluster, start it and wait until it answers. logs: folder for its output."""
    programs = _newest_programs()
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="adjuvant-postgresql-"))  # the user postgres cannot enter pytest's folders
    cluster = folder / "cluster"
    if user:
        shutil.chown(folder, user)
    password = secrets.token_hex(16)
    (folder / "password").write_text(password)
    owner = ["--username", "adjuvant", "--auth", "scram-sha-256", "--pwfile", str(folder / "password")]
    arguments = [*owner, "--no-sync", "--pgdata", str(cluster)]
    subprocess.run([str(programs / "initdb"), *arguments], check=True, capture_output=True, user=user, cwd=folder)
    port = free_port()
    settings = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
    command = [str(programs / "postgres"), "-D", str(cluster), "-p", str(port), *settings]
    process = Process(command, logs / "postgresql.log", user=user, folder=folder)
    url = f"postgresql+psycopg://adjuvant:{password}@127.0.0.1:{port}/postgres"
    process.wait_until(lambda: _serves(url), 30, "PostgreSQL")
    return Postgresql(url, process, folder)


def _serves(url: str) -> bool:
    """Whether it takes a connection: the port is open before the server has started up."""
    try:
        psycopg.connect(url.replace("+psycopg", ""), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _newest_programs() -> Path:
    found = sorted(_VERSIONS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise PeerMissing("PostgreSQL is not installed: run scripts/install-test-peers")
    return found[-1].parent
