"""A series on disk from instances, as a retrieval leaves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from adapter.domain.ids import InstanceUid, SeriesUid, StudyUid
from adapter.domain.imaging import SeriesOnDisk, SeriesRef
from adapter.sandbox.ct import file_bytes


def series_on_disk(
    instances: Sequence[Dataset], folder: Path, encode: Callable[[Dataset], bytes] = file_bytes
) -> SeriesOnDisk:
    """Write each instance by `encode`, one file each, listed by sorted UID."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = sorted(instances, key=lambda one: str(one.SOPInstanceUID))
    files = []
    for number, instance in enumerate(listed):
        files.append(folder / f"{number}.dcm")
        files[-1].write_bytes(encode(instance))
    ref = SeriesRef(
        study_uid=StudyUid(str(listed[0].StudyInstanceUID)),
        series_uid=SeriesUid(str(listed[0].SeriesInstanceUID)),
        modality="CT",
        acquired=None,
        instance_uids=tuple(InstanceUid(str(one.SOPInstanceUID)) for one in listed),
    )
    return SeriesOnDisk(ref=ref, folder=folder, files=tuple(files))
