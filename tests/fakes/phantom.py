"""The public head phantom (140 CT slices of 1 mm) as the scan of any patient."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from adapter.domain.imaging import DicomPatient

SLICES = 140
_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "InstanceCreationDate")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


def phantom_scan(data_folder: Path, patient: DicomPatient, *, scanned: str) -> Iterator[bytes]:
    """Each slice as a DICOM file of this patient, under UIDs that no other patient shares.

    data_folder: the public research data. scanned: `YYYYMMDD`.
    """
    for path in sorted((data_folder / "dicom" / "ct_head_phantom_1mm").iterdir()):
        dataset = pydicom.dcmread(path)
        _give_to(dataset, patient, scanned)
        for keyword in _UIDS:
            own = generate_uid(entropy_srcs=[patient.patient_id, getattr(dataset, keyword)])
            setattr(dataset, keyword, own)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        content = BytesIO()
        dataset.save_as(content, enforce_file_format=True)
        yield content.getvalue()


def _give_to(dataset: FileDataset, patient: DicomPatient, scanned: str) -> None:
    dataset.PatientName = "PHANTOM"
    dataset.PatientID = patient.patient_id
    dataset.PatientBirthDate = patient.birth_date or ""
    dataset.PatientSex = patient.sex or ""
    for keyword in _DATES:
        setattr(dataset, keyword, scanned)
    dataset.AcquisitionDateTime = f"{scanned}092921"
