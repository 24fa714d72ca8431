"""Every fault of the list has a test or a reason, and the page says what was seen."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.faults.reliability import ALL_FAULTS, marked_faults, read_faults, read_run, render

_TESTS = Path(__file__).parents[1]


def test_every_fault_has_a_test_or_a_reason() -> None:
    """F-01 to F-50, each once: with evidence where a test carries its number, with a reason where none does."""
    rows = read_faults()
    assert Counter(row.id for row in rows) == Counter(ALL_FAULTS)
    assert {row.id for row in rows if row.evidence} == set(marked_faults(_TESTS))
    assert all(row.here for row in rows)


_SUITE = """<testsuites><testsuite name="pytest" timestamp="2026-11-28T16:40:00.1+00:00">
<testcase classname="tests.adapter.test_a" name="test_one_holds[x]"><properties><property name="fault" value="F-01"/>
</properties></testcase>
<testcase classname="tests.adapter.test_a" name="test_one_holds[y]"><properties><property name="fault" value="F-01"/>
</properties><skipped message="no server"/></testcase>
<testcase classname="tests.adapter.test_a" name="test_another"><properties><property name="fault" value="F-02"/>
<property name="fault" value="F-03"/></properties><error message="tear-down"/><failure message="no"/></testcase>
<testcase classname="tests.test_b" name="test_of_no_fault"/>
</testsuite></testsuites>"""


def test_the_page_tells_what_failed_and_what_was_skipped(tmp_path: Path) -> None:
    """A skipped test is no evidence, and is not counted as if it were."""
    (tmp_path / "fast.xml").write_text(_SUITE)
    page = render(read_faults(), [read_run(tmp_path / "fast.xml")])
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| F-")}
    assert set(rows) == set(ALL_FAULTS)
    assert "`adapter/test_a.py` one holds: 1 passed, 1 skipped" in rows["F-01"]
    assert all("`adapter/test_a.py` another: 1 failed" in rows[fault] for fault in ("F-02", "F-03"))
    assert "1 failed, 2 passed, 1 skipped on 2026-11-28" in page
