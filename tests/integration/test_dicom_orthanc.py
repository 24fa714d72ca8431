"""A real archive, Orthanc: the scanner's series comes back bit for bit, and every flaw ends under its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydicom.dataset import Dataset

from adapter.dicom.pacs import Pacs
from adapter.dicom.volume import read_volume
from adapter.domain.imaging import DicomPatient, Volume
from adapter.errors import ConflictingInstance, NoGeometry, SeriesIncomplete, WrongPatient
from adapter.sandbox.ct import CtOptions, file_bytes, simulated_ct, simulated_uid
from tests.adapter.dicom.series_files import series_on_disk
from tests.integration.archives import (
    OURS,
    OWNER,
    PHANTOM_SLICES,
    SYNTAXES,
    only_series_retrieved,
    open_pacs,
    phantom,
    phantom_files,
)
from tests.peers.orthanc import Orthanc


@pytest.fixture
def pacs(orthanc: Orthanc, tmp_path: Path) -> Iterator[Pacs]:
    """Our door to Orthanc, known there as a move destination."""
    with open_pacs(
        tmp_path / "series",
        host=orthanc.host,
        port=orthanc.dicom_port,
        ae_title=orthanc.ae_title,
        our_address=orthanc.our_address,
    ) as door:
        orthanc.allow(OURS, door.port)
        yield door


@pytest.fixture(scope="module")
def phantom_instances(data_folder: Path) -> list[Dataset]:
    """The head phantom, 140 slices."""
    return phantom(data_folder)


@pytest.fixture(scope="module")
def phantom_volume(phantom_instances: list[Dataset], tmp_path_factory: pytest.TempPathFactory) -> Volume:
    """What the scanner's own files give."""
    return read_volume(series_on_disk(phantom_instances, tmp_path_factory.mktemp("phantom")))


def _upload(orthanc: Orthanc, instances: list[Dataset]) -> None:
    for instance in instances:
        orthanc.upload(file_bytes(instance))


def _small(label: str) -> list[Dataset]:
    return list(simulated_ct(CtOptions(patient_id=label, slices=6, rows=40, columns=40)))


def test_orthanc_serves_what_we_need(pacs: Pacs) -> None:
    """C-ECHO answers, Study Root FIND and MOVE are negotiated, an unknown patient has no series."""
    pacs.check()
    assert pacs.find_series(DicomPatient(patient_id="SIM-NOBODY")) == ()


@pytest.mark.parametrize("name", SYNTAXES)
def test_the_phantom_is_the_same_volume_in_every_syntax(
    orthanc: Orthanc, pacs: Pacs, phantom_instances: list[Dataset], phantom_volume: Volume, name: str
) -> None:
    """Stored in any transfer syntax, the head phantom comes back as the same 140 slices, bit for bit, in place."""
    label = f"PHANTOM-{name}"
    for content in phantom_files(phantom_instances, label, SYNTAXES[name]):
        orthanc.upload(content)
    with only_series_retrieved(pacs, label) as series:
        volume = read_volume(series)
        assert len(series.files) == PHANTOM_SLICES
        assert SYNTAXES[name].encode() in series.files[0].read_bytes()[:1000]
    assert series.ref.acquired is not None
    assert np.array_equal(volume.voxels, phantom_volume.voxels)
    assert (volume.spacing_mm, volume.origin_mm) == (phantom_volume.spacing_mm, phantom_volume.origin_mm)


def test_a_missing_slice_is_a_gap(orthanc: Orthanc, pacs: Pacs) -> None:
    """An archive that never had a slice delivers all it lists; the volume is refused for its gap."""
    instances = _small("SIM-GAP")
    _upload(orthanc, instances[:3] + instances[4:])
    with only_series_retrieved(pacs, "SIM-GAP") as series, pytest.raises(NoGeometry, match="gaps: about 1 "):
        read_volume(series)


@pytest.mark.fault("F-10")
def test_a_slice_that_vanished_since_it_was_listed_is_owed(orthanc: Orthanc, pacs: Pacs) -> None:
    """A listed image that Orthanc no longer has: SeriesIncomplete, one of seven missing."""
    instances = _small("SIM-OWED")
    _upload(orthanc, instances)
    patient = DicomPatient(patient_id="SIM-OWED")
    (ref,) = pacs.find_series(patient)
    listed = type(ref)(
        study_uid=ref.study_uid,
        series_uid=ref.series_uid,
        modality=ref.modality,
        acquired=ref.acquired,
        instance_uids=tuple(sorted((*ref.instance_uids, type(ref.instance_uids[0])(simulated_uid("vanished"))))),
    )
    with pytest.raises(SeriesIncomplete) as caught, pacs.retrieved(patient, listed, owner=OWNER):
        pass
    assert (caught.value.expected, caught.value.missing) == (7, 1)


@pytest.mark.fault("F-12")
def test_one_uid_with_other_pixels_is_a_conflict(orthanc: Orthanc, pacs: Pacs) -> None:
    """Orthanc holds one SOP Instance UID twice, in two studies with other pixels: ConflictingInstance."""
    instances = _small("SIM-TWIN")
    _upload(orthanc, instances)
    twin = instances[2]
    twin.StudyInstanceUID = simulated_uid("another study")
    twin.PixelData = bytes(len(twin.PixelData))
    _upload(orthanc, [twin])
    patient = DicomPatient(patient_id="SIM-TWIN")
    ref = max(pacs.find_series(patient), key=lambda one: len(one.instance_uids))
    with pytest.raises(ConflictingInstance), pacs.retrieved(patient, ref, owner=OWNER):
        pass


@pytest.mark.fault("F-13")
def test_another_patients_image_in_the_series_is_a_stranger(orthanc: Orthanc, pacs: Pacs) -> None:
    """The same study, series and image UIDs under another Patient ID: WrongPatient, and nothing stays."""
    instances = _small("SIM-MINE")
    _upload(orthanc, instances)
    for instance in instances[:2]:
        instance.PatientID = "SIM-THEIRS"
    _upload(orthanc, instances[:2])
    patient = DicomPatient(patient_id="SIM-MINE")
    (ref,) = pacs.find_series(patient)
    with pytest.raises(WrongPatient), pacs.retrieved(patient, ref, owner=OWNER):
        pass


def test_a_localizer_is_refused_by_name(orthanc: Orthanc, pacs: Pacs) -> None:
    """A scout is retrieved like any series, and is no volume."""
    instances = _small("SIM-SCOUT")
    for instance in instances:
        instance.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    _upload(orthanc, instances)
    with only_series_retrieved(pacs, "SIM-SCOUT") as series, pytest.raises(NoGeometry, match="localizer"):
        read_volume(series)


def test_only_what_was_asked_for_is_received(orthanc: Orthanc, pacs: Pacs) -> None:
    """Orthanc pushing a study at us on its own is refused, and nothing of it is kept."""
    instances = _small("SIM-PUSHED")
    _upload(orthanc, instances)
    listed = httpx.post(
        f"{orthanc.http_url}/tools/find", json={"Level": "Patient", "Query": {"PatientID": "SIM-PUSHED"}}, timeout=10
    ).json()
    reply = httpx.post(f"{orthanc.http_url}/modalities/{OURS}/store", json=listed, timeout=30)
    assert reply.status_code >= httpx.codes.BAD_REQUEST
    assert pacs.unsolicited >= 1
