"""A second real archive, DCMTK's dcmqrscp: the same phantom, by other hands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from adapter.dicom.pacs import Pacs
from adapter.dicom.volume import read_volume
from adapter.domain.imaging import DicomPatient
from adapter.errors import SeriesIncomplete
from adapter.sandbox.ct import CtOptions, simulated_ct, write_series
from tests.adapter.dicom.series_files import series_on_disk
from tests.integration.archives import OWNER, SYNTAXES, only_series_retrieved, open_pacs, phantom, phantom_files
from tests.peers.dcmtk import Dcmqrscp, start_dcmqrscp

_LETTERS = {"explicit": "s", "jpeg-ls": "t", "jpeg-2000": "v", "rle": "r"}


@contextmanager
def _door(dcmqrscp: Dcmqrscp, folder: Path) -> Iterator[Pacs]:
    """Our door to dcmqrscp, on the one port its table names."""
    with open_pacs(
        folder,
        host=dcmqrscp.host,
        port=dcmqrscp.dicom_port,
        ae_title=dcmqrscp.ae_title,
        our_address=dcmqrscp.our_address,
        our_port=dcmqrscp.our_port,
    ) as pacs:
        yield pacs


def test_dcmqrscp_serves_what_we_need(dcmqrscp: Dcmqrscp, tmp_path: Path) -> None:
    """C-ECHO answers, Study Root FIND and MOVE are negotiated, an unknown patient has no series."""
    with _door(dcmqrscp, tmp_path) as pacs:
        pacs.check()
        assert pacs.find_series(DicomPatient(patient_id="SIM-NOBODY")) == ()


@pytest.mark.parametrize("name", SYNTAXES)
def test_the_phantom_is_the_same_volume_from_another_archive(
    dcmqrscp: Dcmqrscp, data_folder: Path, tmp_path: Path, name: str
) -> None:
    """DCMTK stores and moves the head phantom in each transfer syntax; the volume is the scanner's, bit for bit.

    Every fourth slice, to be quick: the whole phantom goes through Orthanc. dcmqrscp takes one compressed transfer
    syntax a process.
    """
    instances = phantom(data_folder)[::4]
    expected = read_volume(series_on_disk(instances, tmp_path / "plain"))
    files = []
    for number, content in enumerate(phantom_files(instances, f"PHANTOM-{name}", SYNTAXES[name])):
        files.append(tmp_path / f"{number}.dcm")
        files[-1].write_bytes(content)
    archive = start_dcmqrscp(tmp_path / "archive", _LETTERS[name])
    try:
        archive.upload(files)
        with (
            _door(archive, tmp_path / "series") as pacs,
            only_series_retrieved(pacs, f"PHANTOM-{name}") as series,
        ):
            assert np.array_equal(read_volume(series).voxels, expected.voxels)
            assert SYNTAXES[name].encode() in series.files[0].read_bytes()[:1000]
    finally:
        archive.stop()


@pytest.mark.fault("F-10")
def test_success_for_nothing_is_not_success(dcmqrscp: Dcmqrscp, tmp_path: Path) -> None:
    """For a series it does not have, dcmqrscp answers 0000 with nothing moved: SeriesIncomplete, all missing."""
    instances = simulated_ct(CtOptions(patient_id="SIM-DCMTK", slices=3, rows=16, columns=16))
    dcmqrscp.upload(write_series(instances, tmp_path / "files"))
    unknown = series_on_disk(simulated_ct(CtOptions(patient_id="SIM-ELSE", slices=3)), tmp_path / "else").ref
    with _door(dcmqrscp, tmp_path / "series") as pacs:
        with only_series_retrieved(pacs, "SIM-DCMTK") as series:
            assert len(series.files) == 3
        retrieval = pacs.retrieved(DicomPatient(patient_id="SIM-DCMTK"), unknown, owner=OWNER)
        with pytest.raises(SeriesIncomplete) as caught, retrieval:
            pass
    assert (caught.value.expected, caught.value.missing) == (3, 3)
