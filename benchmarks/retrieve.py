"""Retrieve speed: 200 slices of 512 by 512 from Orthanc by C-MOVE, against pynetdicom's own movescu with its store.

Both run in one process, in turn, in the network namespace of one Orthanc, on imported code. movescu's clock stops when
its last file is written (its shutdown is not counted); ours stops when the block of `retrieved` begins: every image
synced to disk, its patient and series checked, the UID set compared, the digest made. The ratio is the median over
rounds of neighbours in time, because a busy disk slows what syncs; 200 of 200 UIDs in each round.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC
from pathlib import Path

import httpx
import numpy as np
from pydicom.dataset import Dataset
from pynetdicom.apps.movescu import movescu

from adapter.dicom.ae import Archive
from adapter.dicom.pacs import Pacs
from adapter.dicom.storage_scp import Listener
from adapter.domain.ids import AETitle, PatientId
from adapter.domain.imaging import DicomPatient, SeriesRef
from adapter.sandbox.ct import CtOptions, file_bytes, simulated_ct, simulated_uid
from benchmarks.rows import Row, report
from tests.peers.orthanc import start_orthanc
from tests.peers.process import free_port

SLICES, SIDE, ROUNDS = 200, 512, 9
_PATIENT = "SIM-BENCH"
_OURS, _THEIRS = "ADJUVANT", "STORESCP"
_COMMAND = "python -m benchmarks.retrieve"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What the measuring process is told. port: Orthanc's, inside its namespace."""

    port: int
    ae_title: str
    our_port: int
    their_port: int
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """Seconds of each round, and the fewest images any round had."""

    ours: list[float]
    theirs: list[float]
    our_images: int
    their_images: int


def run() -> list[Row]:
    """Measure; about half a minute."""
    with tempfile.TemporaryDirectory() as name:
        result = _measured(Path(name))
    ours, theirs = statistics.median(result.ours), statistics.median(result.theirs)
    ratio = statistics.median(mine / other for mine, other in zip(result.ours, result.theirs, strict=True))
    megabytes = SLICES * SIDE * SIDE * 2 / 1e6
    return [
        Row(name="C-MOVE from Orthanc: images stored and verified", value=float(result.our_images), unit="of 200",
            at_least=SLICES, at_most=SLICES, command=_COMMAND),
        Row(name="C-MOVE from Orthanc: time over pynetdicom's movescu with its store", value=ratio, unit="x",
            at_most=1.0, command=_COMMAND),
        Row(name="C-MOVE from Orthanc: speed", value=megabytes / ours, unit="MB/s", command=_COMMAND),
        Row(name="C-MOVE from Orthanc: speed of movescu", value=megabytes / theirs, unit="MB/s", command=_COMMAND),
    ]  # fmt: skip


def _measured(folder: Path) -> _Result:
    orthanc = start_orthanc(folder)
    try:
        task = _Task(
            port=orthanc.dicom_port,
            ae_title=orthanc.ae_title,
            our_port=free_port(),
            their_port=free_port(),
            folder=str(folder),
        )
        for title, port in ((_OURS, task.our_port), (_THEIRS, task.their_port)):
            modality = {"AET": title, "Host": "127.0.0.1", "Port": port}
            httpx.put(f"{orthanc.http_url}/modalities/{title}", json=modality, timeout=10).raise_for_status()
        for instance in _series():
            orthanc.upload(file_bytes(instance))
        command = [*orthanc.network.prefix, sys.executable, "-m", "benchmarks.retrieve", "--task"]
        reply = subprocess.run([*command, json.dumps(asdict(task))], check=True, capture_output=True, text=True)
    finally:
        orthanc.stop()
    return _Result(**json.loads(reply.stdout))


def _series() -> Iterator[Dataset]:
    """One drawn slice, again and again with other noise, so that nothing is the same twice."""
    options = CtOptions(patient_id=_PATIENT, slices=1, rows=SIDE, columns=SIDE, spacing_mm=(1.0, 0.45, 0.45))
    (template,) = simulated_ct(options)
    chance = np.random.default_rng(0)
    drawn = np.frombuffer(template.PixelData, "<u2")
    for index in range(SLICES):
        template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = simulated_uid("bench", index)
        template.InstanceNumber = index + 1
        template.ImagePositionPatient[2] = float(index)
        template.PixelData = (drawn ^ chance.integers(0, 16, drawn.size, dtype=np.uint16)).tobytes()
        yield template


def _measure(task: _Task) -> _Result:
    folder = Path(task.folder)
    archive = Archive(
        host="127.0.0.1", port=task.port, ae_title=AETitle(task.ae_title), calling_ae_title=AETitle(_OURS)
    )
    listener = Listener(
        ae_title=AETitle(_OURS), bind="127.0.0.1", port=task.our_port, callers=(AETitle(task.ae_title),)
    )
    ours, theirs = [], []
    with Pacs(archive, listener, folder=folder / "ours", zone=UTC) as pacs:
        patient = DicomPatient(patient_id=_PATIENT)
        (ref,) = pacs.find_series(patient)
        for _ in range(ROUNDS):
            theirs.append(_movescu(task, ref, folder / "theirs"))
            ours.append(_retrieve(pacs, patient, ref))
    return _Result(
        ours=[seconds for seconds, _ in ours],
        theirs=[seconds for seconds, _ in theirs],
        our_images=min(count for _, count in ours),
        their_images=min(count for _, count in theirs),
    )


def _retrieve(pacs: Pacs, patient: DicomPatient, ref: SeriesRef) -> tuple[float, int]:
    started = time.perf_counter()
    with pacs.retrieved(patient, ref, owner=PatientId(_PATIENT)) as series:
        seconds = time.perf_counter() - started
        return seconds, sum(file.exists() for file in series.files)


def _movescu(task: _Task, ref: SeriesRef, folder: Path) -> tuple[float, int]:
    keys = ("QueryRetrieveLevel=SERIES", f"StudyInstanceUID={ref.study_uid}", f"SeriesInstanceUID={ref.series_uid}")
    arguments = [
        "127.0.0.1", str(task.port), "-aet", _THEIRS, "-aec", task.ae_title, "-aem", _THEIRS, "-S", "--store",
        "--store-port", str(task.their_port), "-od", str(folder), *(part for key in keys for part in ("-k", key)),
    ]  # fmt: skip
    started = time.time_ns()
    with suppress(SystemExit):
        movescu.main(arguments)
    files = list(folder.iterdir())
    seconds = (max(file.stat().st_mtime_ns for file in files) - started) / 1e9
    shutil.rmtree(folder)
    return seconds, len(files)


def main() -> None:
    """Print the rows as a table, or as JSON with --json; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        print(json.dumps(asdict(_measure(_Task(**json.loads(arguments.task))))))
        return
    sys.exit(report(run(), as_json=arguments.json))


if __name__ == "__main__":
    main()
