"""Standing: who is at risk, at which landmark, and why not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.domain.period import Period
from adapter.domain.record import PatientRecord, Quarantined
from adapter.domain.risk import AtRisk, LandmarkKind, NotAtRisk, SkipReason
from adapter.domain.tristate import TriState
from adapter.features.at_risk import LandmarkPolicy, landmarks, standing
from tests.fakes.records import (
    PATHOLOGY_KNOWN,
    SURGERY,
    ZONE,
    additions,
    day,
    diagnosis,
    measured,
    merged,
    moments,
    operated,
    person,
    procedure,
    shuffled,
    with_measurements,
    without,
)

POLICY = LandmarkPolicy()
MONTH = timedelta(days=30)


def at_risk(record: PatientRecord, at: datetime | None = None) -> AtRisk:
    """The standing, which must be at risk."""
    stands = standing(record, POLICY, at)
    assert isinstance(stands, AtRisk), stands
    return stands


def reason(record: PatientRecord, at: datetime | None = None) -> SkipReason:
    """The reason, which must be given."""
    stands = standing(record, POLICY, at)
    assert isinstance(stands, NotAtRisk), stands
    return stands.reason


def test_the_decision_stands_when_surgery_pathology_and_margin_are_known() -> None:
    """The decision landmark is the largest time known among its inputs, not the surgery and not the clock."""
    stands = at_risk(operated())
    assert (stands.kind, stands.landmark.time) == (LandmarkKind.DECISION, PATHOLOGY_KNOWN)
    assert stands.index_surgery.kind == "definitive_resection"


@pytest.mark.parametrize(
    ("feature", "answer"), [("margin_class", "RX"), ("margin_mm", 3.0), ("pT", "pTX"), ("pN", "pNX")]
)
def test_looked_at_and_not_determinable_is_an_answer(feature: str, answer: float | str) -> None:
    """RX, pTX and pNX are final: such a patient is not kept waiting for ever."""
    record = without(operated(), "margin_class") if feature.startswith("margin") else without(operated(), "pT", "pN")
    assert reason(record) is SkipReason.PATHOLOGY_PENDING
    known = measured(feature, answer, known=PATHOLOGY_KNOWN)
    assert at_risk(with_measurements(record, known)).landmark.time == PATHOLOGY_KNOWN


def test_what_follows_within_the_quiet_time_is_the_same_landmark() -> None:
    """Changes less than the quiet time apart chain into one decision, dated by the last of them."""
    chained = [PATHOLOGY_KNOWN + timedelta(minutes=15 * step) for step in (1, 2, 3)]
    record = with_measurements(operated(), *(measured("hgb", 12.0, at=moment) for moment in chained))
    stands = at_risk(record)
    assert (stands.kind, stands.landmark.time) == (LandmarkKind.DECISION, chained[-1])


def test_what_arrives_later_is_a_follow_up() -> None:
    """Material data beyond the quiet time makes a follow-up landmark of its own."""
    later = PATHOLOGY_KNOWN + timedelta(minutes=15, seconds=1)
    stands = at_risk(with_measurements(operated(), measured("hgb", 12.0, at=later)))
    assert (stands.kind, stands.landmark.time) == (LandmarkKind.FOLLOW_UP, later)


def test_a_planned_entry_moves_no_landmark() -> None:
    """An entry dated after it was known is a plan: nothing material happened."""
    planned = procedure("radiotherapy_course", PATHOLOGY_KNOWN + MONTH, known=PATHOLOGY_KNOWN + timedelta(days=1))
    record = replace(operated(), procedures=(*operated().procedures, planned))
    assert at_risk(record).landmark.time == PATHOLOGY_KNOWN


def test_quarantined_data_moves_no_landmark() -> None:
    """What was refused is shown, and is not a reason to assess again."""
    refused = Quarantined(source="Observation/x/_history/1", reason="unknown-unit", detail="hgb")
    assert at_risk(replace(operated(), quarantined=(refused,))) == at_risk(operated())


def test_what_was_entered_in_error_keeps_its_place() -> None:
    """Breach: a result that rests on a withdrawn fact outranks the look without it, for that stood earlier."""
    later = PATHOLOGY_KNOWN + 6 * MONTH
    fact = measured("hgb", 12.0, at=later)
    withdrawn = Quarantined(source=str(fact.source), reason="status", detail="entered-in-error", known=later)
    before = at_risk(with_measurements(operated(), fact))
    after = at_risk(replace(operated(), quarantined=(withdrawn,)))
    assert after.landmark == before.landmark
    assert after.landmark.time == later


def test_standing_earlier_sees_only_what_was_known_then() -> None:
    """Before the pathology arrived the same patient was pending; before surgery, not operated."""
    later = with_measurements(operated(), measured("disease_status", "recurrence", at=PATHOLOGY_KNOWN + MONTH))
    assert reason(later) is SkipReason.ALREADY_RECURRED
    assert at_risk(later, PATHOLOGY_KNOWN).kind is LandmarkKind.DECISION
    assert reason(later, PATHOLOGY_KNOWN - timedelta(seconds=1)) is SkipReason.PATHOLOGY_PENDING
    assert reason(later, SURGERY - timedelta(days=1)) is SkipReason.NO_DEFINITIVE_SURGERY


def test_a_time_without_an_offset_is_refused() -> None:
    """A local time is never taken for UTC."""
    with pytest.raises(ValueError, match="offset"):
        standing(operated(), POLICY, datetime(2025, 1, 1))


@pytest.mark.parametrize("confirmed", [TriState.FALSE, TriState.UNKNOWN])
def test_a_carcinoma_must_be_confirmed(confirmed: TriState) -> None:
    """Refuted is no cancer, and a provisional one counts only where histology bears it out."""
    record = replace(operated(), diagnoses=(diagnosis(confirmed=confirmed),))
    assert reason(record) is SkipReason.NO_PRIMARY_CANCER
    proven = with_measurements(record, measured("histology", "scc_basaloid", at=day(SURGERY)))
    if confirmed is TriState.UNKNOWN:
        assert at_risk(proven).kind is LandmarkKind.DECISION
    else:
        assert reason(proven) is SkipReason.NO_PRIMARY_CANCER


def test_another_histology_is_not_ours() -> None:
    """A confirmed site with a newest histology that is not squamous is not our cancer."""
    record = with_measurements(
        operated(),
        measured("histology", "scc_other", at=SURGERY - MONTH, source="biopsy"),
        measured("histology", "not_scc", at=SURGERY, source="specimen"),
    )
    assert reason(record) is SkipReason.NO_PRIMARY_CANCER


def test_an_unknown_primary_stands() -> None:
    """Cancer of unknown primary is a head and neck carcinoma for standing; the rules send it to the tumour board."""
    record = replace(operated(), diagnoses=(diagnosis(site_group="unknown_primary"),))
    assert at_risk(record).kind is LandmarkKind.DECISION


@pytest.mark.parametrize("kind", ["biopsy", "tracheostomy", "neck_dissection", "re_resection"])
def test_only_a_definitive_resection_starts_the_clock(kind: str) -> None:
    """A biopsy, a tracheostomy or a re-look is not the index surgery."""
    record = replace(operated(), procedures=(procedure(kind),))
    assert reason(record) is SkipReason.NO_DEFINITIVE_SURGERY


@pytest.mark.parametrize("days", [0, 1, 30])
def test_further_resections_within_thirty_days_are_the_same_episode(days: int) -> None:
    """One operation is many Procedure resources; the first of the episode is the index."""
    again = procedure("definitive_resection", SURGERY + timedelta(days=days, hours=-1), source="again")
    record = replace(operated(), procedures=(*operated().procedures, again))
    performed = at_risk(record).index_surgery.performed
    assert performed == min(again.performed, Period.instant(SURGERY))


def test_a_much_later_resection_is_a_new_episode() -> None:
    """The newest episode is assessed; its own pathology is awaited, the old report does not stand in."""
    again = procedure("definitive_resection", SURGERY + timedelta(days=200), source="again")
    record = replace(operated(), procedures=(*operated().procedures, again))
    assert reason(record) is SkipReason.PATHOLOGY_PENDING


def test_a_surgery_dated_to_the_year_has_no_clock() -> None:
    """A partial date is an interval: a month still places the surgery, a year does not."""
    year = Period(earliest=SURGERY - 2 * MONTH, latest=SURGERY + timedelta(days=240))
    vague = replace(operated(), procedures=(procedure("definitive_resection", year, known=PATHOLOGY_KNOWN),))
    assert reason(vague) is SkipReason.SURGERY_DATE_UNKNOWN
    month = Period(earliest=SURGERY - timedelta(days=9), latest=SURGERY + timedelta(days=21))
    record = replace(operated(), procedures=(procedure("definitive_resection", month, known=PATHOLOGY_KNOWN),))
    assert at_risk(record).kind is LandmarkKind.DECISION


def test_a_resection_refused_for_its_date_is_not_called_absent() -> None:
    """A quarantined resection says `date unknown`, and names the resource to correct."""
    refused = Quarantined(source="Procedure/s/_history/2", reason="no-effective-time", detail="definitive_resection")
    stands = standing(replace(operated(), procedures=(), quarantined=(refused,)), POLICY)
    assert stands == NotAtRisk(reason=SkipReason.SURGERY_DATE_UNKNOWN, detail="Procedure/s/_history/2")


@pytest.mark.parametrize(("years", "ours"), [(17, False), (19, True)])
def test_adults_only(years: int, ours: bool) -> None:
    """The model is for adults at surgery."""
    record = replace(operated(), person=person(birth=day(SURGERY - timedelta(days=365 * years + 30))))
    assert isinstance(standing(record, POLICY), AtRisk) is ours


def test_adulthood_must_be_certain() -> None:
    """A birth year that leaves 17 and 18 open is not taken for 18."""
    born = Period(earliest=datetime(2007, 1, 1, tzinfo=ZONE), latest=datetime(2007, 12, 31, tzinfo=ZONE))
    assert reason(replace(operated(), person=person(birth=born))) is SkipReason.UNDER_AGE


def test_the_dead_are_not_assessed_but_were_alive_before() -> None:
    """A death ends standing from its date on, whenever it was recorded."""
    died = day(PATHOLOGY_KNOWN + MONTH)
    record = replace(operated(), person=person(deceased=TriState.TRUE, died=died))
    assert reason(record) is SkipReason.DECEASED
    assert at_risk(record, PATHOLOGY_KNOWN).landmark.time == PATHOLOGY_KNOWN
    assert reason(record, died.latest) is SkipReason.DECEASED


@pytest.mark.parametrize("category", ["recurrence", "local_recurrence", "regional_recurrence", "progression"])
def test_a_recurrence_after_surgery_ends_standing(category: str) -> None:
    """Whoever cannot be called disease-free is no longer at risk of a first recurrence."""
    back = measured("disease_status", category, at=PATHOLOGY_KNOWN + MONTH)
    assert reason(with_measurements(operated(), back)) is SkipReason.ALREADY_RECURRED
    vague = measured("disease_status", category, at=Period(earliest=SURGERY - MONTH, latest=SURGERY + MONTH))
    assert reason(with_measurements(operated(), vague)) is SkipReason.ALREADY_RECURRED


def test_a_recurrence_before_surgery_leaves_the_patient_at_risk() -> None:
    """It makes the surgery a salvage, which the rules send to the tumour board."""
    earlier = measured("disease_status", "recurrence", at=SURGERY - MONTH)
    assert at_risk(with_measurements(operated(), earlier)).kind is LandmarkKind.DECISION


@pytest.mark.parametrize("feature", ["cM", "pM"])
def test_distant_metastasis_is_named_for_when_it_arose(feature: str) -> None:
    """M1 at surgery was never curable; M1 after surgery is a recurrence."""
    at_surgery = measured(feature, f"{feature}1", at=SURGERY - MONTH)
    assert reason(with_measurements(operated(), at_surgery)) is SkipReason.DISTANT_METASTASIS
    afterwards = measured(feature, f"{feature}1", at=PATHOLOGY_KNOWN + MONTH)
    assert reason(with_measurements(operated(), afterwards)) is SkipReason.ALREADY_RECURRED


def test_a_confirmed_metastasis_is_a_diagnosis_too() -> None:
    """A Condition counts as an Observation does; one that was ruled out does not."""
    for confirmed, onset, expected in (
        (TriState.TRUE, None, SkipReason.DISTANT_METASTASIS),
        (TriState.TRUE, day(SURGERY + MONTH), SkipReason.ALREADY_RECURRED),
    ):
        spread = diagnosis("distant_metastasis", confirmed=confirmed, onset=onset)
        assert reason(replace(operated(), diagnoses=(*operated().diagnoses, spread))) is expected
    ruled_out = diagnosis("distant_metastasis", confirmed=TriState.FALSE)
    record = replace(operated(), diagnoses=(*operated().diagnoses, ruled_out))
    assert at_risk(record).kind is LandmarkKind.DECISION


def test_after_five_years_the_model_is_not_asked() -> None:
    """A landmark beyond the follow-up the model knows is refused."""
    late = measured("hgb", 12.0, at=SURGERY + timedelta(days=5 * 366))
    assert reason(with_measurements(operated(), late)) is SkipReason.BEYOND_HORIZON


def test_a_cohort_sees_every_landmark_as_it_stood() -> None:
    """What happened later, recurrence included, hides no earlier landmark."""
    follow_up, relapse = PATHOLOGY_KNOWN + MONTH, PATHOLOGY_KNOWN + 2 * MONTH
    record = with_measurements(
        operated(), measured("hgb", 12.0, at=follow_up), measured("disease_status", "recurrence", at=relapse)
    )
    stood = [(entry.kind, entry.landmark.time) for entry in landmarks(record, POLICY)]
    assert stood == [(LandmarkKind.DECISION, PATHOLOGY_KNOWN), (LandmarkKind.FOLLOW_UP, follow_up)]
    assert landmarks(replace(record, procedures=()), POLICY) == ()


@given(more=additions(moments(PATHOLOGY_KNOWN + timedelta(seconds=1))), data=st.data())
def test_landmark_law_for_standing(more: PatientRecord, data: st.DataObject) -> None:
    """Adding and shuffling what became known after a moment changes nothing about standing at that moment."""
    record = data.draw(shuffled(merged(operated(), more)))
    assert standing(record, POLICY, PATHOLOGY_KNOWN) == standing(operated(), POLICY)


@given(more=additions(moments(SURGERY - timedelta(days=400))), data=st.data())
def test_the_landmark_never_depends_on_order_and_never_on_the_clock(more: PatientRecord, data: st.DataObject) -> None:
    """Any record in any order stands the same, and its landmark is the time one of its entries became known."""
    record = merged(operated(), more)
    stands = standing(record, POLICY)
    assert standing(data.draw(shuffled(record)), POLICY) == stands
    if isinstance(stands, AtRisk):
        assert stands.landmark.time in {entry.known for entry in record.dated()}
        assert standing(record, POLICY, stands.landmark.time) == stands


@given(more=additions(moments(SURGERY - timedelta(days=400))), at=moments(SURGERY))
def test_no_landmark_lies_after_the_moment_it_stands_at(more: PatientRecord, at: datetime) -> None:
    """Standing at a moment never looks ahead of it."""
    stands = standing(merged(operated(), more), POLICY, at)
    assert isinstance(stands, NotAtRisk) or stands.landmark.time <= at


@pytest.mark.parametrize("broken", [{"quiet_time": timedelta(seconds=-1)}, {"adult_years": -1.0}, {"last_year": -1.0}])
def test_a_policy_without_sense_is_refused(broken: dict[str, timedelta | float]) -> None:
    """A negative time, age or follow-up is a mistake in the configuration."""
    with pytest.raises(ValueError, match="negative"):
        LandmarkPolicy(**broken)  # type: ignore[arg-type]


def test_the_same_moment_in_another_zone_is_the_same_landmark() -> None:
    """Offsets are spelling: 20 March 14:00+05:45 is 08:15 UTC."""
    assert at_risk(operated()).landmark.time == datetime(2025, 3, 20, 8, 15, tzinfo=UTC)
