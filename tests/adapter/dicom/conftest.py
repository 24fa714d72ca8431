"""A pretend archive, our door to it, and one small series."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from adapter.dicom.ae import Archive
from adapter.dicom.limits import Limits
from adapter.dicom.pacs import Pacs
from adapter.dicom.storage_scp import Listener
from adapter.domain.ids import AETitle
from adapter.domain.imaging import DicomPatient
from adapter.sandbox.ct import CtOptions, simulated_ct
from adapter.sandbox.pacs import PacsFaults, SandboxPacs

OURS = AETitle("ADJUVANT")
PATIENT = DicomPatient(patient_id="SIM-1", birth_date="19600101", sex="M")
OPTIONS = CtOptions(patient_id="SIM-1", birth_date="19600101", sex="M", slices=6, rows=16, columns=16)
HURRIED = Limits(quiet_seconds=0.1, series_seconds=20, answer_seconds=3, association_seconds=3, free_bytes=0)


@dataclass(frozen=True, slots=True)
class Hospital:
    """A running archive and our open door to it."""

    archive: SandboxPacs
    pacs: Pacs
    folder: Path


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Callable[..., Hospital]]:
    """Build an archive with these faults, holding these instances, and our door to it."""
    with ExitStack() as stack:

        def build(
            faults: PacsFaults | None = None, instances: tuple[Dataset, ...] | None = None, limits: Limits = HURRIED
        ) -> Hospital:
            archive = stack.enter_context(SandboxPacs(faults))
            archive.add(simulated_ct(OPTIONS) if instances is None else instances)
            asked = Archive(
                host="127.0.0.1",
                port=archive.port,
                ae_title=AETitle(archive.ae_title),
                calling_ae_title=OURS,
                limits=limits,
            )
            listener = Listener(ae_title=OURS, bind="127.0.0.1", port=0, callers=(AETitle(archive.ae_title),))
            pacs = stack.enter_context(Pacs(asked, listener, folder=tmp_path / "series", zone=UTC))
            archive.allow(OURS, "127.0.0.1", pacs.port)
            return Hospital(archive, pacs, tmp_path / "series")

        yield build
