"""The transfer syntaxes we receive and read, each with its decoder; the others are refused by name."""

from __future__ import annotations

from enum import Enum

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)


class Codestream(Enum):
    """The family of a compressed pixel stream: how its own size is found."""

    JPEG = "JPEG"
    JPEG_2000 = "JPEG 2000"
    RLE = "RLE"


NATIVE = frozenset(
    map(str, (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian))
)
# decoders by measured speed per 512 by 512 slice: RLE pylibjpeg 0.5 ms; JPEG-LS pyjpegls 4.3; JPEG lossless gdcm 4.2;
# JPEG 2000 gdcm 20 against pylibjpeg 30; HTJ2K only pylibjpeg
DECODERS: dict[str, tuple[Codestream, str]] = {
    str(RLELossless): (Codestream.RLE, "pylibjpeg"),
    str(JPEGLossless): (Codestream.JPEG, "gdcm"),
    str(JPEGLosslessSV1): (Codestream.JPEG, "gdcm"),
    str(JPEGLSLossless): (Codestream.JPEG, "pyjpegls"),
    str(JPEG2000Lossless): (Codestream.JPEG_2000, "gdcm"),
    str(JPEG2000): (Codestream.JPEG_2000, "gdcm"),
    str(HTJ2KLossless): (Codestream.JPEG_2000, "pylibjpeg"),
    str(HTJ2KLosslessRPCL): (Codestream.JPEG_2000, "pylibjpeg"),
    str(HTJ2K): (Codestream.JPEG_2000, "pylibjpeg"),
}
# received, so that the refusal can be named, but never read: they change the scanner's numbers by definition
LOSSY = frozenset(map(str, (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)))
RECEIVED: tuple[str, ...] = (
    str(ExplicitVRLittleEndian),
    str(ImplicitVRLittleEndian),
    str(ExplicitVRBigEndian),
    str(DeflatedExplicitVRLittleEndian),
    *DECODERS,
    *sorted(LOSSY),
)
