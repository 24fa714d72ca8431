"""The proposal: never bought with missing data, never against the kidneys, never observation at high risk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter.decision.case import evaluate_features
from adapter.decision.policy import Policy, load_policy
from adapter.decision.propose import propose
from adapter.decision.show import policy_table
from adapter.decision.tables import SHIPPED
from adapter.domain.period import Period
from adapter.domain.plan import CarePlanProposal, RiskGroup, Verdict
from adapter.domain.record import Diagnosis, ProcedureEvent
from adapter.domain.tristate import TriState
from tests.fakes.postoperative import LANDMARK, SURGERY, ZONE, curves, forecast, timeline, version
from tests.fakes.vignettes import Vignette, vignettes

_POLICY = load_policy()
_GOOD = {Verdict.CONCORDANT, Verdict.OPTION}
_CISPLATIN = ("CRT_Q3W", "CRT_QW", "CRT_NIVO")
_FIT: Mapping[str, object] = {
    "age_at_surgery": 60,
    "sex": "male",
    "site_group": "oral_cavity",
    "histology": "scc_keratinizing",
    "tnm_edition": "8",
    "cM": "cM0",
    "prior_rt_neck": False,
    "salvage": False,
    "second_primary": False,
    "ecog": 0,
    "creatinine": 80,
    "weight": 75,
    "hearing_grade": 0,
    "tinnitus_grade": 0,
    "neuropathy_grade": 0,
    "nyha": 0,
    "plt": 250,
    "neut": 4.2,
    "hgb": 13.5,
    "cisplatin_allergy": False,
    "neoadjuvant_ici": False,
    "ici_contraindication": False,
}
_PATHOLOGY = st.fixed_dictionaries(
    {
        "pT": st.sampled_from(["pT1", "pT2", "pT3", "pT4a"]),
        "pN": st.sampled_from(["pN0", "pN1", "pN2b", "pN3b"]),
        "ene_path": st.sampled_from(["negative", "micro", "macro"]),
        "margin_class": st.sampled_from(["R0", "R1", "R2"]),
        "margin_mm": st.sampled_from([0.0, 2.0, 5.0, 9.0]),
        "pni": st.sampled_from(["absent", "present", "multiple"]),
        "lvi": st.sampled_from(["absent", "present"]),
        "nodes_positive": st.integers(0, 6),
        "nodes_examined": st.integers(0, 40),
        "margin_cis": st.sampled_from(["R0", "R1"]),
        "node_levels": st.lists(st.sampled_from(["I", "II", "IV"]), min_size=1, unique=True),
        "days_since_surgery": st.integers(10, 110),
    }
)
_FUNCTION = st.fixed_dictionaries(
    {
        "ecog": st.integers(0, 4),
        "creatinine": st.floats(40.0, 400.0),
        "hearing_grade": st.integers(0, 4),
        "neuropathy_grade": st.integers(0, 3),
        "nyha": st.integers(0, 4),
        "site_group": st.sampled_from(["oral_cavity", "oropharynx", "larynx"]),
        "p16": st.sampled_from(["positive", "negative"]),
        "cisplatin_allergy": st.booleans(),
        "age_at_surgery": st.floats(19.0, 90.0),
        "neoadjuvant_ici": st.booleans(),
        "ici_contraindication": st.booleans(),
        "second_primary": st.booleans(),
    }
)
_PATHOLOGY_KEYS = ("pT", "pN", "ene_path", "margin_class", "margin_mm", "pni", "lvi", "nodes_positive", "node_levels")
_GIVEN = sorted({*_FIT, *_PATHOLOGY_KEYS, "p16", "nodes_examined", "days_since_surgery"})
_patients = st.builds(lambda pathology, function: {**_FIT, **pathology, **function}, _PATHOLOGY, _FUNCTION)


_OVERRIDES = tempfile.TemporaryDirectory()
_SITES = {
    "shipped": "",
    "egypt_2023": '[choices.cisplatin_panel]\nvalue = "egypt_2023"\n',
    "ctoo_2023": '[choices.cisplatin_panel]\nvalue = "ctoo_2023"\n',
    "adopts-1-mm": "[switches.adopt_positive_margin_mm]\nvalue = true\n",
}


def _site(name: str) -> Policy:
    folder = Path(_OVERRIDES.name) / name
    folder.mkdir(exist_ok=True)
    (folder / "rules.toml").write_text(_SITES[name])
    return load_policy(site_folder=folder)


_POLICIES = [_site(name) for name in _SITES]
_policies = st.sampled_from(_POLICIES)


def _verdicts(features: Mapping[str, object], policy: Policy = _POLICY) -> dict[str, Verdict]:
    decision = evaluate_features(features, LANDMARK, policy)
    return {entry.action: entry.verdict for entry in decision.actions}


@given(patient=_patients, gone=st.sets(st.sampled_from(_GIVEN), max_size=6), policy=_policies)
def test_missing_data_never_buys_a_treatment(patient: Mapping[str, object], gone: set[str], policy: Policy) -> None:
    """What is proposed without some findings is proposed with them too: doubt only ever leads to the board."""
    more = _verdicts(patient, policy)
    less = _verdicts({name: value for name, value in patient.items() if name not in gone}, policy)
    for action, verdict in less.items():
        if verdict in _GOOD and action != "MDT":
            assert more[action] is verdict, action
    if less["MDT"] is Verdict.OPTION:
        assert more["MDT"] is Verdict.OPTION


def _overturned(case: Vignette) -> bool:
    """Cases that hold one question answered twice; the site or the chart has accepted that one answer may yield."""
    return case.policy.infers_ene or case.name == "high-clearances-disagree"


_STEADY = [case for case in vignettes() if not _overturned(case)]


def _gained(case: Vignette, gone: Iterable[str]) -> set[str]:
    full = _verdicts(case.features, case.policy)
    less = _verdicts({name: value for name, value in case.features.items() if name not in set(gone)}, case.policy)
    return {
        action
        for action, verdict in less.items()
        if verdict in _GOOD and action != "MDT" and full[action] is not verdict
    }


@pytest.mark.parametrize("case", _STEADY, ids=lambda case: case.name)
def test_no_vignette_gains_a_treatment_by_losing_a_finding(case: Vignette) -> None:
    """Take away each single finding from every hand-written case: nothing new is ever proposed."""
    for name in case.features:
        assert _gained(case, (name,)) == set(), name


@settings(max_examples=400, deadline=None)
@given(case=st.sampled_from(_STEADY), gone=st.sets(st.sampled_from(_GIVEN), min_size=2, max_size=8))
def test_no_vignette_gains_a_treatment_by_losing_several_findings(case: Vignette, gone: set[str]) -> None:
    """The same for any handful of findings."""
    assert _gained(case, gone) == set()


@given(patient=_patients, factor=st.floats(1.0, 5.0), policy=_policies)
def test_worse_kidneys_never_add_cisplatin(patient: Mapping[str, object], factor: float, policy: Policy) -> None:
    """Raising creatinine never turns a cisplatin regimen into something proposed."""
    before = _verdicts(patient, policy)
    after = _verdicts({**patient, "creatinine": float(str(patient["creatinine"])) * factor}, policy)
    for action in _CISPLATIN:
        assert before[action] in _GOOD or after[action] not in _GOOD


@given(patient=_patients, lower=st.floats(5.0, 200.0), fall=st.floats(0.0, 1.0), policy=_policies)
def test_a_falling_clearance_never_adds_cisplatin(
    patient: Mapping[str, object], lower: float, fall: float, policy: Policy
) -> None:
    """The same where the clearance itself is given, in every panel."""
    given_clearance = {name: value for name, value in patient.items() if name not in {"creatinine", "weight"}}
    before = _verdicts({**given_clearance, "crcl_cg": lower}, policy)
    after = _verdicts({**given_clearance, "crcl_cg": lower * fall}, policy)
    for action in _CISPLATIN:
        assert before[action] in _GOOD or after[action] not in _GOOD
        assert before[action] is not Verdict.CONTRAINDICATED or after[action] is Verdict.CONTRAINDICATED


@given(
    patient=_patients,
    sign=st.sampled_from([{"ene_path": "macro"}, {"ene_path": "micro"}, {"margin_class": "R1"}]),
    gone=st.sets(st.sampled_from(_GIVEN), max_size=6),
    policy=_policies,
)
def test_high_risk_never_ends_in_observation(
    patient: Mapping[str, object], sign: Mapping[str, str], gone: set[str], policy: Policy
) -> None:
    """With extranodal extension or R1, follow-up only is never concordant, option or uncertain, whatever is missing."""
    left = {name: value for name, value in patient.items() if name not in gone}
    verdict = _verdicts({**left, **sign}, policy)["OBS"]
    assert verdict in {Verdict.DISCORDANT, Verdict.OUT_OF_SCOPE, Verdict.NOT_ASSESSABLE}


@given(patient=_patients, sign=st.sampled_from([{"ene_path": "macro"}, {"margin_class": "R1"}]), policy=_policies)
def test_high_risk_and_fit_is_chemoradiation(
    patient: Mapping[str, object], sign: Mapping[str, str], policy: Policy
) -> None:
    """In scope, high risk and suitable by the site's panel: both cisplatin schedules concordant, radiotherapy not."""
    decision = evaluate_features({**patient, **sign}, LANDMARK, policy)
    codes = {reason.code for reason in decision.reasons}
    if decision.scope is TriState.TRUE and "CISPLATIN_OK" in codes and decision.risk_group is RiskGroup.HIGH:
        verdicts = {entry.action: entry.verdict for entry in decision.actions}
        suitable = any(reason.sentence.startswith("Suitable") for reason in decision.reasons)
        assert (verdicts["CRT_Q3W"] is Verdict.CONCORDANT) == suitable
        assert (verdicts["CRT_QW"] is Verdict.CONCORDANT) == suitable
        assert verdicts["PORT"] is not Verdict.CONCORDANT or not suitable


@given(patient=_patients)
def test_a_verdict_stands_on_every_action(patient: Mapping[str, object]) -> None:
    """The set of actions is closed and complete, and each verdict has its reason."""
    decision = evaluate_features(patient, LANDMARK, _POLICY)
    assert [entry.action for entry in decision.actions] == [action.code for action in _POLICY.actions]
    assert all(entry.reasons for entry in decision.actions)


def test_every_rule_can_be_shown() -> None:
    """`policy show` lists each rule, flag, action and visit with thresholds filled in."""
    rows = policy_table(_POLICY)
    assert {row.code for row in rows} >= {*_POLICY.rules, *(action.code for action in _POLICY.actions)}
    assert any("crcl_cg below 60" in row.condition for row in rows)


# ---- from a timeline


def _verdict(proposal: CarePlanProposal, action: str) -> Verdict:
    return next(entry.verdict for entry in proposal.actions if entry.action == action)


def test_without_a_site_declaration_absence_of_a_record_goes_to_the_board() -> None:
    """A record that says nothing of earlier radiotherapy does not say that there was none."""
    patient = timeline()
    proposal = propose(forecast(patient), patient, _POLICY)
    assert proposal.scope is TriState.UNKNOWN
    assert _verdict(proposal, "MDT") is Verdict.CONCORDANT
    assert {entry.verdict for entry in proposal.actions} == {Verdict.NOT_ASSESSABLE, Verdict.CONCORDANT}


@pytest.fixture(scope="module")
def declared() -> Policy:
    """A policy whose site declares its records complete, as the sandbox hospital does."""
    return load_policy(site_folder=SHIPPED / "sandbox")


def test_a_site_that_declares_its_records_complete_gets_a_verdict_and_the_assumption(declared: Policy) -> None:
    """With the declaration the rules speak, and the plan lists what was assumed."""
    patient = timeline()
    proposal = propose(forecast(patient), patient, declared)
    assert proposal.risk_group is RiskGroup.HIGH
    assert _verdict(proposal, "CRT_Q3W") is Verdict.CONCORDANT
    assert {"ASSUMED-prior_rt_neck", "ASSUMED-cisplatin_allergy"} <= {reason.code for reason in proposal.reasons}


def test_a_declaration_never_covers_what_the_record_leaves_open(declared: Policy) -> None:
    """Radiotherapy dated only to the year of surgery may have come before it: no assumption stands against that."""
    year = Period(earliest=datetime(2026, 1, 1, tzinfo=ZONE), latest=datetime(2026, 12, 31, tzinfo=ZONE))
    open_course = ProcedureEvent(
        kind="radiotherapy_course", performed=year, known=SURGERY, source=version("Procedure", "rt")
    )
    patient = timeline(procedures=(open_course,))
    proposal = propose(forecast(patient), patient, declared)
    assert proposal.scope is TriState.UNKNOWN


def test_a_suspected_second_primary_is_not_assumed_away(declared: Policy) -> None:
    """A provisional diagnosis leaves the scope open."""
    suspected = Diagnosis(
        kind="second_primary",
        confirmed=TriState.UNKNOWN,
        onset=None,
        known=SURGERY,
        source=version("Condition", "lung"),
    )
    patient = timeline(diagnoses=(suspected,))
    assert propose(forecast(patient), patient, declared).scope is TriState.UNKNOWN


def test_once_treatment_has_started_only_follow_up_is_proposed(declared: Policy) -> None:
    """A course of radiotherapy after surgery closes the adjuvant question."""
    course = ProcedureEvent(
        kind="radiotherapy_course",
        performed=Period.instant(SURGERY + timedelta(days=15)),
        known=SURGERY + timedelta(days=15),
        source=version("Procedure", "rt"),
    )
    patient = timeline(procedures=(course,))
    proposal = propose(forecast(patient), patient, declared)
    verdicts = {entry.verdict for entry in proposal.actions if entry.action != "MDT"}
    assert verdicts == {Verdict.OUT_OF_SCOPE}
    assert proposal.reasons[0].code == "ADJUVANT-STARTED"
    assert proposal.follow_up


def test_long_after_surgery_no_adjuvant_treatment_is_proposed(declared: Policy) -> None:
    """At a follow-up landmark a year on, nobody is told to start chemoradiation."""
    patient = timeline(landmark=SURGERY + timedelta(days=400))
    proposal = propose(forecast(patient), patient, declared)
    assert _verdict(proposal, "CRT_Q3W") is Verdict.OUT_OF_SCOPE
    assert proposal.reasons[0].code == "ADJUVANT-CLOSED"


def test_out_of_scope_gets_no_schedule_of_ours(declared: Policy) -> None:
    """The follow-up table belongs to the disease the rules cover."""
    patient = timeline(changes={"histology": "not_scc"})
    proposal = propose(forecast(patient), patient, declared)
    assert proposal.scope is TriState.FALSE
    assert proposal.follow_up == ()


def test_the_follow_up_lies_in_the_future_and_within_the_guideline() -> None:
    """Months count from the landmark; what is past is left out; intervals keep the guideline's bounds."""
    patient = timeline(landmark=SURGERY + timedelta(days=400))
    visits = propose(forecast(patient), patient, _POLICY).follow_up
    assert visits
    assert all(0 < visit.first_month <= visit.last_month for visit in visits)
    assert "FU-CLINIC-Y1" not in {visit.activity for visit in visits}
    for visit in visits:
        row = _POLICY.visit(visit.activity)
        assert row.least <= visit.every_months <= row.most


def test_the_forecast_moves_no_verdict(declared: Policy) -> None:
    """A prognosis is no treatment effect: the same findings give the same plan whatever the model says."""
    patient = timeline()
    calm = propose(forecast(patient, output=curves(recurrence=0.01)), patient, declared)
    grim = propose(forecast(patient, output=curves(recurrence=0.8)), patient, declared)
    assert calm == grim
