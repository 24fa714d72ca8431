"""Simulated CT series of a head and neck: small, plainly not real, the same for the same seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from adapter.sandbox.anatomy import LOWEST_HU, Blob, draw_neck

_INTERCEPT = LOWEST_HU


@dataclass(frozen=True, slots=True, kw_only=True)
class CtOptions:
    """What series to draw. study, number: tell the series of one patient apart. date, time: DA and TM."""

    patient_id: str = field(repr=False)
    seed: int = 0
    study: int = 1
    number: int = 1
    date: str = "20240105"
    time: str = "081500"
    birth_date: str = field(default="", repr=False)
    sex: str = ""
    slices: int = 12
    rows: int = 64
    columns: int = 64
    spacing_mm: tuple[float, float, float] = (3.0, 3.5, 3.5)
    blob: Blob | None = None


def simulated_ct(options: CtOptions) -> tuple[Dataset, ...]:
    """The instances of one series, Explicit VR Little Endian, 12 bits, every one tagged as simulated.

    All UIDs are of the 2.25 root and follow from the options, so the same options give the same bytes.
    """
    stored = (_draw(options) - _INTERCEPT).astype("<u2")
    return tuple(_instance(options, index, stored[index].tobytes()) for index in range(options.slices))


def simulated_uid(*parts: object) -> UID:
    """A UID that follows from its parts. Source: PS3.5 section B.2 (the 2.25 root takes any 128 bit number)."""
    digest = hashlib.sha256("\0".join(map(str, ("adjuvant simulated", *parts))).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def file_bytes(instance: Dataset) -> bytes:
    """The instance as a DICOM file."""
    buffer = BytesIO()
    dcmwrite(buffer, instance, enforce_file_format=True)
    return buffer.getvalue()


def write_series(instances: Sequence[Dataset], folder: Path) -> list[Path]:
    """One file per instance, `0001.dcm` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04}.dcm" for number in range(1, len(instances) + 1)]
    for path, instance in zip(paths, instances, strict=True):
        path.write_bytes(file_bytes(instance))
    return paths


def _draw(options: CtOptions) -> NDArray[np.float64]:
    """HU, shape (slice, row, column)."""
    return draw_neck(
        (options.slices, options.rows, options.columns),
        options.spacing_mm,
        blob=options.blob,
        chance=np.random.default_rng([options.seed, options.study, options.number]),
    )


def _instance(options: CtOptions, index: int, pixels: bytes) -> Dataset:
    study = simulated_uid(options.patient_id, options.seed, options.study)
    series = simulated_uid(study, options.number)
    instance = Dataset()
    instance.SpecificCharacterSet = "ISO_IR 192"
    instance.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    instance.SOPClassUID = CTImageStorage
    instance.SOPInstanceUID = simulated_uid(series, index)
    instance.StudyDate = instance.SeriesDate = options.date
    instance.StudyTime = instance.SeriesTime = options.time
    instance.AccessionNumber = ""
    instance.Modality = "CT"
    instance.Manufacturer = "adjuvant sandbox"
    instance.ReferringPhysicianName = ""
    instance.StudyDescription = "SIMULATED head and neck"
    instance.SeriesDescription = "SIMULATED axial"
    instance.PatientName = "SIMULATED"
    instance.PatientID = options.patient_id
    instance.PatientBirthDate = options.birth_date
    instance.PatientSex = options.sex
    instance.StudyInstanceUID = study
    instance.SeriesInstanceUID = series
    instance.StudyID = str(options.study)
    instance.SeriesNumber = options.number
    instance.InstanceNumber = index + 1
    instance.FrameOfReferenceUID = simulated_uid(series, "frame")
    instance.PositionReferenceIndicator = ""
    instance.ImageComments = "SIMULATED, not a patient"
    _place(instance, options, index)
    instance.PixelData = pixels
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    instance.file_meta.MediaStorageSOPClassUID = CTImageStorage
    instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
    return instance


def _place(instance: Dataset, options: CtOptions, index: int) -> None:
    """The image plane and pixel modules. Source: PS3.3 sections C.7.6.2 and C.7.6.3."""
    between_slices, between_rows, between_columns = options.spacing_mm
    instance.ImagePositionPatient = [
        -(options.columns - 1) * between_columns / 2,
        -(options.rows - 1) * between_rows / 2,
        index * between_slices,
    ]
    instance.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    instance.SliceThickness = between_slices
    instance.PixelSpacing = [between_rows, between_columns]
    instance.KVP = 120
    instance.AcquisitionNumber = 1
    instance.SamplesPerPixel = 1
    instance.PhotometricInterpretation = "MONOCHROME2"
    instance.Rows, instance.Columns = options.rows, options.columns
    instance.BitsAllocated, instance.BitsStored, instance.HighBit = 16, 12, 11
    instance.PixelRepresentation = 0
    instance.RescaleIntercept, instance.RescaleSlope, instance.RescaleType = _INTERCEPT, 1, "HU"
