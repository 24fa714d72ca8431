"""The processes of the service in a schedule: each with a site file, a port and a data folder of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from adapter.sandbox.hospital import sandbox_policy
from adapter.sandbox.patients import PATIENT_SYSTEM
from adapter.settings import Settings, load_settings
from tests.faults.hospitals import Hospital
from tests.faults.victim import Plan, serve
from tests.peers.process import free_port

_one_at_a_time = threading.Lock()  # to start one reads the ends of all: what two threads read, one of them loses
_STOP_SECONDS, _LOOK_SECONDS = 20.0, 0.02
_READY = b"adjuvant runs"  # as the command line says it


# Forked from a process that has imported the service, so that a thousand starts cost no thousand imports.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["__main__", serve.__module__])


class Worker:
    """One process of the service, started again and again."""

    BY_ITSELF = "ended by itself"

    def __init__(self, number: int, hospital: Hospital, folder: Path, url: str, base_url: str) -> None:
        """folder: of the schedule. url: of the database all share. base_url: of the EHR as it sees it."""
        self.folder = folder / f"worker{number}"
        self.plan: Plan | None = None
        self._log = folder / f"worker{number}.log"
        self._log_begins = 0
        self._process: ForkServerProcess | None = None
        self.config = _site(number, hospital, folder, url, base_url)
        self.settings: Settings = load_settings(self.config)

    def start(self, plan: Plan | None, clock: Path | None) -> None:
        """Begin to work. clock: as `serve`."""
        self.plan = plan
        self._log_begins = self._log.stat().st_size if self._log.exists() else 0
        self._process = _processes.Process(target=serve, args=(self.config, plan, self._log, clock))
        with _one_at_a_time:
            self._process.start()

    @property
    def lives(self) -> bool:
        """Whether the process is there, paused or not."""
        return self._process is not None and self.exit_code is None

    @property
    def exit_code(self) -> int | None:
        """Negative: the signal that ended it. None while it lives, and before it was started."""
        if self._process is None:
            return None
        with _one_at_a_time:
            return self._process.exitcode

    @property
    def serves(self) -> bool:
        """Whether it has come up since it was started last; before, a request to stop only ends its imports."""
        return _READY in self._log.read_bytes()[self._log_begins :]

    def how_it_fell(self) -> str:
        """Of a process that is gone: at which kill point, or otherwise."""
        code = self.exit_code
        if self.plan is not None and (code == -signal.SIGKILL or (code == 0 and self.plan.signal is signal.SIGTERM)):
            return self.plan.moment.value
        return self.BY_ITSELF

    @property
    def paused(self) -> bool:
        """Whether the process is stopped by a signal."""
        if self._process is None:
            return False
        try:
            status = Path(f"/proc/{self._process.pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return status.rpartition(")")[2].split()[0] == "T"

    def send(self, number: signal.Signals) -> None:
        """Send a signal to a process that may be gone."""
        if self._process is not None and self._process.pid is not None and self.lives:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End it at once, and wait until it is gone."""
        self.send(signal.SIGKILL)
        while self.lives:
            time.sleep(_LOOK_SECONDS)

    def stop(self) -> None:
        """Ask it to stop; one that stays, or dies by its plan meanwhile, is gone too."""
        self.send(signal.SIGTERM)
        self.ended_in_order()

    def stopped_in_order(self) -> bool:
        """Ask it to stop, and wait; whether it did, within its time and with exit code 0."""
        if self._process is None:
            return True
        self.send(signal.SIGTERM)
        return self.ended_in_order()

    def ended_in_order(self) -> bool:
        """Wait for one that was asked to stop."""
        if self._process is None:
            return True
        deadline = time.monotonic() + _STOP_SECONDS
        while self.lives and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        self.kill()
        return self.exit_code == 0

    def last_words(self) -> str:
        """The end of its log, or where it crashed: ids and codes only."""
        log = self._log.read_text(errors="replace") if self._log.exists() else ""
        crash = log.rfind("Fatal Python error")
        return log[crash : crash + 4000] if crash >= 0 else log[-1500:]


def _site(number: int, hospital: Hospital, folder: Path, url: str, base_url: str) -> Path:
    port, ae_title = free_port(), f"ADJUVANT{number}"
    hospital.allow(ae_title, port)
    (folder / "token").write_text("chaos")
    patients = ", ".join(f'"Patient/{patient}"' for patient in hospital.patients)
    config = folder / f"worker{number}.toml"
    config.write_text(
        f"""
[fhir]
base_url = "{base_url}"
token_file = "{folder}/token"
patient_identifier_system = "{PATIENT_SYSTEM}"
known_time = "{hospital.known_time}"
[pacs]
host = "{hospital.dicom_host}"
port = {hospital.dicom_port}
ae_title = "{hospital.dicom_ae_title}"
patient_identifier_system = "{PATIENT_SYSTEM}"
[dicom]
ae_title = "{ae_title}"
bind = "{hospital.dicom_bind}"
port = {port}
quiet_seconds = 0.3
[cohort]
patients = [{patients}]
[store]
url = "{url}"
folder = "{folder}/worker{number}"
shared_vault = "{folder}/vault"
key_file = "{folder}/site.key"
[watch]
poll_seconds = 0.5
quiet_seconds = 0
attempts = 6
[web]
port = 0
[policy]
site_folder = "{sandbox_policy()}"
"""
    )
    return config
