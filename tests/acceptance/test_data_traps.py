"""The eighteen traps of hospital data (clinical.md section 5), from the FHIR resource to the verdict it would move.

One test a trap, numbered as there. The many spellings of each stand with the decoder's own tests.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from adapter.decision.case import summary
from adapter.decision.findings import findings_at
from adapter.decision.policy import Policy, load_policy
from adapter.decision.rules import CodedFinding
from adapter.decision.tables import SHIPPED
from adapter.decision.verdicts import Decision, decide
from adapter.domain.ids import PatientId
from adapter.domain.landmark import Landmark
from adapter.domain.period import Period
from adapter.domain.record import Comparator, PatientRecord
from adapter.domain.timeline import Timeline
from adapter.domain.tristate import TriState
from adapter.errors import AmbiguousPatient
from adapter.fhir.decode import Reading, decode_record
from adapter.terminology import load_terminology
from tests.fakes.postoperative import timeline
from tests.fakes.raw_records import (
    LOINC,
    PATIENT,
    SNOMED,
    Resource,
    administration,
    concept,
    condition,
    observation,
    procedure,
    quantity,
    raw_record,
)
from tests.test_mappings import mod_ten_holds, verhoeff_holds

_READING = Reading(terminology=load_terminology())
_CREATININE = concept(LOINC, "2160-0", "Creatinine [Mass/volume] in Serum or Plasma")
_OWN = "urn:adjuvant:feature"
_VALUE = "urn:adjuvant:value"
_NOW = datetime(2025, 3, 21, 8, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def policy() -> Policy:
    """A site whose records are complete, so that only the trap decides."""
    return load_policy(site_folder=SHIPPED / "sandbox")


def _read(*resources: Resource) -> PatientRecord:
    return decode_record(raw_record(*resources), _READING)


def _refused(record: PatientRecord) -> list[str]:
    return [entry.reason for entry in record.quarantined]


def _chart(record: PatientRecord, without: tuple[str, ...] = ()) -> Timeline:
    """A man at high risk and fit for cisplatin, but for what the record says instead."""
    told = {entry.feature for entry in record.measurements} | set(without)
    base = timeline()
    shift = _NOW - base.landmark.time
    moved = tuple(
        replace(
            entry,
            effective=Period(earliest=entry.effective.earliest + shift, latest=entry.effective.latest + shift),
            known=entry.known + shift,
        )
        for entry in base.measurements
        if entry.feature not in told
    )
    operated = Period(
        earliest=base.index_surgery.performed.earliest + shift, latest=base.index_surgery.performed.latest + shift
    )
    surgery = replace(base.index_surgery, performed=operated)
    return replace(
        base,
        landmark=Landmark(time=_NOW),
        index_surgery=surgery,
        measurements=(*moved, *record.measurements),
        procedures=(surgery, *record.procedures),
        diagnoses=(*base.diagnoses, *record.diagnoses),
        medications=record.medications,
        quarantined=record.quarantined,
    )


def _decided(record: PatientRecord, policy: Policy, without: tuple[str, ...] = ()) -> Decision:
    return decide(findings_at(_chart(record, without), policy), policy)


def _verdict(decision: Decision, action: str = "CRT_Q3W") -> str:
    return next(entry.verdict.value for entry in decision.actions if entry.action == action)


def _said(decision: Decision) -> str:
    printed = summary(decision)["reasons"]
    return str(printed)


def test_the_chart_without_a_trap_gets_chemoradiation(policy: Policy) -> None:
    """The ground of every test below: with nothing wrong, chemoradiation is concordant."""
    assert _verdict(_decided(_read(), policy)) == "concordant"


def test_trap_01_an_egfr_under_a_creatinine_code_never_reaches_the_cisplatin_rule(policy: Policy) -> None:
    """EGFR 33 coded 2160-0 is quarantined; cisplatin is not assessable and the creatinine is asked for."""
    record = _read(observation({**_CREATININE, "text": "eGFR"}, valueQuantity=quantity(33, "mg/dL")))
    decision = _decided(record, policy, without=("creatinine",))
    assert _refused(record) == ["code-and-text-conflict"]
    assert _verdict(decision) == "not_assessable"
    assert "Missing: creatinine clearance, or creatinine and weight" in _said(decision)


def test_trap_02_a_number_packed_in_text_is_no_number(policy: Policy) -> None:
    """`33 (stage3:30-59)` as valueString is refused, not parsed."""
    record = _read(observation(_CREATININE, valueString="33 (stage3:30-59)"))
    assert _refused(record) == ["number-in-text"]
    assert _verdict(_decided(record, policy, without=("creatinine",))) == "not_assessable"


@pytest.mark.fault("F-24")
def test_trap_03_a_unit_that_is_missing_or_not_ucum_is_never_guessed_from_the_magnitude(policy: Policy) -> None:
    """Creatinine 80 without a unit, and in a unit nobody knows, are both refused; unit text alone is taken."""
    for unit, reason in ((None, "no-unit"), ("furlong", "unknown-unit")):
        record = _read(observation(_CREATININE, valueQuantity=quantity(80, unit)))
        assert _refused(record) == [reason]
        assert _verdict(_decided(record, policy, without=("creatinine",))) == "not_assessable"
    text_only = _read(observation(_CREATININE, valueQuantity={"value": 0.9, "unit": "mg/dL"}))
    assert _verdict(_decided(text_only, policy)) == "concordant"


@pytest.mark.fault("F-24")
@pytest.mark.parametrize(
    ("code", "value", "unit", "verdict"),
    [
        ("2160-0", 0.9, "mg/dL", "concordant"),
        ("14682-9", 80, "umol/L", "concordant"),
        ("2160-0", 2.3, "mg/dL", "contraindicated"),
        ("14682-9", 200, "umol/L", "contraindicated"),
    ],
)
def test_trap_04_creatinine_by_mass_and_by_moles_is_one_kidney(
    code: str, value: float, unit: str, verdict: str, policy: Policy
) -> None:
    """0.9 mg/dL is 80 umol/L, 2.3 is about 200: a factor of 88 never slips in."""
    record = _read(observation(concept(LOINC, code), valueQuantity=quantity(value, unit)))
    assert _verdict(_decided(record, policy)) == verdict


def test_trap_05_a_comparator_stays_an_interval(policy: Policy) -> None:
    """Platelets `> 90` leave cisplatin open and `< 90` forbid it: the sign is never dropped."""
    platelets = concept(LOINC, "777-3")
    above, below = (
        _read(observation(platelets, valueQuantity=quantity(90, "10*9/L", comparator=sign))) for sign in (">", "<")
    )
    assert above.measurements[0].comparator is Comparator.GREATER
    assert _verdict(_decided(above, policy)) == "not_assessable"
    assert _verdict(_decided(below, policy)) == "contraindicated"


def test_trap_06_components_of_one_observation_are_findings_of_their_own(policy: Policy) -> None:
    """A blood count as components, one of them in a bad unit: the others count, the bad one is listed."""
    record = _read(
        observation(
            concept(LOINC, "58410-2", "CBC panel"),
            component=[
                {"code": concept(LOINC, "718-7"), "valueQuantity": quantity(8.0, "g/dL")},
                {"code": concept(LOINC, "777-3"), "valueQuantity": quantity(250, None)},
            ],
        )
    )
    assert "no-unit" in _refused(record)
    decision = _decided(record, policy, without=("plt",))
    assert _verdict(decision) == "contraindicated"
    assert "CIS-BLOOD" in _said(decision)


def test_trap_07_a_local_code_is_counted_and_listed_not_guessed(policy: Policy) -> None:
    """`lab-7` means nothing without the site's row, whatever its text says."""
    local = {**concept("http://example.org/lab", "lab-7"), "text": "Creatinine"}
    record = _read(observation(local, valueQuantity=quantity(80, "umol/L")))
    assert _refused(record) == ["unmapped-code"]
    assert _verdict(_decided(record, policy, without=("creatinine",))) == "not_assessable"


@pytest.mark.fault("F-24")
def test_trap_08_what_was_entered_in_error_or_is_preliminary_is_not_used_and_a_correction_wins(policy: Policy) -> None:
    """An ECOG of 4 entered in error forbids nothing; a corrected margin replaces the first report."""
    ecog = concept(LOINC, "89247-1")
    for status in ("entered-in-error", "preliminary", "cancelled"):
        wrong = _read(observation(ecog, status=status, valueInteger=4))
        assert _refused(wrong) == ["status"]
        assert _verdict(_decided(wrong, policy)) == "concordant"
    number = [{"system": "urn:oid:1.2.3.9", "value": "report-7"}]
    first = observation(ecog, "a", identifier=number, valueInteger=0)
    corrected = observation(
        ecog, "b", identifier=number, valueInteger=3, status="corrected", issued="2025-03-20T15:00:00Z"
    )
    record = _read(first, corrected)
    assert _refused(record) == ["superseded"]
    assert _verdict(_decided(record, policy)) == "contraindicated"


def test_trap_09_a_stage_without_or_of_another_edition_is_not_converted(policy: Policy) -> None:
    """Edition 7 is out of scope, no edition leaves the scope open; neither gets a treatment."""
    stage = concept(SNOMED, "384625004")
    seventh = _read(observation(stage, method=concept(SNOMED, "443830009"), valueString="pT4a"))
    assert _decided(seventh, policy).scope is TriState.FALSE
    unsaid = _read(observation(stage, valueString="pT4a"))
    assert [entry.feature for entry in unsaid.measurements] == ["pT"]
    decision = _decided(unsaid, policy, without=("tnm_edition",))
    assert decision.scope is TriState.UNKNOWN
    assert _verdict(decision, "MDT") == "concordant"


@pytest.mark.fault("F-25")
def test_trap_10_a_partial_date_is_an_interval_and_a_time_without_an_offset_is_refused(policy: Policy) -> None:
    """A creatinine of `2025-03` may be 20 days old, so it is not recent; a zoneless time is no time."""
    partial = _read(observation(_CREATININE, effectiveDateTime="2025-03", valueQuantity=quantity(0.9, "mg/dL")))
    assert partial.measurements[0].effective.earliest == datetime(2025, 3, 1, tzinfo=UTC)
    assert _verdict(_decided(partial, policy)) == "not_assessable"
    for written in ("2025-03-20T10:00:00", "2025-3-00"):
        refused = _read(observation(_CREATININE, effectiveDateTime=written, valueQuantity=quantity(0.9, "mg/dL")))
        assert _refused(refused) == ["bad-date"]


@pytest.mark.fault("F-14")
def test_trap_11_merged_patients_are_one_only_where_they_do_not_contradict() -> None:
    """The former record's identifiers come along; another sex or birth date stops everything."""
    former: Resource = {**PATIENT, "id": "p0", "active": False, "identifier": [{"system": "urn:old", "value": "1"}]}
    person = decode_record(raw_record(people=(PATIENT, former)), _READING).person
    assert (person.patient_id, len(person.identifiers)) == (PatientId("p1"), 2)
    for conflict in ({"gender": "male"}, {"birthDate": "1970-01-01"}):
        with pytest.raises(AmbiguousPatient):
            decode_record(raw_record(people=(PATIENT, {**former, **conflict})), _READING)


def test_trap_12_negation_and_absence_are_two_things(policy: Policy) -> None:
    """Pn0 is no; a reason for absence is unknown; a refuted second primary is no; a not-done operation is none."""
    nerve = concept(SNOMED, "371513001")
    absent = _read(observation(nerve, valueCodeableConcept=concept(SNOMED, "370051000")))
    assert [(entry.feature, entry.value) for entry in absent.measurements] == [("pni", "absent")]
    nobody_knows = _read(observation(nerve, dataAbsentReason=concept(SNOMED, "261665006")))
    assert nobody_knows.measurements == ()
    undone = _read(procedure(concept("urn:adjuvant:procedure", "definitive-resection"), status="not-done"))
    assert (undone.procedures, _refused(undone)) == ((), ["status"])
    lung = concept("http://hl7.org/fhir/sid/icd-10", "C34.1")
    for status, scope in (("refuted", TriState.TRUE), ("provisional", TriState.UNKNOWN), ("confirmed", TriState.FALSE)):
        assert _decided(_read(condition(lung, status=status)), policy).scope is scope


def test_trap_13_radiological_extranodal_extension_never_drives_chemoradiation(policy: Policy) -> None:
    """Imaging says macro, pathology says none: not high risk, and the difference is said."""
    path, rad = (
        observation(
            concept(_OWN, feature),
            feature.replace("_", "-"),
            valueCodeableConcept=concept(_VALUE, f"{feature}:{value}"),
        )
        for feature, value in (("ene_path", "negative"), ("ene_rad", "macro"))
    )
    chart = replace(_chart(_read(path, rad), without=("pN",)))
    stage = replace(timeline().of("pN")[0], value="pN1", effective=Period.instant(_NOW), known=_NOW)
    decision = decide(findings_at(replace(chart, measurements=(*chart.measurements, stage)), policy), policy)
    assert decision.risk_group.value == "intermediate"
    assert "ENE-RADIOLOGICAL" in _said(decision)
    margin = concept(LOINC, "33737-8")
    for value, unit in ((0.3, "cm"), (3, "mm")):
        measured = _read(observation(margin, valueQuantity=quantity(value, unit))).measurements[0].value
        assert measured == pytest.approx(3.0)


@pytest.mark.fault("F-24")
def test_trap_14_a_contained_medication_is_resolved_and_a_broken_reference_is_not_guessed(policy: Policy) -> None:
    """Pembrolizumab inside its administration is found; a reference into nowhere is listed."""
    inside = administration(
        "m1",
        contained=[
            {
                "resourceType": "Medication",
                "id": "med1",
                "code": concept("http://www.nlm.nih.gov/research/umls/rxnorm", "1547545"),
            }
        ],
        medicationReference={"reference": "#med1"},
        effectiveDateTime="2025-01-10T10:00:00Z",
    )
    record = _read(inside)
    assert [entry.ingredient for entry in record.medications] == ["pembrolizumab"]
    assert _verdict(_decided(record, policy), "PEMBRO_ADJ") != "discordant"
    broken = _read(administration("m2", medicationReference={"reference": "#nowhere"}))
    assert (broken.medications, _refused(broken)) == ((), ["unresolved-reference"])


def test_trap_15_what_lies_outside_the_hard_limits_is_refused_and_never_clipped(policy: Policy) -> None:
    """A creatinine of 5,000 umol/L is an artefact; it neither forbids nor allows cisplatin."""
    record = _read(observation(concept(LOINC, "14682-9"), valueQuantity=quantity(5000, "umol/L")))
    assert _refused(record) == ["out-of-range"]
    assert record.measurements == ()
    assert _verdict(_decided(record, policy, without=("creatinine",))) == "not_assessable"


def test_trap_16_a_value_of_another_field_and_a_report_after_the_landmark_are_not_used() -> None:
    """`hpv_association_p16` is no grade; a margin issued after the landmark does not exist yet."""
    grade = _read(observation(concept(LOINC, "33732-9"), valueString="hpv_association_p16"))
    assert _refused(grade) == ["unknown-value"]
    margin = observation(concept(LOINC, "33737-8"), valueQuantity=quantity(1, "mm"), issued="2025-03-22T09:00:00Z")
    assert decode_record(raw_record(margin), _READING, _NOW).measurements == ()


def test_trap_17_published_misprints_fail_their_check_digit() -> None:
    """Each code that was published with a wrong digit is caught, and its correction passes."""
    assert not any(verhoeff_holds(code) for code in ("70709491003", "27708005"))
    assert verhoeff_holds("709491003")
    assert verhoeff_holds("277208005")
    assert not mod_ten_holds("1106630-7")


@pytest.mark.parametrize(
    ("system", "code"),
    [
        ("http://fhir.de/CodeSystem/bfarm/atc", "L01XC18"),
        ("http://fhir.de/CodeSystem/bfarm/atc", "L01FF02"),
        ("http://www.nlm.nih.gov/research/umls/rxnorm", "1547545"),
    ],
)
def test_trap_18_an_older_drug_code_is_the_same_drug(system: str, code: str, policy: Policy) -> None:
    """Neoadjuvant pembrolizumab is found under the ATC code of before 2022, of today, and in RxNorm."""
    record = _read(
        administration("m1", medicationCodeableConcept=concept(system, code), effectiveDateTime="2025-01-10T10:00:00Z")
    )
    found = findings_at(_chart(record), policy)["neoadjuvant_ici"]
    assert isinstance(found, CodedFinding)
    assert found.categories == {"yes"}
