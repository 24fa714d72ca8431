"""The pretend PACS answers as an archive does, seen by pynetdicom's own client and not by ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from adapter.dicom.limits import Limits
from adapter.dicom.server import Listening
from adapter.sandbox.ct import CtOptions, simulated_ct
from adapter.sandbox.pacs import AE_TITLE, PacsFaults, SandboxPacs

INSTANCES = simulated_ct(CtOptions(patient_id="SIM-1", slices=4, rows=8, columns=8))


@contextmanager
def _archive(faults: PacsFaults | None = None) -> Iterator[tuple[SandboxPacs, Association]]:
    with SandboxPacs(faults) as archive:
        archive.add(INSTANCES)
        entity = AE(ae_title="CLIENT")
        for sop_class in (
            Verification,
            StudyRootQueryRetrieveInformationModelFind,
            StudyRootQueryRetrieveInformationModelMove,
        ):
            entity.add_requested_context(sop_class)
        association = entity.associate("127.0.0.1", archive.port, ae_title=AE_TITLE)
        yield archive, association
        if association.is_established:
            association.release()


def _found(association: Association, level: str, **keys: str) -> list[Dataset]:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    answers = list(association.send_c_find(identifier, StudyRootQueryRetrieveInformationModelFind))
    assert answers[-1][0].Status == 0
    return [match for _, match in answers[:-1]]


def _moved(archive: SandboxPacs, association: Association) -> tuple[list[str], Dataset]:
    """What arrives at a receiver of our own, and the final response."""
    arrived: list[str] = []

    def keep(event: Any) -> int:  # noqa: ANN401
        arrived.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    receiver = AE(ae_title="RECEIVER")
    receiver.add_supported_context(CTImageStorage)
    server = Listening(receiver, ("127.0.0.1", 0), [(evt.EVT_C_STORE, keep)], Limits())
    archive.allow("RECEIVER", "127.0.0.1", server.port)
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "SERIES"
    identifier.StudyInstanceUID = INSTANCES[0].StudyInstanceUID
    identifier.SeriesInstanceUID = INSTANCES[0].SeriesInstanceUID
    answers = list(association.send_c_move(identifier, "RECEIVER", StudyRootQueryRetrieveInformationModelMove))
    server.stop()
    return arrived, answers[-1][0]


def test_three_levels_are_answered_with_their_keys() -> None:
    """STUDY by Patient ID, SERIES by study, IMAGE by series; empty keys come back filled."""
    with _archive() as (_, association):
        assert association.send_c_echo().Status == 0
        (study,) = _found(association, "STUDY", PatientID="SIM-1", StudyInstanceUID="", StudyDate="")
        assert study.StudyDate == "20240105"
        (series,) = _found(
            association, "SERIES", StudyInstanceUID=study.StudyInstanceUID, SeriesInstanceUID="", Modality=""
        )
        assert series.Modality == "CT"
        images = _found(
            association,
            "IMAGE",
            StudyInstanceUID=study.StudyInstanceUID,
            SeriesInstanceUID=series.SeriesInstanceUID,
            SOPInstanceUID="",
        )
        assert {image.SOPInstanceUID for image in images} == {one.SOPInstanceUID for one in INSTANCES}
        assert _found(association, "STUDY", PatientID="SIM-2", StudyInstanceUID="") == []


def test_a_move_sends_everything_and_counts_it() -> None:
    """A well-behaved archive sends each image once and says so."""
    with _archive() as (archive, association):
        arrived, final = _moved(archive, association)
    assert sorted(arrived) == sorted(str(one.SOPInstanceUID) for one in INSTANCES)
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0, 4)


@pytest.mark.parametrize(
    ("faults", "images", "status"),
    [
        (PacsFaults(moves_cut=1), 2, 0xB000),
        (PacsFaults(moves_cut=1, says_success=True), 2, 0x0000),
        (PacsFaults(sends_nothing=True), 0, 0x0000),
        (PacsFaults(moves_refused=1), 0, 0xA702),
        (PacsFaults(keeps_back=1), 3, 0x0000),
        (PacsFaults(twin=True), 5, 0x0000),
    ],
)
def test_each_fault_is_on_the_wire(faults: PacsFaults, images: int, status: int) -> None:
    """The switches change what a client sees, not only what the archive thinks."""
    with _archive(faults) as (archive, association):
        arrived, final = _moved(archive, association)
    assert (len(arrived), final.Status) == (images, status)
