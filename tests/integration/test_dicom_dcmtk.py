"""A second real archive, DCMTK's dcmqrscp: the same phantom, by other hands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from adapter.dicom.pacs import Pacs
from adapter.dicom.volume import read_volume
from adapter.domain.imaging import DicomPatient
from adapter.errors import SeriesIncomplete
from adapter.sandbox.ct import CtOptions, simulated_ct, write_series
from tests.adapter.dicom.series_files import series_on_disk
from tests.integration.archives import (
    PHANTOM_SLICES,
    SYNTAXES,
    open_pacs,
    phantom,
    phantom_files,
    retrieve_only_series,
)
from tests.peers.dcmtk import Dcmqrscp


@pytest.fixture
def pacs(dcmqrscp: Dcmqrscp, tmp_path: Path) -> Iterator[Pacs]:
    """Our door to dcmqrscp, on the one port its table names."""
    with open_pacs(
        tmp_path / "series",
        host=dcmqrscp.host,
        port=dcmqrscp.dicom_port,
        ae_title=dcmqrscp.ae_title,
        our_address=dcmqrscp.our_address,
        our_port=dcmqrscp.our_port,
    ) as door:
        yield door


def test_dcmqrscp_serves_what_we_need(pacs: Pacs) -> None:
    """C-ECHO answers, Study Root FIND and MOVE are negotiated, an unknown patient has no series."""
    pacs.check()
    assert pacs.find_series(DicomPatient(patient_id="SIM-NOBODY")) == ()


@pytest.mark.parametrize("name", SYNTAXES)
def test_the_phantom_is_the_same_volume_from_another_archive(
    dcmqrscp: Dcmqrscp, pacs: Pacs, data_folder: Path, tmp_path: Path, name: str
) -> None:
    """DCMTK stores and moves the head phantom in each transfer syntax; the volume is the scanner's, bit for bit."""
    instances = phantom(data_folder)
    label, folder = f"PHANTOM-{name}", tmp_path / "files"
    folder.mkdir()
    files = []
    for number, content in enumerate(phantom_files(instances, label, SYNTAXES[name])):
        files.append(folder / f"{number}.dcm")
        files[-1].write_bytes(content)
    dcmqrscp.upload(files)
    series = retrieve_only_series(pacs, label)
    assert len(series.files) == PHANTOM_SLICES
    expected = read_volume(series_on_disk(instances, tmp_path / "plain"))
    assert np.array_equal(read_volume(series).voxels, expected.voxels)


def test_success_for_nothing_is_not_success(dcmqrscp: Dcmqrscp, pacs: Pacs, tmp_path: Path) -> None:
    """For a series it does not have, dcmqrscp answers 0000 with nothing moved: SeriesIncomplete, all missing."""
    instances = simulated_ct(CtOptions(patient_id="SIM-DCMTK", slices=3, rows=16, columns=16))
    dcmqrscp.upload(write_series(instances, tmp_path / "files"))
    series = retrieve_only_series(pacs, "SIM-DCMTK")
    unknown = series_on_disk(simulated_ct(CtOptions(patient_id="SIM-ELSE", slices=3)), tmp_path / "else").ref
    with pytest.raises(SeriesIncomplete) as caught:
        pacs.retrieve_series(DicomPatient(patient_id="SIM-DCMTK"), unknown)
    assert (caught.value.expected, caught.value.missing) == (3, 3)
