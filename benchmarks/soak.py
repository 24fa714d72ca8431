"""The real service at full speed for half an hour: memory level, open and temporary files flat, disk bounded.

`make soak` (SECONDS=1800). The service is a process of its own on the pretend hospital, images included; whenever few
cases wait, every patient is asked for again, and every few seconds a value in some record changes. The clock starts
when each patient was settled once and every decision process runs; the last third is compared with the first by their
medians. Then the queue runs empty and the service is asked to stop. Ends with one line, and exit 1 where a bar is
missed.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapter.demo import SEED, TODAY
from adapter.rooms import opened_ledger
from adapter.sandbox.hospital import SandboxHospital, sandbox_policy
from adapter.sandbox.patients import PATIENT_SYSTEM, simulate_courses
from adapter.settings import load_settings
from adapter.store.cases import DEAD_LETTER
from adapter.store.ledger import Ledger
from adapter.terminology import load_terminology
from benchmarks.rows import Row
from tests.peers.process import free_port

PATIENTS, WORKERS, LOOK_SECONDS = 12, 2, 2.0
_THIRDS = 3
_COMMAND = "make soak"
_MEMORY_BAND, _MORE_FILES, _STOP_SECONDS = 0.10, 8, 20
_BYTES_PER_CASE = 2**16  # a changed record sealed again is about 40 kB, the rows of a case about 10
_STALE_SECONDS = 300.0  # longer than any case holds images that lie in the inbox
_WARM_UP_SECONDS, _DRAIN_SECONDS, _CHANGE_EVERY = 600.0, 300.0, 5
_UCUM = "http://unitsofmeasure.org"
_TEMPORARY = (".tmp", ".partial", ".dcm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look. resident: bytes of the service and its decision processes; disk: of the data folder."""

    at: float
    resident: int
    files: int
    stale: int
    disk: int
    settled: int


def run(seconds: float, tell: Callable[[str], None] = lambda _: None) -> list[Row]:
    """Soak for so long and judge."""
    with tempfile.TemporaryDirectory(prefix="adjuvant-soak-") as name:
        folder = Path(name)
        courses = simulate_courses(PATIENTS, seed=SEED, today=TODAY)
        with SandboxHospital(courses, load_terminology()) as hospital:
            hospital.unfold()
            config = _site(hospital, folder)
            settings = load_settings(config)
            with _service(config, folder / "service.log") as service, opened_ledger(settings) as ledger:
                load = _Load(hospital, ledger)
                _warm_up(service, load, ledger, tell)
                samples = list(
                    _samples(service, load, ledger, folder=settings.store.folder, seconds=seconds, tell=tell)
                )
                _drain(ledger)
                service.send_signal(signal.SIGTERM)
                ended = service.wait(_STOP_SECONDS)
                dead = [f"{entry.reason} ({entry.detail})" for entry in ledger.list_cases(state=DEAD_LETTER)]
        left = len(_temporary_files(folder))
    for reason in dead:
        print(f"dead letter: {reason}", file=sys.stderr)
    return list(_rows(samples, dead=len(dead), left=left, ended=ended))


class _Load:
    """What keeps the queue full."""

    def __init__(self, hospital: SandboxHospital, ledger: Ledger) -> None:
        """Nothing asked for yet."""
        self._hospital = hospital
        self._ledger = ledger
        self._looks = 0

    def keep_up(self, waiting: int) -> None:
        """Ask for everybody where few wait; now and then a haemoglobin of somebody was measured anew."""
        if waiting < PATIENTS // 2:
            for patient in self._hospital.patients:
                self._ledger.request(patient)
        self._looks += 1
        if self._looks % _CHANGE_EVERY == 0:
            patient = self._hospital.patients[self._looks // _CHANGE_EVERY % PATIENTS]
            gram = {"value": 10 + self._looks % 40 / 10, "unit": "g/dL", "code": "g/dL", "system": _UCUM}
            resource: dict[str, object] = {
                "resourceType": "Observation",
                "id": f"soak-{patient}",
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
                "subject": {"reference": f"Patient/{patient}"},
                "effectiveDateTime": "2025-12-31T07:30:00+01:00",
                "valueQuantity": gram,
            }
            self._hospital.ehr.repository.update("Observation", f"soak-{patient}", resource, None)


def _warm_up(service: subprocess.Popen[bytes], load: _Load, ledger: Ledger, tell: Callable[[str], None]) -> None:
    """Until every patient was settled once. Raises RuntimeError where that does not happen."""
    deadline = time.monotonic() + _WARM_UP_SECONDS
    while True:
        counts = ledger.counts()
        load.keep_up(counts["waiting"])
        settled = sum(counts.values()) - counts["waiting"] - counts["running"]
        tell(f"warming up: {settled} settled")
        if settled >= 2 * PATIENTS:
            return
        if service.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the service did not warm up")
        time.sleep(LOOK_SECONDS)


def _samples(
    service: subprocess.Popen[bytes],
    load: _Load,
    ledger: Ledger,
    *,
    folder: Path,
    seconds: float,
    tell: Callable[[str], None],
) -> Iterator[Sample]:
    """Keep the queue full and look; ends early where the service does."""
    started = time.monotonic()
    while (at := time.monotonic() - started) < seconds and service.poll() is None:
        counts = ledger.counts()
        load.keep_up(counts["waiting"])
        resident, files = _of_process_tree(service.pid)
        sample = Sample(
            at=at,
            resident=resident,
            files=files,
            stale=sum(_age(path) > _STALE_SECONDS for path in _temporary_files(folder)),
            disk=_bytes_under(folder),
            settled=sum(counts.values()) - counts["waiting"] - counts["running"],
        )
        tell(
            f"{at:6.0f} s  {sample.settled} settled, {resident / 2**20:.0f} MiB, {files} files open, "
            f"{sample.stale} stale, {sample.disk / 2**20:.1f} MiB on disk"
        )
        yield sample
        time.sleep(LOOK_SECONDS)


def _drain(ledger: Ledger) -> None:
    """Let what waits and runs come to its end."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while ledger.unsettled_cases() and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


def _rows(samples: Sequence[Sample], *, dead: int, left: int, ended: int) -> Iterator[Row]:
    parts = [samples[len(samples) * n // _THIRDS : len(samples) * (n + 1) // _THIRDS] for n in range(_THIRDS)]
    first, last = parts[0], parts[-1]
    minutes = samples[-1].at / 60
    cases = samples[-1].settled - samples[0].settled

    def row(name: str, value: float, unit: str, *, at_most: float | None = None, at_least: float | None = None) -> Row:
        return Row(name=f"Soak: {name}", value=value, unit=unit, at_most=at_most, at_least=at_least, command=_COMMAND)

    resident = [statistics.median(sample.resident for sample in part) for part in (first, last)]
    files = [statistics.median(sample.files for sample in part) for part in (first, last)]
    growth = (samples[-1].disk - samples[0].disk) / max(1, cases)
    yield row("minutes at full speed", minutes, "min")
    yield row("cases settled a second", cases / (60 * minutes), "1/s")
    yield row(
        "resident memory, last third over first",
        resident[1] / resident[0],
        "x",
        at_most=1 + _MEMORY_BAND,
        at_least=1 - _MEMORY_BAND,
    )
    yield row("resident memory", resident[1] / 2**20, "MiB")
    yield row("open files, last third less first", files[1] - files[0], "files", at_most=_MORE_FILES)
    yield row("open files", files[1], "files")
    yield row("temporary files that are stale, at most", max(one.stale for one in samples), "files", at_most=0)
    yield row("temporary files left after the stop", left, "files", at_most=0)
    yield row("bytes on disk for each settled case", growth, "B", at_most=_BYTES_PER_CASE)
    yield row("dead letters", dead, "cases", at_most=0)
    yield row("exit code after SIGTERM", ended, "", at_most=0)


def _of_process_tree(pid: int) -> tuple[int, int]:
    """Resident bytes and open files of a process and its children; one that ends meanwhile counts as nothing."""
    resident = files = 0
    for one in (pid, *_children(pid)):
        try:
            pages = int(Path(f"/proc/{one}/statm").read_text().split()[1])
            open_files = len(list(Path(f"/proc/{one}/fd").iterdir()))
        except (FileNotFoundError, ProcessLookupError):
            continue
        resident += pages * os.sysconf("SC_PAGE_SIZE")
        files += open_files
    return resident, files


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError:
        return found
    for task in tasks:
        try:
            found += map(int, (task / "children").read_text().split())
        except FileNotFoundError:
            continue
    return found + [grandchild for child in found for grandchild in _children(child)]


def _files(folder: Path) -> Iterator[Path]:
    """Every file, while folders come and go; what cannot be listed any more is gone."""
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names)


def _temporary_files(folder: Path) -> list[Path]:
    return [path for path in _files(folder) if path.suffix in _TEMPORARY or ".plain" in path.parts]


def _age(path: Path) -> float:
    """Seconds since it was written; nothing for what is gone meanwhile."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _bytes_under(folder: Path) -> int:
    total = 0
    for path in _files(folder):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


@contextmanager
def _service(config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "adapter", "run", "--config", str(config)]
    with log.open("wb") as written, subprocess.Popen(command, stdout=written, stderr=written) as process:
        try:
            yield process
        finally:
            process.kill()


def _site(hospital: SandboxHospital, folder: Path) -> Path:
    port = free_port()
    hospital.archive.allow("ADJUVANT", "127.0.0.1", port)
    patients = ", ".join(f'"Patient/{patient}"' for patient in hospital.patients)
    config = folder / "site.toml"
    config.write_text(
        f"""
[fhir]
base_url = "{hospital.ehr.base_url}"
patient_identifier_system = "{PATIENT_SYSTEM}"
[pacs]
host = "127.0.0.1"
port = {hospital.archive.port}
ae_title = "SANDBOX"
patient_identifier_system = "{PATIENT_SYSTEM}"
[dicom]
port = {port}
quiet_seconds = 0.3
[cohort]
patients = [{patients}]
[store]
url = "sqlite:///{folder}/data/adjuvant.db"
folder = "{folder}/data"
[watch]
poll_seconds = 1
quiet_seconds = 0
workers = {WORKERS}
attempts = 2
[web]
port = {free_port()}
[policy]
site_folder = "{sandbox_policy()}"
""",
        encoding="utf-8",
    )
    return config


def main() -> None:
    """Print one line of the result, with --verbose each look before it; exit 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    rows = run(arguments.seconds, lambda line: print(line, file=sys.stderr, flush=True) if arguments.verbose else None)
    missed = [row for row in rows if not row.met]
    told = ", ".join(f"{row.name.removeprefix('Soak: ')} {row.value:.4g} {row.unit}".rstrip() for row in rows)
    broken = "; ".join(f"{row.name.removeprefix('Soak: ')} ({row.bar})" for row in missed)
    print(f"soak {'BROKEN: ' + broken if missed else 'held'}: {told}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
