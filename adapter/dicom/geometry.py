"""From the planes of a series to one regular grid, or the name of what is irregular. Source: PS3.3 section C.7.6.2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapter.errors import NoGeometry

_FEWEST_PLANES = 2
_DIRECTION_TOLERANCE = 1e-4  # direction cosines are written with six digits or so
_SPACING_TOLERANCE_MM = 1e-4
_SAME_PLACE_MM = 0.01
# scanners round positions to 0.1 mm or even 0.01: at 0.6 mm that is a tenth of a step
_STEP_TOLERANCE = 0.1
_GAP_STEPS = 1.5
_SHEAR_TOLERANCE_MM = 0.1  # over the whole series; one degree of tilt shifts a 1 mm slice by 0.017 mm


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Where one slice lies.

    position_mm: LPS, of the first pixel's centre. row_cosine: along rising column index; column_cosine: along rising
    row index. spacing_mm: (between rows, between columns).
    """

    position_mm: tuple[float, float, float]
    row_cosine: tuple[float, float, float]
    column_cosine: tuple[float, float, float]
    spacing_mm: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """One regular grid. order: index of the plane that is slice 0, 1, …; the rest as in `Volume`."""

    order: tuple[int, ...]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: NDArray[np.float64]


def regular_grid(planes: Sequence[Plane], where: str) -> Grid:
    """Sort planes along their normal and require one regular grid.

    Raises NoGeometry naming what is wrong: too few planes, orientation, pixel spacing, duplicate position, gap,
    uneven steps, or shear (a tilted gantry).
    """
    if len(planes) < _FEWEST_PLANES:
        raise NoGeometry(f"{where} has {len(planes)} slice: no volume")
    row, column, normal = _shared_axes(planes, where)
    _require_one_pixel_spacing(planes, where)
    positions = np.array([plane.position_mm for plane in planes])
    depths = positions @ normal
    order = np.argsort(depths, kind="stable")
    step = _regular_step(depths[order], where)
    first = positions[order[0]]
    drift = positions[order] - first - np.outer(depths[order] - depths[order[0]], normal)
    shift = float(np.abs(drift).max())
    if shift > _SHEAR_TOLERANCE_MM:
        raise NoGeometry(f"{where} is sheared by {shift:.2f} mm: gantry tilt")
    between_rows, between_columns = planes[0].spacing_mm
    return Grid(
        order=tuple(int(index) for index in order),
        spacing_mm=(step, between_rows, between_columns),
        origin_mm=(float(first[0]), float(first[1]), float(first[2])),
        direction=np.column_stack((normal, column, row)),
    )


def _shared_axes(planes: Sequence[Plane], where: str) -> tuple[NDArray[np.float64], ...]:
    axes = np.array([(plane.row_cosine, plane.column_cosine) for plane in planes])
    if not np.isfinite(axes).all() or np.abs(axes - axes[0]).max() > _DIRECTION_TOLERANCE:
        raise NoGeometry(f"{where} has slices of mixed orientation")
    row, column = axes[0]
    lengths, angle = np.linalg.norm(axes[0], axis=1), float(row @ column)
    if np.abs(lengths - 1).max() > 10 * _DIRECTION_TOLERANCE or abs(angle) > 10 * _DIRECTION_TOLERANCE:
        raise NoGeometry(f"{where} has an orientation that is not a right angle of unit vectors")
    return row, column, np.cross(row, column)


def _require_one_pixel_spacing(planes: Sequence[Plane], where: str) -> None:
    spacings = np.array([plane.spacing_mm for plane in planes])
    if not (np.isfinite(spacings).all() and (spacings > 0).all()):
        raise NoGeometry(f"{where} has a pixel spacing that is not a length")
    if np.abs(spacings - spacings[0]).max() > _SPACING_TOLERANCE_MM:
        raise NoGeometry(f"{where} has slices of mixed pixel spacing")


def _regular_step(depths: NDArray[np.float64], where: str) -> float:
    """The distance between neighbours, mm. depths: rising."""
    if not np.isfinite(depths).all():
        raise NoGeometry(f"{where} has a position that is not a number")
    steps = np.diff(depths)
    if steps.min() < _SAME_PLACE_MM:
        raise NoGeometry(f"{where} has {int((steps < _SAME_PLACE_MM).sum())} slices at a position already taken")
    usual = float(np.median(steps))
    gaps = steps > _GAP_STEPS * usual
    if gaps.any():
        missing = int(np.rint(steps[gaps] / usual - 1).sum())
        raise NoGeometry(f"{where} has gaps: about {missing} slices are missing")
    if np.abs(steps - usual).max() > max(_STEP_TOLERANCE * usual, _SAME_PLACE_MM):
        raise NoGeometry(f"{where} has steps of {steps.min():.3f} to {steps.max():.3f} mm between slices")
    return float((depths[-1] - depths[0]) / (len(depths) - 1))
