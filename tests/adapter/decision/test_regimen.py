"""The regimen: dose, schedule, start, and what trials found, with intervals and never as a prediction."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.decision.findings import findings_at
from adapter.decision.policy import load_policy
from adapter.decision.regimen import drug_words, effect_words, regimens_of, trial_effect
from adapter.decision.tables import SHIPPED
from adapter.decision.verdicts import decide
from adapter.domain.plan import Timing, TreatmentRegimen
from tests.fakes.postoperative import SURGERY, timeline

_POLICY = load_policy(site_folder=SHIPPED / "sandbox")
_RATED = [effect for effect in _POLICY.effects.values() if effect.control_percent is not None]


def _regimens(changes: dict[str, float | str | None] | None = None, days: int = 21) -> dict[str, TreatmentRegimen]:
    patient = timeline(changes=changes, landmark=SURGERY + timedelta(days=days))
    found = findings_at(patient, _POLICY)
    spelled = regimens_of(decide(found, _POLICY), found, _POLICY, patient.landmark.time)
    return {regimen.action: regimen for regimen in spelled}


def test_three_years_of_nivolumab_are_nine_points() -> None:
    """By hand: 52.5 % disease-free at 3 years; 0.525**0.76 = 0.613, +8.8; at 0.98 +0.7, at 0.60 +15.4."""
    effect = trial_effect(_POLICY.effects["NIVOPOSTOP-DFS"])
    assert effect.difference == pytest.approx(8.8, abs=0.05)
    assert effect.difference_low == pytest.approx(0.7, abs=0.05)
    assert effect.difference_high == pytest.approx(15.4, abs=0.05)


def test_a_rate_of_another_year_is_moved_and_says_so() -> None:
    """By hand: 40 % alive at 5 years are 0.4**0.6 = 57.7 % at 3; 0.577**0.71 = 67.7, +10.0 points."""
    effect = trial_effect(_POLICY.effects["ZUMSTEG-OS-HIGH"])
    assert effect.difference == pytest.approx(10.0, abs=0.05)
    assert "constant hazard" in effect.basis
    assert effect.with_event == pytest.approx(42.3, abs=0.05)


def test_without_a_rate_no_difference_is_made_up() -> None:
    """A hazard ratio alone says nothing in points."""
    effect = trial_effect(_POLICY.effects["DHANUSH-OS"])
    assert effect.difference is None
    assert "no difference" in effect_words(effect)


@given(st.sampled_from(_RATED), st.floats(5.0, 95.0))
def test_the_interval_holds_the_estimate_and_the_sign_of_the_ratio(effect: object, control: float) -> None:
    """Whatever the control rate: low, estimate, high in order, and no gain where the ratio is above one."""
    row = replace(effect, control_percent=control)  # type: ignore[type-var]
    moved = trial_effect(row)  # type: ignore[arg-type]
    ends = (moved.difference_low, moved.difference, moved.difference_high)
    assert all(end is not None for end in ends)
    assert all(low <= high for low, high in pairwise(end for end in ends if end is not None))
    assert moved.difference is not None
    assert (moved.difference > 0) == (moved.hazard_ratio < 1)


def test_the_start_is_counted_from_surgery() -> None:
    """Radiotherapy is to start six weeks after the operation, and after twelve weeks it is late."""
    regimen = _regimens()["CRT_Q3W"]
    assert regimen.start_by == SURGERY + timedelta(days=42)
    assert regimen.timing is Timing.ON_TIME
    assert _regimens(days=15)["CRT_Q3W"].timing is Timing.ON_TIME
    passed = _regimens({"pN": "pN1", "ene_path": "negative"}, days=60)["PORT"]
    assert passed.timing is Timing.TARGET_PASSED
    late = _regimens({"pN": "pN1", "ene_path": "negative"}, days=90)["PORT"]
    assert late.timing is Timing.LATE


def test_the_dose_follows_the_risk_group() -> None:
    """66 Gy at high risk, 60 Gy at intermediate risk."""
    high = _regimens({"creatinine": 200.0})["PORT"].radiotherapy
    intermediate = _regimens({"pN": "pN1", "ene_path": "negative"})["PORT"].radiotherapy
    assert high is not None
    assert intermediate is not None
    assert (high.total_gy, high.fractions) == (66, 33)
    assert (intermediate.total_gy, intermediate.fractions) == (60, 30)


def test_alternatives_and_contraindications_stand_beside_the_regimen() -> None:
    """A patient unfit for cisplatin sees radiotherapy with docetaxel as the alternative, and what not to do."""
    regimen = _regimens({"creatinine": 200.0})["PORT"]
    assert regimen.alternatives == ("PORT_ALT",)
    assert set(regimen.contraindicated) == {"CRT_Q3W", "CRT_QW", "CRT_NIVO"}


def test_competing_mortality_is_stated_with_every_treatment() -> None:
    """Chemoradiation cites the trials' other-cause deaths; where no trial says, that is said."""
    assert "HR 1.51 (1.07 to 2.12)" in _regimens()["CRT_QW"].competing
    assert "No trial" in _regimens({"creatinine": 200.0})["PORT"].competing


def test_an_effect_of_the_other_risk_group_is_not_shown() -> None:
    """The hazard ratio of patients without extranodal extension says nothing for one who has it."""
    codes = {effect.code for effect in _regimens()["CRT_Q3W"].effects}
    assert "ZUMSTEG-OS-HIGH" in codes
    assert "ZUMSTEG-OS-WITHOUT" not in codes


def test_nothing_is_spelled_out_where_the_board_decides() -> None:
    """No dose for a patient whose risk group is not known."""
    assert _regimens({"margin_class": None}) == {}


def test_a_trial_average_is_named_as_one_and_never_as_best() -> None:
    """No word of a regimen reads like a prediction or a preference."""
    words = [effect_words(effect) for regimen in _regimens().values() for effect in regimen.effects]
    assert words
    assert all(sentence.startswith("Trial average, ") for sentence in words)
    assert all("not this patient's expected gain" in sentence for sentence in words if "percentage points" in sentence)
    assert not any("best" in sentence.lower().split() for sentence in words)


def test_every_drug_can_be_written_on_a_line() -> None:
    """Dose, unit, days and phase of each drug of the table."""
    lines = [drug_words(drug) for action in _POLICY.actions for drug in action.drugs]
    assert "cisplatin 100 mg/m2 on days 1, 22, 43 with radiotherapy" in lines
    assert "nivolumab 240 mg on day 1 before radiotherapy" in lines
