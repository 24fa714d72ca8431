"""How an id may be written on the command line."""

from __future__ import annotations

import pytest

from adapter.cli.arguments import assessment_of


@pytest.mark.parametrize("written", ["0a1b", "ra-0a1b", "RiskAssessment/ra-0a1b", "RiskAssessment/ra-0a1b/_history/1"])
def test_an_assessment_is_named_as_it_was_copied(written: str) -> None:
    """Law: its id and every reference to it name the same. Breach: `/_history/1` from the ledger was UnknownCase."""
    assert assessment_of(written) == "0a1b"
