"""An assessment is replayed from whichever of its cases today's settings decided; else what differs is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from adapter.decision.policy import load_policy
from adapter.domain.outcome import Case, Delivered
from adapter.errors import BadStore
from adapter.fhir.delivery import OutputMode
from adapter.pipeline.once import STEPS_TO_DELIVERY, assess_once
from adapter.pipeline.ports import DecisionPorts
from adapter.pipeline.practice import Practice
from adapter.pipeline.replay import replay, replayable
from adapter.rooms import Rooms
from adapter.sandbox.hospital import SandboxHospital
from adapter.sandbox.patients import CourseKind, simulate_courses
from adapter.terminology import load_terminology
from tests.fakes.sites import without_archive

_TODAY = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def hospital() -> Iterator[SandboxHospital]:
    """One patient, everything known."""
    course = next(one for one in simulate_courses(12, seed=7, today=_TODAY) if one.kind is CourseKind.HIGH)
    with SandboxHospital([course], load_terminology()) as running:
        running.unfold()
        yield running


@pytest.fixture(scope="module")
def rooms(hospital: SandboxHospital, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooms]:
    """Without an archive."""
    with Rooms(without_archive(hospital, tmp_path_factory.mktemp("site"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def delivered(hospital: SandboxHospital, rooms: Rooms) -> tuple[str, str]:
    """One assessment that two cases delivered, the second in another time zone: their case files, newest first."""
    ids = set()
    for revision, zone in enumerate(("Europe/Berlin", "Asia/Kathmandu"), start=1):
        case, ports = (
            Case(patient_id=hospital.patients[0], revision=revision),
            replace(rooms.ports, practice=_in(rooms, zone)),
        )
        result, settled = assess_once(case, ports, None, STEPS_TO_DELIVERY, wait=lambda _: False)
        assert isinstance(settled, Delivered)
        assert result is not None
        rooms.store.ledger.record(case, settled, result.case_file)
        ids.add(settled.receipt.assessment_id)
    (assessment_id,) = ids
    newest, first = (entry.case_file for entry in rooms.store.ledger.find_deliveries(assessment_id))
    assert newest is not None
    assert first is not None
    return newest, first


def _in(rooms: Rooms, zone: str) -> Practice:
    practice = rooms.ports.practice
    return replace(practice, reading=replace(practice.reading, zone=ZoneInfo(zone)))


def _today(rooms: Rooms, practice: Practice) -> DecisionPorts:
    return DecisionPorts(files=rooms.ports.files, predictor=rooms.ports.predictor, practice=practice)


@pytest.mark.parametrize(("zone", "chosen"), [("Asia/Kathmandu", 0), ("Europe/Berlin", 1)])
def test_the_case_that_todays_settings_decided_is_replayed(
    rooms: Rooms, delivered: tuple[str, str], zone: str, chosen: int
) -> None:
    """Breach: the first case was taken and refused, though a later one delivered the same under today's settings.

    Nor does the newest hide an older one, where a setting was put back.
    """
    ports = _today(rooms, _in(rooms, zone))
    case_file = replayable(delivered, ports)
    assert case_file == delivered[chosen]
    assert replay(case_file, ports).identical


def test_where_no_case_can_be_replayed_the_newest_says_why(rooms: Rooms, delivered: tuple[str, str]) -> None:
    """The tables are the same, so that it must be a setting; the settings that count are named."""
    ports = _today(rooms, _in(rooms, "UTC"))
    assert replayable(delivered, ports) == delivered[0]
    with pytest.raises(BadStore, match=r"under practice .* other than today: a setting: .*fhir\.time_zone"):
        replay(delivered[0], ports)


def test_tables_and_mode_that_differ_are_named(rooms: Rooms, delivered: tuple[str, str]) -> None:
    """Breach: twelve hexadecimal digits, and an operator who is to guess which of four things they stand for."""
    for changed, words in (
        ({"policy": load_policy()}, "other than today: rules of the policy"),
        ({"mode": OutputMode.DEMO}, "other than today: mode"),
        ({"policy": load_policy(), "mode": OutputMode.DEMO}, "other than today: rules of the policy, mode"),
    ):
        with pytest.raises(BadStore) as refused:
            replay(delivered[0], _today(rooms, replace(rooms.ports.practice, **changed)))
        assert str(refused.value).endswith(words)
