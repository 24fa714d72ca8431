"""What ten thousand unchanged patients cost: requests for each poll, and the whole service's share of a core.

The service is a process of its own with the default poll interval and an empty queue; its CPU time over the wall time
counts everything it does meanwhile: polls, the queue's own looks, signs of life.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Watermark
from adapter.fhir.client import FhirClient
from adapter.fhir.cohort import PatientList
from adapter.pipeline.watch import Watcher
from adapter.sandbox.fhir_server import FhirServer
from adapter.store.database import open_database
from adapter.store.watermark import WatermarkStore
from benchmarks.rows import Row, report
from tests.peers.process import free_port

FEW, MANY, POLLS, WINDOW_SECONDS = 100, 10_000, 5, 125.0
_LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
_READY_SECONDS = 180.0
_COMMAND = "python -m benchmarks.idle"


def run() -> list[Row]:
    """Measure everything; some three minutes."""
    requests, seconds = zip(*(_polls(patients) for patients in (FEW, MANY)), strict=True)
    share, window = _share_of_a_core()
    return [
        Row(name=f"Idle: requests for a poll over {FEW} unchanged patients", value=requests[0], unit="requests",
            command=_COMMAND),
        Row(name=f"Idle: requests for a poll over {MANY:,} unchanged patients", value=requests[1], unit="requests",
            at_most=requests[0], command=_COMMAND),
        Row(name=f"Idle: CPU for a poll over {MANY:,} unchanged patients", value=1000 * seconds[1], unit="ms",
            command=_COMMAND),
        Row(name=f"Idle: the service's share of a core, {MANY:,} unchanged patients, {window:.0f} s", value=share,
            unit="of a core", at_most=0.02, command=_COMMAND),
    ]  # fmt: skip


def _polls(patients: int) -> tuple[float, float]:
    """Requests and CPU seconds of one poll, in this process, which is not the server's alone: an upper bound."""
    with tempfile.TemporaryDirectory() as name, _quiet_hospital(patients) as server:
        engine = open_database(f"sqlite:///{name}/adjuvant.db")
        feed = WatermarkStore(engine, server.base_url)
        people = _remember(feed, patients)
        with FhirClient(server.base_url) as client:
            watcher = Watcher(client, PatientList(patients=people), feed)
            watcher.poll()  # reads the CapabilityStatement
            before, started = server.requests, time.process_time()
            for _ in range(POLLS):
                if watcher.poll():
                    raise RuntimeError("something changed")
            requests, seconds = server.requests - before, time.process_time() - started
        engine.dispose()
    return requests / POLLS, seconds / POLLS


def _share_of_a_core() -> tuple[float, float]:
    """CPU time of a whole service over wall time, after its start."""
    with tempfile.TemporaryDirectory() as name, _quiet_hospital(MANY) as server:
        folder, port = Path(name), free_port()
        engine = open_database(f"sqlite:///{folder}/data/adjuvant.db")
        people = _remember(WatermarkStore(engine, server.base_url), MANY)
        engine.dispose()
        config = folder / "site.toml"
        patients = ", ".join(f'"{patient}"' for patient in people)
        config.write_text(
            f'[fhir]\nbase_url = "{server.base_url}"\n[cohort]\npatients = [{patients}]\n'
            f'[store]\nurl = "sqlite:///{folder}/data/adjuvant.db"\nfolder = "{folder}/data"\n[web]\nport = {port}\n',
            encoding="utf-8",
        )
        command = [sys.executable, "-m", "adapter", "run", "--config", str(config)]
        with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as service:
            try:
                _wait_until_ready(port, service)
                before, started = _cpu_seconds(service.pid), time.monotonic()
                time.sleep(WINDOW_SECONDS)
                spent, window = _cpu_seconds(service.pid) - before, time.monotonic() - started
            finally:
                service.terminate()
    return spent / window, window


@contextmanager
def _quiet_hospital(patients: int) -> Iterator[FhirServer]:
    """So many patients, written long before the server's now."""
    now = [_LONG_AGO]
    with FhirServer(lambda: now[0]) as server:
        for number in range(patients):
            server.repository.update("Patient", f"p{number}", {"resourceType": "Patient", "id": f"p{number}"}, None)
        now[0] += timedelta(days=1)
        yield server


def _remember(feed: WatermarkStore, patients: int) -> tuple[PatientId, ...]:
    """As after the first look: everybody known, everything seen."""
    people = tuple(PatientId(f"p{number}") for number in range(patients))
    feed.advance(Watermark(time=_LONG_AGO + timedelta(days=1)), (), people={one: one for one in people}, hashes={})
    return people


def _wait_until_ready(port: int, service: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and service.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise RuntimeError("the service did not become ready")


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process. Source: proc_pid_stat(5), fields 14 and 15."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print the rows as a table, or as JSON with --json; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    sys.exit(report(run(), as_json=parser.parse_args().json))


if __name__ == "__main__":
    main()
