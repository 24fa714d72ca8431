"""What commands print: cases with how far they got, a comparison with every finding, and the same for machines."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Skipped
from adapter.engine.queue import STEPS
from adapter.pipeline.reconcile import Found, Reconciliation
from adapter.printing import case_in_full, print_cases, reconciliation_lines, reconciliation_row
from adapter.store.database import open_database, store_session
from adapter.store.ledger import Ledger

_NOW = datetime(2026, 11, 28, 14, 5, tzinfo=UTC)

_MISSING = Found(patient_id=PatientId("p1"), what="result-missing", case_id="p1:2", detail="RiskAssessment/ra-1")
_DIFFERS = Found(patient_id=PatientId("p2"), what="differs", case_id="p2:5", new=1, changed=0, deleted=2)


def test_a_missing_result_is_no_record_that_differs() -> None:
    """The operator reads what the EHR has lost apart from what it has changed."""
    lines = reconciliation_lines([Reconciliation(name="n", compared=12, unasked=3, found=[_MISSING, _DIFFERS])])
    assert lines == [
        "Patient/p1 result-missing (RiskAssessment/ra-1); asked for p1:2",
        "Patient/p2 differs: 1 new, 0 changed, 2 gone; asked for p2:5",
        "12 records compared, 1 differ, 1 without its result, 0 have an open case, 3 whose result cannot be asked for",
    ]


def test_dead_letters_are_counted_with_the_command_that_shows_them() -> None:
    """Breach: "0 differ" over a patient who waits for a person since a month."""
    assert reconciliation_lines([Reconciliation(name="n", compared=2, dead_letters=1)]) == [
        "2 records compared, 0 differ, 0 have an open case",
        "1 ended as a dead letter: adjuvant cases list --state dead-letter",
    ]


def test_machines_get_the_same() -> None:
    """Of all rounds together: the rest of one that was cut, and the one that was asked for."""
    cut = Reconciliation(name="m", compared=1, dead_letters=1, found=[_MISSING])
    row = reconciliation_row([cut, Reconciliation(name="n", compared=2, unasked=1, dead_letters=2)], 0.5)
    assert {name: row[name] for name in ("compared", "missing", "unasked", "dead_letters")} == {
        "compared": 3, "missing": 1, "unasked": 1, "dead_letters": 3,
    }  # fmt: skip
    assert row["found"] == [
        {"patient": "p1", "what": "result-missing", "detail": "RiskAssessment/ra-1", "new": None, "changed": None,
         "deleted": None, "case": "p1:2"}
    ]  # fmt: skip


def test_a_case_that_is_stuck_says_where_and_since_when(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Breach: `running` alone, and nobody knows whether the EHR, the PACS or the model is waited for."""
    database = open_database(f"sqlite:///{tmp_path}/adjuvant.db")
    ledger = Ledger(database, lambda: _NOW)
    cases = {name: ledger.request(PatientId(name)) for name in ("ended", "fetching", "orphaned", "waiting")}
    ledger.record(cases["ended"], Skipped(reason="deceased", detail=""))
    with store_session(database) as session:
        for name in ("fetching", "orphaned"):
            ledger.mark_started(session, cases[name])
        session.commit()
    ledger.begin_step(cases["fetching"], 1 + STEPS.index("retrieve"))
    ledger.begin_step(cases["orphaned"], 1)
    ledger.count_crash(cases["orphaned"], 1)
    print_cases(ledger.list_cases())
    orphaned = case_in_full(ledger.find_case("orphaned:1") or pytest.fail("it is there"))
    database.dispose()
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert rows["ended:1"].split()[1:] == ["skipped", "2026-11-28", "14:05:00Z", "deceased"]
    assert rows["fetching:1"].split()[1:] == ["running", "2026-11-28", "14:05:00Z", "retrieve"]
    assert rows["orphaned:1"].rstrip().endswith("to be gone on with; workers that died in it: 1")
    assert "14:05:00Z" not in rows["waiting:1"], "it has been waiting since the database's clock says"
    assert (orphaned["step"], orphaned["crashes"]) == (None, 1)
