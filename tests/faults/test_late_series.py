"""F-15: images that come after the look that missed them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapter.sandbox.hospital import SandboxHospital
from adapter.sandbox.patients import CourseKind, simulate_course
from adapter.service import Service
from adapter.terminology import load_terminology
from tests.faults.hospitals import PretendHospital
from tests.faults.workers import Worker


@pytest.mark.fault("F-15", "F-10")
def test_the_next_look_takes_what_came_later_and_both_looks_are_told(tmp_path: Path) -> None:
    """The first abstains with the counts, the second delivers; neither changes what the ledger says of the other."""
    course = simulate_course(CourseKind.IMAGES_INCOMPLETE, 1, seed=7, today=datetime(2026, 1, 1, tzinfo=UTC))
    with SandboxHospital([course], load_terminology()) as sandbox:
        sandbox.unfold()
        url = f"sqlite:///{tmp_path}/adjuvant.db"
        settings = Worker(0, PretendHospital(sandbox), tmp_path, url, sandbox.ehr.base_url).settings
        impatient = settings.watch.model_copy(update={"attempts": 1})
        with Service(settings.model_copy(update={"watch": impatient})) as service:
            assert service.run_until_settled(120)
            ledger = service.rooms.store.ledger
            (first,) = ledger.list_cases()
            assert (first.state, first.reason) == ("abstained", "series-incomplete")
            sandbox.archive.release()
            ledger.request(sandbox.patients[0])
            service.look_for_work()
            assert service.queue.wait_until_idle(120)
            second, unchanged = ledger.list_cases()
    assert unchanged == first
    assert second.state == "delivered"
