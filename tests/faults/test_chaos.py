"""F-01: killed at any moment, the service goes on where it was: nothing lost, nothing twice, nobody else's.

`make chaos CYCLES=1000` is the long run of the same.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adapter.moments import Moment
from tests.faults.chaos import POSTGRESQL, SQLITE, Peers, Schedule, run_schedule, schedules
from tests.peers.postgresql import Postgresql

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]  # real processes, killed for real

CYCLES = 5


def _held(schedule: Schedule, peers: Peers, folder: Path) -> None:
    verdict = run_schedule(schedule, peers, folder, lambda _: None)
    assert verdict.breaches == ()
    assert verdict.cycles == CYCLES
    assert sum(verdict.killed[moment.value] for moment in Moment) >= CYCLES // 2  # the plan did hit


# How unlike ours a server is: it takes the transaction and our ids, or neither.
_PLAIN = pytest.mark.parametrize("plain", [False, True], ids=["with-transactions-and-our-ids", "with-neither"])


@pytest.mark.fault("F-01")
@_PLAIN
def test_one_worker_on_sqlite(tmp_path: Path, plain: bool) -> None:
    """After every plan the EHR holds what one undisturbed look would have written, once, and marked at most once."""
    _held(_of(SQLITE, plain), Peers(), tmp_path)


@pytest.mark.fault("F-01")
@_PLAIN
def test_two_workers_on_postgresql(tmp_path: Path, postgresql: Postgresql, plain: bool) -> None:
    """So it does where two workers share the cases, and each takes over what the other left."""
    _held(_of(POSTGRESQL, plain), Peers(postgresql=postgresql), tmp_path)


def test_a_service_that_loses_changes_is_found_out(tmp_path: Path) -> None:
    """What the judge is for: those of the last cycle alone. Breach: somebody who asked, or the next look, heals it."""
    verdict = run_schedule(replace(_of(SQLITE, plain=False), forgetful=True), Peers(), tmp_path, lambda _: None)
    assert verdict.lost


def _of(database: str, plain: bool) -> Schedule:
    planned = schedules(8 * CYCLES, seed=2, database=database, size=CYCLES)
    return next(one for one in planned if one.transactions is one.own_ids is not plain)
