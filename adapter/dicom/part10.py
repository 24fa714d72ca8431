"""The DICOM file format (PS3.10): what stands before a dataset, written and read within bounds."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from adapter.errors import TooLarge, Unreadable

# what pydicom and the codecs raise for bytes that are not what they say; programming errors look alike, so the
# blocks that catch these hold library calls only
DECODING_ERRORS = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
PIXEL_DATA = 0x7FE00010
_PREFIX = b"\0" * 128 + b"DICM"
_TRANSFER_SYNTAX_UID = 0x00020010
_MOST_META_BYTES = 1 << 20
_LONG_VRS = (b"OB", b"UN")  # of group 0002: four length bytes after two reserved; source: PS3.5 section 7.1.2
# constant, so that the same dataset gives the same file whatever library version received it
_IMPLEMENTATION_CLASS_UID = "2.25.301377094553270466116211837214022318847"
_IMPLEMENTATION_VERSION = "ADJUVANT"


@dataclass(frozen=True, slots=True)
class OpenDataset:
    """A dataset read up to its pixels. stream: stands at the Pixel Data element, already inflated where it was not."""

    elements: Dataset
    syntax: UID
    stream: BinaryIO


def encode_file_meta(sop_class_uid: str, instance_uid: str, transfer_syntax: str) -> bytes:
    """The preamble and file meta information that make a received dataset a file. Source: PS3.10 section 7.1."""
    body = b"".join(
        (
            struct.pack("<HH2sHL", 2, 0x0001, b"OB", 0, 2) + b"\0\1",
            _short_element(0x0002, b"UI", sop_class_uid),
            _short_element(0x0003, b"UI", instance_uid),
            _short_element(0x0010, b"UI", transfer_syntax),
            _short_element(0x0012, b"UI", _IMPLEMENTATION_CLASS_UID),
            _short_element(0x0013, b"SH", _IMPLEMENTATION_VERSION),
        )
    )
    return _PREFIX + struct.pack("<HH2sHL", 2, 0x0000, b"UL", 4, len(body)) + body


def _short_element(element: int, vr: bytes, text: str) -> bytes:
    """One element of group 0002, padded to even length. Source: PS3.5 sections 6.2 and 7.1.2."""
    value = text.encode("ascii")
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value


def open_file(stream: BinaryIO, *, tags: Iterable[str] | None, most_bytes: int) -> OpenDataset:
    """Read a DICOM file up to its pixels. tags: keywords to keep, None for all. Raises Unreadable, TooLarge."""
    return open_dataset(
        stream, _read_transfer_syntax(stream), tags=tags, last_tag=PIXEL_DATA - 1, most_bytes=most_bytes
    )


def open_dataset(
    stream: BinaryIO, syntax: UID, *, tags: Iterable[str] | None, last_tag: int, most_bytes: int
) -> OpenDataset:
    """Read the elements up to `last_tag` of a dataset without file meta information.

    most_bytes: cap for a deflated dataset after inflation. Raises Unreadable, TooLarge.
    """
    if syntax.is_deflated:
        stream = BytesIO(inflate(stream.read(), most_bytes=most_bytes))

    def beyond(tag: BaseTag, vr: str | None, length: int) -> bool:  # noqa: ARG001 (signature of pydicom)
        return int(tag) > last_tag

    keep: list[BaseTag | int] | None = None if tags is None else [Tag(keyword) for keyword in tags]
    try:
        elements = read_dataset(
            stream, syntax.is_implicit_VR, syntax.is_little_endian, stop_when=beyond, specific_tags=keep
        )
    except DECODING_ERRORS as error:
        raise Unreadable(f"not a dataset in {syntax}: {type(error).__name__}") from error
    return OpenDataset(elements, syntax, stream)


def _read_transfer_syntax(stream: BinaryIO) -> UID:
    """Leave the stream at the dataset. Raises Unreadable for anything but file meta information with a known syntax."""
    if stream.read(len(_PREFIX))[128:] != b"DICM":
        raise Unreadable("not a DICOM file")
    syntax, start = UID(""), stream.tell()
    while True:
        head = stream.read(8)
        if len(head) < 8 or stream.tell() - start > _MOST_META_BYTES:  # noqa: PLR2004 (tag, VR, short length)
            raise Unreadable("a DICOM file without a dataset")
        group, element, vr, length = struct.unpack("<HH2sH", head)
        if group != 2:  # noqa: PLR2004 (the group of file meta information)
            stream.seek(-8, 1)
            break
        if vr in _LONG_VRS:
            (length,) = struct.unpack("<L", stream.read(4).ljust(4, b"\0"))
        value = stream.read(min(length, _MOST_META_BYTES))
        if group << 16 | element == _TRANSFER_SYNTAX_UID:
            syntax = UID(value.rstrip(b"\0 ").decode("ascii", "replace"))
    if not syntax.is_transfer_syntax:
        raise Unreadable(f"a DICOM file of unknown transfer syntax {str(syntax)[:64]!r}")
    return syntax


def inflate(content: bytes, *, most_bytes: int) -> bytes:
    """Undo the deflated transfer syntax (RFC 1951, no header). Raises TooLarge beyond the cap, Unreadable when cut."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(content, most_bytes)
    except zlib.error as error:
        raise Unreadable("a deflated dataset that does not inflate") from error
    if inflater.unconsumed_tail:
        raise TooLarge(f"a deflated dataset of more than {most_bytes} bytes")
    if not inflater.eof:
        raise Unreadable("a deflated dataset that is cut short")
    return plain
