"""Case files go when their time is over, and nothing else goes with them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Skipped
from adapter.errors import BadStore
from adapter.pipeline.case_file import CaseFile, seal
from adapter.pipeline.retention import expire_case_files
from adapter.store.database import open_database
from adapter.store.ledger import Ledger
from adapter.store.vault import Vault

_TODAY = datetime.now(UTC)
_LONG_AGO = _TODAY - timedelta(days=400)
_CUT = _TODAY - timedelta(days=365)


def test_an_expired_case_keeps_its_line_and_loses_its_files(tmp_path: Path) -> None:
    """Law 8: the old record goes; what a younger case shares with it, and what nobody settled yet, stays."""
    engine = open_database(f"sqlite:///{tmp_path / 'adjuvant.db'}")
    vault = Vault(tmp_path / "vault", bytes(32))
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
    engine.dispose()


def _case_file(vault: Vault, record: str, model: str = "m1") -> str:
    case_file = CaseFile(record=record, series=(), image_notes=(), at=None, practice="p", model=model)
    return vault.keep(seal(case_file))


def _age(path: Path) -> None:
    os.utime(path, (_LONG_AGO.timestamp(), _LONG_AGO.timestamp()))
