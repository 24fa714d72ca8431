"""What a comparison of all records prints: every finding, what a person has to do, and the same for machines."""

from __future__ import annotations

from adapter.domain.ids import PatientId
from adapter.pipeline.reconcile import Found, Reconciliation
from adapter.printing import reconciliation_lines, reconciliation_row

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
