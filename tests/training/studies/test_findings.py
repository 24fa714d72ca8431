"""Pages say what was measured, failures included, and say it the same way twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.studies.findings import Findings, Gate, Table, as_markdown, within, write_findings, write_overview

_FINDINGS = Findings(
    slug="example",
    title="An example",
    data="0" * 64,
    paragraphs=("A sentence.",),
    gates=(within("slope", 1.2, (0.9, 1.1)), Gate(name="C", wanted=">= 0.7", measured=0.71, passed=True)),
    tables=(Table(caption="Numbers", header=("name", "value"), rows=(("one", 0.12345), ("none", None))),),
)


def test_a_failed_gate_is_published() -> None:
    """The page names the gate, what was wanted, what was measured, and that it fails."""
    page = as_markdown(_FINDINGS)
    assert "| slope | 0.9-1.1 | 1.200 | **fails** |" in page
    assert "| C | >= 0.7 | 0.710 | holds |" in page


def test_what_is_absent_is_a_dash_not_a_zero() -> None:
    """None is printed as a dash, a number with three decimals."""
    page = as_markdown(_FINDINGS)
    assert "| one | 0.123 |" in page
    assert "| none | - |" in page


def test_writing_twice_writes_the_same(tmp_path: Path) -> None:
    """Markdown and JSON hold no time and no machine: the same findings are the same bytes."""
    for folder in ("a", "b"):
        write_findings(tmp_path / folder, _FINDINGS)
        write_overview(tmp_path / folder, ["example", "absent"])
    for name in ("example.md", "example.json", "README.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert "| [An example](example.md) | slope |" in (tmp_path / "a" / "README.md").read_text()
    assert json.loads((tmp_path / "a" / "example.json").read_text())["gates"][0]["passed"] is False


@pytest.mark.parametrize(("measured", "passed"), [(0.9, True), (1.1, True), (0.899, False), (1.101, False)])
def test_limits_belong_to_the_gate(measured: float, passed: bool) -> None:
    """0.9 to 1.1 includes both ends and nothing beyond."""
    assert within("slope", measured, (0.9, 1.1)).passed is passed
