"""On a real archive: one scan in every lossless transfer syntax is one volume, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from hashlib import sha256
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from adapter.dicom.ae import Archive
from adapter.dicom.pacs import Pacs
from adapter.dicom.storage_scp import Listener
from adapter.dicom.volume import read_volume
from adapter.domain.ids import AETitle
from adapter.domain.imaging import DicomPatient, Volume
from tests.fakes.phantom import SLICES, phantom_scan
from tests.peers.orthanc import Orthanc

OURS = AETitle("FORMATS")
OTHER_SYNTAXES = (
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    JPEGLSLossless,
    JPEG2000Lossless,
    RLELossless,
)


@pytest.fixture(scope="module")
def pacs(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    """Our door to Orthanc, which knows us as a move destination."""
    title = AETitle(orthanc.ae_title)
    archive = Archive(host=orthanc.host, port=orthanc.dicom_port, ae_title=title, calling_ae_title=OURS)
    listener = Listener(ae_title=OURS, bind=orthanc.our_address, port=0, callers=(title,))
    with Pacs(archive, listener, folder=tmp_path_factory.mktemp("formats"), zone=UTC) as opened:
        orthanc.allow(OURS, opened.port)
        yield opened


def _volume_in(transfer_syntax: UID, orthanc: Orthanc, pacs: Pacs, data_folder: Path) -> Volume:
    """Store the phantom in this transfer syntax, retrieve it by C-MOVE and read it."""
    patient = DicomPatient(patient_id=f"FORMAT-{transfer_syntax.rpartition('.')[2]}", sex="M")
    for content in phantom_scan(data_folder, patient, scanned="20150610", transfer_syntax=transfer_syntax):
        orthanc.upload(content)
    (ref,) = pacs.find_series(patient)
    series = pacs.retrieve_series(patient, ref)
    assert len(series.files) == SLICES
    arrived = {pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID for path in series.files}
    assert arrived == {transfer_syntax}
    volume = read_volume(series)
    pacs.forget(series)
    return volume


def _grid_and_voxels(volume: Volume) -> tuple[object, ...]:
    voxels = volume.voxels
    return (
        voxels.shape,
        voxels.dtype.str,
        volume.spacing_mm,
        volume.origin_mm,
        volume.direction.tolist(),
        sha256(voxels.tobytes()).hexdigest(),
    )


@pytest.fixture(scope="module")
def uncompressed(orthanc: Orthanc, pacs: Pacs, data_folder: Path) -> tuple[object, ...]:
    return _grid_and_voxels(_volume_in(ExplicitVRLittleEndian, orthanc, pacs, data_folder))


@pytest.mark.parametrize("transfer_syntax", OTHER_SYNTAXES, ids=lambda syntax: syntax.name)
def test_a_transfer_syntax_changes_no_bit(
    transfer_syntax: UID, uncompressed: tuple[object, ...], orthanc: Orthanc, pacs: Pacs, data_folder: Path
) -> None:
    """Retrieved as it was stored, not transcoded on the way, it reads as the same grid and the same voxels."""
    assert _grid_and_voxels(_volume_in(transfer_syntax, orthanc, pacs, data_folder)) == uncompressed
