"""Each trap of real hospital data (clinical.md section 5, standards.md F-24 and F-25): converted or refused by name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapter.domain.period import Period
from adapter.domain.record import Comparator, PatientRecord, RawRecord, RawResource
from adapter.domain.tristate import TriState
from adapter.errors import AmbiguousPatient, MalformedResource
from adapter.fhir import corrections, decode, known_time, refused, tnm
from adapter.fhir import values as value_reading
from adapter.fhir.decode import Reading, decode_record
from adapter.fhir.known_time import KnownTime
from adapter.terminology import Feature, load_terminology
from tests.fakes.raw_records import (
    ICD,
    LOINC,
    PATIENT,
    SNOMED,
    UCUM,
    Resource,
    administration,
    concept,
    condition,
    imaging_study,
    observation,
    procedure,
    quantity,
    raw_record,
    raw_resource,
)

_READING = Reading(terminology=load_terminology())
_CREATININE = concept(LOINC, "2160-0", "Creatinine [Mass/volume] in Serum or Plasma")
_HGB = concept(LOINC, "718-7")
_CRP = concept(LOINC, "1988-5")
_RESECTION = concept("urn:adjuvant:procedure", "definitive-resection")
_TONGUE = concept(ICD, "C02.9")
_KNOWN = datetime(2025, 3, 20, 12, 0, tzinfo=UTC)


def read(*resources: Resource) -> PatientRecord:
    """The record these resources make."""
    return decode_record(raw_record(*resources), _READING)


def values(record: PatientRecord) -> Mapping[str, float | str]:
    """Each feature and its value; a feature twice is a test's mistake."""
    found = {entry.feature: entry.value for entry in record.measurements}
    assert len(found) == len(record.measurements)
    return found


def reasons(record: PatientRecord) -> list[tuple[str, str]]:
    """Why entries were refused, with the detail."""
    return [(entry.reason, entry.detail) for entry in record.quarantined]


# 5.1 and 5.2: wrong code for right words, numbers in text


def test_an_egfr_under_a_creatinine_code_is_refused() -> None:
    """5.1: choosing either would put a wrong number into the cisplatin rule."""
    record = read(observation({**_code("2160-0"), "text": "eGFR"}, valueQuantity=quantity(15, "mg/dL")))
    assert reasons(record) == [("code-and-text-conflict", "creatinine")]
    assert record.measurements == ()


def test_the_published_egfr_row_is_refused_whichever_way_it_is_named() -> None:
    """5.1: `33 (stage3:30-59)` under 2160-0 was shown as a creatinine of 33 mg/dL; here it is no value at all."""
    record = read(observation(_CREATININE, valueString="33 (stage3:30-59)"))
    assert reasons(record) == [("number-in-text", "creatinine")]
    assert record.measurements == ()


@pytest.mark.parametrize(
    ("code", "display", "text", "unit"),
    [
        ("2160-0", "Creatinine [Mass/volume] in Serum or Plasma", "eGFR", "mg/dL"),
        ("2160-0", None, "eGFR (creatinine-based)", "mg/dL"),
        ("2160-0", None, "Creatinine clearance", "mg/dL"),
        ("2160-0", None, "Creatinine, urine", "mg/dL"),
        ("718-7", "Hemoglobin [Mass/volume] in Blood", "Platelets", "g/dL"),
        ("718-7", None, "Mean corpuscular hemoglobin concentration", "g/dL"),
        ("1751-7", None, "Albumin/Creatinine ratio", "g/L"),
    ],
)
def test_each_label_of_a_laboratory_test_counts(code: str, display: str | None, text: str, unit: str) -> None:
    """5.1: the right display of a wrong code does not outweigh what the laboratory itself calls the test."""
    record = read(observation({**concept(LOINC, code, display), "text": text}, valueQuantity=quantity(15, unit)))
    assert (record.measurements, [reason for reason, _ in reasons(record)]) == ((), ["code-and-text-conflict"])


def test_nerve_labelled_as_vessels_is_refused() -> None:
    """5.1: a published guide labels 371513001, invasion of a nerve, as lymphovascular."""
    vessels = {**concept(SNOMED, "371513001"), "text": "Lymphovascular invasion"}
    assert reasons(read(observation(vessels, valueString="Pn0"))) == [("code-and-text-conflict", "pni")]


@pytest.mark.parametrize("feature", list(_READING.terminology.features.values()), ids=lambda feature: feature.key)
def test_no_display_of_our_own_tables_contradicts_its_code(feature: Feature) -> None:
    """5.1: the check refuses mislabelled tests, and none of the names the standards give."""
    written = [concept(code.system, code.code, code.display) for code in feature.codes]
    record = read(*(observation(code, f"o{n}") for n, code in enumerate(written)))
    assert not [reason for reason, _ in reasons(record) if reason == "code-and-text-conflict"]


def test_codings_that_name_two_features_are_refused() -> None:
    """5.1: two codes, two meanings: neither is chosen."""
    both: Resource = {"coding": [*_coding("718-7"), *_coding("777-3")]}
    assert reasons(read(observation(both, valueQuantity=quantity(13, "g/dL")))) == [("conflicting-codes", "hgb plt")]


def test_codes_of_one_condition_that_name_two_sites_are_refused() -> None:
    """5.1: tongue and larynx at once is a question for the steward; the first coding is not an answer."""
    both: Resource = {"coding": [{"system": ICD, "code": "C02.9"}, {"system": ICD, "code": "C32.0"}]}
    record = read(condition(both))
    assert (record.diagnoses, reasons(record)) == ((), [("conflicting-codes", "")])


@pytest.mark.parametrize("text", ["2.3(  36.1%)", "1+ (80)", "1:20(-)", "13.2"])
def test_a_number_packed_in_text_is_refused(text: str) -> None:
    """5.2: a numeric feature needs a Quantity."""
    assert reasons(read(observation(_HGB, valueString=text))) == [("number-in-text", "hgb")]


# 5.3, 5.4: units


@pytest.mark.parametrize(
    ("code", "value", "unit", "converted"),
    [("2160-0", 1.0, "mg/dL", 88.42), ("14682-9", 80.0, "umol/L", 80.0), ("2160-0", 0.9, "mg/dL", 0.9 * 88.42)],
)
def test_creatinine_in_mass_or_moles_is_one_feature(code: str, value: float, unit: str, converted: float) -> None:
    """5.4: mg/dL becomes umol/L by the analyte's own factor, moles stay to the last bit."""
    assert values(read(observation(_code(code), valueQuantity=quantity(value, unit)))) == {"creatinine": converted}


@pytest.mark.fault("F-24")
def test_another_ucum_unit_of_the_same_dimension_is_converted() -> None:
    """F-24: the unit changes, the patient does not."""
    record = read(
        observation(_HGB, "o1", valueQuantity=quantity(132, "g/L")),
        observation(_code("8302-2"), "o2", valueQuantity=quantity(6, "[ft_i]")),
    )
    assert values(record) == pytest.approx({"hgb": 13.2, "height": 182.88})


def test_a_unit_given_as_text_only_is_taken_as_written() -> None:
    """5.3: JP-Core sends unit text without system and code."""
    assert values(read(observation(_HGB, valueQuantity={"value": 13.2, "unit": "g/dL"}))) == {"hgb": 13.2}


def test_a_missing_unit_is_refused() -> None:
    """5.3: nothing is assumed from the magnitude."""
    assert reasons(read(observation(_CREATININE, valueQuantity=quantity(1.1, None)))) == [("no-unit", "creatinine")]


@pytest.mark.fault("F-24")
@pytest.mark.parametrize("unit", ["furlong", "mL/min", "mg/g", "g/dl(calc)"])
def test_an_unknown_unit_or_dimension_is_refused(unit: str) -> None:
    """5.3, F-24: what does not convert is not used."""
    assert reasons(read(observation(_HGB, valueQuantity=quantity(13.2, unit)))) == [("unknown-unit", f"hgb {unit}")]


def test_a_unit_code_of_another_system_is_refused() -> None:
    """5.3: a SNOMED CT unit code is no UCUM code, even where it looks like one."""
    written = {"value": 13.2, "unit": "g/dL", "system": SNOMED, "code": "258795003"}
    assert reasons(read(observation(_HGB, valueQuantity=written))) == [("unknown-unit-system", "hgb")]


# 5.5: comparators


@pytest.mark.parametrize("sign", ["<", "<=", ">=", ">"])
def test_a_comparator_is_kept(sign: str) -> None:
    """5.5: `CRP < 0.5` is not a CRP of 0.5."""
    record = read(observation(_CRP, valueQuantity=quantity(0.5, "mg/L", comparator=sign)))
    assert [(entry.value, entry.comparator) for entry in record.measurements] == [(0.5, Comparator(sign))]


def test_an_unknown_comparator_is_refused() -> None:
    """5.5: R5 knows `ad`, R4 does not, and we know neither what to do with it."""
    record = read(observation(_CRP, valueQuantity=quantity(0.5, "mg/L", comparator="ad")))
    assert reasons(record) == [("unknown-comparator", "crp")]


# 5.6: panels


def test_every_component_of_a_panel_is_a_finding() -> None:
    """5.6: UICC-TNM and blood counts come as components of one Observation; a bad one does not spoil the rest."""
    record = read(
        observation(
            concept(LOINC, "58410-2", "CBC panel"),
            component=[
                {"code": _HGB, "valueQuantity": quantity(13.2, "g/dL")},
                {"code": _code("777-3"), "valueQuantity": quantity(250, "10*9/L")},
                {"code": _code("6690-2"), "valueQuantity": quantity(7, None)},
            ],
        )
    )
    assert values(record) == {"hgb": 13.2, "plt": 250}
    assert ("no-unit", "wbc") in reasons(record)
    assert {str(entry.source) for entry in record.measurements} == {"Observation/o1/_history/1"}


def test_a_panel_that_only_points_to_its_members_says_nothing_itself() -> None:
    """5.6: the members are Observations of their own and are read there."""
    record = read(observation(_HGB, hasMember=[{"reference": "Observation/o2"}]))
    assert (record.measurements, record.quarantined) == ((), ())


def _member(code: str, value: float, unit: str, **changes: object) -> Resource:
    result: Resource = {"resourceType": "Observation", "id": f"r{code}", "status": "final", "code": _code(code)}
    return {**result, "valueQuantity": quantity(value, unit), **changes}


@pytest.mark.parametrize("container", ["Observation", "DiagnosticReport"])
def test_contained_results_are_findings(container: str) -> None:
    """5.6, 5.14: a result inside its panel or report shares its times unless it has its own; a bad one is listed."""
    specimen = {"resourceType": "Specimen", "id": "s", "type": {"text": "blood"}}
    panel = observation(
        concept(LOINC, "58410-2"),
        contained=[
            specimen,
            _member("718-7", 13.2, "g/dL"),
            _member("6690-2", 7, "furlong"),
            _member("1988-5", 5, "mg/L", status="preliminary"),
            _member("2160-0", 1, "mg/dL", effectiveDateTime="never"),
            _member("777-3", 250, "10*9/L", effectiveDateTime="2025-03-19", issued="2025-03-21T00:00:00Z"),
        ],
    )
    record = read({**panel, "resourceType": container})
    assert values(record) == {"hgb": 13.2, "plt": 250}
    hgb, plt = record.measurements
    assert (hgb.effective.latest, hgb.known) == (datetime(2025, 3, 20, 10, 0, tzinfo=UTC), _KNOWN)
    assert (plt.effective.earliest, plt.known) == (
        datetime(2025, 3, 19, tzinfo=UTC),
        datetime(2025, 3, 21, tzinfo=UTC),
    )
    refused = [reason for reason, _ in reasons(record) if reason != "unmapped-code"]
    assert refused == ["unknown-unit", "status", "bad-date"]


@pytest.mark.parametrize("grade", range(5))
def test_ecog_is_one_feature_in_three_encodings(grade: int) -> None:
    """5.6: mCODE sends an integer, others a Quantity, MII a component whose answer is a concept."""
    finding = ["425389002", "422512005", "422894000", "423053003", "423237006"][grade]
    component = {"code": concept(SNOMED, "423740007"), "valueCodeableConcept": concept(SNOMED, finding)}
    record = read(
        observation(_code("89247-1"), "o1", valueInteger=grade),
        observation(_code("89247-1"), "o2", valueQuantity=quantity(grade, "1")),
        observation(concept(SNOMED, "423690003"), "o3", component=[component]),
    )
    assert [(entry.feature, entry.value) for entry in record.measurements] == [("ecog", float(grade))] * 3


@pytest.mark.parametrize(
    ("written", "category"),
    [("T4a", "pT4a"), ("pT4a", "pT4a"), ("pT4a(m)", "pT4a"), ("T2 (2)", "pT2"), ("pTis", "pTis"), ("PT3", "pT3")],
)
def test_uicc_text_is_read_with_its_suffixes(written: str, category: str) -> None:
    """Clinical.md 1b: `(m)` says that there are several tumours; the category of the largest stays."""
    assert values(read(observation(_code("21899-0"), valueString=written))) == {"pT": category}


def test_isolated_tumour_cells_are_no_nodal_metastasis() -> None:
    """Clinical.md 1b: `pN0(i+)` is pN0; `(sn)` says how the node was found."""
    parts = (observation(_code("21900-6"), f"o{n}", valueString=text) for n, text in enumerate(["pN0(i+)", "N0(sn)"]))
    assert {entry.value for entry in read(*parts).measurements} == {"pN0"}


@pytest.mark.parametrize("written", ["ypT2", "rT2", "yrpT2", "aT2"])
def test_a_stage_after_therapy_or_at_recurrence_is_not_the_primary_one(written: str) -> None:
    """Clinical.md 1b: ypT2 is what chemotherapy left of a tumour, not how large it was."""
    assert reasons(read(observation(_code("21899-0"), valueString=written))) == [("tnm-not-primary", "pT")]


@pytest.mark.parametrize("written", ["cT2", "pT2 or pT3", "T9", "no T4a"])
def test_text_that_is_no_category_of_the_feature_is_refused(written: str) -> None:
    """Clinical.md 1b: clinical and pathological are two features, and a sentence is not searched."""
    assert reasons(read(observation(_code("21899-0"), valueString=written))) == [("unknown-value", "pT")]


def test_the_edition_of_a_tnm_is_read_once() -> None:
    """5.9: the method of a TNM Observation is its edition; T and N in one Observation share it."""
    method = concept("urn:adjuvant:value", "tnm_edition:8")
    parts = [
        {"code": _code("21899-0"), "valueString": "T2"},
        {"code": _code("21900-6"), "valueString": "pN1"},
    ]
    record = read(observation(concept(SNOMED, "399588009"), method=method, component=parts))
    assert values(record) == {"pT": "pT2", "pN": "pN1", "tnm_edition": "8"}


def test_without_a_method_no_edition_is_made_up() -> None:
    """5.9: a date is no edition."""
    assert values(read(observation(_code("21899-0"), valueString="T2"))) == {"pT": "pT2"}


# 5.7: local codes


def test_local_codes_are_counted_and_listed() -> None:
    """5.7: what no table knows is not dropped in silence; an entry names the code and how often it came."""
    local = concept("urn:oid:9.9.9", "lab-1")
    record = read(*(observation(local, f"o{n}", valueQuantity=quantity(5, "mmol/L")) for n in range(3)))
    assert [(entry.source, entry.reason, entry.detail, entry.known) for entry in record.quarantined] == [
        ("Observation urn:oid:9.9.9|lab-1", "unmapped-code", "3 times", _KNOWN)
    ]


def test_more_local_codes_than_can_be_shown_are_counted() -> None:
    """5.7: the twenty most frequent are named, the rest stand in one line."""
    locals_ = (observation(concept("urn:oid:9.9.9", f"lab-{n}"), f"o{n}") for n in range(25))
    listed = read(*locals_).quarantined
    assert len(listed) == 21
    assert listed[-1].detail == "and 5 further codes"


# 5.8: status and corrections


@pytest.mark.fault("F-24")
@pytest.mark.parametrize("status", ["entered-in-error", "cancelled", "preliminary", "registered", "unknown", None])
def test_what_is_not_final_is_not_used(status: str | None) -> None:
    """5.8, F-24: withdrawn or unfinished results are listed with their status."""
    record = read(observation(_HGB, status=status, valueQuantity=quantity(13, "g/dL")))
    assert (record.measurements, reasons(record)) == ((), [("status", status or "missing")])


@pytest.mark.parametrize("status", ["final", "amended", "corrected"])
def test_final_and_corrected_results_are_used(status: str) -> None:
    """5.8: a correction is a result."""
    assert values(read(observation(_HGB, status=status, valueQuantity=quantity(13, "g/dL")))) == {"hgb": 13}


def _reports(**newer: object) -> tuple[Resource, Resource]:
    number = [{"system": "urn:oid:1.2.3.9", "value": "report-7"}]
    margin = concept(LOINC, "33737-8", "Distance of margin")
    older = observation(margin, "a", identifier=number, valueQuantity=quantity(6, "mm"))
    later = {"identifier": number, "valueQuantity": quantity(1, "mm"), "issued": "2025-03-22T09:00:00Z"}
    return older, observation(margin, "b", **{**later, **newer})


def test_a_correction_replaces_what_it_corrects() -> None:
    """5.8: of two reports with one identifier the last issued counts; the older is listed, known since then."""
    record = read(*_reports(status="corrected", effectiveDateTime="2025-03-19"))
    assert values(record) == {"margin_mm": 1}
    (entry,) = record.quarantined
    assert (entry.source, entry.reason, entry.detail) == ("Observation/a/_history/1", "superseded", "by Observation/b")
    assert entry.known == datetime(2025, 3, 22, 9, 0, tzinfo=UTC)


def test_before_the_correction_came_the_first_report_stands() -> None:
    """Law 1: read as the hospital stood then, the correction does not exist yet."""
    record = decode_record(raw_record(*_reports(status="corrected")), _READING, _KNOWN + timedelta(days=1))
    assert (values(record), record.quarantined) == ({"margin_mm": 6}, ())


def test_a_withdrawn_correction_replaces_nothing() -> None:
    """5.8: an entry in error is not a newer truth."""
    record = read(*_reports(status="entered-in-error"))
    assert (values(record), reasons(record)) == ({"margin_mm": 6}, [("status", "entered-in-error")])


def test_a_series_under_one_order_number_is_kept() -> None:
    """5.8: laboratories give one number to many measurements; another time is another measurement."""
    record = read(*_reports(effectiveDateTime="2025-03-22T08:00:00Z"))
    assert (len(record.measurements), record.quarantined) == (2, ())


def test_another_finding_under_one_order_number_is_kept() -> None:
    """5.8: the same number under another code is another finding of one report."""
    record = read(*_reports(code=concept(LOINC, "33728-7", "Size"), status="corrected"))
    assert (values(record), record.quarantined) == ({"margin_mm": 6, "tumor_size": 1}, ())


def test_a_copy_under_a_merged_patient_counts_once() -> None:
    """5.11: the same Observation under two ids shares its identifier."""
    record = read(*_reports(issued=None, valueQuantity=quantity(6, "mm")))
    assert (values(record), [entry.reason for entry in record.quarantined]) == ({"margin_mm": 6}, ["superseded"])


# 5.10, F-25: times


def test_a_partial_date_stays_an_interval() -> None:
    """5.10: `2025-03` is never given a day."""
    record = read(observation(_HGB, effectiveDateTime="2025-03", valueQuantity=quantity(13, "g/dL")))
    assert record.measurements[0].effective == Period(
        earliest=datetime(2025, 3, 1, tzinfo=UTC), latest=datetime(2025, 4, 1, tzinfo=UTC) - timedelta(microseconds=1)
    )


@pytest.mark.fault("F-25")
@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("2025-03-20T10:00:00", "a time without an offset"),
        ("2012-2-00", "not a FHIR date"),
        ("1899-12-31", "outside 1900 to 2200"),
        ("2300-01-01", "outside 1900 to 2200"),
    ],
)
def test_a_time_that_cannot_be_placed_is_refused(written: str, why: str) -> None:
    """5.10, F-25: refused with the reason, and known since it was reported."""
    record = read(observation(_HGB, effectiveDateTime=written, valueQuantity=quantity(13, "g/dL")))
    assert reasons(record) == [("bad-date", why)]
    assert record.quarantined[0].known == _KNOWN


def test_a_surgery_with_an_unreadable_date_is_named_as_one() -> None:
    """5.10: `no surgery` and `a surgery with a bad date` are different answers; standing reads the kind here."""
    record = read(procedure(_RESECTION, performedDateTime="2012-2-00"))
    assert reasons(record) == [("bad-date", "definitive_resection: not a FHIR date")]


def test_a_result_that_was_never_dated_is_refused() -> None:
    """5.10: the day a result was issued is not the day it was true."""
    record = read(observation(_HGB, effectiveDateTime=None, valueQuantity=quantity(13, "g/dL")))
    assert reasons(record) == [("no-effective-time", "")]


def test_a_migrated_condition_without_a_date_is_refused() -> None:
    """Law 1: the day of a migration is not the day of a diagnosis."""
    reading = replace(_READING, known_time=KnownTime.EFFECTIVE_PLUS_DELAY)
    undated = raw_record(condition(_TONGUE, recordedDate=None))
    assert reasons(decode_record(undated, reading)) == [("no-effective-time", "")]
    assert read(condition(_TONGUE, recordedDate=None)).diagnoses[0].known == _KNOWN


@pytest.mark.fault("F-25")
def test_an_unreadable_reporting_time_hides_nothing() -> None:
    """F-25: what cannot be placed is refused and shown at every landmark."""
    broken = observation(_HGB, issued="yesterday", valueQuantity=quantity(13, "g/dL"))
    record = decode_record(raw_record(broken), _READING, datetime(2020, 1, 1, tzinfo=UTC))
    assert [(entry.reason, entry.known) for entry in record.quarantined] == [("bad-date", None)]


def test_a_result_without_any_reporting_time_is_refused() -> None:
    """Law 1: without issued and lastUpdated nobody can say when the hospital had it."""
    record = read(observation(_HGB, issued=None, meta=None, valueQuantity=quantity(13, "g/dL")))
    assert reasons(record) == [("no-known-time", "")]


def test_a_late_report_is_known_when_it_was_issued() -> None:
    """Law 1: true on the day of surgery, known when the report came."""
    (entry,) = read(observation(_HGB, valueQuantity=quantity(13, "g/dL"))).measurements
    assert (entry.effective.latest, entry.known) == (datetime(2025, 3, 20, 10, 0, tzinfo=UTC), _KNOWN)


def test_migrated_records_are_known_after_the_usual_delay() -> None:
    """Law 1: where `lastUpdated` means the day of the migration, the table's delay stands in for it."""
    reading = replace(_READING, known_time=KnownTime.EFFECTIVE_PLUS_DELAY)
    raw = raw_record(
        observation(_HGB, "o1", issued=None, valueQuantity=quantity(13, "g/dL")),
        observation(_code("33737-8"), "o2", issued=None, valueQuantity=quantity(3, "miles per hour")),
        procedure(_RESECTION),
    )
    record = decode_record(raw, reading)
    true_at = datetime(2025, 3, 20, 10, 0, tzinfo=UTC)
    assert record.measurements[0].known == true_at + timedelta(days=1)
    assert record.procedures[0].known == true_at
    assert record.quarantined[0].known == true_at + timedelta(days=10)


# 5.11: merged patients


def _former(**elements: object) -> Resource:
    return {**PATIENT, "id": "p0", "active": False, **elements}


def _merged(former: Resource) -> RawRecord:
    return raw_record(people=(PATIENT, former))


def test_merged_patients_share_their_identifiers() -> None:
    """5.11: the surviving Patient answers to every number that is still in use."""
    numbers = [{"system": "urn:oid:1.2.3", "value": "0815"}, {"system": "urn:oid:1.2.3", "value": "9", "use": "old"}]
    person = decode_record(_merged(_former(identifier=numbers)), _READING).person
    assert (person.patient_id, [entry.value for entry in person.identifiers]) == ("p1", ["0815", "4711"])


@pytest.mark.parametrize("conflict", [{"gender": "male"}, {"birthDate": "1961-07-01"}])
def test_merged_patients_that_contradict_each_other_are_refused(conflict: Resource) -> None:
    """5.11: a wrong merge mixes two people; nothing of it is used."""
    with pytest.raises(AmbiguousPatient, match=next(iter(conflict)).replace("birthDate", "birth_date")):
        decode_record(_merged(_former(**conflict)), _READING)


def test_an_unknown_sex_contradicts_nothing() -> None:
    """5.11: not recorded is not other."""
    assert decode_record(_merged(_former(gender="unknown")), _READING).person.sex == "female"


def test_a_record_without_its_patient_is_refused() -> None:
    """Without the Patient nothing else has an owner."""
    with pytest.raises(MalformedResource, match="not in its own record"):
        decode_record(raw_record(people=()), _READING)


@pytest.mark.parametrize("broken", [{"birthDate": 1960}, {"birthDate": "1960-13"}, {"meta": {}}])
def test_an_unreadable_patient_is_refused_by_our_own_error(broken: Resource) -> None:
    """A library's error never leaves the room."""
    with pytest.raises(MalformedResource, match="p1"):
        decode_record(raw_record(people=({**PATIENT, **broken},)), _READING)


# 5.12: negation and absence


@pytest.mark.parametrize(
    ("status", "confirmed"),
    [("confirmed", TriState.TRUE), ("refuted", TriState.FALSE), ("provisional", TriState.UNKNOWN)],
)
def test_a_refuted_condition_is_a_no_and_a_provisional_one_unknown(status: str, confirmed: TriState) -> None:
    """5.12: three answers, three values."""
    assert [entry.confirmed for entry in read(condition(_TONGUE, status=status)).diagnoses] == [confirmed]


def test_a_condition_without_a_status_is_not_confirmed() -> None:
    """5.12: silence is unknown."""
    assert read(condition(_TONGUE, status=None)).diagnoses[0].confirmed is TriState.UNKNOWN


@pytest.mark.parametrize("status", ["not-done", "entered-in-error", "preparation", "in-progress"])
def test_a_procedure_that_was_not_completed_is_not_one(status: str) -> None:
    """5.12: not done is listed, and never a surgery."""
    record = read(procedure(_RESECTION, status=status))
    assert (record.procedures, reasons(record)) == ((), [("status", status)])


def test_a_withdrawn_condition_or_study_is_listed() -> None:
    """5.8: entered in error is neither used nor dropped in silence."""
    record = read(condition(_TONGUE, status="entered-in-error"), imaging_study(status="entered-in-error"))
    assert (record.diagnoses, record.imaging) == ((), ())
    assert reasons(record) == [("status", "entered-in-error")] * 2


def test_a_reason_for_absence_is_an_absence() -> None:
    """5.12: `not tested` is no category and no zero, whatever else stands there."""
    absent = concept("http://terminology.hl7.org/CodeSystem/data-absent-reason", "not-performed")
    record = read(
        observation(concept("urn:adjuvant:feature", "p16"), "o1", dataAbsentReason=absent),
        observation(_HGB, "o2", dataAbsentReason=absent, valueQuantity=quantity(0, "g/dL")),
    )
    assert (record.measurements, record.quarantined) == ((), ())


def test_a_category_that_no_table_knows_is_refused() -> None:
    """5.12: `no evidence of` in free text is not searched for words."""
    record = read(observation(concept(SNOMED, "371513001"), valueString="no evidence of invasion"))
    assert reasons(record) == [("unknown-value", "pni")]


# 5.14: contained resources


def test_a_contained_medication_is_resolved() -> None:
    """5.14: `#med1` stands inside the resource itself."""
    medication = {"resourceType": "Medication", "id": "med1", "code": concept("http://www.whocc.no/atc", "L01XA01")}
    record = read(administration(contained=[medication], medicationReference={"reference": "#med1"}))
    assert [entry.ingredient for entry in record.medications] == ["cisplatin"]


def test_a_reference_that_leads_nowhere_is_refused() -> None:
    """5.14: broken is unknown, and said so."""
    record = read(administration(medicationReference={"reference": "#med2"}))
    assert reasons(record) == [("unresolved-reference", "")]


# 5.15: out of range


@pytest.mark.parametrize(
    ("code", "value", "unit"), [("8302-2", 250, "cm"), ("718-7", -1, "g/dL"), ("718-7", 132, "g/dL")]
)
def test_a_number_outside_the_hard_range_is_refused(code: str, value: float, unit: str) -> None:
    """5.15: neither clipped nor converted by guess: 132 g/dL is not taken for 132 g/L."""
    assert [reason for reason, _ in reasons(read(observation(_code(code), valueQuantity=quantity(value, unit))))] == [
        "out-of-range"
    ]


# F-24: what FHIR allows beside


@pytest.mark.fault("F-24")
def test_a_modifier_extension_forbids_use() -> None:
    """F-24: it may turn the meaning round, and we know none."""
    modifier = [{"url": "urn:example:refuted", "valueBoolean": True}]
    record = read(
        observation(_HGB, valueQuantity=quantity(13, "g/dL"), modifierExtension=modifier),
        procedure(_RESECTION, modifierExtension=modifier),
        condition(_TONGUE, modifierExtension=modifier),
        administration(modifierExtension=modifier),
        imaging_study(modifierExtension=modifier),
    )
    assert list(record.dated()) == []
    assert [reason for reason, _ in reasons(record)] == ["modifier-extension"] * 5


@pytest.mark.fault("F-24")
def test_a_modifier_extension_of_a_component_spoils_that_component() -> None:
    """F-24: the modifier stands in the part that it turns round; the other parts are used."""
    turned = {"code": _HGB, "valueQuantity": quantity(13, "g/dL"), "modifierExtension": [{"url": "urn:example:not"}]}
    plain = {"code": _CRP, "valueQuantity": quantity(5, "mg/L")}
    record = read(observation(concept(LOINC, "58410-2"), component=[turned, plain]))
    assert values(record) == {"crp": 5}
    assert ("modifier-extension", "hgb") in reasons(record)


@pytest.mark.fault("F-24")
def test_implicit_rules_forbid_use() -> None:
    """F-24: FHIR R4 says not to process a resource whose implicit rules one does not know."""
    record = read(observation(_HGB, valueQuantity=quantity(13, "g/dL"), implicitRules="urn:example:rules"))
    assert (record.measurements, reasons(record)) == ((), [("implicit-rules", "")])


@pytest.mark.fault("F-24")
@pytest.mark.parametrize("modifier", [{"modifierExtension": [{"url": "urn:x"}]}, {"implicitRules": "urn:x"}])
def test_a_patient_with_an_unknown_modifier_is_refused(modifier: Resource) -> None:
    """F-24: who it is may be turned round as well."""
    with pytest.raises(MalformedResource, match="modifier"):
        decode_record(raw_record(people=({**PATIENT, **modifier},)), _READING)


@pytest.mark.fault("F-24")
def test_elements_we_do_not_know_are_tolerated() -> None:
    """F-24: FHIR R4 asks a client to ignore what it does not need."""
    extra = {"extension": [{"url": "urn:example", "valueString": "x"}], "performer": [{"display": "y"}], "new": 1}
    assert values(read(observation(_HGB, valueQuantity={**quantity(13, "g/dL"), "extra": []}, **extra))) == {"hgb": 13}


@pytest.mark.fault("F-23")
@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"resourceType": "Observation", "code"', b'{"code": {"coding": 7}}', b"\xff\xfe", b"NaN"],
)
def test_a_resource_that_is_not_one_is_refused_and_the_rest_goes_on(content: bytes) -> None:
    """F-23: one broken resource costs one resource."""
    good = raw_record(observation(_HGB, valueQuantity=quantity(13, "g/dL")))
    broken = RawResource(version=raw_resource(observation(_HGB, "o9")).version, content=content)
    record = decode_record(replace(good, resources=(*good.resources, broken)), _READING)
    assert values(record) == {"hgb": 13}
    assert [entry.reason for entry in record.quarantined] == ["malformed"]


@pytest.mark.fault("F-23")
@pytest.mark.parametrize("value", ["13.2", True, None, [13.2]])
def test_a_number_that_is_no_number_is_refused(value: object) -> None:
    """F-23: JSON types are not converted into each other."""
    record = read(observation(_HGB, valueQuantity={"value": value, "code": "g/dL", "system": UCUM}))
    assert record.measurements == ()
    assert [entry.reason for entry in record.quarantined] == ["no-value" if value is None else "malformed"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"identifier": []}, "no-study-uid"),
        ({"identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.02.3"}]}, "bad-study-uid"),
        ({"started": None}, "no-effective-time"),
    ],
)
def test_an_imaging_study_without_identity_or_time_is_refused(change: Resource, reason: str) -> None:
    """A study that cannot be asked for by its UID, or placed in time, is listed."""
    assert [entry.reason for entry in read(imaging_study(**change)).quarantined] == [reason]


def test_an_imaging_study_is_read_with_its_uid() -> None:
    """The prefix `urn:oid:` is FHIR's, not DICOM's."""
    (study,) = read(imaging_study()).imaging
    assert (study.study_uid, study.modalities) == ("1.2.840.1", ("CT",))


def test_nothing_refused_shows_a_value() -> None:
    """Quarantine holds ids and codes: no number, no text and no date of the patient."""
    record = read(
        observation(_HGB, "o1", valueQuantity=quantity(777.25, "g/dL")),
        observation(_HGB, "o2", valueString="secret 777.25"),
        observation(concept(LOINC, "21899-0"), "o3", valueString="secret 777.25"),
        observation(_HGB, "o4", effectiveDateTime="1777-01-01", valueQuantity=quantity(777.25, "g/dL")),
    )
    assert len(record.quarantined) == 4
    assert not any(word in repr(record.quarantined) for word in ("777", "secret"))


def test_every_reason_is_explained() -> None:
    """A steward who reads a reason on a result finds it in the list, and who mends it."""
    sources = [inspect.getsource(module) for module in (decode, corrections, known_time, refused, tnm, value_reading)]
    raised = {found for text in sources for found in re.findall(r'(?:Refused\(|reason=)"([a-z-]+)"', text)}
    listed = set(re.findall(r"`([a-z-]+)`", (Path(__file__).parents[3] / "docs" / "quarantine.md").read_text()))
    assert raised >= {"superseded", "unmapped-code", "no-unit", "bad-date"}
    assert raised - listed == set()


def _coding(code: str) -> list[Resource]:
    return [{"system": LOINC, "code": code}]


def _code(code: str) -> Resource:
    return {"coding": _coding(code)}
