"""Choosing a series and describing a volume, on drawn arrays and on a real phantom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from adapter.domain.ids import InstanceUid, SeriesUid, StudyUid
from adapter.domain.imaging import SeriesRef, Volume
from adapter.domain.landmark import Landmark
from adapter.domain.period import Period
from adapter.errors import NoGeometry
from adapter.features.imaging import choose_series, describe_volume

TIME = datetime(2025, 3, 20, 14, 0, tzinfo=UTC)
LANDMARK = Landmark(time=TIME)


def series(
    study: int,
    number: int = 1,
    *,
    images: int = 100,
    modality: str = "CT",
    description: str = "Neck 1.0 soft",
    days: float | None = -10.0,
) -> SeriesRef:
    """A series so many days from the landmark; None for an unknown time."""
    moment = TIME + timedelta(days=days or 0.0)
    return SeriesRef(
        study_uid=StudyUid(f"1.2.{study}"),
        series_uid=SeriesUid(f"1.2.{study}.{number}"),
        modality=modality,
        description=description,
        acquired=None if days is None else Period.instant(moment),
        instance_uids=tuple(InstanceUid(f"1.2.{study}.{number}.{image}") for image in range(1, images + 1)),
    )


def test_no_series_is_legal() -> None:
    """A patient without images is assessed without images."""
    assert choose_series((), LANDMARK) == ()


def test_the_newest_study_and_in_it_the_most_images() -> None:
    """Newest study first, then the fullest series: thin reconstructions hold more than thick ones."""
    thick, thin, old = series(2, 1, images=60), series(2, 2, images=180), series(1, 1, images=400, days=-90.0)
    assert choose_series((old, thin, thick), LANDMARK) == (thin,)


@pytest.mark.parametrize(
    "refused",
    [
        series(9, days=0.01),
        series(9, days=None),
        series(9, modality="MR"),
        series(9, modality="PT"),
        series(9, images=19),
        series(9, description="Topogram 0.6 T20f"),
        series(9, description="LOCALIZER"),
        series(9, description="Surview"),
        series(9, description="Bolus tracking"),
    ],
)
def test_what_is_not_a_neck_in_time_is_not_chosen(refused: SeriesRef) -> None:
    """After the landmark, without a time, another modality, too few images, a scout: the older real series stands."""
    usable = series(1, days=-90.0)
    assert choose_series((refused, usable), LANDMARK) == (usable,)


def test_a_date_that_may_lie_after_the_landmark_is_refused() -> None:
    """A study dated to the day of the landmark may have come after it."""
    day = Period(earliest=TIME.replace(hour=0), latest=TIME.replace(hour=23))
    assert choose_series((replace(series(1), acquired=day),), LANDMARK) == ()


@given(
    refs=st.lists(
        st.builds(
            series,
            st.integers(1, 4),
            st.integers(1, 4),
            images=st.sampled_from([5, 20, 50]),
            modality=st.sampled_from(["CT", "MR"]),
            days=st.sampled_from([None, -30.0, -1.0, 0.5]),
        ),
        max_size=8,
    ),
    data=st.data(),
)
def test_the_choice_does_not_depend_on_the_archives_order(refs: list[SeriesRef], data: st.DataObject) -> None:
    """An archive may answer in any order, and may add later series: the choice stays."""
    chosen = choose_series(refs, LANDMARK)
    later = [replace(ref, acquired=Period.instant(TIME + timedelta(days=1))) for ref in refs]
    assert [ref.series_uid for ref in choose_series(data.draw(st.permutations(refs + later)), LANDMARK)] == [
        ref.series_uid for ref in chosen
    ]


def volume_of(
    voxels: NDArray[np.float32], *, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0), study: int = 1
) -> Volume:
    """The array as a volume of the first series of a study."""
    return Volume(
        series_uid=SeriesUid(f"1.2.{study}.1"),
        modality="CT",
        voxels=voxels,
        spacing_mm=spacing_mm,
        origin_mm=(0.0, 0.0, 0.0),
        direction=np.eye(3),
    )


def numbers(volume: Volume) -> dict[str, float]:
    """The descriptors by name."""
    return dict(describe_volume(volume, series(1), "ab" * 32).values)


def tissue(shape: tuple[int, int, int] = (8, 32, 40), *, noise_hu: float = 0.0) -> NDArray[np.float32]:
    """Half air, then soft tissue of 50 HU with noise, an eighth of bone."""
    voxels = np.full(shape, -1000.0, dtype=np.float32)
    voxels[:, shape[1] // 2 :, :] = 50.0
    voxels[:, shape[1] * 7 // 8 :, :] = 900.0
    soft = voxels == 50.0
    voxels[soft] += np.random.default_rng(7).normal(0.0, noise_hu, int(soft.sum())).astype(np.float32)
    return voxels


def test_geometry_is_in_millimetres() -> None:
    """Counts, spacings, and the extent from face to face."""
    values = numbers(volume_of(tissue(), spacing_mm=(2.5, 0.5, 0.25)))
    assert (values["slice_count"], values["row_count"], values["column_count"]) == (8.0, 32.0, 40.0)
    assert (values["slice_extent_mm"], values["row_extent_mm"], values["column_extent_mm"]) == (20.0, 16.0, 10.0)
    assert values["slice_spacing_mm"] == 2.5


def test_fractions_count_voxels() -> None:
    """Air, soft tissue and bone as drawn; percentiles are whole HU."""
    values = numbers(volume_of(tissue()))
    assert (values["air_fraction"], values["soft_tissue_fraction"], values["bone_fraction"]) == (0.5, 0.375, 0.125)
    assert values["fat_fraction"] == 0.0
    assert (values["percentile_01_hu"], values["percentile_75_hu"], values["percentile_99_hu"]) == (
        -1000.0,
        50.0,
        900.0,
    )
    assert values["mean_hu"] == pytest.approx(-1000 * 0.5 + 50 * 0.375 + 900 * 0.125)


@pytest.mark.parametrize("noise_hu", [0.0, 5.0, 10.0, 15.0])
def test_noise_is_that_of_even_tissue(noise_hu: float) -> None:
    """The standard deviation of one voxel comes back, to the whole-HU step of the histogram."""
    assert numbers(volume_of(tissue((8, 64, 64), noise_hu=noise_hu)))["noise_hu"] == pytest.approx(noise_hu, abs=1.1)


def test_no_soft_tissue_has_no_noise() -> None:
    """A volume of air is described too."""
    values = numbers(volume_of(np.full((20, 4, 4), -2000.0, dtype=np.float32)))
    assert (values["noise_hu"], values["air_fraction"], values["percentile_50_hu"]) == (0.0, 1.0, -1024.0)


def test_values_are_sorted_by_name_and_finite() -> None:
    """A fixed order, so that two runs compare byte for byte."""
    described = describe_volume(volume_of(tissue(noise_hu=9.0)), series(1), "ab" * 32)
    names = [name for name, _ in described.values]
    assert names == sorted(names)
    assert np.isfinite([number for _, number in described.values]).all()
    assert described == describe_volume(volume_of(tissue(noise_hu=9.0)), series(1), digest="ab" * 32)


def test_an_image_is_known_when_acquired_unless_said_otherwise() -> None:
    """The archive keeps no time of arrival: the end of the acquisition stands for it."""
    described = describe_volume(volume_of(tissue()), series(1), "ab" * 32)
    assert described.known == TIME - timedelta(days=10)
    assert describe_volume(volume_of(tissue()), series(1), "ab" * 32, known=TIME).known == TIME


def test_a_volume_without_time_or_of_another_series_is_refused() -> None:
    """Without a time nothing can be cut at a landmark; another series is another question."""
    with pytest.raises(NoGeometry, match="no acquisition time"):
        describe_volume(volume_of(tissue()), series(1, days=None), "ab" * 32)
    with pytest.raises(NoGeometry, match="was asked for"):
        describe_volume(volume_of(tissue(), study=2), series(1), "ab" * 32)


def test_voxels_that_are_not_numbers_are_refused() -> None:
    """One NaN would spread into every mean."""
    voxels = tissue()
    voxels[3, 4, 5] = np.nan
    with pytest.raises(NoGeometry, match="not numbers"):
        numbers(volume_of(voxels))


def phantom_voxels(files: Iterable[Path]) -> NDArray[np.float32]:
    """The real series in HU, sorted along the table."""
    images = sorted((pydicom.dcmread(path) for path in files), key=lambda image: float(image.ImagePositionPatient[2]))
    return np.stack(
        [
            image.pixel_array.astype(np.float32) * np.float32(image.RescaleSlope) + np.float32(image.RescaleIntercept)
            for image in images
        ]
    )


def test_the_real_phantom_is_described(data_folder: Path) -> None:
    """A scanner's own series of a head phantom: plausible air, tissue and noise, the same twice."""
    files = [path for path in (data_folder / "dicom" / "ct_head_phantom_1mm").rglob("I*") if path.is_file()]
    volume = volume_of(phantom_voxels(files))
    values = numbers(volume)
    assert values["slice_count"] == 140.0
    assert (values["row_count"], values["column_count"]) == (512.0, 512.0)
    assert 0.3 < values["air_fraction"] < 0.95
    assert 0.02 < values["soft_tissue_fraction"] < 0.6
    assert 1.0 < values["noise_hu"] < 40.0
    assert values == numbers(volume)
    exact = np.percentile(volume.voxels, 95, method="inverted_cdf")
    assert values["percentile_95_hu"] == pytest.approx(float(exact), abs=0.5)
