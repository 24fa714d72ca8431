"""Images: as the archive lists them, as they lie on disk, as a volume, and as a few numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapter.domain.ids import InstanceUid, SeriesUid, StudyUid
from adapter.domain.period import Period


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomPatient:
    """Whom the archive must mean: Patient ID, and what else of the EHR's record it is compared with.

    issuer: (0010,0021), None when the site has one issuer. birth_date: `YYYYMMDD`; sex: `M`, `F`, `O`; None = unknown.
    """

    patient_id: str = field(repr=False)
    issuer: str | None = field(default=None, repr=False)
    birth_date: str | None = field(default=None, repr=False)
    sex: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRef:
    """One series as C-FIND lists it.

    instance_uids: the IMAGE-level answer, sorted: the set a retrieval must cover. acquired: series, else study, time.
    """

    study_uid: StudyUid
    series_uid: SeriesUid
    modality: str
    description: str = field(default="", repr=False)
    acquired: Period | None
    instance_uids: tuple[InstanceUid, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesOnDisk:
    """A series whose every listed instance is stored. files: one per instance, ordered as `ref.instance_uids`."""

    ref: SeriesRef
    folder: Path
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Volume:
    """One regular volume.

    voxels: float32 (slice, row, column), HU for CT. spacing_mm: (slice, row, column). origin_mm: LPS position of
    voxel (0, 0, 0). direction: 3 by 3, columns are the LPS unit vectors along slice, row and column index.
    Source: PS3.3 section C.7.6.2 (Image Plane Module).
    """

    series_uid: SeriesUid
    modality: str
    voxels: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDescriptors:
    """A volume in numbers that can be checked and stored. values: (name, number) sorted by name."""

    series_uid: SeriesUid
    study_uid: StudyUid
    modality: str
    acquired: Period
    known: datetime
    digest: str
    values: tuple[tuple[str, float], ...]
