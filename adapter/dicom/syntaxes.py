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


class Decoder(Enum):
    """Who decodes; GDCM and PYJPEGLS are names of pydicom's plugins."""

    GDCM = "gdcm"
    PYJPEGLS = "pyjpegls"
    OPENJPEG = "openjpeg"
    RLE = "rle"


NATIVE = frozenset(
    map(str, (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian))
)
# decoders by measured speed, 512 by 512: RLE pylibjpeg 0.5 ms against pydicom 1.8; JPEG-LS pyjpegls 4.3 against
# gdcm 5.9; JPEG lossless gdcm 4.2; JPEG 2000 gdcm 20 against openjpeg 30; high-throughput JPEG 2000 only openjpeg
CODECS: dict[str, tuple[Codestream, Decoder]] = {
    str(RLELossless): (Codestream.RLE, Decoder.RLE),
    str(JPEGLossless): (Codestream.JPEG, Decoder.GDCM),
    str(JPEGLosslessSV1): (Codestream.JPEG, Decoder.GDCM),
    str(JPEGLSLossless): (Codestream.JPEG, Decoder.PYJPEGLS),
    str(JPEG2000Lossless): (Codestream.JPEG_2000, Decoder.GDCM),
    str(JPEG2000): (Codestream.JPEG_2000, Decoder.GDCM),
    str(HTJ2KLossless): (Codestream.JPEG_2000, Decoder.OPENJPEG),
    str(HTJ2KLosslessRPCL): (Codestream.JPEG_2000, Decoder.OPENJPEG),
    str(HTJ2K): (Codestream.JPEG_2000, Decoder.OPENJPEG),
}
# received, so that the refusal can be named, but never read: they change the scanner's numbers by definition
LOSSY = frozenset(map(str, (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)))
RECEIVED: tuple[str, ...] = (
    str(ExplicitVRLittleEndian),
    str(ImplicitVRLittleEndian),
    str(ExplicitVRBigEndian),
    str(DeflatedExplicitVRLittleEndian),
    *CODECS,
    *sorted(LOSSY),
)
