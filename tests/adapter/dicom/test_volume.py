"""A series becomes one volume with the scanner's numbers at the scanner's places, or is refused by name."""

from __future__ import annotations

import math
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from adapter.dicom.part10 import encode_file_meta
from adapter.dicom.volume import read_volume
from adapter.domain.imaging import Volume
from adapter.errors import AdjuvantError, NoGeometry, TooLarge, Unreadable, UnusableInput
from adapter.sandbox.anatomy import Blob
from adapter.sandbox.ct import CtOptions, file_bytes, simulated_ct
from tests.adapter.dicom.series_files import series_on_disk
from tests.fakes.transcoded import EVERY_SYNTAX, transcoded

OPTIONS = CtOptions(patient_id="SIM-1", slices=5, rows=24, columns=20, spacing_mm=(2.5, 3.0, 3.5))


def _read(instances: list[Dataset] | tuple[Dataset, ...], folder: Path) -> Volume:
    return read_volume(series_on_disk(instances, folder))


def _stored_hu(instances: tuple[Dataset, ...]) -> NDArray[np.float32]:
    words = [np.frombuffer(one.PixelData, "<u2").reshape(one.Rows, one.Columns) for one in instances]
    return np.stack(words).astype(np.float32) - 1024


def test_a_volume_holds_the_scanners_numbers_at_its_places(tmp_path: Path) -> None:
    """HU by slope and intercept; spacing, origin and directions from the image plane, in LPS."""
    instances = simulated_ct(OPTIONS)
    volume = _read(instances, tmp_path)
    assert volume.voxels.dtype == np.float32
    assert np.array_equal(volume.voxels, _stored_hu(instances))
    assert volume.spacing_mm == (2.5, 3.0, 3.5)
    assert volume.origin_mm == tuple(instances[0].ImagePositionPatient)
    assert volume.direction.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("name", EVERY_SYNTAX)
def test_every_lossless_transfer_syntax_gives_the_same_bits(tmp_path: Path, name: str) -> None:
    """A codec changes the file, never the volume."""
    instances = simulated_ct(CtOptions(patient_id="SIM-1", slices=3, rows=40, columns=36))
    series = series_on_disk(instances, tmp_path, lambda one: transcoded(one, EVERY_SYNTAX[name]))
    assert np.array_equal(read_volume(series).voxels, _stored_hu(instances))


@settings(max_examples=25)
@given(order=st.permutations(range(5)), numbers=st.permutations(range(5)))
def test_neither_file_order_nor_instance_number_changes_a_volume(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], numbers: list[int]
) -> None:
    """Slices are sorted along the normal of the image plane, by position alone."""
    instances = list(simulated_ct(OPTIONS))
    expected = _stored_hu(tuple(instances))
    for instance, number in zip(instances, numbers, strict=True):
        instance.InstanceNumber = number
    folder = tmp_path_factory.mktemp("order")
    series = series_on_disk([instances[index] for index in order], folder)
    assert np.array_equal(read_volume(series).voxels, expected)


def test_slices_rise_along_the_normal_in_any_orientation(tmp_path: Path) -> None:
    """A sagittal series has its normal along x, and the voxel-to-patient map puts each pixel where it was."""
    instances = simulated_ct(OPTIONS)
    for index, instance in enumerate(instances):
        instance.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        instance.ImagePositionPatient = [100 - 2.5 * index, -10, 50]
    volume = _read(instances, tmp_path)
    assert volume.direction[:, 0].tolist() == [-1, 0, 0]
    assert np.array_equal(volume.voxels, _stored_hu(instances))
    corner = np.array(volume.origin_mm) + volume.direction @ (np.array(volume.spacing_mm) * [4, 0, 0])
    assert corner.tolist() == [90, -10, 50]


def test_a_fractional_slope_is_computed_before_it_is_rounded(tmp_path: Path) -> None:
    """Slope and intercept are applied in double precision, then rounded once to float32."""
    instances = simulated_ct(OPTIONS)
    for instance in instances:
        instance.RescaleSlope, instance.RescaleIntercept = "0.1", "-100.7"
    raw = _stored_hu(instances).astype(np.float64) + 1024
    assert np.array_equal(_read(instances, tmp_path).voxels, (raw * 0.1 - 100.7).astype(np.float32))


def test_signed_words_and_overlay_bits_above_them(tmp_path: Path) -> None:
    """What an old scanner keeps above the high bit is not part of the value; the sign bit is the high bit."""
    instances = simulated_ct(OPTIONS)
    for instance in instances:
        words = (np.frombuffer(instance.PixelData, "<u2").astype(np.int32) - 2000) & 0x0FFF
        instance.PixelData = (words | 0x5000).astype("<u2").tobytes()
        instance.PixelRepresentation = 1
        instance.RescaleIntercept = 0
    expected = _stored_hu(simulated_ct(OPTIONS)) + 1024 - 2000
    assert np.array_equal(_read(instances, tmp_path).voxels, expected)


def _drop_slice(instances: list[Dataset]) -> None:
    del instances[2]


def _double_position(instances: list[Dataset]) -> None:
    instances[3].ImagePositionPatient = instances[2].ImagePositionPatient


def _tilt(instances: list[Dataset]) -> None:
    for index, instance in enumerate(instances):
        x, y, z = instance.ImagePositionPatient
        instance.ImagePositionPatient = [x, y + index * 0.4, z]


def _uneven(instances: list[Dataset]) -> None:
    x, y, z = instances[4].ImagePositionPatient
    instances[4].ImagePositionPatient = [x, y, z + 0.8]


def _each(change: Callable[[Dataset], None]) -> Callable[[list[Dataset]], None]:
    def apply(instances: list[Dataset]) -> None:
        for instance in instances:
            change(instance)

    return apply


def _last(**values: object) -> Callable[[list[Dataset]], None]:
    def apply(instances: list[Dataset]) -> None:
        for keyword, value in values.items():
            setattr(instances[-1], keyword, value)

    return apply


def _without(keyword: str) -> Callable[[list[Dataset]], None]:
    return lambda instances: delattr(instances[-1], keyword)


def _smaller(instances: list[Dataset]) -> None:
    instances[-1].Rows = 12
    instances[-1].PixelData = instances[-1].PixelData[: 12 * 20 * 2]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_drop_slice, "gaps: about 1 "),
        (_double_position, "1 slices at a position already taken"),
        (_tilt, "gantry tilt"),
        (_uneven, "steps of"),
        (_last(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), "mixed orientation"),
        (_each(lambda one: setattr(one, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0])), "right angle"),
        (_last(PixelSpacing=[3.0, 3.6]), "mixed pixel spacing"),
        (_each(lambda one: setattr(one, "PixelSpacing", [0, 3.5])), "not a length"),
        (_smaller, "mixed size"),
        (_without("ImagePositionPatient"), "ImagePositionPatient"),
        (_without("ImageOrientationPatient"), "ImageOrientationPatient"),
        (_without("PixelSpacing"), "PixelSpacing"),
        (_last(ImagePositionPatient=[1, 2]), "2 numbers"),
        (_last(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizer"),
        (_last(ImageType=["DERIVED", "PRIMARY", "AXIAL"]), "derived"),
        (_last(ImageType=["ORIGINAL", "SECONDARY", "AXIAL"]), "secondary"),
        (_without("ImageType"), "no Image Type"),
        (_last(SOPClassUID=SecondaryCaptureImageStorage), "Secondary Capture"),
        (_last(SOPClassUID=EnhancedCTImageStorage), "Enhanced CT"),
        (_last(NumberOfFrames=4), "several frames"),
        (_last(FrameOfReferenceUID="2.25.7"), "frames of reference"),
        (lambda instances: instances.__delitem__(slice(1, None)), "1 slice"),
    ],
)
def test_what_is_not_one_regular_volume_is_refused_by_name(
    tmp_path: Path, spoil: Callable[[list[Dataset]], None], sentence: str
) -> None:
    """No slice is dropped, no spacing taken from the first two, no axis guessed."""
    instances = list(simulated_ct(OPTIONS))
    spoil(instances)
    with pytest.raises(NoGeometry, match=sentence):
        _read(instances, tmp_path)


@pytest.mark.parametrize(
    ("spoil", "error", "sentence"),
    [
        (_without("RescaleSlope"), Unreadable, "no rescale slope"),
        (_last(RescaleSlope="0"), Unreadable, "not a number"),
        (_last(RescaleType="OD"), Unreadable, "Hounsfield"),
        (_last(PhotometricInterpretation="RGB", SamplesPerPixel=3), Unreadable, "MONOCHROME2"),
        (_last(BitsAllocated=8, BitsStored=8, HighBit=7), Unreadable, "8 bits allocated"),
        (_last(HighBit=15), Unreadable, "high bit"),
        (_without("Rows"), Unreadable, "does not describe"),
        (_last(Rows=0), Unreadable, "no pixels"),
        (_without("PixelData"), Unreadable, "no pixels"),
        (_last(PixelData=b"\0" * 100), Unreadable, "bytes of pixels"),
        (_last(LossyImageCompression="01"), UnusableInput, "lossily"),
        (_last(SeriesInstanceUID="2.25.9"), Unreadable, "another instance or series"),
    ],
)
def test_what_has_no_honest_numbers_is_refused_by_name(
    tmp_path: Path, spoil: Callable[[list[Dataset]], None], error: type[AdjuvantError], sentence: str
) -> None:
    """Missing units, missing pixels and lossy compression are named, never repaired."""
    instances = list(simulated_ct(OPTIONS))
    spoil(instances)
    instances.sort(key=lambda one: str(one.SeriesInstanceUID) == "2.25.9")
    series = series_on_disk(instances, tmp_path)
    with pytest.raises(error, match=sentence):
        read_volume(series)


def _as_compressed(syntax: UID, stream: bytes) -> Callable[[Dataset], bytes]:
    """An encoder that puts this stream into every instance."""

    def encode(instance: Dataset) -> bytes:
        instance.file_meta.TransferSyntaxUID = syntax
        instance.PixelData = encapsulate([stream])
        instance["PixelData"].is_undefined_length = True
        instance["PixelData"].VR = "OB"
        return file_bytes(instance)

    return encode


def _j2k_header(rows: int, columns: int, *, reversible: bool = True) -> bytes:
    size = struct.pack(">HHLLLLLLLLH3B", 41, 0, columns, rows, 0, 0, columns, rows, 0, 0, 1, 11, 1, 1)
    coding = struct.pack(">HBBHBBBBBB", 12, 0, 0, 1, 0, 5, 4, 4, 0, 1 if reversible else 0)
    return b"\xff\x4f\xff\x51" + size + b"\xff\x52" + coding + b"\xff\x90\0\0"


def _jpeg_header(rows: int, columns: int, marker: int) -> bytes:
    return b"\xff\xd8\xff" + bytes([marker]) + struct.pack(">HBHHB", 11, 12, rows, columns, 1) + b"\0\x11\0"


@pytest.mark.fault("F-11", "F-35")
@pytest.mark.parametrize(
    ("syntax", "stream", "error"),
    [
        (JPEG2000Lossless, _j2k_header(60000, 60000), Unreadable),
        (JPEG2000Lossless, _j2k_header(24, 20), Unreadable),
        (JPEG2000Lossless, b"\xff\x4f\xff\x51", Unreadable),
        (JPEG2000, _j2k_header(24, 20, reversible=False), UnusableInput),
        (JPEGLSLossless, _jpeg_header(65535, 65535, 0xF7), Unreadable),
        (JPEGLSLossless, b"no JPEG at all", Unreadable),
        (JPEGLSLossless, b"\xff\xd8", Unreadable),
        (RLELossless, struct.pack("<16L", 200, *[64] * 15), Unreadable),
        (RLELossless, struct.pack("<16L", 2, 64, 66, *[0] * 13) + b"\x81\0\x81\0", Unreadable),
        (RLELossless, struct.pack("<16L", 2, 64, 0xFFFFFFFF, *[0] * 13), Unreadable),
        (RLELossless, b"\x81\0" * 100_000, Unreadable),
        (JPEGBaseline8Bit, _jpeg_header(24, 20, 0xC0), UnusableInput),
        (JPEGLSNearLossless, _jpeg_header(24, 20, 0xF7), UnusableInput),
        (UID("1.2.840.10008.1.2.4.100"), b"MPEG", Unreadable),
    ],
)
def test_a_stream_that_lies_about_its_size_is_refused_before_it_is_decoded(
    tmp_path: Path, syntax: UID, stream: bytes, error: type[AdjuvantError]
) -> None:
    """Decompression bombs, cut streams and lossy syntaxes end as named errors, in little memory."""
    series = series_on_disk(simulated_ct(OPTIONS), tmp_path, _as_compressed(syntax, stream))
    tracemalloc.start()
    with pytest.raises(error):
        read_volume(series)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.fault("F-17", "F-35")
def test_a_header_of_impossible_size_allocates_nothing(tmp_path: Path) -> None:
    """65535 by 65535 pixels, or more slices than the cap holds, are TooLarge before any voxel exists."""
    instances = simulated_ct(OPTIONS)
    for instance in instances:
        instance.Rows = instance.Columns = 65535
    with pytest.raises(TooLarge):
        _read(instances, tmp_path / "wide")
    series = series_on_disk(simulated_ct(OPTIONS), tmp_path / "many")
    with pytest.raises(TooLarge, match="9600 bytes"):
        read_volume(series, most_bytes=9_599)
    assert read_volume(series, most_bytes=9_600).voxels.nbytes == 9_600


@pytest.mark.fault("F-35")
def test_a_deflated_bomb_is_not_inflated(tmp_path: Path) -> None:
    """A deflated dataset is inflated up to the cap only."""
    bomb = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    content = bomb.compress(b"\0" * 50_000_000) + bomb.flush()
    meta = encode_file_meta("1.2.840.10008.5.1.4.1.1.2", "2.25.1", DeflatedExplicitVRLittleEndian)
    series = series_on_disk(simulated_ct(OPTIONS), tmp_path, lambda _: meta + content)
    with pytest.raises(TooLarge):
        read_volume(series, most_bytes=1_000_000)


@pytest.mark.fault("F-11")
@settings(max_examples=60)
@given(cut=st.integers(0, 2000), flip=st.integers(0, 1500), value=st.integers(0, 255))
def test_a_damaged_file_is_a_named_error_or_a_volume(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int, value: int
) -> None:
    """Whatever bytes are cut or changed, only our own errors come out."""
    folder = tmp_path_factory.mktemp("damaged")
    series = series_on_disk(simulated_ct(OPTIONS), folder)
    content = bytearray(series.files[1].read_bytes())
    content[min(flip, len(content) - 1)] = value
    series.files[1].write_bytes(bytes(content[: len(content) - cut]))
    with suppress(AdjuvantError):
        assert math.isfinite(read_volume(series).voxels.sum())


def test_a_planted_blob_is_where_it_was_planted(tmp_path: Path) -> None:
    """The volume's own geometry leads back to the ball the sandbox drew, in millimetres."""
    blob = Blob(centre_mm=(3.0, -8.0, 12.0), radius_mm=7.0, hu=400)
    options = CtOptions(patient_id="SIM-1", slices=21, rows=48, columns=48, spacing_mm=(2.0, 3.0, 3.0), blob=blob)
    with_blob = _read(simulated_ct(options), tmp_path / "with")
    without = _read(simulated_ct(CtOptions(**{name: getattr(options, name) for name in (
        "patient_id", "slices", "rows", "columns", "spacing_mm")})), tmp_path / "without")  # fmt: skip
    planted = np.argwhere(with_blob.voxels != without.voxels).mean(axis=0)
    centre = (planted - (np.array(with_blob.voxels.shape) - 1) / 2) * with_blob.spacing_mm
    assert np.abs(centre - blob.centre_mm).max() < 1.0


def test_the_same_seed_draws_the_same_bytes() -> None:
    """A simulated series follows from its options; another seed is another picture. All are marked as simulated."""
    first, again = simulated_ct(OPTIONS), simulated_ct(OPTIONS)
    assert [file_bytes(one) for one in first] == [file_bytes(one) for one in again]
    assert "SIMULATED" in first[0].SeriesDescription
    assert "SIMULATED" in first[0].ImageComments
    other = simulated_ct(CtOptions(patient_id="SIM-1", slices=5, rows=24, columns=20, seed=1))
    assert other[0].PixelData != first[0].PixelData
