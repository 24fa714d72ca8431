"""The processes of the service in a schedule: each with a site file, a port and a data folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adapter.moments import Moment
from adapter.sandbox.hospital import sandbox_policy
from adapter.sandbox.patients import PATIENT_SYSTEM
from adapter.settings import Settings, load_settings
from tests.faults.hospitals import Hospital
from tests.faults.victim import FORGETFUL
from tests.peers.process import free_port

_ROOT = Path(__file__).parents[2]
_STOP_SECONDS = 20.0
_READY = b"adjuvant runs"  # as the command line says it


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """At which passage of which moment a worker gets the signal, and so many seconds later."""

    moment: Moment
    passage: int = 1
    delay: float = 0.0
    signal: signal.Signals = signal.SIGKILL

    @property
    def words(self) -> tuple[str, ...]:
        """As the arguments of the victim."""
        return self.moment.name, str(self.passage), str(self.delay), self.signal.name.removeprefix("SIG")

    def __str__(self) -> str:
        """As the log tells it."""
        return f"{self.signal.name} at {self.moment.name} passage {self.passage}"


class Worker:
    """One process of the service, started again and again."""

    BY_ITSELF = "ended by itself"

    def __init__(
        self, number: int, hospital: Hospital, folder: Path, url: str, base_url: str, *, logs: Path | None = None
    ) -> None:
        """folder: of the schedule. url: of the database all share. base_url: of the EHR as it sees it.

        logs: where its log goes, beside its folder where it is not said.
        """
        self.forgetful = False
        self.folder = folder / f"worker{number}"
        self.plan: Plan | None = None
        self._log = (logs or folder) / f"worker{number}.log"
        self._log_begins = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.config = _site(number, hospital, folder, url, base_url)
        self.settings: Settings = load_settings(self.config)

    def start(self, plan: Plan | None, environment: Mapping[str, str] | None = None) -> None:
        """Begin to work; one that is forgetful loses what it reads from the feed. environment: beside ours."""
        self.plan = plan
        own = {FORGETFUL: "yes"} if self.forgetful else {}
        self._log_begins = self._log.stat().st_size if self._log.exists() else 0
        command = [sys.executable, "-m", "tests.faults.victim", str(self.config), *(plan.words if plan else ())]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=_ROOT, stderr=log, stdout=log, env={**os.environ, **own, **(environment or {})}
            )

    @property
    def lives(self) -> bool:
        """Whether the process is there, paused or not."""
        return self._process is not None and self.exit_code is None

    @property
    def exit_code(self) -> int | None:
        """Negative: the signal that ended it. None while it lives, and before it was started."""
        return None if self._process is None else self._process.poll()

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
        if self._process is not None:
            self._process.send_signal(number)  # nothing happens to one that has ended

    def kill(self) -> None:
        """End it at once, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

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
        try:
            return self._process.wait(_STOP_SECONDS) == 0
        except subprocess.TimeoutExpired:
            self.kill()
            return False

    def say_where_it_is(self) -> None:
        """Write every thread's stack to its log."""
        self.send(signal.SIGUSR1)
        time.sleep(1.0)

    def last_words(self) -> str:
        """The end of its log, or where it crashed: ids and codes only."""
        log = self._log.read_text(errors="replace") if self._log.exists() else ""
        crash = log.rfind("Fatal Python error")
        return log[crash : crash + 4000] if crash >= 0 else log[-1500:]


def _site(number: int, hospital: Hospital, folder: Path, url: str, base_url: str) -> Path:
    port, ae_title = free_port(), f"ADJUVANT{number}"
    hospital.allow(ae_title, port)
    (folder / "token").write_text("chaos")
    (folder / "token").chmod(0o600)
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
