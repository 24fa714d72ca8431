"""F-03 for the PACS: one that keeps failing is left alone, cases wait for it, and the EHR is not affected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapter.breaker import CircuitState
from adapter.domain.ids import PatientId, SeriesUid, StudyUid
from adapter.domain.imaging import DicomPatient, SeriesOnDisk, SeriesRef
from adapter.errors import PeerDown, PeerTimeout, PeerUnavailable, SeriesIncomplete
from adapter.pipeline.guarded import GuardedArchive

_PATIENT = DicomPatient(patient_id="1", issuer=None, birth_date=None, sex=None)
_SERIES = SeriesRef(
    study_uid=StudyUid("1.2"), series_uid=SeriesUid("1.2.3"), modality="CT", acquired=None, instance_uids=()
)
_OWNER = PatientId("p1")


class Archive:
    """A PACS that answers, or raises what it is told to."""

    def __init__(self) -> None:
        """Up, and never asked."""
        self.fault: Exception | None = None
        self.finds = 0
        self.echoes = 0

    def echo(self) -> None:
        """C-ECHO."""
        self.echoes += 1
        if self.fault is not None:
            raise self.fault

    def find_series(self, patient: DicomPatient) -> tuple[SeriesRef, ...]:  # noqa: ARG002 (the port's name)
        """No series."""
        self.finds += 1
        if self.fault is not None:
            raise self.fault
        return ()

    @contextmanager
    def retrieved(
        self,
        patient: DicomPatient,  # noqa: ARG002 (the port's names)
        ref: SeriesRef,
        *,
        owner: PatientId,  # noqa: ARG002
    ) -> Iterator[SeriesOnDisk]:
        """A series without images."""
        if self.fault is not None:
            raise self.fault
        yield SeriesOnDisk(ref=ref, folder=Path(), files=())

    def abandon(self, owner: PatientId) -> None:
        """Never reached."""


def test_an_archive_that_is_down_is_left_alone_and_comes_back_by_itself() -> None:
    """Five failures in a row, then nothing until the rest is over; C-ECHO decides; then work goes on."""
    archive, now = Archive(), [0.0]
    guarded = GuardedArchive(archive, clock=lambda: now[0])
    archive.fault = PeerTimeout("silent")
    for _ in range(5):
        with pytest.raises(PeerTimeout):
            guarded.find_series(_PATIENT)
    for _ in range(3):
        with pytest.raises(PeerDown):
            guarded.find_series(_PATIENT)
    assert (archive.finds, archive.echoes, guarded.circuit().state) == (5, 0, CircuitState.OPEN)
    now[0] = 30.0
    with pytest.raises(PeerDown):
        guarded.find_series(_PATIENT)
    assert (archive.finds, archive.echoes) == (5, 1)
    archive.fault = None
    now[0] = 90.0
    assert guarded.find_series(_PATIENT) == ()
    assert guarded.circuit().state is CircuitState.CLOSED


def test_a_series_that_stays_incomplete_is_one_patients_trouble() -> None:
    """However often the archive owes images, it answers: others are not kept waiting."""
    archive = Archive()
    guarded = GuardedArchive(archive, clock=lambda: 0.0)
    archive.fault = SeriesIncomplete("85 of 88", expected=88, missing=3)
    for _ in range(12):
        with pytest.raises(SeriesIncomplete):
            guarded.find_series(_PATIENT)
    archive.fault = PeerUnavailable("aborted")
    for _ in range(4):
        with pytest.raises(PeerUnavailable):
            guarded.find_series(_PATIENT)
    assert guarded.circuit().state is CircuitState.CLOSED


def test_what_happens_to_images_on_disk_is_not_the_archives_doing() -> None:
    """However often a block ends badly, the archive has answered; it is left alone when it cannot hand them over."""
    archive = Archive()
    guarded = GuardedArchive(archive, clock=lambda: 0.0)
    for _ in range(12):
        with pytest.raises(PeerTimeout), guarded.retrieved(_PATIENT, _SERIES, owner=_OWNER):
            raise PeerTimeout("elsewhere")
    archive.fault = PeerTimeout("silent")
    for _ in range(5):
        with pytest.raises(PeerTimeout), guarded.retrieved(_PATIENT, _SERIES, owner=_OWNER):
            pass
    with pytest.raises(PeerDown), guarded.retrieved(_PATIENT, _SERIES, owner=_OWNER):
        pass
