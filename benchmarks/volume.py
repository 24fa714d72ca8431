"""Decode speed: the files of a series to one volume, against a loop of pydicom and numpy.frombuffer.

The floor reads each file with pydicom, sorts by position and writes `numpy.frombuffer(PixelData) * slope + intercept`
into one float32 array, uncompressed little endian only, with no check of anything. Ours reads any transfer syntax and
checks patient plane, size, gaps and units. Both in one process, in turn; medians. Compressed rows have no bar.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.filereader import dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from adapter.dicom.volume import read_volume
from adapter.domain.imaging import SeriesOnDisk
from adapter.sandbox.ct import CtOptions, simulated_ct
from benchmarks.rows import Row, report
from tests.adapter.dicom.series_files import series_on_disk
from tests.fakes.transcoded import transcoded

SLICES, SIDE, ROUNDS = 200, 512, 7
_FEW = 20  # slices of the compressed rows
_COMMAND = "python -m benchmarks.volume"
_COMPRESSED = {
    "RLE": RLELossless,
    "JPEG-LS": JPEGLSLossless,
    "JPEG lossless": JPEGLosslessSV1,
    "JPEG 2000": JPEG2000Lossless,
}


def run() -> list[Row]:
    """Measure; about half a minute."""
    with tempfile.TemporaryDirectory() as name:
        return [*_uncompressed(Path(name)), *_compressed(Path(name))]


def _options(slices: int) -> CtOptions:
    return CtOptions(patient_id="SIM-BENCH", slices=slices, rows=SIDE, columns=SIDE, spacing_mm=(1.0, 0.45, 0.45))


def _uncompressed(folder: Path) -> list[Row]:
    series = _long_series(folder / "plain")
    floor, ours = [], []
    for _ in range(ROUNDS):
        floor.append(_timed(lambda: _frombuffer(series)))
        ours.append(_timed(lambda: read_volume(series)))
    same = np.array_equal(_frombuffer(series), read_volume(series).voxels)
    ratio = statistics.median(ours) / statistics.median(floor)
    return [
        Row(name="Volume of 200 slices: equal to the floor's, bit for bit", value=float(same), unit="of 1",
            at_least=1.0, command=_COMMAND),
        Row(name="Volume of 200 slices: time over a numpy.frombuffer loop", value=ratio, unit="x",
            at_most=1.5, command=_COMMAND),
        Row(name="Volume of 200 slices: milliseconds", value=1e3 * statistics.median(ours), unit="ms",
            command=_COMMAND),
    ]  # fmt: skip


def _long_series(folder: Path) -> SeriesOnDisk:
    """200 slices out of short pieces: one long drawing would need gigabytes."""
    instances = []
    for piece in range(SLICES // _FEW):
        for instance in simulated_ct(_options(_FEW)):
            instance.SOPInstanceUID = f"{instance.SOPInstanceUID}.{piece}"[-64:].lstrip(".0")
            instance.ImagePositionPatient[2] += float(piece * _FEW)
            instances.append(instance)
    return series_on_disk(instances, folder)


def _frombuffer(series: SeriesOnDisk) -> NDArray[np.float32]:
    datasets = sorted((dcmread(file) for file in series.files), key=lambda one: float(one.ImagePositionPatient[2]))
    voxels = np.empty((len(datasets), SIDE, SIDE), np.float32)
    for index, dataset in enumerate(datasets):
        stored = np.frombuffer(dataset.PixelData, "<u2").reshape(SIDE, SIDE)
        voxels[index] = stored * np.float32(dataset.RescaleSlope) + np.float32(dataset.RescaleIntercept)
    return voxels


def _compressed(folder: Path) -> list[Row]:
    rows = []
    for name, syntax in _COMPRESSED.items():
        series = series_on_disk(simulated_ct(_options(_FEW)), folder / name, partial(transcoded, syntax=syntax))
        seconds = statistics.median(_timed(partial(read_volume, series)) for _ in range(3))
        rows.append(Row(name=f"Volume, {name}: milliseconds a slice", value=1e3 * seconds / _FEW, unit="ms",
                        command=_COMMAND))  # fmt: skip
    return rows


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Print the rows as a table, or as JSON with --json; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sys.exit(report(run(), as_json=arguments.json))


if __name__ == "__main__":
    main()
