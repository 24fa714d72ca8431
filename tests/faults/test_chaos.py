"""F-01: killed at any moment, the service goes on where it was: nothing lost, nothing twice, nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.chaos import chaos

pytestmark = pytest.mark.real  # real processes, killed for real

CYCLES = 7


@pytest.mark.parametrize("seed", [3, 2], ids=["with transactions", "without transactions"])
def test_killed_by_plan_and_left_to_finish(tmp_path: Path, seed: int) -> None:
    """After every plan the EHR holds what one undisturbed look would have written, once, and marked at most once."""
    verdict = chaos(CYCLES, seed, tmp_path)
    assert verdict.held, (verdict.lost, verdict.duplicates, verdict.wrong_patient, verdict.violations)
    assert verdict.cycles == CYCLES
    assert sum(verdict.killed.values()) - verdict.killed["idle"] >= CYCLES // 2  # the plan did hit
