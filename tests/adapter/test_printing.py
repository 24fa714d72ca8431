"""What commands print: cases with how far they got, a comparison with every finding, and the same for machines."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from adapter.checkup import Finding
from adapter.domain.ids import PatientId
from adapter.domain.outcome import Skipped
from adapter.engine.queue import STEPS
from adapter.pipeline.reconcile import Found, Reconciliation
from adapter.printing import case_row, findings_row, print_cases, reconciliation_lines, reconciliation_row, report
from adapter.store.cases import DELIVERED, SKIPPED, TERMINAL
from adapter.store.database import open_database, store_session
from adapter.store.ledger import Ledger, LedgerEntry

_NOW = datetime(2026, 11, 28, 14, 5, tzinfo=UTC)

_ASSESSMENT = "0123456789abcdef" * 2
_DELIVERED = LedgerEntry(
    case_id="p1:1",
    patient_id="p1",
    revision=1,
    state=DELIVERED,
    reason="",
    detail="marked as superseded: RiskAssessment/ra-0/_history/2",
    assessment_id=_ASSESSMENT,
    case_file="digest",
    resources=(f"RiskAssessment/ra-{_ASSESSMENT}/_history/1", f"CarePlan/cp-{_ASSESSMENT}/_history/1"),
    asked=_NOW,
    started=_NOW,
    settled=_NOW,
    begun_after=4,
    crashes=0,
)
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
    orphaned = case_row(ledger.find_case("orphaned:1") or pytest.fail("it is there"))
    database.dispose()
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert rows["ended:1"].split()[1:] == ["skipped", "2026-11-28", "14:05Z", "deceased"]
    assert rows["fetching:1"].split()[1:] == ["running", "2026-11-28", "14:05Z", "retrieve"]
    assert rows["orphaned:1"].rstrip().endswith("to be gone on with; workers that died in it: 1")
    assert "14:05Z" not in rows["waiting:1"], "it has been waiting since the database's clock says"
    assert (orphaned["step"], orphaned["crashes"]) == (None, 1)


def test_what_a_person_looks_up_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """A line per case; case, state, reason and assessment whole. Breach: `no-definitive-s…`, `RiskAssessment/r…`."""
    detail = "an archive's long story " * 20
    refused = replace(
        _DELIVERED, case_id=f"{'p' * 64}:12", state=SKIPPED, reason="no-definitive-surgery", detail=detail
    )
    print_cases([_DELIVERED, refused])
    _, delivered, skipped = capsys.readouterr().out.splitlines()
    assert delivered.split() == ["p1:1", "delivered", "2026-11-28", "14:05Z", _ASSESSMENT]
    assert skipped.startswith(f"{'p' * 64}:12  skipped ")
    assert skipped.endswith(f"no-definitive-surgery: {detail}".rstrip())


def test_a_line_fits_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """Breach: one delivered case took eight lines."""
    print_cases([replace(_DELIVERED, case_id="patient-01:1")])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_no_case_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Breach: a lone header, as of a command that was cut off."""
    print_cases([])
    assert capsys.readouterr().out == "no case\n"


def test_times_are_utc_whatever_the_database_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """Breach: the hour of PostgreSQL's own time zone with a Z behind it."""
    there = _NOW.astimezone(timezone(timedelta(hours=5, minutes=45)))
    entry = replace(_DELIVERED, settled=there)
    assert case_row(entry)["ended"] == "2026-11-28T14:05:00+00:00"
    print_cases([entry])
    assert "2026-11-28 14:05Z" in capsys.readouterr().out


def test_machines_read_of_a_case_what_people_read() -> None:
    """Breach: without the detail and the times, a script had to ask for each case by itself."""
    row = case_row(_DELIVERED)
    assert (row["detail"], row["assessment"]) == (_DELIVERED.detail, _ASSESSMENT)
    assert (row["asked"], row["started"], row["ended"]) == ("2026-11-28T14:05:00+00:00",) * 3


def test_a_report_counts_each_end_under_the_word_of_its_state() -> None:
    """Breach: `dead_letter` here, `dead-letter` in `status --json` and in each case below."""
    counted = report([replace(_DELIVERED, state=state) for state in TERMINAL], 0.5)
    assert {state: counted[state] for state in TERMINAL} == dict.fromkeys(TERMINAL, 1)
    assert counted["settled"] == len(TERMINAL)


def test_a_check_passes_as_a_whole_or_not() -> None:
    """Breach: a script had to go through every line, and could not tell a peer that is away from a wrong setting."""
    fine = Finding(what="model", passed=True, detail="")
    away = Finding(what="EHR", passed=False, detail="PeerUnavailable", unreachable=True)
    assert findings_row([fine])["passed"] is True
    assert findings_row([fine, away]) == {
        "passed": False,
        "checks": [
            {"what": "model", "passed": True, "unreachable": False, "detail": ""},
            {"what": "EHR", "passed": False, "unreachable": True, "detail": "PeerUnavailable"},
        ],
    }
