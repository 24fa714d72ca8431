"""The transaction: percent, periods, versions and labels to the letter, and the same bytes for ever."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.decision.policy import Policy, load_policy
from adapter.decision.propose import propose
from adapter.domain.ids import BusinessIdentifier
from adapter.domain.imaging import ImageDescriptors
from adapter.domain.landmark import Landmark
from adapter.domain.outcome import TransactionBundle
from adapter.domain.period import Period
from adapter.domain.plan import Gate
from adapter.domain.record import Measurement, Quarantined
from adapter.domain.risk import Outcome
from adapter.errors import BadMapping, InvalidForecast, MalformedResource
from adapter.fhir.delivery import OutputMode, load_delivery, unverified_codes
from adapter.fhir.encode import FOLLOW_UP, account_of, encode_transaction, subject_of, to_percent
from adapter.fhir.entries import entries_of
from inference.contract import Explanation, InputEffect, ModelOutput
from tests.fakes.assessments import BASE_URL, MAPPING_DIGEST, assessment, complete_records, image, resources_of
from tests.fakes.postoperative import LANDMARK, SURGERY, banded_curves, curves, forecast, timeline, version

_TYPES = [
    "DocumentReference",
    "Device",
    "RiskAssessment",
    "CarePlan",
    "DetectedIssue",
    "GuidanceResponse",
    "Task",
    "Provenance",
]


def _read(bundle: TransactionBundle, resource_type: str) -> Any:  # noqa: ANN401 - JSON as it is
    return json.loads(resources_of(bundle)[resource_type], parse_float=Decimal)


@given(st.floats(0.0, 1.0))
def test_percent_lies_within_half_a_step_of_the_fraction(probability: float) -> None:
    """0.34 is written 34.0, never 0.34: one decimal, 0 to 100."""
    percent = to_percent(probability)
    assert 0 <= percent <= 100
    assert percent.as_tuple().exponent == -1
    assert abs(percent - Decimal(probability) * 100) <= Decimal("0.05")


@pytest.mark.parametrize("wrong", [-0.001, 1.001, float("nan"), float("inf")])
def test_what_is_no_fraction_has_no_percentage(wrong: float) -> None:
    """A number that is already a percentage, or no number, is refused instead of written."""
    with pytest.raises(InvalidForecast):
        to_percent(wrong)


def test_the_resources_stand_in_order() -> None:
    """Card and Device first, so that nothing refers to what comes later; every entry is a PUT under our id."""
    bundle = assessment()
    content = json.loads(bundle.content)
    assert [entry["resource"]["resourceType"] for entry in content["entry"]] == _TYPES
    assert [entry["request"] for entry in content["entry"]] == [
        {"method": "PUT", "url": reference} for reference in bundle.resources
    ]
    assert content["type"] == "transaction"


def test_the_risk_assessment_speaks_percent_and_periods() -> None:
    """Two-year recurrence of 0.16 reads 16.0, and its horizon is a period from the landmark on, not an age range."""
    written = _read(assessment(), "RiskAssessment")
    predictions = written["prediction"]
    assert len(predictions) == len(Outcome) * 4
    two_years = predictions[1]
    assert two_years["probabilityDecimal"] == Decimal("16.0")
    assert two_years["whenPeriod"] == {"start": "2026-03-21T01:30:00.000Z", "end": "2028-03-21T01:30:00.000Z"}
    assert not any("whenRange" in prediction for prediction in predictions)
    assert written["occurrenceDateTime"] == "2026-03-21T01:30:00.000Z"
    assert written["status"] == "preliminary"


def test_the_numbers_equal_the_forecast() -> None:
    """Every percentage is the forecast's own fraction times one hundred."""
    risk = forecast(timeline(), missing=("hgb",))
    written = _read(assessment(), "RiskAssessment")["prediction"]
    assert [entry["probabilityDecimal"] for entry in written] == [
        to_percent(entry.probability) for entry in risk.incidences
    ]


def test_the_three_year_predictions_say_what_drives_them() -> None:
    """Whole percentage points, largest first, nothing that rounds to none; what does not add up is said."""
    written = _read(assessment(), "RiskAssessment")
    explained = {
        (entry["outcome"]["text"], entry["whenPeriod"]["end"][:4]): entry["rationale"]
        for entry in written["prediction"]
        if "rationale" in entry
    }
    assert explained == {
        ("Recurrence", "2029"): (
            "Change of this risk by what is known, in percentage points: lymph nodes and extranodal extension +8; "
            "smoking -2. Single changes of all groups add up to +7, all findings together change it by +6."
        ),
        ("Death from any cause", "2029"): (
            "Change of this risk by what is known, in percentage points: smoking -7; lymph nodes and extranodal "
            "extension +5. Single changes of all groups add up to -2, all findings together change it by +0."
        ),
    }
    assert load_delivery().texts["drivers"] in [note["text"] for note in written["note"]]


def test_at_most_five_drivers_are_named() -> None:
    """Of nine groups the five largest: a list that nobody reads explains nothing."""
    effects = tuple(InputEffect(name=f"finding {size}", recurrence=size / 100, death=0.0) for size in range(9, 0, -1))
    many = curves(explanation=Explanation(quarter=12, effects=effects, recurrence_gap=0.0, death_gap=0.0))
    predictions = _read(assessment(output=many), "RiskAssessment")["prediction"]
    recurrence, death = (entry["rationale"] for entry in predictions if "rationale" in entry)
    assert re.findall(r"finding (\d)", recurrence) == ["9", "8", "7", "6", "5"]
    assert death == "No single group of findings changes this risk by one percentage point."


def test_without_an_explanation_nothing_is_said_of_drivers() -> None:
    """A model that was not asked why gives no rationale and no sentence about one."""
    written = _read(assessment(output=curves(explanation=None)), "RiskAssessment")
    assert not any("rationale" in entry for entry in written["prediction"])
    assert load_delivery().texts["drivers"] not in [note["text"] for note in written["note"]]


def test_every_basis_names_a_version() -> None:
    """An input is cited with the version that was read; a bare reference would change under our feet."""
    basis = _read(assessment(), "RiskAssessment")["basis"]
    assert basis
    assert all(re.fullmatch(r"[A-Za-z]+/[^/]+/_history/[^/]+", entry["reference"]) for entry in basis)


def test_provenance_carries_versions_where_servers_strip_them_and_all_digests() -> None:
    """HAPI strips versions from references by default: each source also stands as an identifier."""
    patient = replace(timeline(), images=(image(),))
    entities = _read(assessment(patient), "Provenance")["entity"]
    named = {entity["what"]["identifier"]["value"] for entity in entities if "identifier" in entity["what"]}
    assert {"Patient/p1/_history/3", "Observation/ene-path/_history/1", "urn:oid:1.2.3.4", "cd" * 32} <= named
    assert {"ab" * 32, "ef" * 32, load_policy().digest, load_delivery().digest} <= named


@pytest.mark.parametrize("mode", list(OutputMode))
def test_every_resource_says_that_a_machine_wrote_it_and_how_far_to_trust_it(mode: OutputMode) -> None:
    """AIAST and the mode's label stand on every resource, in the demo as simulated."""
    if mode is OutputMode.LIVE:
        with pytest.raises(BadMapping, match="unverified code"):
            assessment(mode=mode, policy=complete_records())  # chemoradiation has one
        return
    labels = load_delivery().labels
    for content in resources_of(assessment(mode=mode)).values():
        meta = json.loads(content)["meta"]
        assert [coding["code"] for coding in meta["security"]] == ["AIAST"]
        assert meta["tag"][1]["display"] == labels[mode]
    assert "imulated" in labels[OutputMode.DEMO]
    assert labels[OutputMode.RESEARCH] == "Research, not for clinical use."


def test_live_mode_knows_what_is_unverified() -> None:
    """Whoever starts a live service is told each code that a person still has to confirm."""
    assert ("http://snomed.info/sct", "703423002") in {
        (coding.system, coding.code) for coding in unverified_codes(load_policy(), load_delivery())
    }


def test_the_plan_is_a_draft_proposal() -> None:
    """Nothing becomes an order by itself, and the numbers it rests on are one step away."""
    bundle = assessment(policy=complete_records())
    plan = _read(bundle, "CarePlan")
    assert (plan["status"], plan["intent"]) == ("draft", "proposal")
    assert plan["supportingInfo"] == [{"reference": f"RiskAssessment/ra-{bundle.assessment_id}"}]
    assert "display" not in plan["subject"]


def test_what_is_contraindicated_is_written_as_not_to_be_done() -> None:
    """With failing kidneys both cisplatin regimens carry doNotPerform, and nothing else does."""
    policy = complete_records()
    plan = _read(assessment(timeline(changes={"creatinine": 200.0}), policy=policy), "CarePlan")
    forbidden = {
        activity["detail"]["code"]["coding"][-1]["code"]
        for activity in plan["activity"]
        if activity["detail"]["doNotPerform"]
    }
    assert forbidden == {"CRT_Q3W", "CRT_QW", "CRT_NIVO"}


def _details(plan: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON as it is
    """Each activity by our own action id."""
    return {activity["detail"]["code"]["coding"][-1]["code"]: activity["detail"] for activity in plan["activity"]}


def test_a_proposed_treatment_is_spelled_out() -> None:
    """Dose, drug days, the window to start in, trial averages with interval, competing deaths: all in the plan."""
    detail = _details(_read(assessment(policy=complete_records()), "CarePlan"))["CRT_Q3W"]
    words = detail["description"]
    assert "66 Gy in 33 fractions; cisplatin 100 mg/m2 on days 1, 22, 43 with radiotherapy" in words
    assert "not this patient's expected gain: +10.0 (+3.6 to +15.4) percentage points at 36 months" in words
    assert (
        "by when 42.3 % of the control arm had the event (EORTC-22931, radiotherapy arm: 40 % without it at 60" in words
    )
    assert "Start by 11 Apr 2026 to meet the target." in words
    assert "Competing mortality: Trial average, ZUMSTEG-2025" in words
    assert "Also proposed by the rules: Chemoradiation, cisplatin weekly." in words
    started, ended = (datetime.fromisoformat(detail["scheduledPeriod"][end]) for end in ("start", "end"))
    assert (started, ended) == (LANDMARK, SURGERY + timedelta(days=42))


def test_once_the_target_has_passed_no_window_is_written() -> None:
    """Nobody is scheduled into the past: seven weeks after surgery the words say so and no period stands."""
    late = timeline(landmark=SURGERY + timedelta(days=50), changes={"pN": "pN1", "ene_path": "negative"})
    detail = _details(_read(assessment(late, policy=complete_records()), "CarePlan"))["PORT"]
    assert "scheduledPeriod" not in detail
    assert "The 6 weeks from surgery to radiotherapy are over." in detail["description"]
    assert "Start by" not in detail["description"]


def test_every_gate_is_listed_and_the_stop_says_how_to_go_on() -> None:
    """Six gates in order, one note; a model that compares no treatments stops, in words, with what would resolve it."""
    bundle = assessment(policy=complete_records(), output=banded_curves())
    notes = [note["text"] for note in _read(bundle, "CarePlan")["note"]]
    (gates,) = [text for text in notes if text.startswith("Asked in turn")]
    states = re.findall(r": (passed|stopped|not reached)(?=[;.])", gates)
    assert states == ["passed"] * 4 + ["stopped", "not reached"]
    assert len(states) == len(Gate)
    (stop,) = [text for text in notes if " To resolve: " in text]
    assert "Chemoradiation, cisplatin three-weekly; Chemoradiation, cisplatin weekly" in stop


@pytest.mark.parametrize("policy", [load_policy(), complete_records()], ids=["shipped", "complete"])
def test_clinicians_read_titles_and_not_ids(policy: Policy) -> None:
    """No action's id stands in a sentence, and no key of a feature."""
    bundle = assessment(policy=policy, missing=("hgb", "lymphatic_invasion", "preoperative:hgb"))
    plan, risk, issue = (_read(bundle, kind) for kind in ("CarePlan", "RiskAssessment", "DetectedIssue"))
    details = [detail["description"] for detail in _details(plan).values()]
    sentences = [
        *(note["text"] for note in (*plan["note"], *risk["note"])),
        plan["description"],
        *details,
        issue["detail"],
    ]
    ids = re.compile("|".join(rf"\b{action.code}\b" for action in policy.actions if "_" in action.code))
    assert not [sentence for sentence in sentences if ids.search(sentence)]
    assert "not known at the landmark: haemoglobin, lymphatic invasion, haemoglobin before surgery." in " ".join(
        sentences
    )


def test_what_is_missing_of_the_whole_is_not_said_of_each_action() -> None:
    """Nine actions that nothing can be said of for one reason are one sentence; the missing finding stands once."""
    plan = _read(assessment(), "CarePlan")
    texts = [*(note["text"] for note in plan["note"]), _details(plan)["MDT"]["description"]]
    assert sum("Missing: earlier radiotherapy to the neck" in text for text in texts) == 1
    (unsettled,) = [text for text in texts if text.startswith("Not assessable: ")]
    assert unsettled.count(";") == 8


def test_trial_effects_and_predictions_stand_apart() -> None:
    """The model's numbers are in one note and under no action; the trials' are under actions and called averages."""
    plan = _read(assessment(policy=complete_records()), "CarePlan")
    predictions = [note["text"] for note in plan["note"] if note["text"].startswith("Model prediction at 36 months")]
    assert len(predictions) == 1
    assert "whatever the treatment" in predictions[0]
    for detail in _details(plan).values():
        assert "Model prediction" not in detail["description"]
        assert "best" not in detail["description"].lower().split()


def test_what_the_rules_leave_open_stands_with_what_the_trials_found() -> None:
    """At intermediate risk chemoradiation is uncertain: the hazard ratio of patients without ENE stands beside it."""
    patient = timeline(changes={"pN": "pN1", "ene_path": "negative"})
    notes = [note["text"] for note in _read(assessment(patient, policy=complete_records()), "CarePlan")["note"]]
    uncertain = next(text for text in notes if text.startswith("Uncertain: Chemoradiation, cisplatin three-weekly;"))
    assert "HR 0.94 (95 % interval 0.68 to 1.3)" in uncertain
    assert "HR 0.71" not in uncertain


def test_an_interval_that_follows_the_forecast_says_what_it_is() -> None:
    """Where a site adapts follow-up, each moved interval is called a research hypothesis beside the table's own."""
    later = np.interp(np.arange(1, 21), [0, 4, 8, 20], [0.0, 0.01, 0.5, 0.5]).astype(np.float32)
    nobody = np.zeros(20, dtype=np.float32)
    patient, policy = timeline(), complete_records()
    risk = forecast(patient, output=ModelOutput(recurrence=later, death_without_recurrence=nobody, death=nobody))
    bundle = encode_transaction(
        risk,
        propose(risk, patient, policy),
        subject=subject_of(patient, base_url=BASE_URL),
        account=account_of(patient, policy, mapping_digest=MAPPING_DIGEST),
        policy=policy,
        delivery=load_delivery(),
        mode=OutputMode.DEMO,
    )
    detail = _details(_read(bundle, "CarePlan"))["FU-CLINIC-Y2"]
    assert detail["scheduledTiming"]["repeat"]["period"] == 3
    assert "Research hypothesis" in detail["description"]
    assert "The table says every 4 months; the guideline allows 2 to 6." in detail["description"]
    notes = [note["text"] for note in _read(bundle, "CarePlan")["note"]]
    assert [text for text in notes if "no more than the table's" in text] == [
        f"{FOLLOW_UP}{load_delivery().texts['adapted_all']}"
    ]


def test_the_board_is_proposed_where_the_rules_cannot_decide() -> None:
    """Without a scope the only proposed action is the tumour board, with follow-up beside it."""
    plan = _read(assessment(), "CarePlan")
    codes = [activity["detail"]["code"]["coding"][-1]["code"] for activity in plan["activity"]]
    assert [code for code in codes if not code.startswith("FU-")] == ["MDT"]
    assert any("Cannot be judged: " in note["text"] for note in plan["note"])


def test_what_was_missing_and_what_was_refused_is_said() -> None:
    """Missing inputs are named, quarantined entries are counted by reason, image use is stated."""
    bad = (Quarantined(source="Observation/x", reason="unknown-unit", detail="718-7"),) * 2
    patient = replace(timeline(), quarantined=bad, images=(image(),))
    notes = " ".join(note["text"] for note in _read(assessment(patient), "RiskAssessment")["note"])
    assert "not known at the landmark: haemoglobin." in notes
    assert "unknown-unit 2" in notes


@pytest.mark.parametrize(
    ("images", "missing", "said"),
    [
        ((), (), "No image series was retrieved. This model does not use images."),
        ((image(),), (), "CT retrieved and checked: 1 series. This model does not use images."),
        ((), ("image",), "No image series was retrieved. This model uses images, and made this forecast without one."),
        ((replace(image(), embedding=(0.5,)),), (), "CT retrieved and checked: 1 series. This model used the newest."),
    ],
)
def test_nobody_believes_that_a_model_saw_an_image_it_does_not_use(
    images: tuple[ImageDescriptors, ...], missing: tuple[str, ...], said: str
) -> None:
    """What was retrieved and what the model made of it are two statements."""
    notes = _read(assessment(replace(timeline(), images=images), missing=missing), "RiskAssessment")["note"]
    assert said in [note["text"] for note in notes]


@pytest.mark.parametrize(
    ("typicality", "said"),
    [
        (0.05, "Patients in the training data whose findings are at least as unusual: 5.0 %."),
        (0.017, "Unusual patient: only 1.7 % of the patients in the training data"),
        (0.009, "fewer than the 1.0 % from which on the forecast may be relied on."),
    ],
)
def test_a_patient_whom_the_model_has_hardly_seen_is_called_unusual(typicality: float, said: str) -> None:
    """At the site's bound the number is a remark, below it a warning, whether or not a gate stops for it."""
    output = replace(banded_curves(), typicality=typicality)
    assert any(said in note["text"] for note in _read(assessment(output=output), "RiskAssessment")["note"])


def test_the_case_is_known_again_by_its_findings() -> None:
    """Site, stage, margin, extranodal extension, p16 and the day of surgery as it was charted, unknowns said."""
    notes = [note["text"] for note in _read(assessment(), "RiskAssessment")["note"]]
    basis = "oral cavity; pT3; pN3b; margin R0; extranodal extension macro; p16 not known; surgery 28 Feb 2026."
    assert f"Basis: {basis}" in notes


def test_a_partial_date_of_surgery_is_not_made_a_day() -> None:
    """Known to the month, both ends of the month are named."""
    whole = Period(earliest=SURGERY.replace(day=1), latest=SURGERY)
    patient = timeline()
    partial = replace(patient, index_surgery=replace(patient.index_surgery, performed=whole))
    notes = [note["text"] for note in _read(assessment(partial), "RiskAssessment")["note"]]
    assert any(text.endswith("surgery between 1 Feb 2026 and 28 Feb 2026.") for text in notes)


def test_the_same_inputs_give_the_same_bytes() -> None:
    """Neither the clock, nor the order of the record, nor the zone a time is written in changes a byte."""
    patient = timeline()
    shuffled = replace(
        patient,
        measurements=tuple(reversed(patient.measurements)),
        landmark=Landmark(time=LANDMARK.astimezone(UTC)),
    )
    assert assessment(patient).content == assessment(shuffled).content


def _reissued(entry: Measurement) -> Measurement:
    """A weight, which only the rules read, in a second version."""
    return replace(entry, source=version("Observation", "weight", "2")) if entry.feature == "weight" else entry


def test_the_assessment_is_named_by_what_it_rests_on() -> None:
    """Another landmark, another version of an input, another identifier or policy is another assessment."""
    patient = timeline()
    newer = replace(patient, person=replace(patient.person, source=version("Patient", "p1", "4")))
    later = timeline(landmark=LANDMARK + timedelta(hours=1))
    heavier = replace(patient, measurements=tuple(_reissued(entry) for entry in patient.measurements))
    other = replace(patient, person=replace(patient.person, identifiers=(BusinessIdentifier("urn:oid:1", "2"),)))
    seen = replace(patient, images=(image(),))
    names = {assessment(one).assessment_id for one in (patient, newer, later, heavier, other, seen)}
    assert len(names) == 6
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in names)


def test_other_bytes_have_another_name(tmp_path: Path) -> None:
    """Law 3: mode, a site's wording and the Condition it is about are in the name, of the shared resources too."""
    (tmp_path / "delivery.toml").write_text('[text]\nboard = "Ask the tumour board first."\n')
    reworded = load_delivery(site_folder=tmp_path)
    patient = timeline()
    diagnosed = replace(
        patient,
        diagnoses=tuple(replace(entry, source=version("Condition", "cancer", "2")) for entry in patient.diagnoses),
    )
    bundles = [
        *(assessment(mode=mode) for mode in (OutputMode.DEMO, OutputMode.RESEARCH)),
        assessment(delivery=reworded),
        assessment(diagnosed),
    ]
    assert len({bundle.content for bundle in bundles}) == len({bundle.assessment_id for bundle in bundles}) == 4
    by_name: dict[str, set[bytes]] = {}
    for bundle in bundles:
        for entry in entries_of(bundle.content):
            by_name.setdefault(entry.reference, set()).add(entry.content)
    assert {len(contents) for contents in by_name.values()} == {1}


def test_another_server_id_of_the_same_patient_is_the_same_assessment() -> None:
    """The name rests on the patient's identifier, not on where a server keeps the record."""
    assert assessment(patient_id="p1").assessment_id == assessment(patient_id="p2").assessment_id


def test_a_patient_without_identifier_is_named_by_server_and_id() -> None:
    """Where nothing else is known, the address of the Patient is the identifier."""
    patient = timeline()
    bare = replace(patient, person=replace(patient.person, identifiers=()))
    assert subject_of(bare, base_url=BASE_URL).identifier == BusinessIdentifier(f"{BASE_URL}/Patient", "p1")


def test_the_preferred_identifier_must_be_one() -> None:
    """Two values in the preferred system would make two names for one patient."""
    patient = timeline()
    two = (BusinessIdentifier("mrn", "1"), BusinessIdentifier("mrn", "2"), BusinessIdentifier("a", "0"))
    twice = replace(patient, person=replace(patient.person, identifiers=two))
    assert subject_of(twice, base_url=BASE_URL).identifier == BusinessIdentifier("a", "0")
    with pytest.raises(MalformedResource, match="several identifiers"):
        subject_of(twice, base_url=BASE_URL, preferred_system="mrn")


def test_no_name_leaves_with_the_result() -> None:
    """References carry ids only: no display, no birth date, no identifier of the patient."""
    content = assessment().content.decode()
    words = set(re.findall(r"[0-9A-Za-z]+", content))  # whole words: a digest may hold any four digits
    assert "4711" not in words
    assert "1965" not in words


def test_a_month_that_is_too_short_ends_on_its_last_day() -> None:
    """Twelve months after 29 February is 28 February."""
    leap = LANDMARK.replace(year=2028, month=2, day=29)
    patient = replace(timeline(), landmark=Landmark(time=leap))
    written = _read(assessment(patient), "RiskAssessment")["prediction"][0]["whenPeriod"]
    assert written["end"].startswith("2029-02-28")


def test_the_transaction_can_be_taken_apart_again() -> None:
    """Every entry is found again by its id, and all but Provenance by an identifier of their own."""
    bundle = assessment()
    entries = entries_of(bundle.content)
    assert tuple(entry.reference for entry in entries) == bundle.resources
    assert [entry.identifier is not None for entry in entries] == [True] * 7 + [False]
    with pytest.raises(MalformedResource):
        entries_of(b'{"resourceType": "Bundle"}')
