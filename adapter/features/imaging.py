"""Which series to retrieve, and what a volume says in numbers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import numpy as np

from adapter.domain.imaging import ImageDescriptors, SeriesRef, Volume
from adapter.domain.landmark import Landmark
from adapter.errors import NoGeometry

_FEWEST_SLICES = 10  # fewer are scouts, bolus tracking or key images
_SCOUT_WORDS = ("localizer", "localiser", "scout", "topogram", "surview", "scanogram", "dose report")
_AIR_HU, _SOFT_HU, _BONE_HU = -500.0, 150.0, 300.0
_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


def choose_series(refs: Iterable[SeriesRef], landmark: Landmark) -> tuple[SeriesRef, ...]:
    """The CT series to look at: of the newest study acquired by the landmark, the one with the most slices.

    None is legal: a postoperative patient often has no current imaging. Same refs in any order, same choice.
    """
    usable = [
        (ref.acquired.latest, len(ref.instance_uids), ref.series_uid, ref)
        for ref in refs
        if ref.modality == "CT"
        and ref.acquired is not None
        and ref.acquired.latest <= landmark.time
        and len(ref.instance_uids) >= _FEWEST_SLICES
        and not any(word in ref.description.casefold() for word in _SCOUT_WORDS)
    ]
    if not usable:
        return ()
    newest = max(usable, key=lambda entry: (entry[0], entry[3].study_uid))[3].study_uid
    return (max(entry for entry in usable if entry[3].study_uid == newest)[3],)


def describe_volume(volume: Volume, ref: SeriesRef, *, digest: str, known: datetime) -> ImageDescriptors:
    """Shape, extent and Hounsfield statistics, in float64, the same on every run.

    Units are in the names: mm, hu; fractions of all voxels. Raises NoGeometry for a series without a time.
    """
    if ref.acquired is None:
        raise NoGeometry(f"series {ref.series_uid} has no acquisition time")
    voxels = volume.voxels
    values = {
        "slices": float(voxels.shape[0]),
        "rows": float(voxels.shape[1]),
        "columns": float(voxels.shape[2]),
        **dict(zip(("spacing_slice_mm", "spacing_row_mm", "spacing_column_mm"), volume.spacing_mm, strict=True)),
        "extent_slice_mm": (voxels.shape[0] - 1) * volume.spacing_mm[0],
        "mean_hu": float(voxels.mean(dtype=np.float64)),
        "fraction_air": float(np.count_nonzero(voxels < _AIR_HU)) / voxels.size,
        "fraction_soft": float(np.count_nonzero((voxels >= -_SOFT_HU) & (voxels <= _SOFT_HU))) / voxels.size,
        "fraction_bone": float(np.count_nonzero(voxels > _BONE_HU)) / voxels.size,
    }
    # every fourth voxel each way: percentiles of a whole series cost a second and say the same
    thinned = voxels[::2, ::4, ::4]
    for percent, number in zip(_PERCENTILES, np.percentile(thinned, _PERCENTILES), strict=True):
        values[f"percentile_{percent:02d}_hu"] = float(number)
    return ImageDescriptors(
        series_uid=ref.series_uid,
        study_uid=ref.study_uid,
        modality=volume.modality,
        acquired=ref.acquired,
        known=known,
        digest=digest,
        values=tuple(sorted(values.items())),
    )
