"""Case files go when their time is over, and nothing else goes with them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from adapter.domain.ids import InstanceUid, PatientId, SeriesUid, StudyUid
from adapter.domain.imaging import SeriesRef
from adapter.domain.outcome import Skipped
from adapter.errors import BadStore, StoreUnavailable
from adapter.pipeline.case_file import CaseFile, SeriesFile, seal
from adapter.pipeline.retention import expire_case_files, forget_patient
from adapter.store.database import open_database
from adapter.store.ledger import Ledger
from adapter.store.vault import Vault

_TODAY = datetime.now(UTC)
_LONG_AGO = _TODAY - timedelta(days=400)
_CUT = _TODAY - timedelta(days=365)


def test_an_expired_case_keeps_its_line_and_loses_its_files(engine: Engine, vault: Vault, tmp_path: Path) -> None:
    """Law 8: the old record goes; what a younger case shares with it, and what nobody settled yet, stays."""
    gone, shared = vault.keep(b"old record"), vault.keep(b"shared record")
    old = Ledger(engine, lambda: _LONG_AGO)
    for patient, record in (("p1", gone), ("p2", shared)):
        old.record(old.request(PatientId(patient)), Skipped(reason="r", detail=""), _case_file(vault, record))
    for path in (tmp_path / "vault").glob("*/*"):
        _age(path)
    young = Ledger(engine, lambda: _TODAY)
    young.record(young.request(PatientId("p2")), Skipped(reason="r", detail=""), _case_file(vault, shared, "m2"))
    running = vault.keep(b"of a case that runs")

    assert expire_case_files(young, vault, _CUT) == 3  # the old record and both old case files
    assert [vault.recall(digest) for digest in (shared, running)] == [b"shared record", b"of a case that runs"]
    with pytest.raises(BadStore):
        vault.recall(gone)
    assert [(entry.case_id, entry.case_file is None) for entry in young.list_cases(patient_id="p1")] == [("p1:1", True)]
    assert expire_case_files(young, vault, _CUT) == 0


def test_a_forgotten_patient_leaves_nothing_and_takes_nothing_of_others(
    ledger: Ledger, vault: Vault, tmp_path: Path
) -> None:
    """The cases and every content go, that of a cut attempt or write too; what another patient's case needs stays."""
    theirs, shared = vault.keep(b"their record"), vault.keep(b"shared")
    ledger.record(ledger.request(PatientId("p1")), Skipped(reason="r", detail=""), _case_file(vault, theirs))
    other = _case_file(vault, shared)
    ledger.record(ledger.request(PatientId("p2")), Skipped(reason="r", detail=""), other)
    cut_short = vault.keep(b"of an attempt that was cut")
    half = next((tmp_path / "vault").glob("*/*")).with_suffix(".0123.tmp")
    half.write_bytes(b"of a write that was cut")

    assert forget_patient(ledger, vault, PatientId("p1")) == (1, 4)
    assert not half.exists()
    assert [entry.patient_id for entry in ledger.list_cases()] == ["p2"]
    assert (vault.recall(shared), vault.recall(other) != b"") == (b"shared", True)
    for gone in (theirs, cut_short):
        with pytest.raises(BadStore):
            vault.recall(gone)


def test_forgetting_leaves_what_an_unfinished_case_holds(
    ledger: Ledger, vault: Vault, engine: Engine, tmp_path: Path
) -> None:
    """Contents that no ledger names yet stay where a case of somebody else is still to be continued."""
    theirs = vault.keep(b"their record")
    ledger.record(ledger.request(PatientId("p1")), Skipped(reason="r", detail=""), _case_file(vault, theirs))
    for path in (tmp_path / "vault").glob("*/*"):
        _age(path)
    running = ledger.request(PatientId("p2"))
    with Session(engine) as session:
        ledger.mark_started(session, running)
        session.commit()
    held = vault.keep(b"of the case that runs")

    assert forget_patient(ledger, vault, PatientId("p1")) == (1, 2)
    assert vault.recall(held) == b"of the case that runs"


def test_what_a_backup_did_not_have_holds_nothing_back(ledger: Ledger, vault: Vault, tmp_path: Path) -> None:
    """A case file or a series that went while the backup was taken: the rest expires, stays and is forgotten."""
    whole, half, lost = vault.keep(b"whole"), vault.keep(b"half"), vault.keep(b"lost")
    series = [vault.keep(seal(_series(vault.keep(content)))) for content in (b"image 1", b"image 2")]
    for patient, record, its_series in (("p1", whole, ()), ("p2", half, tuple(series)), ("p3", lost, ())):
        case_file = CaseFile(record=record, series=its_series, image_notes=(), at=None, practice="p", model="m")
        digest = vault.keep(seal(case_file))
        ledger.record(ledger.request(PatientId(patient)), Skipped(reason="r", detail=""), digest)
    vault.remove([series[0], digest])
    vault.keep(b"of nobody")
    for path in (tmp_path / "vault").glob("*/*"):
        _age(path)

    assert expire_case_files(ledger, vault, _CUT) == 3  # of nobody, of the series that went, of the case that went
    assert [vault.recall(digest) for digest in (whole, half)] == [b"whole", b"half"]
    assert vault.recall(hashlib.sha256(b"image 2").hexdigest()) == b"image 2"
    assert forget_patient(ledger, vault, PatientId("p3")) == (1, 0)
    assert forget_patient(ledger, vault, PatientId("p2")) == (1, 4)
    assert vault.recall(whole) == b"whole"


def test_what_is_damaged_is_not_taken_for_gone(ledger: Ledger, vault: Vault, tmp_path: Path) -> None:
    """Nothing is removed while a case file that is needed does not open: somebody must look."""
    record = vault.keep(b"record")
    case_file = _case_file(vault, record)
    ledger.record(ledger.request(PatientId("p1")), Skipped(reason="r", detail=""), case_file)
    for path in (tmp_path / "vault").glob("*/*"):
        if path.stat().st_size > 100:  # the case file
            path.write_bytes(path.read_bytes()[:-1] + b"?")
        _age(path)
    with pytest.raises(BadStore, match="was altered"):
        expire_case_files(ledger, vault, _CUT)
    assert vault.recall(record) == b"record"


def test_a_patient_with_an_open_case_is_not_forgotten(ledger: Ledger, vault: Vault) -> None:
    """A case that waits or runs would write after it was forgotten: refused by name, nothing removed."""
    theirs = vault.keep(b"their record")
    ledger.record(ledger.request(PatientId("p1")), Skipped(reason="r", detail=""), _case_file(vault, theirs))
    ledger.request(PatientId("p1"))
    with pytest.raises(StoreUnavailable, match="waits or runs"):
        forget_patient(ledger, vault, PatientId("p1"))
    assert vault.recall(theirs) == b"their record"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_database(f"sqlite:///{tmp_path / 'adjuvant.db'}")
    yield opened
    opened.dispose()


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    return Ledger(engine, lambda: _TODAY)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault", bytes(32))


def _case_file(vault: Vault, record: str, model: str = "m1") -> str:
    case_file = CaseFile(record=record, series=(), image_notes=(), at=None, practice="p", model=model)
    return vault.keep(seal(case_file))


def _series(image: str) -> SeriesFile:
    ref = SeriesRef(
        study_uid=StudyUid("1.2"),
        series_uid=SeriesUid("1.2.3"),
        modality="CT",
        acquired=None,
        instance_uids=(InstanceUid("1.2.3.4"),),
    )
    return SeriesFile(ref=ref, files=(image,))


def _age(path: Path) -> None:
    os.utime(path, (_LONG_AGO.timestamp(), _LONG_AGO.timestamp()))
