"""Simulated courses: plausible, repeatable, and each what its kind says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from adapter.domain.record import Measurement
from adapter.domain.risk import AtRisk, LandmarkKind, NotAtRisk, SkipReason
from adapter.features.at_risk import LandmarkPolicy, landmarks, standing
from adapter.sandbox.patients import UNITS, CourseKind, SimulatedCourse, simulate_course, simulate_courses
from adapter.terminology import load_terminology

TODAY = datetime(2026, 3, 1, 17, 30, tzinfo=UTC)
POLICY = LandmarkPolicy()
COURSES = {course.kind: course for course in simulate_courses(12, seed=7, today=TODAY)}


def category(course: SimulatedCourse, feature: str) -> float | str | None:
    """The one answer a course gives; None without one."""
    found = {entry.value for entry in course.record.measurements if entry.feature == feature}
    assert len(found) <= 1
    return found.pop() if found else None


def test_the_first_twelve_patients_are_one_of_each_kind() -> None:
    """A demo of twelve shows everything the sandbox can show."""
    assert list(COURSES) == list(CourseKind)


def test_the_same_seed_gives_the_same_patients() -> None:
    """Repeatable from the seed, whatever the number drawn; another seed gives others."""
    assert simulate_courses(5, seed=7, today=TODAY) == simulate_courses(30, seed=7, today=TODAY)[:5]
    assert simulate_courses(5, seed=8, today=TODAY) != simulate_courses(5, seed=7, today=TODAY)


def test_a_today_without_offset_is_refused() -> None:
    """A local time is never taken for UTC."""
    with pytest.raises(ValueError, match="offset"):
        simulate_courses(1, seed=1, today=datetime(2026, 3, 1))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (CourseKind.RECURRED, SkipReason.ALREADY_RECURRED),
        (CourseKind.PATHOLOGY_PENDING, SkipReason.PATHOLOGY_PENDING),
        (CourseKind.NO_SURGERY, SkipReason.NO_DEFINITIVE_SURGERY),
        (CourseKind.SALIVARY, SkipReason.NO_PRIMARY_CANCER),
        (CourseKind.DECEASED, SkipReason.DECEASED),
    ],
)
def test_who_is_not_to_be_assessed_says_why(kind: CourseKind, expected: SkipReason) -> None:
    """The awkward courses end skipped, each with its own reason."""
    stands = standing(COURSES[kind].record, POLICY)
    assert isinstance(stands, NotAtRisk)
    assert stands.reason is expected


@pytest.mark.parametrize(
    "kind",
    [
        CourseKind.HIGH,
        CourseKind.INTERMEDIATE,
        CourseKind.LOW,
        CourseKind.MISSING_ENE,
        CourseKind.BAD_LAB_UNIT,
        CourseKind.MERGED,
        CourseKind.IMAGES_INCOMPLETE,
        CourseKind.RECURRED,
        CourseKind.DECEASED,
    ],
)
def test_every_operated_course_has_a_decision_and_later_landmarks(kind: CourseKind) -> None:
    """Also those who recurred or died later were once at risk, at a decision two weeks after surgery."""
    stood = landmarks(COURSES[kind].record, POLICY)
    assert [entry.kind for entry in stood[:2]] == [LandmarkKind.DECISION, LandmarkKind.FOLLOW_UP]
    since = stood[0].landmark.time - stood[0].index_surgery.performed.latest
    assert timedelta(days=6) < since < timedelta(days=12)


def test_the_specimens_are_what_their_kind_says() -> None:
    """High by extranodal extension, intermediate and low without, and one that nobody reported."""
    assert category(COURSES[CourseKind.HIGH], "ene_path") == "macro"
    assert category(COURSES[CourseKind.RECURRED], "margin_class") == "R1"
    assert category(COURSES[CourseKind.INTERMEDIATE], "ene_path") == "negative"
    assert category(COURSES[CourseKind.LOW], "pN") == "pN0"
    assert category(COURSES[CourseKind.MISSING_ENE], "ene_path") is None


def test_one_series_never_arrives_whole() -> None:
    """The archive lists more images than it ever sends, in that course only."""
    for kind, course in COURSES.items():
        assert bool(course.ct_series) is (course.kind is not CourseKind.MERGED)
        assert all((series.withheld > 0) is (kind is CourseKind.IMAGES_INCOMPLETE) for series in course.ct_series)
        assert {series.study_uid for series in course.ct_series} == {study.study_uid for study in course.record.imaging}


def test_nothing_is_known_before_it_was_true_or_after_today() -> None:
    """Every entry has happened when it becomes known, and the newest lies within the last two weeks of a course."""
    for course in simulate_courses(40, seed=3, today=TODAY):
        for entry in course.record.dated():
            assert entry.known < TODAY
            if isinstance(entry, Measurement):
                assert entry.effective.latest <= entry.known


def test_events_are_in_order_and_cover_everything_once() -> None:
    """Showing event by event ends with the whole record, and nothing is shown twice but the Patient at a death."""
    for course in COURSES.values():
        times = [event.time for event in course.events]
        assert times == sorted(set(times))
        shown = [source for event in course.events for source in event.sources]
        patient = course.record.person.source
        assert set(shown) == {patient} | {entry.source for entry in course.record.dated()}
        assert [shown.count(source) for source in set(shown) - {patient}] == [1] * (len(set(shown)) - 1)
        assert shown.count(patient) == (2 if course.kind is CourseKind.DECEASED else 1)


def test_numbers_lie_within_the_limits_of_the_tables() -> None:
    """Every number is inside the hard limits, in the canonical unit, for a crowd of patients."""
    features = load_terminology().features
    for course in simulate_courses(60, seed=11, today=TODAY):
        for entry in course.record.measurements:
            if isinstance(entry.value, float):
                limits = features[entry.feature].hard
                assert UNITS[entry.feature] == features[entry.feature].unit
                assert limits is None or limits[0] <= entry.value <= limits[1], entry.feature


def test_blood_counts_are_coherent() -> None:
    """The white cells add up, and haemoglobin, red cells and their indices agree."""
    for course in COURSES.values():
        by_moment: dict[datetime, dict[str, float]] = {}
        for entry in course.record.measurements:
            if isinstance(entry.value, float):
                by_moment.setdefault(entry.known, {})[entry.feature] = entry.value
        for count in by_moment.values():
            if "wbc" in count:
                white = sum(count[name] for name in ("neut", "lymph", "mono", "eos", "baso"))
                assert white == pytest.approx(count["wbc"], abs=0.02)
                assert count["rbc"] * count["mch"] / 10 == pytest.approx(count["hgb"], abs=0.2)


def test_patients_are_adults_of_either_sex_and_three_sites() -> None:
    """A crowd looks like a crowd."""
    crowd = simulate_courses(60, seed=5, today=TODAY)
    assert {course.record.person.sex for course in crowd} == {"male", "female"}
    sites = {entry.site_group for course in crowd for entry in course.record.diagnoses}
    assert sites == {"oral_cavity", "larynx", "hypopharynx"}
    assert len({course.record.person.patient_id for course in crowd}) == 60
    assert all(isinstance(standing(c.record, POLICY), AtRisk) for c in crowd if c.kind is CourseKind.HIGH)


def test_a_single_course_can_be_asked_for() -> None:
    """Tests and the engineer at the sandbox ask for one kind by name."""
    course = simulate_course(CourseKind.LOW, 3, seed=7, today=TODAY.replace(hour=0, minute=0))
    assert course == COURSES[CourseKind.LOW]
