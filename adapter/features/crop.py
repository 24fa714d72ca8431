"""A volume on the grid an encoder reads: axes of the patient, not of the scanner, and nothing chosen by hand.

The grid lies along (superior, posterior, left), in this order, whatever the orientation of the series, and its middle
is the middle of the series. Each cell is the mean of trilinear samples that lie no further apart than the voxels, up to
four along each axis, so that thin slices are averaged and not skipped. Outside the series there is air.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from adapter.domain.imaging import Volume
from adapter.errors import NoGeometry

_AIR_HU = -1000.0
_MOST_SAMPLES = 4  # along each axis of a cell; beyond, nothing is gained but time
_ORTHONORMAL = 1e-3  # direction cosines are written with six digits or so
_HALF = 0.5
# LPS has x to the left, y to the back, z up: columns are the unit vectors along slice, row and column of the grid
_PATIENT_AXES = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
_Indices: TypeAlias = NDArray[np.float64]


def crop_volume(
    volume: Volume,
    *,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    window_hu: tuple[float, float],
) -> NDArray[np.float32]:
    """Resample to `shape`, HU, float32; voxels beyond the window count as its edge.

    shape, spacing_mm: along (superior, posterior, left). Raises NoGeometry where the series' own geometry is none:
    axes that are not orthonormal, a spacing that is no length, no voxels.
    """
    _require_geometry(volume)
    scale = np.asarray(volume.spacing_mm, dtype=np.float64)[:, np.newaxis]
    # voxel indices passed for each cell along slice, row and column of the grid
    steps = (volume.direction.T @ _PATIENT_AXES) / scale * np.asarray(spacing_mm)
    samples = [min(_MOST_SAMPLES, max(1, math.ceil(float(step) - _ORTHONORMAL))) for step in np.abs(steps).max(axis=0)]
    middle = (np.asarray(volume.voxels.shape, dtype=np.float64) - 1.0) / 2.0
    depth, row, column = (np.outer(steps[:, axis], _offsets(count, samples[axis])) for axis, count in enumerate(shape))
    plane = (middle[:, np.newaxis, np.newaxis] + row[:, :, np.newaxis]) + column[:, np.newaxis, :]
    crop = np.empty(shape, dtype=np.float64)
    for index in range(shape[0]):
        total = np.zeros(shape[1:], dtype=np.float64)
        for place in depth[:, index * samples[0] : (index + 1) * samples[0]].T:
            sampled = _trilinear(volume.voxels, plane + place[:, np.newaxis, np.newaxis], window_hu)
            total += sampled.reshape(shape[1], samples[1], shape[2], samples[2]).mean(axis=(1, 3))
        crop[index] = total / samples[0]
    return crop.astype(np.float32)


def _require_geometry(volume: Volume) -> None:
    where = f"series {volume.series_uid}"
    spacing = np.asarray(volume.spacing_mm, dtype=np.float64)
    if volume.voxels.ndim != len(_PATIENT_AXES) or volume.voxels.size == 0:
        raise NoGeometry(f"{where} has no voxels")
    if not np.isfinite(spacing).all() or (spacing <= 0.0).any():
        raise NoGeometry(f"{where} has a spacing that is no length")
    if volume.direction.shape != _PATIENT_AXES.shape or not np.isfinite(volume.direction).all():
        raise NoGeometry(f"{where} has no direction")
    if np.abs(volume.direction.T @ volume.direction - np.eye(len(_PATIENT_AXES))).max() > _ORTHONORMAL:
        raise NoGeometry(f"{where} has axes that are not orthonormal")


def _offsets(count: int, samples: int) -> _Indices:
    """Where the samples of each cell lie, in cells from the middle of the grid: (count * samples,), rising."""
    return (np.arange(count * samples) + _HALF) / samples - count / 2.0


def _trilinear(voxels: NDArray[np.float32], place: _Indices, window_hu: tuple[float, float]) -> NDArray[np.float64]:
    """Values at voxel indices. place: (3, rows, columns). Up to half a voxel beyond the last one it is the last one."""
    counts = np.asarray(voxels.shape, dtype=np.float64)[:, np.newaxis, np.newaxis]
    inside = ((place >= -_HALF) & (place <= counts - _HALF)).all(axis=0)
    clamped = np.clip(place, 0.0, counts - 1.0)
    below = np.minimum(clamped.astype(np.int64), np.maximum(counts.astype(np.int64) - 2, 0))
    part = clamped - below
    above = np.minimum(below + 1, counts.astype(np.int64) - 1)
    low, high = window_hu
    value = np.zeros(place.shape[1:], dtype=np.float64)
    for corner in np.ndindex(2, 2, 2):
        index = tuple(np.where(far, above[axis], below[axis]) for axis, far in enumerate(corner))
        weight = np.prod([part[axis] if far else 1.0 - part[axis] for axis, far in enumerate(corner)], axis=0)
        value += weight * np.clip(voxels[index], low, high)
    return np.where(inside, value, min(max(_AIR_HU, low), high))
