"""What the pretend hospital writes is what we read: to the last bit, for every kind of entry."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import mappings
from adapter.domain.ids import ResourceVersion
from adapter.domain.period import Period
from adapter.domain.record import Measurement, PatientRecord
from adapter.domain.tristate import TriState
from adapter.features.timeline import Dated
from adapter.fhir.client import FhirClient
from adapter.fhir.decode import Reading, decode_record
from adapter.fhir.elements import period_of
from adapter.fhir.fetch import fetch_record
from adapter.sandbox.fhir_server import FhirServer
from adapter.sandbox.resources import fhir_resources
from adapter.terminology import load_terminology
from tests.fakes.raw_records import as_raw
from tests.fakes.records import PATHOLOGY_KNOWN, SURGERY, additions, measured, merged, moments, operated

_TERMINOLOGY = load_terminology()
_ZONE = ZoneInfo("Asia/Kathmandu")  # the records' own, so that their days are days here
_READING = Reading(terminology=_TERMINOLOGY, zone=_ZONE)


def _categories(feature: str) -> list[str]:
    """What the shipped value sets list for a feature."""
    table = Path(str(mappings.__file__)).parent / "value_sets.toml"
    rows = tomllib.loads(table.read_text(encoding="utf-8"))["value"]
    return [row["category"] for row in rows if row["feature"] == feature]


def _operated() -> PatientRecord:
    """The operated patient, born on a day of the zone as it was then: Kathmandu moved its clocks in 1986."""
    record = operated()
    return replace(record, person=replace(record.person, birth=period_of("1960-07-01", _ZONE)))


def in_one_order(record: PatientRecord) -> PatientRecord:
    """The record with its lists sorted: a server answers in an order of its own."""
    return replace(
        record,
        measurements=tuple(sorted(record.measurements, key=_order)),
        procedures=tuple(sorted(record.procedures, key=_order)),
        diagnoses=tuple(sorted(record.diagnoses, key=_order)),
        medications=tuple(sorted(record.medications, key=_order)),
        imaging=tuple(sorted(record.imaging, key=_order)),
    )


def _order(entry: Dated) -> tuple[object, ...]:
    return entry.source, entry.feature if isinstance(entry, Measurement) else ""


def _has_one_entry_per_source(record: PatientRecord) -> bool:
    sources = [entry.source for entry in record.dated()]
    return len(set(sources)) == len(sources)


@given(additions(moments(SURGERY)))
@settings(max_examples=150)
def test_reading_undoes_writing(added: PatientRecord) -> None:
    """decode(fhir_resources(record)) == record: values, units, comparators, periods and times known."""
    record = merged(_operated(), added)
    assume(_has_one_entry_per_source(record))
    assert in_one_order(decode_record(as_raw(record, _TERMINOLOGY, zone=_ZONE), _READING)) == in_one_order(record)


@given(st.floats(min_value=3.0, max_value=22.0))
def test_a_number_keeps_its_last_bit(number: float) -> None:
    """A float is written with the digits that read back as itself."""
    record = replace(_operated(), measurements=(measured("hgb", number),))
    assert decode_record(as_raw(record, _TERMINOLOGY, zone=_ZONE), _READING).measurements[0].value == number


def test_every_row_of_every_table_reads_back() -> None:
    """Each feature with each of its answers, and both ends of its range, survives FHIR: a cohort loses nothing."""
    answers = [
        (feature.key, value)
        for feature in _TERMINOLOGY.features.values()
        for value in (_categories(feature.key) if feature.kind == "code" else feature.hard or ())
    ]
    measurements = tuple(
        replace(
            measured("hgb", 13.0, known=PATHOLOGY_KNOWN),
            feature=feature,
            value=value,
            unit=_TERMINOLOGY.features[feature].unit,
            source=ResourceVersion("Observation", f"o{number:04}", "1"),
        )
        for number, (feature, value) in enumerate(answers)
    )
    record = replace(_operated(), measurements=measurements)
    read = decode_record(as_raw(record, _TERMINOLOGY, zone=_ZONE), _READING)
    assert in_one_order(read) == in_one_order(record)


def test_a_time_before_whole_offsets_is_written_in_utc() -> None:
    """In 1900 Shanghai stood 8:05:43 from Greenwich; a FHIR offset has no seconds."""
    moment = datetime(1900, 6, 1, 12, 0, tzinfo=ZoneInfo("Asia/Shanghai"))
    entry = replace(measured("hgb", 13.0, known=moment), effective=Period.instant(moment))
    record = replace(_operated(), measurements=(entry,))
    written = fhir_resources(record, _TERMINOLOGY, family_name="x", zone=_ZONE)
    (found,) = [one for one in written if one["resourceType"] == "Observation"]
    assert found["issued"] == found["effectiveDateTime"] == "1900-06-01T03:54:17Z"


def test_findings_of_one_source_become_one_observation() -> None:
    """A TNM with its edition and a second category is one Observation with method and component."""
    source = ResourceVersion("Observation", "tnm", "1")
    findings = tuple(
        replace(measured(feature, value, known=PATHOLOGY_KNOWN), source=source)
        for feature, value in (("pT", "pT2"), ("pN", "pN1"), ("tnm_edition", "8"))
    )
    record = replace(_operated(), measurements=findings)
    assert in_one_order(decode_record(as_raw(record, _TERMINOLOGY, zone=_ZONE), _READING)) == in_one_order(record)
    written = [one for one in fhir_resources(record, _TERMINOLOGY, family_name="x", zone=_ZONE) if one["id"] == "tnm"]
    assert [sorted({"method", "component"} & one.keys()) for one in written] == [["component", "method"]]


def test_every_precision_of_a_birth_date_reads_back() -> None:
    """A year, a month, a day and a moment each come back as the interval they were."""
    for start, end in (
        (datetime(1960, 1, 1, tzinfo=_ZONE), datetime(1961, 1, 1, tzinfo=_ZONE)),
        (datetime(1960, 12, 1, tzinfo=_ZONE), datetime(1961, 1, 1, tzinfo=_ZONE)),
        (datetime(1960, 2, 29, tzinfo=_ZONE), datetime(1960, 3, 1, tzinfo=_ZONE)),
    ):
        birth = Period(earliest=start, latest=end - timedelta(microseconds=1))
        record = replace(_operated(), person=replace(_operated().person, birth=birth))
        assert decode_record(as_raw(record, _TERMINOLOGY, zone=_ZONE), _READING).person == record.person


def test_a_death_reads_back() -> None:
    """A dated death is TRUE; without a date it is as true; nothing recorded stays unknown."""
    died = Period.instant(datetime(2026, 1, 1, tzinfo=_ZONE))
    for deceased, moment in ((TriState.TRUE, died), (TriState.TRUE, None), (TriState.UNKNOWN, None)):
        record = replace(_operated(), person=replace(_operated().person, deceased=deceased, died=moment))
        assert decode_record(as_raw(record, _TERMINOLOGY, zone=_ZONE), _READING).person == record.person


def test_every_resource_says_that_it_is_simulated() -> None:
    """Nothing of the pretend hospital can be taken for a patient."""
    for resource in fhir_resources(_operated(), _TERMINOLOGY, family_name="Simulated", zone=_ZONE):
        assert "simulated" in str(resource["meta"])


def test_a_record_survives_a_real_server() -> None:
    """Written over HTTP at the moment each entry became known, fetched page by page, decoded: the same record."""
    record = _operated()
    moments_known = {entry.source.resource_id: entry.known for entry in record.dated()}
    moments_known[str(record.person.patient_id)] = record.person.known
    now = [record.person.known]
    with FhirServer(lambda: now[0]) as server, FhirClient(server.base_url) as client:
        written = fhir_resources(record, _TERMINOLOGY, family_name="Simulated", zone=_ZONE)
        for resource in sorted(written, key=lambda one: moments_known[str(one["id"])]):
            now[0] = moments_known[str(resource["id"])]
            httpx.put(f"{server.base_url}/{resource['resourceType']}/{resource['id']}", json=resource)
        read = decode_record(fetch_record(client, record.person.patient_id), _READING)
    assert list(_differences(in_one_order(read), in_one_order(record))) == []


def _differences(read: PatientRecord, written: PatientRecord) -> Iterator[str]:
    """Entries that differ, but for the microseconds by which a server keeps its clock strictly rising."""
    tolerance = timedelta(milliseconds=1)
    if replace(read.person, known=written.person.known) != written.person:
        yield "person"
    for one, other in zip(read.dated(), written.dated(), strict=True):
        if replace(one, known=other.known) != other or abs(one.known - other.known) > tolerance:
            yield str(other.source)
