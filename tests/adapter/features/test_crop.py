"""A phantom lies where it should on the encoder's grid, whatever the orientation and the spacing of its series."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from adapter.domain.ids import SeriesUid
from adapter.domain.imaging import Volume
from adapter.errors import NoGeometry
from adapter.features.crop import crop_volume

SHAPE, SPACING, WINDOW = (10, 16, 12), (6.0, 5.0, 4.0), (-1000.0, 1000.0)
# along the patient: LPS has x to the left, y to the back, z up
_TO_LPS = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
_GRADIENT = np.array([2.0, -1.5, 0.7])  # HU per mm along x, y, z
_ORIENTATIONS = [
    np.array(order, dtype=float) * np.array(signs)
    for order in (np.eye(3)[:, list(columns)] for columns in permutations(range(3)))
    for signs in product((1.0, -1.0), repeat=3)
]


def _places(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], direction: NDArray[np.float64]
) -> NDArray[np.float64]:
    """LPS positions of every voxel from the middle of the volume, (3, slice, row, column)."""
    axes = [(np.arange(count) - (count - 1) / 2) * length for count, length in zip(shape, spacing, strict=True)]
    places: NDArray[np.float64] = np.einsum("ab,bijk->aijk", direction, np.stack(np.meshgrid(*axes, indexing="ij")))
    return places


def _volume(values: NDArray[np.float64], spacing: tuple[float, float, float], direction: NDArray[np.float64]) -> Volume:
    return Volume(
        series_uid=SeriesUid("1.2.3"),
        modality="CT",
        voxels=values.astype(np.float32),
        spacing_mm=spacing,
        origin_mm=(100.0, -50.0, 7.0),
        direction=direction,
    )


def _gradient(direction: NDArray[np.float64], spacing: tuple[float, float, float]) -> Volume:
    """A cube of 130 mm in which HU rises evenly along the patient."""
    counts = [max(2, round(130.0 / length)) for length in spacing]
    places = _places((counts[0], counts[1], counts[2]), spacing, direction)
    return _volume(np.tensordot(_GRADIENT, places, axes=1), spacing, direction)


def _crop(volume: Volume) -> NDArray[np.float32]:
    return crop_volume(volume, shape=SHAPE, spacing_mm=SPACING, window_hu=WINDOW)


_EXPECTED = np.tensordot(_GRADIENT, _places(SHAPE, SPACING, _TO_LPS), axes=1)


@pytest.mark.parametrize("direction", _ORIENTATIONS)
@pytest.mark.parametrize("spacing", [(3.0, 1.1, 1.1), (2.5, 7.0, 0.9)])
def test_a_gradient_is_the_same_however_it_was_scanned(
    direction: NDArray[np.float64], spacing: tuple[float, float, float]
) -> None:
    """All 48 orders and senses of axes, coarser and finer than the grid. Breach: a tumour on the wrong side."""
    np.testing.assert_allclose(_crop(_gradient(direction, spacing)), _EXPECTED, atol=2e-3)


@given(
    st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4).filter(lambda q: sum(x * x for x in q) > 0.1),
    st.tuples(*[st.floats(0.8, 6.0)] * 3),
)
@settings(max_examples=40, deadline=None)
def test_any_oblique_orientation_gives_the_same_gradient(
    quaternion: list[float], spacing: tuple[float, float, float]
) -> None:
    """A rotation by any angle, any spacing."""
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    np.testing.assert_allclose(_crop(_gradient(rotation, spacing)), _EXPECTED, atol=2e-3)


@pytest.mark.parametrize("direction", _ORIENTATIONS[::5])
def test_a_sphere_lands_where_it_lies(direction: NDArray[np.float64]) -> None:
    """Its centre of mass to a tenth of a millimetre, its volume to five percent."""
    centre = np.array([9.0, -14.0, 11.0])  # x, y, z from the middle
    spacing = (1.5, 1.0, 1.2)
    places = _places((90, 130, 110), spacing, direction)
    ball = ((places - centre[:, None, None, None]) ** 2).sum(axis=0) < 10.0**2
    crop = _crop(_volume(np.where(ball, 500.0, 0.0), spacing, direction)).astype(np.float64)
    cells = _places(SHAPE, SPACING, _TO_LPS)
    covered = crop / 500.0
    assert np.abs((cells * covered).sum(axis=(1, 2, 3)) / covered.sum() - centre).max() < 0.1
    assert covered.sum() * np.prod(SPACING) == pytest.approx(4 / 3 * np.pi * 10.0**3, rel=0.05)


def test_outside_the_series_there_is_air() -> None:
    """A thin series fills the middle of the grid and nothing else."""
    thin = _volume(np.full((4, 20, 20), 40.0), (3.0, 5.0, 5.0), _TO_LPS)
    crop = _crop(thin)
    assert (crop[:3] == -1000.0).all()
    assert (crop[7:] == -1000.0).all()
    assert (crop[4:6] == 40.0).all()


def test_values_beyond_the_window_count_as_its_edge() -> None:
    """Metal and padding do not reach into their neighbours: voxels are cut before they are averaged."""
    voxels = np.full((40, 60, 60), 3071.0)
    voxels[:, ::2] = -2000.0
    crop = crop_volume(
        _volume(voxels, (2.0, 2.0, 2.0), _TO_LPS),
        shape=(4, 4, 4),
        spacing_mm=(8.0, 8.0, 8.0),
        window_hu=(-200.0, 300.0),
    )
    np.testing.assert_allclose(crop, 50.0, atol=1e-3)


def test_the_same_volume_gives_the_same_bits() -> None:
    """Replay rests on it."""
    volume = _gradient(_ORIENTATIONS[7], (2.0, 1.3, 1.1))
    assert _crop(volume).tobytes() == _crop(volume).tobytes()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"spacing_mm": (0.0, 1.0, 1.0)}, "no length"),
        ({"spacing_mm": (float("nan"), 1.0, 1.0)}, "no length"),
        ({"direction": np.ones((3, 3))}, "not orthonormal"),
        ({"direction": np.full((3, 3), np.nan)}, "no direction"),
        ({"voxels": np.zeros((0, 4, 4), np.float32)}, "no voxels"),
    ],
)
def test_a_geometry_that_is_none_is_refused(change: dict[str, object], complaint: str) -> None:
    """Never guessed."""
    volume = replace(_gradient(_TO_LPS, (3.0, 3.0, 3.0)), **change)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(NoGeometry, match=complaint):
        _crop(volume)
