"""Which series to retrieve, and what a volume says in numbers that can be checked and stored."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from adapter.domain.imaging import ImageDescriptors, SeriesRef, Volume
from adapter.domain.landmark import Landmark
from adapter.errors import NoGeometry

FEWEST_SLICES = 20  # fewer are scouts, bolus tracking or key images, not a neck
_NOT_A_VOLUME = (
    *("localizer", "localiser", "scout", "topogram", "surview", "scanogram", "scano"),
    *("bolus", "smart prep", "smartprep", "premonitoring", "monitoring", "dose report", "patient protocol"),
)
_LOWEST_HU, _HIGHEST_HU = -1024, 4095  # 12 bits; padding lies below, metal above, both count at the edge
_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_AIR, _FAT, _SOFT, _BONE = (-1024, -500), (-150, -30), (-29, 150), (300, 4095)  # whole HU, both ends included
_NOISE = (0, 100)  # soft tissue without fat, contrast-filled vessels or bone
_MAD_TO_SIGMA = 1.4826  # of a normal distribution


def choose_series(refs: Iterable[SeriesRef], landmark: Landmark) -> tuple[SeriesRef, ...]:
    """The CT series to look at: of the newest study wholly acquired by the landmark, the one with the most images.

    None is legal: a patient after surgery often has no current imaging. Refused are other modalities (MR and PT have
    no common scale for the descriptors yet), localizers and monitoring series by their description, and series
    without a time, which may lie after the landmark. The order of the refs changes nothing.
    """
    usable = [
        (ref.acquired.latest, ref.study_uid, len(ref.instance_uids), ref.series_uid, ref)
        for ref in refs
        if ref.acquired is not None and ref.acquired.latest <= landmark.time and _is_volume(ref)
    ]
    if not usable:
        return ()
    _, newest, *_ = max(usable, key=lambda entry: entry[:4])
    in_newest = (entry for entry in usable if entry[1] == newest)
    return (max(in_newest, key=lambda entry: (entry[2], entry[3]))[-1],)


def _is_volume(ref: SeriesRef) -> bool:
    described = ref.description.casefold()
    named_otherwise = any(word in described for word in _NOT_A_VOLUME)
    return ref.modality == "CT" and len(ref.instance_uids) >= FEWEST_SLICES and not named_otherwise


def volume_digest(volume: Volume) -> str:
    """SHA-256, hexadecimal, over geometry and voxels.

    The same images have one digest in whatever transfer syntax an archive sent them, so that a retrieval that had to be
    repeated another way names the same assessment.
    """
    digest = hashlib.sha256(repr((volume.voxels.shape, volume.spacing_mm, volume.origin_mm)).encode())
    digest.update(volume.direction.tobytes())
    digest.update(np.ascontiguousarray(volume.voxels).data)
    return digest.hexdigest()


def describe_volume(volume: Volume, ref: SeriesRef, digest: str, *, known: datetime | None = None) -> ImageDescriptors:
    """Shape, extent and Hounsfield statistics, the same on every run and machine.

    Units are in the names: mm, hu; fractions of all voxels. Computed from a histogram of whole HU, so that no sum
    depends on the order of its terms; values beyond -1024 to 4095 HU count at the edge. known: when the hospital had
    the series; None for the end of its acquisition. Raises NoGeometry for a series without a time, or another series'
    volume; for voxels that are not finite.
    """
    if ref.acquired is None:
        raise NoGeometry(f"series {ref.series_uid} has no acquisition time")
    if volume.series_uid != ref.series_uid:
        raise NoGeometry(f"series {volume.series_uid} was read where {ref.series_uid} was asked for")
    values = _geometry(volume) | _intensities(volume)
    return ImageDescriptors(
        series_uid=ref.series_uid,
        study_uid=ref.study_uid,
        modality=volume.modality,
        acquired=ref.acquired,
        known=known or ref.acquired.latest,
        digest=digest,
        values=tuple(sorted(values.items())),
    )


def _geometry(volume: Volume) -> dict[str, float]:
    """extent: from outer face to outer face, slice thickness taken as spacing."""
    values: dict[str, float] = {}
    for axis, count, spacing in zip(("slice", "row", "column"), volume.voxels.shape, volume.spacing_mm, strict=True):
        values[f"{axis}_count"] = float(count)
        values[f"{axis}_spacing_mm"] = float(spacing)
        values[f"{axis}_extent_mm"] = count * float(spacing)
    return values


def _intensities(volume: Volume) -> dict[str, float]:
    """One pass, one slice at a time: a whole series in float64 would not fit beside the others."""
    counts = np.zeros(_HIGHEST_HU - _LOWEST_HU + 1, dtype=np.int64)
    steps = np.zeros(_NOISE[1] - _NOISE[0] + 1, dtype=np.int64)
    for image in volume.voxels:
        if not np.isfinite(image).all():
            raise NoGeometry(f"series {volume.series_uid} has voxels that are not numbers")
        whole = np.clip(np.rint(image), _LOWEST_HU, _HIGHEST_HU).astype(np.int32)
        counts += np.bincount((whole - _LOWEST_HU).ravel(), minlength=counts.size)
        steps += _steps(whole, steps.size)
    return _statistics(counts) | {"noise_hu": _noise(steps)}


def _steps(whole: NDArray[np.int32], size: int) -> NDArray[np.int64]:
    """How often neighbours in a row, both soft tissue, differ by so many HU."""
    soft = (whole >= _NOISE[0]) & (whole <= _NOISE[1])
    both = soft[:, 1:] & soft[:, :-1]
    difference = np.abs(np.diff(whole, axis=1))[both]
    return np.bincount(difference, minlength=size).astype(np.int64)


def _statistics(counts: NDArray[np.int64]) -> dict[str, float]:
    """Whole numbers until the last division, so that they are exact."""
    total = int(counts.sum())
    levels = np.arange(_LOWEST_HU, _HIGHEST_HU + 1, dtype=np.int64)
    values = {f"percentile_{percent:02d}_hu": _percentile(counts, percent) for percent in _PERCENTILES}
    values["mean_hu"] = int((counts * levels).sum()) / total
    for name, (low, high) in {"air": _AIR, "fat": _FAT, "soft_tissue": _SOFT, "bone": _BONE}.items():
        values[f"{name}_fraction"] = int(counts[low - _LOWEST_HU : high - _LOWEST_HU + 1].sum()) / total
    return values


def _percentile(counts: NDArray[np.int64], percent: int) -> float:
    """The smallest whole HU below or at which at least `percent` of the voxels lie (nearest rank)."""
    rank = -(-int(counts.sum()) * percent // 100)
    return float(int(np.searchsorted(np.cumsum(counts), rank)) + _LOWEST_HU)


def _noise(steps: NDArray[np.int64]) -> float:
    """Standard deviation of one voxel in even tissue, robustly; 0 where there is no soft tissue.

    The difference of two voxels has sqrt(2) times the noise of one; its median ignores edges.
    """
    total = int(steps.sum())
    if total == 0:
        return 0.0
    median = int(np.searchsorted(np.cumsum(steps), -(-total // 2)))
    return median * _MAD_TO_SIGMA / math.sqrt(2.0)
