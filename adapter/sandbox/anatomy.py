"""The pretend anatomy of a head and neck in HU, with a ball planted in it: numpy only, the same for the same seed.

Shared by the pretend archive and by the command that trains the simulated image model, so that the demo's patients
carry what that model was trained to see. The ball stands for nothing in a real patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_AIR_HU, _SOFT_HU, _FAT_HU, _BONE_HU, _BLOB_HU = -1000, 45, -90, 900, 75
LOWEST_HU, HIGHEST_HU = -1024, 3071  # 12 bits
_NOISE_HU = 12.0
SERIES_SHAPE = (64, 64)  # rows, columns of a simulated series
SERIES_SPACING_MM = (2.0, 3.5, 3.5)
_SMALLEST_MM, _LARGEST_MM = 6.0, 24.0  # radius of a planted ball
_BALL_HU = (190, 230)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A planted enhancing ball. centre_mm: from the middle of the volume, (slice, row, column)."""

    centre_mm: tuple[float, float, float]
    radius_mm: float
    hu: int = _BLOB_HU


def planted_ball(seed: int) -> Blob:
    """A ball on one side of the neck; its radius is the planted signal, its place and brightness are not."""
    chance = np.random.default_rng([seed, 1])
    side = chance.choice((-1.0, 1.0))
    return Blob(
        centre_mm=(chance.uniform(-25.0, 25.0), chance.uniform(0.0, 15.0), side * chance.uniform(30.0, 40.0)),
        radius_mm=chance.uniform(_SMALLEST_MM, _LARGEST_MM),
        hu=int(chance.integers(*_BALL_HU)),
    )


def burden(ball: Blob) -> float:
    """The planted signal: -1 for the smallest ball, 1 for the largest, even between them."""
    return 2.0 * (ball.radius_mm - _SMALLEST_MM) / (_LARGEST_MM - _SMALLEST_MM) - 1.0


def draw_neck(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    *,
    blob: Blob | None,
    chance: np.random.Generator,
) -> NDArray[np.float64]:
    """Whole HU, (slice, row, column), 12 bits: a neck with jaw, spine and airway in it, and the ball."""
    axes = [(np.arange(count) - (count - 1) / 2) * spacing for count, spacing in zip(shape, spacing_mm, strict=True)]
    depth, row, column = np.meshgrid(*axes, indexing="ij")
    width = 75 + 5 * chance.random()
    # narrower towards the neck
    skin = (row / (90 - 0.2 * depth)) ** 2 + (column / (width - 0.2 * depth)) ** 2
    volume = np.where(skin < 1, float(_FAT_HU), float(_AIR_HU))
    volume[skin < 0.85] = _SOFT_HU
    volume[(skin > 0.45) & (skin < 0.62) & (row < -20)] = _BONE_HU
    volume[((row - 45) / 16) ** 2 + (column / 14) ** 2 < 1] = _BONE_HU
    volume[((row - 5) / 9) ** 2 + (column / 11) ** 2 < 1] = _AIR_HU
    if blob is not None:
        centre = blob.centre_mm
        distance = (depth - centre[0]) ** 2 + (row - centre[1]) ** 2 + (column - centre[2]) ** 2
        volume[distance < blob.radius_mm**2] = blob.hu
    return np.rint(volume + chance.normal(0, _NOISE_HU, shape)).clip(LOWEST_HU, HIGHEST_HU)
