"""Starting a server of our own: a free port, readiness, and an end by process id."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO

_SETPRIV = shutil.which("setpriv")  # util-linux; elsewhere a killed run leaves its servers behind
# Children start from a thread that lives as long as we do: the kernel's signal comes when the parent thread ends.
_STARTER = ThreadPoolExecutor(1)


class PeerMissing(Exception):
    """The server cannot be had on this machine; the message is the reason a test skips."""


def require_tool(name: str) -> str:
    """The path of a program. Raises PeerMissing."""
    found = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise PeerMissing(f"{name} is not installed: run scripts/install-test-peers")
    return found


def free_port() -> int:
    """A loopback TCP port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """One server process whose output goes to a file; stopped with SIGTERM, then SIGKILL.

    It also ends when the test run that started it is killed: the kernel sends it SIGTERM (prctl, PR_SET_PDEATHSIG).
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        folder: Path | None = None,
    ) -> None:
        """Start it. environment: the whole environment of the child, or ours."""
        self._log: IO[bytes] = log.open("wb")
        self.log = log
        dies_with_us = [_SETPRIV, "--pdeathsig", "TERM", "--"] if _SETPRIV else []
        self._start = partial(
            subprocess.Popen,
            [*dies_with_us, *command],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=environment,
            user=user,
            cwd=folder,
        )
        self._child = _STARTER.submit(self._start).result()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    def wait_until(self, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Return once ready. Raises RuntimeError with the log's end when it dies or takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self._child.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2000:]
                self.stop()
                raise RuntimeError(f"{what} did not become ready: {tail}")
            time.sleep(0.05)

    def crash_and_start_again(self) -> None:
        """SIGQUIT, which PostgreSQL answers by ending at once without tidying up; then the same command."""
        self._child.send_signal(signal.SIGQUIT)
        self._child.wait(timeout=30)
        self._child = _STARTER.submit(self._start).result()

    def stop(self, patience: float = 15) -> None:
        """End it and wait until it has ended. patience: seconds until SIGKILL."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(timeout=patience)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait(timeout=15)
        self._log.close()


def answers(host: str, port: int) -> bool:
    """Whether something accepts TCP connections there."""
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False
