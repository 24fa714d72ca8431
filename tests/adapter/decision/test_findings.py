"""From timeline and case file to findings: intervals for doubt, nothing from silence, refusal by name."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from adapter.decision.findings import findings_at, findings_given
from adapter.decision.policy import load_policy
from adapter.decision.rules import CodedFinding, Finding, NumericFinding
from adapter.domain.period import Period, years_between
from adapter.domain.record import Comparator, Diagnosis
from adapter.domain.tristate import TriState
from adapter.errors import UnusableInput
from tests.fakes.postoperative import LANDMARK, SURGERY, ZONE, measured, timeline, version

_POLICY = load_policy()


def _number(finding: Finding | None) -> tuple[float, float]:
    assert isinstance(finding, NumericFinding)
    return finding.low, finding.high


def _category(finding: Finding | None) -> frozenset[str]:
    assert isinstance(finding, CodedFinding)
    return finding.categories


def test_clearance_follows_cockcroft_and_gault() -> None:
    """A man of 60 with 72 kg and 88.42 umol/L (1 mg/dL) has 80 mL/min; a woman 85 % of it."""
    man = {"age_at_surgery": 60, "weight": 72, "creatinine": 88.42, "sex": "male"}
    low, high = _number(findings_given(man, LANDMARK, _POLICY)["crcl_cg"])
    assert low == high == pytest.approx(80.0)
    woman = findings_given({**man, "sex": "female"}, LANDMARK, _POLICY)
    assert _number(woman["crcl_cg"])[0] == pytest.approx(68.0)


def test_clearance_without_a_sex_spans_both() -> None:
    """Where the sex is unknown, the clearance is an interval, not a guess."""
    given = {"age_at_surgery": 60, "weight": 72, "creatinine": 88.42}
    assert _number(findings_given(given, LANDMARK, _POLICY)["crcl_cg"]) == pytest.approx((68.0, 80.0))


def test_a_contradicting_clearance_widens_the_interval() -> None:
    """A clearance that was given and one that follows from creatinine are both kept in view."""
    given = {"age_at_surgery": 60, "weight": 72, "creatinine": 88.42, "sex": "male", "crcl_cg": 50}
    assert _number(findings_given(given, LANDMARK, _POLICY)["crcl_cg"]) == pytest.approx((50.0, 80.0))


def test_weight_loss_counts_from_the_last_weight_before_the_operation() -> None:
    """80 kg before and 72 kg now is a loss of 10 percent; a gain is none; without a weight before, nothing is said."""
    before, early = (
        replace(
            measured("weight", kilograms, SURGERY - timedelta(days=days)), source=version("Observation", f"w{days}")
        )
        for kilograms, days in ((80.0, 2), (90.0, 60))
    )
    for now, lost in ((72.0, 10.0), (84.0, 0.0)):
        newest = measured("weight", now, LANDMARK - timedelta(days=1))
        found = findings_at(replace(timeline(), measurements=(early, before, newest)), _POLICY)["weight_loss_pct"]
        assert _number(found) == pytest.approx((lost, lost))
        assert isinstance(found, NumericFinding)
        assert found.age_days == pytest.approx(1.0)
    alone = replace(timeline(), measurements=(measured("weight", 72.0, LANDMARK - timedelta(days=1)),))
    assert "weight_loss_pct" not in findings_at(alone, _POLICY)


def test_body_mass_index_follows_from_weight_and_height() -> None:
    """72 kg at 180 cm are 22.2; an index that was given stands."""
    given = {"weight": 72, "height": 180}
    assert _number(findings_given(given, LANDMARK, _POLICY)["bmi"])[0] == pytest.approx(22.22, abs=0.01)
    assert _number(findings_given({**given, "bmi": 20}, LANDMARK, _POLICY)["bmi"]) == (20.0, 20.0)


def test_age_counts_birthdays() -> None:
    """Whole calendar years and the fraction of the running one; 29 February ages on 1 March."""
    assert years_between(datetime(1966, 3, 21, tzinfo=ZONE), datetime(2026, 3, 21, tzinfo=ZONE)) == 60.0
    assert years_between(datetime(1966, 3, 22, tzinfo=ZONE), datetime(2026, 3, 21, tzinfo=ZONE)) < 60.0
    assert math.floor(years_between(datetime(1964, 2, 29, tzinfo=ZONE), datetime(2025, 2, 28, tzinfo=ZONE))) == 60


def test_a_year_of_birth_leaves_the_age_an_interval() -> None:
    """A birth date known to the year alone does not become 1 January."""
    patient = timeline()
    born = Period(earliest=datetime(1956, 1, 1, tzinfo=ZONE), latest=datetime(1956, 12, 31, tzinfo=ZONE))
    low, high = _number(
        findings_at(replace(patient, person=replace(patient.person, birth=born)), _POLICY)["age_at_surgery"]
    )
    assert low < 70 < high


def test_pathology_from_before_the_surgery_does_not_count() -> None:
    """A biopsy's margin or extranodal extension is not that of the resection."""
    biopsy = measured("ene_path", "negative", SURGERY - timedelta(days=30))
    patient = replace(timeline(changes={"ene_path": None}), measurements=(biopsy,))
    assert "ene_path" not in findings_at(patient, _POLICY)


def test_two_answers_at_one_time_are_no_answer() -> None:
    """Two contradicting margins of the same specimen leave the margin unknown."""
    patient = timeline(changes={"margin_class": None})
    both = (measured("margin_class", "R0"), measured("margin_class", "R1"))
    assert "margin_class" not in findings_at(replace(patient, measurements=both), _POLICY)


def test_a_comparator_stays_an_interval() -> None:
    """Platelets above 90 may be enough or not; below 90 they are not."""
    above = replace(measured("plt", 90.0), comparator=Comparator.GREATER)
    below = replace(measured("plt", 90.0), comparator=Comparator.LESS)
    for entry, inside in ((above, 250.0), (below, 89.0)):
        low, high = _number(findings_at(replace(timeline(), measurements=(entry,)), _POLICY)["plt"])
        assert low <= inside <= high
        assert not low <= 90.0 <= high


def test_a_partial_date_never_looks_fresh() -> None:
    """A creatinine dated to the month is as old as the first day of it."""
    month = Period(earliest=LANDMARK - timedelta(days=20), latest=LANDMARK)
    entry = replace(measured("creatinine", 80.0), effective=month)
    assert findings_at(replace(timeline(), measurements=(entry,)), _POLICY)["creatinine"].age_days == 20


def test_a_diagnosis_without_a_grade_says_some() -> None:
    """Hearing loss on the problem list is grade 1 to 5, not grade 0 and not unknown."""
    deaf = Diagnosis(
        kind="hearing_loss",
        confirmed=TriState.TRUE,
        onset=None,
        known=SURGERY,
        source=version("Condition", "ear"),
    )
    found = findings_at(timeline(changes={"hearing_grade": None}, diagnoses=(deaf,)), _POLICY)
    assert _number(found["hearing_grade"]) == (1.0, 5.0)


def test_silence_about_the_past_stays_silence() -> None:
    """No record of radiotherapy, relapse or second primary is no finding at all."""
    found = findings_at(timeline(), _POLICY)
    assert not {"prior_rt_neck", "salvage", "second_primary", "neoadjuvant_ici", "pregnancy"} & set(found)


def test_any_sign_of_distant_metastasis_counts() -> None:
    """Only a recorded M0 denies it; a status, a stage or a diagnosis that says M1 outweighs it."""
    assert _category(findings_at(timeline(), _POLICY)["distant_metastasis"]) == {"no"}
    assert "distant_metastasis" not in findings_at(timeline(changes={"cM": None}), _POLICY)
    for sign in ({"disease_status": "distant_metastasis"}, {"pM": "pM1"}, {"cM": "cM1"}):
        found = findings_at(timeline(changes=sign), _POLICY)
        assert _category(found["distant_metastasis"]) == {"yes"}


def test_lymphatic_and_vascular_invasion_make_one() -> None:
    """Either makes lymphovascular invasion present; only both absent make it absent."""
    present = findings_given({"lymphatic_invasion": "absent", "vascular_invasion": "present"}, LANDMARK, _POLICY)
    assert _category(present["lvi"]) == {"present"}
    absent = findings_given({"lymphatic_invasion": "absent", "vascular_invasion": "absent"}, LANDMARK, _POLICY)
    assert _category(absent["lvi"]) == {"absent"}
    assert "lvi" not in findings_given({"lymphatic_invasion": "absent"}, LANDMARK, _POLICY)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"shoe_size": 43}, "shoe_size"),
        ({"ecog": "one"}, "ecog"),
        ({"ecog": True}, "ecog"),
        ({"ecog": -1}, "ecog"),
        ({"ene_path": "maybe"}, "ene_path"),
        ({"ene_path": "macro", "ene": "negative"}, "ene_path"),
        ({"ecog": {"value": 0, "effective": "2026-03-01"}}, "ecog"),
        ({"ecog": {"value": 0, "effective": "2027-03-01T00:00:00Z"}}, "ecog"),
    ],
)
def test_a_case_file_is_refused_by_key(given: dict[str, object], named: str) -> None:
    """What cannot be read is refused naming the key, never guessed."""
    with pytest.raises(UnusableInput, match=named):
        findings_given(given, LANDMARK, _POLICY)


def test_spellings_of_unknown_are_unknown() -> None:
    """null, `unknown`, RX and pNX are absent, and keys no rule reads are passed over."""
    given = {"ecog": None, "p16": "unk", "margin_class": "RX", "pN": "pNX", "smoking_status": "never"}
    assert not findings_given(given, LANDMARK, _POLICY)
