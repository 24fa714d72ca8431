"""One series on disk to one volume in HU, or the name of why it is none."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage

from adapter.dicom.geometry import Grid, Plane, regular_grid
from adapter.dicom.instance import text_of
from adapter.dicom.part10 import DECODING_ERRORS, OpenDataset, open_file
from adapter.dicom.pixels import PIXEL_TAGS, PixelFormat, pixel_format, read_values
from adapter.dicom.quiet import quiet_libraries
from adapter.domain.imaging import SeriesOnDisk, SeriesRef, Volume
from adapter.errors import NoGeometry, TooLarge, Unreadable

_MOST_VOLUME_BYTES = 2 << 30  # 2,048 slices of 512 by 512 as float32
_READ = frozenset(map(str, (CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage)))
_TAGS = (
    *PIXEL_TAGS,
    "SpecificCharacterSet",
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "NumberOfFrames",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
)
_VOXEL_BYTES = 4
_HEADER_BYTES = 16_384  # one read takes a usual header
_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    path: Path
    where: str
    opened: OpenDataset
    pixel_offset: int | None
    layout: PixelFormat
    plane: Plane
    frame_of_reference: str
    slope: float
    intercept: float


def read_volume(series: SeriesOnDisk, *, most_bytes: int = _MOST_VOLUME_BYTES) -> Volume:
    """Read a complete CT, MR or PET series as one regular volume.

    voxels: float32 (slice, row, column), slices along the normal of the image plane, never by instance number; HU for
    CT, the rescaled values for MR and PET. Padding outside the scanner's circle stays what the scanner wrote.
    Any readable transfer syntax gives the same bits. most_bytes: cap of the voxels.

    Raises NoGeometry (localizer, derived or multi-frame image, mixed series, gap, duplicate position, tilt, one
    slice), UnusableInput (lossy compression), TooLarge (before anything is allocated), Unreadable.
    """
    quiet_libraries()
    where = f"series {series.ref.series_uid}"
    with ThreadPoolExecutor(_THREADS) as pool:
        numbered = enumerate(series.files)
        slices = tuple(pool.map(lambda pair: _read_slice(pair[1], series.ref, pair[0], most_bytes), numbered))
        _require_one_kind(slices, where)
        grid = regular_grid([one.plane for one in slices], where)
        voxels = _allocate(slices, most_bytes, where)
        list(pool.map(lambda pair: _fill(voxels[pair[0]], slices[pair[1]], most_bytes), enumerate(grid.order)))
    return _volume(series.ref, text_of(slices[0].opened.elements, "Modality"), voxels, grid)


def _volume(ref: SeriesRef, modality: str, voxels: NDArray[np.float32], grid: Grid) -> Volume:
    return Volume(
        series_uid=ref.series_uid,
        modality=modality,
        voxels=voxels,
        spacing_mm=grid.spacing_mm,
        origin_mm=grid.origin_mm,
        direction=grid.direction,
    )


def _read_slice(path: Path, ref: SeriesRef, index: int, most_bytes: int) -> _Slice:
    where = f"instance {ref.instance_uids[index]}"
    with _file(path, where) as stream:
        opened = open_file(stream, tags=_TAGS, most_bytes=most_bytes)
        pixel_offset = None if opened.syntax.is_deflated else opened.stream.tell()
    elements = opened.elements
    _require_listed(elements, ref, index, where)
    _require_original_plane(elements, where)
    layout = pixel_format(elements, where)
    if layout.rows * layout.columns * _VOXEL_BYTES > most_bytes:
        raise TooLarge(f"{where} has {layout.rows} by {layout.columns} pixels")
    slope, intercept = _rescale(elements, where)
    return _Slice(
        path=path,
        where=where,
        opened=opened,
        pixel_offset=pixel_offset,
        layout=layout,
        plane=_plane(elements, where),
        frame_of_reference=text_of(elements, "FrameOfReferenceUID"),
        slope=slope,
        intercept=intercept,
    )


def _file(path: Path, where: str) -> BinaryIO:
    try:
        return path.open("rb", buffering=_HEADER_BYTES)
    except OSError as error:
        raise Unreadable(f"{where} cannot be opened: {error.strerror}") from error


def _require_listed(elements: Dataset, ref: SeriesRef, index: int, where: str) -> None:
    found = (text_of(elements, "SOPInstanceUID"), text_of(elements, "SeriesInstanceUID"))
    if found != (ref.instance_uids[index], ref.series_uid):
        raise Unreadable(f"the file of {where} holds another instance or series")


def _require_original_plane(elements: Dataset, where: str) -> None:
    """Raise NoGeometry unless this is one plane as the scanner reconstructed it. Source: PS3.3 section C.7.6.1.1.2."""
    kind = text_of(elements, "ImageType").upper().split("\\")
    if "LOCALIZER" in kind:
        raise NoGeometry(f"{where} is a localizer")
    if kind[0] == "DERIVED" or "SECONDARY" in kind[1:2]:
        raise NoGeometry(f"{where} is a derived or secondary image")
    sop_class = text_of(elements, "SOPClassUID")
    if sop_class not in _READ:
        raise NoGeometry(f"{where} is of SOP class {UID(sop_class).name[:64]!r}, which is not read as a slice")
    if text_of(elements, "NumberOfFrames") not in {"", "1"}:
        raise NoGeometry(f"{where} has several frames")
    if not kind[0]:
        raise NoGeometry(f"{where} does not say whether it is a localizer or derived (no Image Type)")


def _plane(elements: Dataset, where: str) -> Plane:
    position = _numbers(elements, "ImagePositionPatient", 3, where)
    axes = _numbers(elements, "ImageOrientationPatient", 6, where)
    between_rows, between_columns = _numbers(elements, "PixelSpacing", 2, where)
    return Plane(
        position_mm=(position[0], position[1], position[2]),
        row_cosine=(axes[0], axes[1], axes[2]),
        column_cosine=(axes[3], axes[4], axes[5]),
        spacing_mm=(between_rows, between_columns),
    )


def _numbers(elements: Dataset, keyword: str, count: int, where: str) -> tuple[float, ...]:
    try:
        values = tuple(float(value) for value in elements[keyword].value)
    except DECODING_ERRORS as error:
        raise NoGeometry(f"{where} has no usable {keyword}") from error
    if len(values) != count:
        raise NoGeometry(f"{where} has {len(values)} numbers in {keyword}, not {count}")
    return values


def _rescale(elements: Dataset, where: str) -> tuple[float, float]:
    """Slope and intercept. A CT without them is refused: 0 and 1 would be a guess. Source: PS3.3 section C.8.2.1."""
    modality = text_of(elements, "Modality")
    slope, intercept = text_of(elements, "RescaleSlope"), text_of(elements, "RescaleIntercept")
    if modality == "MR" and not (slope or intercept):
        return 1.0, 0.0  # MR stores its values as they are; PS3.3 section C.8.3.1 has no rescale
    try:
        factors = float(slope), float(intercept)
    except ValueError as error:
        raise Unreadable(f"{where} has no rescale slope and intercept: its values have no unit") from error
    if not (math.isfinite(factors[0]) and math.isfinite(factors[1])) or factors[0] == 0:
        raise Unreadable(f"{where} has a rescale slope or intercept that is not a number")
    if modality == "CT" and text_of(elements, "RescaleType") not in {"", "HU"}:
        raise Unreadable(f"{where} is not rescaled to Hounsfield units")
    return factors


def _require_one_kind(slices: Sequence[_Slice], where: str) -> None:
    if len({(one.layout.rows, one.layout.columns) for one in slices}) > 1:
        raise NoGeometry(f"{where} has slices of mixed size")
    if len({one.frame_of_reference for one in slices}) > 1:
        raise NoGeometry(f"{where} has slices of several frames of reference")
    if len({text_of(one.opened.elements, "Modality") for one in slices}) > 1:
        raise NoGeometry(f"{where} has slices of several modalities")


def _allocate(slices: Sequence[_Slice], most_bytes: int, where: str) -> NDArray[np.float32]:
    layout = slices[0].layout
    needed = len(slices) * layout.rows * layout.columns * _VOXEL_BYTES
    if needed > most_bytes:
        raise TooLarge(f"{where} needs {needed} bytes of voxels, {most_bytes} are allowed")
    return np.empty((len(slices), layout.rows, layout.columns), dtype=np.float32)


def _fill(target: NDArray[np.float32], one: _Slice, most_bytes: int) -> None:
    """Write the rescaled values of one slice into the volume."""
    with _file(one.path, one.where) as stream:
        if one.pixel_offset is None:
            opened = open_file(stream, tags=_TAGS, most_bytes=most_bytes)
        else:
            stream.seek(one.pixel_offset)
            opened = replace(one.opened, stream=stream)
        values = read_values(opened, one.layout, one.where)
    if one.slope == 1 and one.intercept.is_integer():
        np.add(values, np.float32(one.intercept), out=target, dtype=np.float32, casting="unsafe")  # exact: 16 bit words
    else:
        target[...] = values.astype(np.float64) * one.slope + one.intercept
