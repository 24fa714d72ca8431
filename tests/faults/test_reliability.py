"""Every fault of the list has a test or a reason, and the page says what was seen."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.faults.reliability import ALL_FAULTS, Recorder, marked_faults, read_faults, render

_TESTS = Path(__file__).parents[1]


def test_every_fault_has_a_test_or_a_reason() -> None:
    """F-01 to F-50, each once: with evidence where a test carries its number, with a reason where none does."""
    rows = read_faults()
    assert Counter(row.id for row in rows) == Counter(ALL_FAULTS)
    assert {row.id for row in rows if row.evidence} == set(marked_faults(_TESTS))
    assert all(row.here for row in rows)


def test_the_page_tells_what_failed_and_what_was_skipped() -> None:
    """A skipped test is no evidence, and is not counted as if it were."""
    recorder = Recorder(
        faults_of={"tests/a.py::test_one_holds[x]": ("F-01",), "tests/a.py::test_one_holds[y]": ("F-01",)},
        outcomes={"tests/a.py::test_one_holds[x]": "passed", "tests/a.py::test_one_holds[y]": "skipped"},
    )
    page = render(read_faults(), recorder.faults_of, recorder.outcomes)
    assert "`a.py` one holds: 1 passed, 1 skipped" in page
    assert page.count("\n| F-") == len(ALL_FAULTS)
