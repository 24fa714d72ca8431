"""DICOM files of one series in another transfer syntax, mostly by other encoders than our decoders."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import gdcm
import numpy as np
from openjpeg.utils import encode_array
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filereader import dcmread
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from adapter.sandbox.ct import file_bytes, simulated_uid

ENCODERS = {JPEGLSLossless: "pyjpegls", RLELossless: "gdcm"}
EVERY_SYNTAX = {
    "Explicit VR": ExplicitVRLittleEndian,
    "Implicit VR": ImplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG lossless": JPEGLosslessSV1,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
}


def transcoded(instance: Dataset, syntax: UID) -> bytes:
    """One uncompressed little endian instance as a file in another transfer syntax, same UIDs."""
    copy = dcmread(BytesIO(file_bytes(instance)))
    if syntax == JPEGLosslessSV1:
        return _by_gdcm(copy)
    if syntax in ENCODERS:
        copy.compress(syntax, encoding_plugin=ENCODERS[syntax], generate_instance_uid=False)
        return file_bytes(copy)
    if syntax == JPEG2000Lossless:
        words = np.frombuffer(copy.PixelData, "<u2").reshape(copy.Rows, copy.Columns)
        copy.PixelData = encapsulate([encode_array(words, bits_stored=copy.BitsStored)])
        copy["PixelData"].is_undefined_length = True
    if syntax == ExplicitVRBigEndian:
        copy.PixelData = np.frombuffer(copy.PixelData, "<u2").astype(">u2").tobytes()
    return _written(copy, syntax)


def _written(instance: Dataset, syntax: UID) -> bytes:
    """The dataset in this encoding, whatever it was read from."""
    plain = Dataset(instance)
    plain.file_meta = instance.file_meta
    plain.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    dcmwrite(buffer, plain, enforce_file_format=True)
    return buffer.getvalue()


def relabelled(instances: Iterable[Dataset], label: str) -> list[Dataset]:
    """Copies of a series for a patient of its own, every UID its own."""
    return [_relabelled(instance, label) for instance in instances]


def _relabelled(instance: Dataset, label: str) -> Dataset:
    copy = dcmread(BytesIO(file_bytes(instance)))
    copy.PatientID = label
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(copy, keyword, simulated_uid(label, copy[keyword].value))
    copy.file_meta.MediaStorageSOPInstanceUID = copy.SOPInstanceUID
    return copy


def _by_gdcm(instance: Dataset) -> bytes:
    """JPEG lossless, process 14 selection value 1, the one syntax pydicom has no encoder for."""
    with TemporaryDirectory() as name:
        plain, coded = Path(name, "plain.dcm"), Path(name, "coded.dcm")
        plain.write_bytes(file_bytes(instance))
        reader = gdcm.ImageReader()
        reader.SetFileName(str(plain))
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        if not reader.Read():
            raise ValueError("gdcm cannot read the instance")
        change.SetInput(reader.GetImage())
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(coded))
        writer.SetFile(reader.GetFile())
        if not change.Change():
            raise ValueError("gdcm cannot encode the instance")
        writer.SetImage(change.GetOutput())
        if not writer.Write():
            raise ValueError("gdcm cannot write the instance")
        return coded.read_bytes()
