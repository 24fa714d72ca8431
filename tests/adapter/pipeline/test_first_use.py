"""No thread is the first to meet a type: msgspec reads its fields unguarded, and a second thread then crashes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_WALK = """
import sys
from datetime import UTC, datetime
from pathlib import Path

from msgspec import _utils

from adapter.demo import demo_settings
from adapter.domain.outcome import Case, Delivered
from adapter.pipeline.once import STEPS_TO_DELIVERY, assess_once
from adapter.rooms import Rooms
from adapter.sandbox.hospital import SandboxHospital
from adapter.sandbox.patients import simulate_courses
from adapter.terminology import load_terminology

courses = simulate_courses(1, seed=7, today=datetime(2026, 3, 1, tzinfo=UTC))
with SandboxHospital(courses, load_terminology()) as hospital:
    hospital.unfold()
    with Rooms(demo_settings(hospital, Path(sys.argv[1]))) as rooms:
        hospital.archive.allow("ADJUVANT", "127.0.0.1", rooms.archive.port)
        met = []

        def watch(frame, event, _):
            if event == "call" and frame.f_code is _utils.get_class_annotations.__code__:
                met.append(str(frame.f_locals["obj"]))

        sys.setprofile(watch)
        case = Case(patient_id=hospital.patients[0], revision=1)
        _, settled = assess_once(case, rooms.ports, None, STEPS_TO_DELIVERY, wait=lambda _: False)
        sys.setprofile(None)
assert isinstance(settled, Delivered), settled
assert not met, met
"""


@pytest.mark.fault("F-28")
def test_every_type_is_known_before_the_first_case(tmp_path: Path) -> None:
    """Breach: two cases that began together after a start met one type first, and the process ended with SIGSEGV."""
    command = [sys.executable, "-c", _WALK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
