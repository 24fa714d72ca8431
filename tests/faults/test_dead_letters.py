"""What waits for a person is listed, shown and asked for again from the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case, DeadLetter, Skipped
from adapter.pipeline.work import give_up
from adapter.store.database import open_database
from adapter.store.ledger import Ledger
from tests.fakes.command import run


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A configuration whose peers are never asked."""
    config = tmp_path / "site.toml"
    config.write_text(
        f"""
[fhir]
base_url = "http://127.0.0.1:9/fhir"
[cohort]
patients = ["Patient/p1", "Patient/p2"]
[store]
url = "sqlite:///{tmp_path}/adjuvant.db"
folder = "{tmp_path}"
"""
    )
    return config


def _ledger(engine: Engine) -> Ledger:
    return Ledger(engine, lambda: datetime(2026, 3, 1, tzinfo=UTC))


def _cases(*arguments: str) -> str:
    answered = run("cases", *arguments)
    answered.check_returncode()
    return answered.stdout


def _listed(*arguments: str) -> dict[str, str]:
    return {case["case"]: case["reason"] for case in json.loads(_cases(*arguments))["cases"]}


@pytest.mark.fault("F-28")
def test_a_dead_letter_is_listed_shown_and_asked_for_again(site: Path, tmp_path: Path) -> None:
    """`cases list --state dead-letter`, `cases show`, `cases retry`: the next revision waits, the letter stays told.

    Law: the list and `status` hold what waits for a person. Breach: what was seen to stayed there for ever.
    """
    engine = open_database(f"sqlite:///{tmp_path}/adjuvant.db")
    ledger = _ledger(engine)
    ledger.record(ledger.request(PatientId("p1")), DeadLetter(reason="step-crashed", detail="3 processes ended on it"))
    ledger.record(ledger.request(PatientId("p2")), Skipped(reason="no-surgery", detail=""))
    letters = ("list", "--config", str(site), "--state", "dead-letter", "--json")
    assert _listed(*letters) == {"p1:1": "step-crashed"}
    assert json.loads(_cases("show", "p1:1", "--config", str(site)))["detail"] == "3 processes ended on it"
    assert _cases("retry", "p1", "--config", str(site)) == "asked for p1:2\n"
    assert ledger.unsettled_cases() == (Case(patient_id=PatientId("p1"), revision=2),)
    assert _listed(*letters) == {}
    assert ledger.counts()["dead-letter"] == 0
    assert _listed(*letters, "--all") == _listed(*letters, "--patient", "p1") == {"p1:1": "step-crashed"}
    engine.dispose()


@pytest.mark.fault("F-49", "F-28")
def test_a_case_that_the_engine_lost_is_asked_for_twice_more_and_then_waits_for_a_person(tmp_path: Path) -> None:
    """A full disk or an upgrade at the wrong moment needs nobody; three times in a row is no accident."""
    engine = open_database(f"sqlite:///{tmp_path}/adjuvant.db")
    ledger = _ledger(engine)
    ledger.request(PatientId("p1"))
    for _ in range(3):
        (case,) = ledger.unsettled_cases()
        give_up(case, ledger)
    ends = {entry.case_id: entry.state for entry in ledger.list_cases()}
    assert ends == {"p1:1": "skipped", "p1:2": "skipped", "p1:3": "dead-letter"}
    assert ledger.unsettled_cases() == ()
    engine.dispose()
