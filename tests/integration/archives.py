"""Our door to a real archive, and what one real and a few simulated series must come out as."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from adapter.dicom.ae import Archive
from adapter.dicom.limits import Limits
from adapter.dicom.pacs import Pacs
from adapter.dicom.storage_scp import Listener
from adapter.domain.ids import AETitle, PatientId
from adapter.domain.imaging import DicomPatient, SeriesOnDisk
from tests.fakes.transcoded import relabelled, transcoded

OURS = AETitle("ADJUVANT")
OWNER = PatientId("p1")
PHANTOM_SLICES = 140
SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
    "rle": RLELossless,
}


@contextmanager
def open_pacs(
    folder: Path, *, host: str, port: int, ae_title: str, our_address: str, our_port: int = 0
) -> Iterator[Pacs]:
    """Our side, listening where the archive can reach it."""
    limits = Limits(quiet_seconds=0.5, series_seconds=120, answer_seconds=20, free_bytes=0)
    archive = Archive(host=host, port=port, ae_title=AETitle(ae_title), calling_ae_title=OURS, limits=limits)
    listener = Listener(ae_title=OURS, bind=our_address, port=our_port, callers=(AETitle(ae_title),))
    with Pacs(archive, listener, folder=folder, zone=UTC) as pacs:
        yield pacs


def phantom(data_folder: Path) -> list[Dataset]:
    """The scanner's series, as it wrote it, in the order of its slices."""
    files = sorted((data_folder / "dicom" / "ct_head_phantom_1mm").glob("I*"), key=lambda file: int(file.name[1:]))
    return [dcmread(file) for file in files]


def phantom_files(instances: list[Dataset], label: str, syntax: UID) -> list[bytes]:
    """The phantom for a patient of its own, in one transfer syntax."""
    return [transcoded(instance, syntax) for instance in relabelled(instances, label)]


@contextmanager
def only_series_retrieved(pacs: Pacs, patient_id: str) -> Iterator[SeriesOnDisk]:
    """Find the one series of a patient and have it on disk while the block runs."""
    patient = DicomPatient(patient_id=patient_id)
    (ref,) = pacs.find_series(patient)
    with pacs.retrieved(patient, ref, owner=OWNER) as series:
        yield series
