"""The stored values of one slice, from any transfer syntax we read; sizes are checked before a decoder runs."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import openjpeg
import rle
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from adapter.dicom.instance import text_of
from adapter.dicom.part10 import DECODING_ERRORS, PIXEL_DATA, OpenDataset, open_file
from adapter.dicom.syntaxes import CODECS, LOSSY, NATIVE, Codestream, Decoder
from adapter.errors import BadData, TooLarge, Unreadable, UnusableInput

# no lossless code needs twice the pixels; what is longer is not pixels, and bounds how far RLE can expand
_LONGEST_EXPANSION, _SLACK_BYTES = 2, 4096
PIXEL_TAGS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "LossyImageCompression",
)
_UNDEFINED_LENGTH = 0xFFFFFFFF  # encapsulated; source: PS3.5 section A.4
_LOSSY_ALREADY = "01"  # source: PS3.3 section C.7.6.1.1.5
_J2K_SOC_SIZ, _J2K_COD = b"\xff\x4f\xff\x51", 0xFF52
_J2K_SOT, _J2K_REVERSIBLE = 0xFF90, 1
_JPEG_SOI = b"\xff\xd8"
# start-of-frame markers; C4, C8 and CC are none; F7 is JPEG-LS. Source: ITU-T T.81 table B.1, T.87 annex C
_JPEG_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelFormat:
    """How the stored values of a slice are laid out. Source: PS3.3 section C.7.6.3, PS3.5 section 8.1.1."""

    rows: int
    columns: int
    bits_stored: int
    signed: bool

    @property
    def byte_count(self) -> int:
        """Of one native slice; two bytes a pixel."""
        return 2 * self.rows * self.columns

    def dtype(self, *, big_endian: bool = False) -> np.dtype[np.int16] | np.dtype[np.uint16]:
        """The type of the stored words."""
        return np.dtype((">" if big_endian else "<") + ("i2" if self.signed else "u2"))


def pixel_format(elements: Dataset, where: str) -> PixelFormat:
    """How one slice is laid out. Raises Unreadable naming what is missing or not a 16 bit monochrome image."""
    try:
        allocated, stored, high = (int(elements[key].value) for key in ("BitsAllocated", "BitsStored", "HighBit"))
        found = PixelFormat(
            rows=int(elements.Rows),
            columns=int(elements.Columns),
            bits_stored=stored,
            signed=bool(int(elements.PixelRepresentation)),
        )
        samples = int(elements.SamplesPerPixel)
        colours = str(elements.PhotometricInterpretation)
    except DECODING_ERRORS as error:
        raise Unreadable(f"{where} does not describe its pixels") from error
    if samples != 1 or colours != "MONOCHROME2":
        raise Unreadable(f"{where} is not a MONOCHROME2 image")
    if allocated != 16 or not 1 <= stored <= allocated or high != stored - 1:  # noqa: PLR2004 (16 bits are what CT is)
        raise Unreadable(f"{where} has {allocated} bits allocated, {stored} stored, high bit {high}")
    if not (found.rows and found.columns):
        raise Unreadable(f"{where} has no pixels")
    return found


def read_values(opened: OpenDataset, layout: PixelFormat, where: str) -> NDArray[np.generic]:
    """The stored values of the slice whose Pixel Data the stream stands at, shape (row, column), unused bits cleared.

    Raises Unreadable for pixels that are cut or do not decode, UnusableInput for lossy compression.
    """
    if str(opened.syntax) in LOSSY or text_of(opened.elements, "LossyImageCompression") == _LOSSY_ALREADY:
        raise UnusableInput(f"{where} is lossily compressed: its values are not the scanner's")
    length = _read_pixel_length(opened, where)
    if str(opened.syntax) in NATIVE:
        if length < layout.byte_count or length == _UNDEFINED_LENGTH:
            raise Unreadable(f"{where} has {length} bytes of pixels, not {layout.byte_count}")
        content = opened.stream.read(layout.byte_count)
        if len(content) < layout.byte_count:
            raise Unreadable(f"{where} is cut inside its pixels")
        words = np.frombuffer(content, layout.dtype(big_endian=not opened.syntax.is_little_endian))
        return clean_unused_bits(words, layout).reshape(layout.rows, layout.columns)
    return clean_unused_bits(_decode_compressed(opened, layout, where), layout)


def _read_pixel_length(opened: OpenDataset, where: str) -> int:
    """Leave the stream at the first byte of the pixels."""
    order = "<" if opened.syntax.is_little_endian else ">"
    head = opened.stream.read(8 if opened.syntax.is_implicit_VR else 12)
    try:
        group, element = struct.unpack_from(order + "2H", head)
        (length,) = struct.unpack_from(order + "L", head, len(head) - 4)
    except struct.error as error:
        raise Unreadable(f"{where} has no pixels") from error
    if group << 16 | element != PIXEL_DATA:
        raise Unreadable(f"{where} has no pixels")
    return int(length)


def _decode_compressed(opened: OpenDataset, layout: PixelFormat, where: str) -> NDArray[np.generic]:
    syntax = str(opened.syntax)
    if syntax not in CODECS:
        raise Unreadable(f"{where} has transfer syntax {syntax}, which is not read")
    family, decoder = CODECS[syntax]
    encapsulated = opened.stream.read()
    try:
        stream = get_frame(encapsulated, 0, number_of_frames=1)
        require_codestream(stream, family, layout, where)
        values = _decode(stream, encapsulated, opened.syntax, decoder, layout)
    except DECODING_ERRORS as error:
        raise Unreadable(f"{where} cannot be decoded: {type(error).__name__}") from error
    if values.shape != (layout.rows, layout.columns):
        raise Unreadable(f"{where} decodes to shape {values.shape}")
    return values


def _decode(
    stream: bytes, encapsulated: bytes, syntax: UID, decoder: Decoder, layout: PixelFormat
) -> NDArray[np.generic]:
    """Call the decoder. stream: of the one frame; encapsulated: the whole element value, as pydicom wants it."""
    if decoder is Decoder.RLE:
        planes = rle.decode_pixel_data(stream, version=2, **_decoder_options(layout))
        return np.frombuffer(planes, layout.dtype()).reshape(layout.rows, layout.columns)
    if decoder is Decoder.OPENJPEG:
        frame: NDArray[np.generic] = openjpeg.decode(stream)
        return frame
    options = _decoder_options(layout)
    decoded = get_decoder(syntax).as_array(encapsulated, index=0, raw=True, decoding_plugin=decoder.value, **options)
    values: NDArray[np.generic] = decoded[0]
    return values


def _decoder_options(layout: PixelFormat) -> dict[str, Any]:
    return {
        "rows": layout.rows,
        "columns": layout.columns,
        "bits_allocated": 16,
        "bits_stored": layout.bits_stored,
        "pixel_representation": int(layout.signed),
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }


def require_codestream(stream: bytes, family: Codestream, layout: PixelFormat, where: str) -> None:
    """Return when the stream says it has the size that the header says, before a decoder allocates either.

    Raises Unreadable, or UnusableInput for an irreversible JPEG 2000 wavelet.
    """
    if len(stream) > _LONGEST_EXPANSION * layout.byte_count + _SLACK_BYTES:
        raise Unreadable(f"{where} has a pixel stream longer than its pixels")
    if family is Codestream.RLE:
        # PS3.5 annex G: the header counts the byte planes
        size = (layout.rows, layout.columns) if struct.unpack_from("<L", stream)[0] == 2 else None  # noqa: PLR2004 (16 bits)
    elif family is Codestream.JPEG_2000:
        size, reversible = _jpeg_2000(stream)
        if not reversible:
            raise UnusableInput(f"{where} is lossily compressed: an irreversible wavelet")
    else:
        size = _jpeg(stream)
    if size != (layout.rows, layout.columns):
        raise Unreadable(f"{where} has a pixel stream of another size than its header")


def _jpeg_2000(stream: bytes) -> tuple[tuple[int, int] | None, bool]:
    """Rows and columns from SIZ, and whether COD names the reversible 5-3 wavelet. Source: ITU-T T.800 annex A."""
    if not stream.startswith(_J2K_SOC_SIZ):
        return None, True
    right, bottom, left, top = struct.unpack_from(">4L", stream, 8)
    position = 2
    while position + 4 <= len(stream):
        marker, length = struct.unpack_from(">2H", stream, position)
        if marker == _J2K_COD:
            return (bottom - top, right - left), stream[position + 13] == _J2K_REVERSIBLE
        if marker == _J2K_SOT:
            break
        position += 2 + length
    return None, True


def _jpeg(stream: bytes) -> tuple[int, int] | None:
    """Rows and columns from the start-of-frame segment; None without one."""
    if not stream.startswith(_JPEG_SOI):
        return None
    position = 2
    while position + 9 <= len(stream) and stream[position] == 0xFF:  # noqa: PLR2004 (every marker starts so)
        if stream[position + 1] in _JPEG_FRAMES:
            rows, columns = struct.unpack_from(">2H", stream, position + 5)
            return rows, columns
        position += 2 + int(struct.unpack_from(">H", stream, position + 2)[0])
    return None


def clean_unused_bits(values: NDArray[np.generic], layout: PixelFormat) -> NDArray[np.generic]:
    """Stored values without what old scanners keep above the high bit, sign extended. A new array where needed."""
    unused = 16 - layout.bits_stored
    if not unused:
        return values
    if layout.signed:
        words = values.astype(np.int16, copy=False)
        return (words << unused) >> unused
    return values.astype(np.uint16, copy=False) & np.uint16((1 << layout.bits_stored) - 1)


def same_pixels(first: bytes, second: bytes, *, most_bytes: int) -> bool:
    """Whether two files of one instance hold the same values, in whatever transfer syntaxes; unreadable = not."""
    if first == second:
        return True
    try:
        return bool(np.array_equal(_file_pixels(first, most_bytes), _file_pixels(second, most_bytes)))
    except BadData:
        return False


def _file_pixels(content: bytes, most_bytes: int) -> NDArray[np.generic]:
    opened = open_file(BytesIO(content), tags=PIXEL_TAGS, most_bytes=most_bytes)
    layout = pixel_format(opened.elements, "a duplicate")
    if layout.byte_count > most_bytes:
        raise TooLarge(f"a slice of {layout.byte_count} bytes")
    return read_values(opened, layout, "a duplicate")
