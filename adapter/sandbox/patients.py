"""Simulated patients: plausible courses over months, drawn from a seed. No real person, no claim about any.

Assumptions, all round figures chosen to look ordinary and never used for training: age 63 +/- 10 years and three men
in four; oral cavity before larynx and hypopharynx; pathology 7 to 12 days after surgery; blood within the 1st to 99th
percentile of the HANCOCK cohort (Doerrich et al., Nat Commun 2025;16:7163); radiotherapy of 60 to 66 Gy in six weeks
from the sixth week; cisplatin every three weeks with a fall of neutrophils and platelets; visits every three months.
Nodal categories follow AJCC 8 for p16-negative disease.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import groupby
from random import Random

from adapter.domain.ids import BusinessIdentifier, PatientId, ResourceVersion, SeriesUid, StudyUid
from adapter.domain.period import Period, require_aware
from adapter.domain.record import (
    Diagnosis,
    ImagingReference,
    Measurement,
    MedicationEvent,
    PatientRecord,
    Person,
    ProcedureEvent,
)
from adapter.domain.tristate import TriState
from adapter.sandbox.anatomy import SERIES_SPACING_MM

PATIENT_SYSTEM = "urn:adjuvant:sandbox:patient"
FAMILY_NAME = "Simulated"
Entry = Measurement | ProcedureEvent | Diagnosis | MedicationEvent | ImagingReference


class CourseKind(Enum):
    """What a course is there to show; the first twelve patients of a sandbox are one of each, in this order."""

    HIGH = "high-risk"
    INTERMEDIATE = "intermediate-risk"
    LOW = "low-risk"
    MISSING_ENE = "extranodal-extension-not-reported"
    RECURRED = "recurred"
    PATHOLOGY_PENDING = "pathology-pending"
    NO_SURGERY = "no-surgery"
    SALIVARY = "salivary-gland-cancer"
    BAD_LAB_UNIT = "creatinine-in-an-impossible-unit"
    MERGED = "two-records-merged"
    DECEASED = "deceased"
    IMAGES_INCOMPLETE = "images-incomplete"


@dataclass(frozen=True, slots=True, kw_only=True)
class CtSeries:
    """One CT series for the pretend archive.

    images: how many C-FIND lists. withheld: how many of them no C-MOVE ever sends. seed: of its pixels.
    """

    study_uid: StudyUid
    series_uid: SeriesUid
    acquired: datetime
    description: str
    images: int
    spacing_mm: float
    seed: int
    withheld: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CourseEvent:
    """One moment the hospital learns something. time: when; what: in a few words; sources: what it learns."""

    time: datetime
    what: str
    sources: tuple[ResourceVersion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCourse:
    """One patient from the first visit to the last.

    record: everything, as the hospital holds it in the end; of a `BAD_LAB_UNIT` course one unit is wrong on purpose.
    events: in order of time; a course shown only up to one of them is a course in progress.
    """

    kind: CourseKind
    record: PatientRecord
    events: tuple[CourseEvent, ...]
    ct_series: tuple[CtSeries, ...]


def simulate_courses(count: int, *, seed: int, today: datetime) -> tuple[SimulatedCourse, ...]:
    """Draw patients whose courses end on the day before `today`; the same arguments give the same patients.

    Patient n does not depend on how many are drawn. Raises ValueError for a `today` without offset.
    """
    require_aware(today, "today")
    midnight = today.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    kinds = tuple(CourseKind)
    return tuple(
        simulate_course(kinds[(number - 1) % len(kinds)], number, seed=seed, today=midnight)
        for number in range(1, count + 1)
    )


def simulate_course(kind: CourseKind, number: int, *, seed: int, today: datetime) -> SimulatedCourse:
    """One course of a kind. number: of the patient, from 1; today: midnight UTC, after everything that happens."""
    chart = _Chart(number, Random(f"{seed}:{number}"), _OUTLINES[kind], today)
    return _finished(kind, chart.written())


# ---- what a kind is made of


@dataclass(frozen=True, slots=True, kw_only=True)
class _Specimen:
    """A pathology report. ene: None where it was not reported."""

    t: str
    n: str
    nodes_positive: int
    ene: str | None
    margin: str
    margin_mm: float
    pni: str
    lvi: str
    grade: str
    depth_mm: float


class _Reach(Enum):
    """How far a course has come by today: days from surgery to today."""

    STAGED = -10
    OPERATED = 3
    DECISION = 16
    QUARTER = 100
    HALF_YEAR = 190
    YEAR = 370


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outline:
    specimen: _Specimen
    reach: _Reach
    chemoradiotherapy: bool = False
    radiotherapy: bool = False
    recurs: bool = False
    dies: bool = False
    imaged: bool = True


_MARGIN_HIGH = _Specimen(
    t="pT3", n="pN1", nodes_positive=1, ene="negative", margin="R1", margin_mm=0.0, pni="present", lvi="absent",
    grade="G3", depth_mm=14.0,
)  # fmt: skip
_ENE_HIGH = _Specimen(
    t="pT3", n="pN3b", nodes_positive=3, ene="macro", margin="R0", margin_mm=6.0, pni="present", lvi="present",
    grade="G3", depth_mm=13.0,
)  # fmt: skip
_INTERMEDIATE = _Specimen(
    t="pT3", n="pN2b", nodes_positive=2, ene="negative", margin="R0", margin_mm=7.0, pni="present", lvi="absent",
    grade="G2", depth_mm=11.0,
)  # fmt: skip
_LOW = _Specimen(
    t="pT2", n="pN0", nodes_positive=0, ene="negative", margin="R0", margin_mm=8.0, pni="absent", lvi="absent",
    grade="G2", depth_mm=6.0,
)  # fmt: skip
_OUTLINES = {
    CourseKind.HIGH: _Outline(specimen=_ENE_HIGH, reach=_Reach.DECISION),
    CourseKind.INTERMEDIATE: _Outline(specimen=_INTERMEDIATE, reach=_Reach.HALF_YEAR, radiotherapy=True),
    CourseKind.LOW: _Outline(specimen=_LOW, reach=_Reach.QUARTER),
    CourseKind.MISSING_ENE: _Outline(specimen=replace(_INTERMEDIATE, n="pN2", ene=None), reach=_Reach.DECISION),
    CourseKind.RECURRED: _Outline(
        specimen=_MARGIN_HIGH, reach=_Reach.YEAR, radiotherapy=True, chemoradiotherapy=True, recurs=True
    ),
    CourseKind.PATHOLOGY_PENDING: _Outline(specimen=_INTERMEDIATE, reach=_Reach.OPERATED),
    CourseKind.NO_SURGERY: _Outline(specimen=_INTERMEDIATE, reach=_Reach.STAGED),
    CourseKind.SALIVARY: _Outline(specimen=_LOW, reach=_Reach.DECISION),
    CourseKind.BAD_LAB_UNIT: _Outline(specimen=_MARGIN_HIGH, reach=_Reach.DECISION),
    # the images stayed where the other record came from: the one patient without a CT
    CourseKind.MERGED: _Outline(specimen=_INTERMEDIATE, reach=_Reach.DECISION, imaged=False),
    CourseKind.DECEASED: _Outline(
        specimen=_ENE_HIGH, reach=_Reach.YEAR, radiotherapy=True, chemoradiotherapy=True, recurs=True, dies=True
    ),
    CourseKind.IMAGES_INCOMPLETE: _Outline(specimen=_LOW, reach=_Reach.DECISION),
}
UNITS = {
    **dict.fromkeys(("ecog", "nodes_positive", "nodes_examined"), "1"),
    **dict.fromkeys(("hearing_grade", "tinnitus_grade", "neuropathy_grade", "nyha"), "1"),
    **dict.fromkeys(("wbc", "neut", "lymph", "mono", "eos", "baso", "plt"), "10*9/L"),
    **dict.fromkeys(("depth_of_invasion", "margin_mm"), "mm"),
    **dict.fromkeys(("mcv", "mpv", "pdw"), "fL"),
    **dict.fromkeys(("hct", "rdw"), "%"),
    **dict.fromkeys(("hgb", "mchc"), "g/dL"),
    "rbc": "10*12/L",
    "mch": "pg",
    "albumin": "g/L",
    "crp": "mg/L",
    "creatinine": "umol/L",
    "pack_years": "{pack-years}",
    "weight": "kg",
    "height": "cm",
}
_IMPOSSIBLE_UNIT = "umol"  # an amount where a concentration belongs


# ---- one chart, written from the first visit on


class _Chart:
    """A course while it is being written; every draw comes from one generator, in one order."""

    def __init__(self, number: int, draw: Random, outline: _Outline, today: datetime) -> None:
        self._patient = f"patient-{number:02d}"
        self._draw = draw
        self._outline = outline
        self._surgery = today - timedelta(days=outline.reach.value)
        self._now = today
        self._what = ""
        self._entries: list[tuple[str, Entry]] = []
        self._ct_series: list[CtSeries] = []
        self._male = draw.random() < 0.75
        self._site = draw.choices(("oral_cavity", "larynx", "hypopharynx"), (5, 3, 2))[0]
        self._born = self._surgery - timedelta(days=round(365.25 * min(84.0, max(38.0, draw.gauss(63, 10)))))
        self._weight = round(draw.gauss(76 if self._male else 64, 9), 1)
        self._creatinine = draw.gauss(78 if self._male else 66, 8)
        self._haemoglobin = draw.gauss(14.2 if self._male else 13.2, 0.8)

    def written(self) -> tuple[PatientRecord, list[tuple[str, Entry]], list[CtSeries]]:
        """The record, each entry with what it belongs to, and the CT series."""
        self._diagnosis()
        self._staging()
        if self._outline.reach.value >= _Reach.OPERATED.value:
            self._admission()
            self._operation()
        if self._outline.reach.value >= _Reach.DECISION.value:
            self._pathology()
            self._fitness()
        self._treatment()
        died = self._after()
        return self._record(died), self._entries, self._ct_series

    def _diagnosis(self) -> None:
        self._at("first visit and biopsy", -28, hour=10)
        self._write(
            Diagnosis(
                kind="hnscc",
                site_group=self._site,
                confirmed=TriState.TRUE,
                onset=_day(self._now),
                known=self._now,
                source=self._source("Condition", "cancer"),
            )
        )
        self._procedure("biopsy")
        smoking = self._draw.choices(("current", "former", "never"), (5, 3, 2))[0]
        self._code("smoking_status", smoking)
        self._number("pack_years", 0.0 if smoking == "never" else float(self._draw.randrange(10, 60, 5)))
        self._number("height", float(round(self._draw.gauss(175 if self._male else 163, 6))))

    def _staging(self) -> None:
        self._at("staging", -20, hour=15)
        stage = self._source("Observation", "clinical-stage-t"), self._source("Observation", "clinical-stage-n")
        specimen = self._outline.specimen
        self._staged("cT", specimen.t.replace("p", "c"), stage[0])
        self._staged("cN", "cN1" if specimen.nodes_positive else "cN0", stage[1])
        self._code("cM", "cM0")
        self._ct("CT neck with contrast", images=self._draw.randrange(60, 91))

    def _admission(self) -> None:
        self._at("admission", -2, hour=7)
        self._blood_count()
        self._chemistry(crp=round(self._draw.uniform(1.0, 9.0), 1))
        self._number("ecog", float(self._draw.choices((0, 1), (6, 4))[0]))
        self._number("weight", self._weight)

    def _operation(self) -> None:
        self._at("definitive resection and neck dissection", 0, hour=14)
        self._procedure("definitive_resection", hours=6)
        self._procedure("neck_dissection", hours=6)

    def _pathology(self) -> None:
        specimen = self._outline.specimen
        self._at("pathology report", self._draw.randrange(7, 11), hour=13)
        taken = Period.instant(self._surgery + timedelta(hours=13))
        self._staged("pT", specimen.t, self._source("Observation", "stage-t"), taken)
        self._staged("pN", specimen.n, self._source("Observation", "stage-n"), taken)
        findings = {
            "histology": "scc_keratinizing",
            "grade": specimen.grade,
            "margin_class": specimen.margin,
            "ene_path": specimen.ene,
            "pni": specimen.pni,
            "lvi": specimen.lvi,
            "p16": "negative",
        }
        for feature, category in findings.items():
            if category is not None:
                self._code(feature, category, taken)
        self._number("nodes_positive", float(specimen.nodes_positive), taken)
        self._number("nodes_examined", float(self._draw.randrange(20, 45)), taken)
        self._number("depth_of_invasion", specimen.depth_mm, taken)
        if specimen.margin == "R0":
            self._number("margin_mm", specimen.margin_mm, taken)

    def _fitness(self) -> None:
        self._at("fitness for adjuvant treatment", 14, hour=9)
        self._weight = round(self._weight * self._draw.uniform(0.95, 0.99), 1)
        self._blood_count(haemoglobin_lost=self._draw.uniform(0.8, 2.0))
        self._chemistry(crp=round(self._draw.uniform(8.0, 40.0), 1))
        self._number("ecog", float(self._draw.choices((0, 1), (5, 5))[0]))
        self._number("weight", self._weight)
        for unimpaired in ("hearing_grade", "tinnitus_grade", "neuropathy_grade", "nyha"):
            self._number(unimpaired, 0.0)

    def _treatment(self) -> None:
        if self._outline.chemoradiotherapy:
            for cycle in range(3):
                self._at(f"cisplatin, cycle {cycle + 1}", 38 + 21 * cycle, hour=11)
                self._medication("cisplatin")
                self._blood_count(haemoglobin_lost=1.0 + 0.5 * cycle, marrow=0.85 - 0.15 * cycle)
                self._chemistry(crp=round(self._draw.uniform(3.0, 20.0), 1))
        if self._outline.radiotherapy:
            self._at("end of radiotherapy", 82, hour=16)
            course = Period(earliest=self._surgery + timedelta(days=38, hours=9), latest=self._now)
            self._write(
                ProcedureEvent(
                    kind="radiotherapy_course",
                    performed=course,
                    known=self._now,
                    source=self._source("Procedure", "radiotherapy-course"),
                )
            )

    def _after(self) -> datetime | None:
        """Visits every three months until today, a relapse or a death, which is returned."""
        reach = self._outline.reach.value
        for months in (3, 6, 9, 12):
            if 30 * months + 5 >= reach:
                break
            back = self._outline.recurs and months == 9
            self._visit(months, "regional_recurrence" if back else "no_evidence_of_disease")
            if back:
                break
        if not self._outline.dies:
            return None
        self._at("death", 330, hour=12)
        return self._now

    def _visit(self, months: int, status: str) -> None:
        suffix = "" if status == "no_evidence_of_disease" else ": the disease is back"
        self._at(f"visit after {months} months{suffix}", 30 * months + 2, hour=10)
        drift = 1.5 if suffix else 0.0
        self._blood_count(haemoglobin_lost=0.4 + drift)
        self._chemistry(crp=round(self._draw.uniform(1.0, 8.0) + 20.0 * drift, 1))
        self._number("weight", round(self._weight * self._draw.uniform(0.96, 1.02) - 2.0 * drift, 1))
        self._number("ecog", 1.0 if suffix else 0.0)
        self._code("disease_status", status)
        if months == 3:
            self._ct("CT neck follow-up", images=self._draw.randrange(60, 91))

    # single findings

    def _at(self, what: str, day: int, *, hour: int) -> None:
        """Move on to a day counted from surgery, with a few minutes so that no two patients share a moment."""
        minutes = self._draw.randrange(0, 50)
        self._now = self._surgery + timedelta(days=day, hours=hour, minutes=minutes)
        self._what = what

    def _write(self, entry: Entry) -> None:
        self._entries.append((self._what, entry))

    def _source(self, resource_type: str, name: str) -> ResourceVersion:
        """Named after the finding and the day, so that the same course has the same ids."""
        day = (self._now - self._surgery).days
        return ResourceVersion(resource_type, f"{self._patient}-{name.replace('_', '-')}-{day + 100}", "1")

    def _measure(self, feature: str, value: float | str, effective: Period | None, source: ResourceVersion) -> None:
        unit = None if isinstance(value, str) else UNITS[feature]
        when = effective or Period.instant(self._now - timedelta(hours=2))
        self._write(
            Measurement(feature=feature, value=value, unit=unit, effective=when, known=self._now, source=source)
        )

    def _number(self, feature: str, value: float, effective: Period | None = None) -> None:
        self._measure(feature, value, effective, self._source("Observation", feature))

    def _code(self, feature: str, category: str, effective: Period | None = None) -> None:
        self._measure(feature, category, effective, self._source("Observation", feature))

    def _staged(self, feature: str, category: str, source: ResourceVersion, effective: Period | None = None) -> None:
        """A TNM category and the edition it was staged by: one Observation, the edition its method."""
        self._measure(feature, category, effective, source)
        self._measure("tnm_edition", "8", effective, source)

    def _procedure(self, kind: str, *, hours: int = 0) -> None:
        start = self._now - timedelta(hours=hours)
        source = self._source("Procedure", kind)
        performed = Period(earliest=start, latest=self._now)
        self._write(ProcedureEvent(kind=kind, performed=performed, known=self._now, source=source))

    def _medication(self, ingredient: str) -> None:
        source = self._source("MedicationAdministration", ingredient)
        given = Period.instant(self._now)
        self._write(MedicationEvent(ingredient=ingredient, given=given, known=self._now, source=source))

    def _blood_count(self, *, haemoglobin_lost: float = 0.0, marrow: float = 1.0) -> None:
        """A coherent count: the parts of the white cells add up, the red indices follow from each other."""
        draw = self._draw
        white = {
            "neut": draw.gauss(4.6, 0.8) * marrow,
            "lymph": draw.gauss(1.7, 0.3) * marrow,
            "mono": draw.uniform(0.4, 0.8),
            "eos": draw.uniform(0.05, 0.35),
            "baso": draw.uniform(0.02, 0.08),
        }
        parts = {name: round(max(0.02, value), 2) for name, value in white.items()}
        haemoglobin = round(max(8.5, self._haemoglobin - haemoglobin_lost + draw.gauss(0, 0.2)), 1)
        mch, mcv = round(draw.gauss(30.5, 1.0), 1), round(draw.gauss(91, 3), 1)
        red = haemoglobin * 10 / mch
        count = parts | {
            "wbc": round(sum(parts.values()), 2),
            "plt": float(round(max(90.0, draw.gauss(260, 35) * marrow))),
            "hgb": haemoglobin,
            "mch": mch,
            "mcv": mcv,
            "rbc": round(red, 2),
            "hct": round(red * mcv / 10, 1),
            "mchc": round(haemoglobin / (red * mcv / 1000), 1),
            "rdw": round(draw.gauss(13.4, 0.5), 1),
            "mpv": round(draw.gauss(10.3, 0.5), 1),
            "pdw": round(draw.gauss(12.0, 1.0), 1),
        }
        for feature, value in count.items():
            self._number(feature, value)

    def _chemistry(self, *, crp: float) -> None:
        self._number("creatinine", float(round(self._creatinine + self._draw.gauss(0, 3))))
        self._number("crp", crp)
        self._number("albumin", round(max(28.0, self._draw.gauss(42, 2) - crp / 10), 1))

    def _ct(self, description: str, *, images: int) -> None:
        """A study the EHR knows of, with one series in the archive; none for who was imaged elsewhere."""
        if not self._outline.imaged:
            return
        study = StudyUid(_uid(self._patient, description, "study"))
        self._ct_series.append(
            CtSeries(
                study_uid=study,
                series_uid=SeriesUid(_uid(self._patient, description, "series")),
                acquired=self._now - timedelta(hours=1),
                description=description,
                images=images,
                spacing_mm=SERIES_SPACING_MM[0],
                seed=self._draw.randrange(2**31),
            )
        )
        self._write(
            ImagingReference(
                study_uid=study,
                modalities=("CT",),
                started=Period.instant(self._now - timedelta(hours=1)),
                known=self._now,
                source=self._source("ImagingStudy", "ct"),
            )
        )

    def _record(self, died: datetime | None) -> PatientRecord:
        entries = [entry for _, entry in self._entries]
        return PatientRecord(
            person=Person(
                patient_id=PatientId(self._patient),
                identifiers=(BusinessIdentifier(PATIENT_SYSTEM, self._patient.replace("patient", "SIM")),),
                birth=_day(self._born),
                sex="male" if self._male else "female",
                deceased=TriState.FALSE if died is None else TriState.TRUE,
                died=None if died is None else _day(died),
                known=died or entries[0].known,
                source=ResourceVersion("Patient", self._patient, "1"),
            ),
            measurements=tuple(entry for entry in entries if isinstance(entry, Measurement)),
            procedures=tuple(entry for entry in entries if isinstance(entry, ProcedureEvent)),
            diagnoses=tuple(entry for entry in entries if isinstance(entry, Diagnosis)),
            medications=tuple(entry for entry in entries if isinstance(entry, MedicationEvent)),
            imaging=tuple(entry for entry in entries if isinstance(entry, ImagingReference)),
        )


# ---- what is deliberately awkward, done to the finished chart


def _finished(
    kind: CourseKind, written: tuple[PatientRecord, list[tuple[str, Entry]], list[CtSeries]]
) -> SimulatedCourse:
    record, entries, ct_series = written
    if kind is CourseKind.SALIVARY:
        record = replace(record, diagnoses=())
        entries = [(what, entry) for what, entry in entries if not isinstance(entry, Diagnosis)]
    if kind is CourseKind.BAD_LAB_UNIT:
        record = replace(record, measurements=tuple(_misreported(entry) for entry in record.measurements))
    if kind is CourseKind.IMAGES_INCOMPLETE:
        ct_series = [replace(series, withheld=3) for series in ct_series]
    return SimulatedCourse(kind=kind, record=record, events=tuple(_events(record, entries)), ct_series=tuple(ct_series))


def _misreported(entry: Measurement) -> Measurement:
    return replace(entry, unit=_IMPOSSIBLE_UNIT) if entry.feature == "creatinine" else entry


def _events(record: PatientRecord, entries: list[tuple[str, Entry]]) -> Iterator[CourseEvent]:
    """One event per moment, in order; the Patient resource belongs to the first, and again to a death."""
    ordered = sorted(entries, key=lambda pair: pair[1].known)
    patient: tuple[ResourceVersion, ...] = (record.person.source,)
    for time, group in groupby(ordered, key=lambda pair: pair[1].known):
        learned = list(group)
        sources = dict.fromkeys(entry.source for _, entry in learned)
        yield CourseEvent(time=time, what=learned[0][0], sources=(*patient, *sources))
        patient = ()
    if record.person.died is not None:
        yield CourseEvent(time=record.person.known, what="death", sources=(record.person.source,))


def _day(moment: datetime) -> Period:
    """The whole UTC day, as a FHIR date."""
    start = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return Period(earliest=start, latest=start + timedelta(days=1, microseconds=-1))


def _uid(*names: str) -> str:
    """A UID under the arc for UUIDs. Source: PS3.5 section B.2."""
    return f"2.25.{int.from_bytes(hashlib.sha256(':'.join(names).encode()).digest()[:16], 'big')}"
