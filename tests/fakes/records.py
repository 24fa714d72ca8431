"""Patient records, small: builders for one fact each, one whole patient, and hypothesis strategies over them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import strategies as st

from adapter.domain.ids import BusinessIdentifier, PatientId, ResourceVersion, StudyUid
from adapter.domain.period import Period
from adapter.domain.record import (
    Comparator,
    Diagnosis,
    ImagingReference,
    Measurement,
    MedicationEvent,
    PatientRecord,
    Person,
    ProcedureEvent,
)
from adapter.domain.tristate import TriState
from inference.contract import ModelContract, SequenceInput, StaticInput

ZONE = timezone(timedelta(hours=5, minutes=45))  # an odd offset: a local time taken for UTC shows at once
SURGERY = datetime(2025, 3, 10, 8, 0, tzinfo=ZONE)
PATHOLOGY_KNOWN = datetime(2025, 3, 20, 14, 0, tzinfo=ZONE)
CONTRACT = ModelContract(
    model_name="test",
    model_version="1",
    static=(
        StaticInput(name="age", feature="age_at_surgery", unit="a"),
        StaticInput(name="male", feature="sex", levels=(("male", 1.0), ("female", 0.0))),
        StaticInput(name="oral", feature="site_group", levels=(("oral_cavity", 1.0), ("larynx", 0.0))),
        StaticInput(name="pT", feature="pT", levels=(("pT2", 2.0), ("pT3", 3.0))),
        StaticInput(name="margin", feature="margin_class", levels=(("R0", 0.0), ("R1", 1.0))),
        StaticInput(name="nodes", feature="nodes_positive", unit="1"),
        StaticInput(name="hgb_before", feature="preoperative:hgb", unit="g/dL"),
    ),
    sequence=(
        SequenceInput(name="hgb", feature="hgb", unit="g/dL"),
        SequenceInput(name="crp", feature="crp", unit="mg/L"),
    ),
    sequence_length=4,
    horizon_quarters=20,
)
UNITS = {"hgb": "g/dL", "crp": "mg/L", "nodes_positive": "1", "margin_mm": "mm", "ecog": "1", "weight": "kg"}


def day(moment: datetime) -> Period:
    """The whole calendar day of a moment, as a FHIR date is read."""
    start = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return Period(earliest=start, latest=start + timedelta(days=1, microseconds=-1))


def measured(
    feature: str,
    value: float | str,
    *,
    at: datetime | Period = SURGERY,
    known: datetime | None = None,
    comparator: Comparator | None = None,
    source: str | None = None,
) -> Measurement:
    """One finding in its canonical unit; known when it was true unless said otherwise."""
    effective = at if isinstance(at, Period) else Period.instant(at)
    return Measurement(
        feature=feature,
        value=value,
        unit=None if isinstance(value, str) else UNITS[feature],
        comparator=comparator,
        effective=effective,
        known=known or effective.latest,
        source=ResourceVersion("Observation", source or feature.replace("_", "-"), "1"),
    )


def procedure(
    kind: str, at: datetime | Period = SURGERY, *, known: datetime | None = None, source: str | None = None
) -> ProcedureEvent:
    """Something done; known when it was done unless said otherwise."""
    performed = at if isinstance(at, Period) else Period.instant(at)
    return ProcedureEvent(
        kind=kind,
        performed=performed,
        known=known or performed.latest,
        source=ResourceVersion("Procedure", source or kind.replace("_", "-"), "1"),
    )


def diagnosis(
    kind: str = "hnscc",
    *,
    site_group: str | None = None,
    confirmed: TriState = TriState.TRUE,
    onset: Period | None = None,
    known: datetime = SURGERY - timedelta(days=30),
) -> Diagnosis:
    """A condition, known a month before surgery."""
    source = ResourceVersion("Condition", kind.replace("_", "-"), "1")
    return Diagnosis(kind=kind, site_group=site_group, confirmed=confirmed, onset=onset, known=known, source=source)


def person(*, birth: Period | None = None, deceased: TriState = TriState.FALSE, died: Period | None = None) -> Person:
    """A woman born in the summer of 1960."""
    return Person(
        patient_id=PatientId("p1"),
        identifiers=(BusinessIdentifier("urn:oid:1.2.3", "4711"),),
        birth=birth or day(datetime(1960, 7, 1, tzinfo=ZONE)),
        sex="female",
        deceased=deceased,
        died=died,
        known=SURGERY,
        source=ResourceVersion("Patient", "p1", "1"),
    )


def operated() -> PatientRecord:
    """A patient whose surgery, then pathology, became known: the decision landmark is `PATHOLOGY_KNOWN`."""
    before = SURGERY - timedelta(days=3)
    specimen = day(SURGERY)
    report = (("pT", "pT2"), ("pN", "pN1"), ("margin_class", "R0"), ("nodes_positive", 1.0))
    return PatientRecord(
        person=person(),
        diagnoses=(diagnosis(site_group="oral_cavity"),),
        procedures=(procedure("biopsy", SURGERY - timedelta(days=30)), procedure("definitive_resection")),
        measurements=(
            measured("hgb", 13.2, at=before, source="hgb-before"),
            measured("crp", 5.0, at=before, comparator=Comparator.LESS, source="crp-before"),
            *(measured(feature, value, at=specimen, known=PATHOLOGY_KNOWN) for feature, value in report),
        ),
    )


def with_measurements(record: PatientRecord, *measurements: Measurement) -> PatientRecord:
    """The record and more findings."""
    return replace(record, measurements=(*record.measurements, *measurements))


def without(record: PatientRecord, *features: str) -> PatientRecord:
    """The record with some features never measured."""
    kept = tuple(entry for entry in record.measurements if entry.feature not in features)
    return replace(record, measurements=kept)


_NUMBERS = {"hgb": (5.0, 20.0), "crp": (0.0, 400.0), "weight": (30.0, 200.0), "nodes_positive": (0.0, 30.0)}
_CATEGORIES = {
    "pT": ("pTX", "pT1", "pT2", "pT3", "pT4a"),
    "pN": ("pNX", "pN0", "pN1", "pN2b", "pN3b"),
    "margin_class": ("R0", "R1", "R2", "RX"),
    "ene_path": ("negative", "micro", "macro"),
    "histology": ("scc_keratinizing", "scc_basaloid"),
    "disease_status": ("no_evidence_of_disease", "stable", "recurrence", "distant_metastasis"),
}
_SECONDS_OF_TWO_YEARS = 2 * 365 * 86400


def moments(start: datetime, *, seconds: int = _SECONDS_OF_TWO_YEARS) -> st.SearchStrategy[datetime]:
    """Whole seconds from `start` on, written in one of three zones."""
    zones = st.sampled_from([UTC, ZONE, timezone(timedelta(hours=-8))])
    offsets = st.integers(min_value=0, max_value=seconds)
    return st.builds(lambda offset, zone: (start + timedelta(seconds=offset)).astimezone(zone), offsets, zones)


def measurements(
    known: st.SearchStrategy[datetime], *, features: Iterable[str] | None = None
) -> st.SearchStrategy[Measurement]:
    """Findings of any feature that became known when drawn, and were true up to a year earlier."""

    @st.composite
    def draw_one(draw: st.DrawFn) -> Measurement:
        feature = draw(st.sampled_from(sorted(features or {*_NUMBERS, *_CATEGORIES})))
        moment = draw(known)
        true_at = moment - timedelta(hours=draw(st.integers(0, 365 * 24)))
        number = st.floats(*_NUMBERS[feature]) if feature in _NUMBERS else st.nothing()
        category = st.sampled_from(_CATEGORIES[feature]) if feature in _CATEGORIES else st.nothing()
        comparators = [None, Comparator.LESS, Comparator.GREATER] if feature in _NUMBERS else [None]
        return measured(
            feature,
            draw(number | category),
            at=draw(st.sampled_from([Period.instant(true_at), Period(earliest=true_at, latest=moment)])),
            known=moment,
            comparator=draw(st.sampled_from(comparators)),
            source=f"o{draw(st.integers(0, 10_000))}",
        )

    return draw_one()


def procedures(known: st.SearchStrategy[datetime]) -> st.SearchStrategy[ProcedureEvent]:
    """Things done up to a month before they were known."""
    kinds = st.sampled_from(["definitive_resection", "re_resection", "biopsy", "radiotherapy_course", "tracheostomy"])
    return st.builds(
        lambda kind, moment, hours, number: procedure(
            kind, moment - timedelta(hours=hours), known=moment, source=f"s{number}"
        ),
        kinds,
        known,
        st.integers(0, 720),
        st.integers(0, 10_000),
    )


def diagnoses(known: st.SearchStrategy[datetime]) -> st.SearchStrategy[Diagnosis]:
    """Conditions of any standing, without onset."""
    kinds = st.sampled_from(["hnscc", "second_primary", "distant_metastasis", "heart_failure"])
    return st.builds(
        lambda kind, confirmed, moment: diagnosis(kind, confirmed=confirmed, known=moment),
        kinds,
        st.sampled_from(TriState),
        known,
    )


def medications(known: st.SearchStrategy[datetime]) -> st.SearchStrategy[MedicationEvent]:
    """Drugs given when they became known."""
    return st.builds(
        lambda ingredient, moment, number: MedicationEvent(
            ingredient=ingredient,
            given=Period.instant(moment),
            known=moment,
            source=ResourceVersion("MedicationAdministration", f"m{number}", "1"),
        ),
        st.sampled_from(["cisplatin", "pembrolizumab"]),
        known,
        st.integers(0, 10_000),
    )


def imaging(known: st.SearchStrategy[datetime]) -> st.SearchStrategy[ImagingReference]:
    """CT studies known when they started."""
    return st.builds(
        lambda moment, number: ImagingReference(
            study_uid=StudyUid(f"1.2.3.{number}"),
            modalities=("CT",),
            started=Period.instant(moment),
            known=moment,
            source=ResourceVersion("ImagingStudy", f"i{number}", "1"),
        ),
        known,
        st.integers(1, 10_000),
    )


@st.composite
def additions(draw: st.DrawFn, known: st.SearchStrategy[datetime]) -> PatientRecord:
    """Entries of every kind, each known when drawn, around the person of `operated`."""
    return PatientRecord(
        person=person(),
        measurements=tuple(draw(st.lists(measurements(known), max_size=8))),
        procedures=tuple(draw(st.lists(procedures(known), max_size=3))),
        diagnoses=tuple(draw(st.lists(diagnoses(known), max_size=3))),
        medications=tuple(draw(st.lists(medications(known), max_size=3))),
        imaging=tuple(draw(st.lists(imaging(known), max_size=3))),
    )


def merged(first: PatientRecord, second: PatientRecord) -> PatientRecord:
    """The first record with the second's entries behind its own."""
    return replace(
        first,
        measurements=first.measurements + second.measurements,
        procedures=first.procedures + second.procedures,
        diagnoses=first.diagnoses + second.diagnoses,
        medications=first.medications + second.medications,
        imaging=first.imaging + second.imaging,
    )


@st.composite
def shuffled(draw: st.DrawFn, record: PatientRecord) -> PatientRecord:
    """The same record with every list in another order."""
    return replace(
        record,
        measurements=tuple(draw(st.permutations(record.measurements))),
        procedures=tuple(draw(st.permutations(record.procedures))),
        diagnoses=tuple(draw(st.permutations(record.diagnoses))),
        medications=tuple(draw(st.permutations(record.medications))),
        imaging=tuple(draw(st.permutations(record.imaging))),
        quarantined=tuple(draw(st.permutations(record.quarantined))),
    )
