"""Regular grids: found in any orientation and order, refused when they are not regular."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from adapter.dicom.geometry import Plane, regular_grid
from adapter.errors import NoGeometry


def _rotation(seed: int) -> NDArray[np.float64]:
    turned, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return turned if np.linalg.det(turned) > 0 else -turned


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _planes(axes: NDArray[np.float64], steps: list[float]) -> list[Plane]:
    row, column = axes[:, 0], axes[:, 1]
    normal = np.cross(row, column)
    return [
        Plane(
            position_mm=_triple(np.array([10.0, -20.0, 30.0]) + depth * normal),
            row_cosine=_triple(row),
            column_cosine=_triple(column),
            spacing_mm=(0.5, 0.7),
        )
        for depth in steps
    ]


@given(
    seed=st.integers(0, 1000),
    count=st.integers(2, 40),
    step=st.floats(0.3, 8),
    jitter=st.floats(0, 0.04),
    order=st.randoms(use_true_random=False),
)
def test_a_regular_series_is_found_in_any_orientation_and_order(
    seed: int, count: int, step: float, jitter: float, order: object
) -> None:
    """Rounded positions, shuffled slices, oblique planes: one right-handed grid, slices rising along the normal."""
    axes = _rotation(seed)
    chance = np.random.default_rng(seed)
    depths = [index * step + jitter * step * (chance.random() - 0.5) for index in range(count)]
    shuffled = list(range(count))
    order.shuffle(shuffled)  # type: ignore[attr-defined]  # a hypothesis random
    planes = _planes(axes, [depths[index] for index in shuffled])
    grid = regular_grid(planes, "series")
    assert [shuffled[index] for index in grid.order] == list(range(count))
    assert grid.spacing_mm[0] == pytest.approx((depths[-1] - depths[0]) / (count - 1))
    assert grid.spacing_mm[1:] == (0.5, 0.7)
    assert np.linalg.det(grid.direction[:, [2, 1, 0]]) == pytest.approx(1)


@given(seed=st.integers(0, 1000), count=st.integers(5, 40), step=st.floats(0.3, 8), data=st.data())
def test_a_missing_inner_slice_is_always_seen(seed: int, count: int, step: float, data: st.DataObject) -> None:
    """Take any slice but the outermost away: the grid is refused."""
    missing = data.draw(st.integers(1, count - 2))
    depths = [index * step for index in range(count) if index != missing]
    with pytest.raises(NoGeometry, match="gaps"):
        regular_grid(_planes(_rotation(seed), depths), "series")


@given(seed=st.integers(0, 1000), count=st.integers(5, 40), degrees=st.floats(1, 30))
def test_a_tilted_gantry_is_always_seen(seed: int, count: int, degrees: float) -> None:
    """Slices that drift sideways by a degree or more are sheared, not a grid; nothing is resampled silently."""
    axes = _rotation(seed)
    drift = np.tan(np.radians(degrees)) * 3.0
    planes = [
        Plane(
            position_mm=_triple(np.array(plane.position_mm) + index * drift * axes[:, 1]),
            row_cosine=plane.row_cosine,
            column_cosine=plane.column_cosine,
            spacing_mm=plane.spacing_mm,
        )
        for index, plane in enumerate(_planes(axes, [3.0 * index for index in range(count)]))
    ]
    with pytest.raises(NoGeometry, match="gantry tilt"):
        regular_grid(planes, "series")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_position_that_is_no_number_is_refused(value: float) -> None:
    """NaN and infinity in a header do not become geometry."""
    planes = _planes(np.eye(3), [0.0, 1.0])
    planes.append(replace(planes[0], position_mm=(0.0, 0.0, value)))
    with pytest.raises(NoGeometry, match="not a number"):
        regular_grid(planes, "series")
