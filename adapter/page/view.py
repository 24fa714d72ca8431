"""The delivered transaction -> what a page says, every number as the EHR holds it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from adapter.errors import MalformedResource
from adapter.fhir.encode import BASIS, FOLLOW_UP, RANGE, UNUSUAL, day_in_words
from adapter.page import delivered
from adapter.page.delivered import CarePlan, Detail, Device, Parts, Prediction, Reference, Text, Timing

_FOLLOW_UP, _RESOLVE = "FU-", " To resolve: "
_SET_APART = (BASIS, UNUSUAL, RANGE, FOLLOW_UP)  # openings of what has its own place
_HEADLINE_YEARS = 3
_UNITS = {"d": "day", "wk": "week", "mo": "month", "a": "year"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One prediction. years: after the landmark. percent, low, high: as delivered; no band where the model has none."""

    years: int
    percent: Decimal
    low: Decimal | None = None
    high: Decimal | None = None

    @property
    def number(self) -> str:
        """The prediction as it stands everywhere on the page."""
        return f"{self.percent} %"

    @property
    def band(self) -> str:
        """Its band, empty where the model has none."""
        return "" if self.low is None else f"{self.low} to {self.high}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One outcome at its horizons, in order of time."""

    outcome: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """One action of the proposal. verdict: the rules' word, or `do not give`."""

    title: str
    verdict: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One follow-up activity. when: its rhythm and span in words."""

    title: str
    when: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """What is left to do. stop: why the assessment stopped, empty where nothing did; severity: of the stop.

    settles: what would settle it: the findings whose absence left a rule open, by name, or else the gate's own words.
    unusual: that the model has hardly seen such a patient, empty where it has.
    review: who is asked to look, until when.
    """

    stop: str
    severity: str
    settles: str
    unusual: str
    review: str

    @property
    def anything(self) -> bool:
        """Whether there is something to say; nothing in assessments stored by earlier versions."""
        return bool(self.stop or self.settles or self.unusual or self.review)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Everything one page says, each thing once. banner: how far to trust it, never empty.

    superseded: that a newer assessment stands instead of this one, empty where none does. basis: the findings by which
    the case is known again; follow_up: what holds of the visits together; both empty in assessments stored by earlier
    versions. notes, reasons: as delivered, but for what stands elsewhere on the page.
    """

    assessment: str
    patient: str
    landmark: str
    basis: str
    banner: str
    superseded: str
    left_open: Open
    headline: str
    plan: str
    curves: tuple[Curve, ...]
    treatments: tuple[Treatment, ...]
    visits: tuple[Visit, ...]
    follow_up: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    sources: tuple[str, ...]
    model: str
    policy: str

    @property
    def ranged(self) -> str:
        """What the ranges beside the numbers are, to go on a heading; empty where there are none."""
        banded = any(point.band for curve in self.curves for point in curve.points)
        return ", with the range (10 to 90 %) of models refitted on resampled patients" if banded else ""


def page_of(content: bytes, *, systems: Mapping[str, str], newer: str | None = None) -> Page:
    """Read the page out of a delivered transaction. Raises MalformedResource for one that is not ours.

    One that does not say by a tag how far to trust it is not ours: no page is without its banner. systems: as the
    site's delivery table names them. newer: id of the assessment that stands instead of this one.
    """
    parts = delivered.read(content)
    risk, plan, device, provenance = parts.risk, parts.plan, parts.device, parts.provenance
    curves = _curves(risk.prediction)
    details = [activity.detail for activity in plan.activity]
    visits = [detail for detail in details if _is_follow_up(detail, systems["action"])]
    notes, reasons = _texts(risk.note), _texts(plan.note)
    left_open, banner = _left_open(parts), _banner(parts, systems["mode"])
    elsewhere = {banner, parts.issue.detail if parts.issue else ""}
    return Page(
        assessment=risk.id,
        patient=risk.subject.reference,
        landmark=_day(risk.occurrence_date_time),
        basis=_told(notes, BASIS),
        banner=banner,
        superseded=f"Superseded: assessment ra-{newer} is newer and stands instead of this one." if newer else "",
        left_open=left_open,
        headline=_headline(curves),
        plan=plan.description,
        curves=curves,
        treatments=tuple(_treatment(detail) for detail in details if detail not in visits),
        visits=tuple(map(_visit, visits)),
        follow_up=_told(reasons, FOLLOW_UP),
        reasons=_small_print(reasons, {*elsewhere, *notes}),
        notes=_small_print(notes, elsewhere),
        sources=tuple(_named(entity.what) for entity in provenance.entity),
        model=_model(device),
        policy=_policy(plan),
    )


def landmark_of(content: bytes) -> datetime:
    """When a delivered assessment stands. Raises MalformedResource for one that is not ours."""
    return datetime.fromisoformat(delivered.read(content).risk.occurrence_date_time)


def _left_open(parts: Parts) -> Open:
    requirements = parts.guidance.data_requirement if parts.guidance else ()
    asked = [entry.code[-1] for requirement in requirements for entry in requirement.code_filter if entry.code]
    stop, _, resolve = parts.issue.detail.partition(_RESOLVE) if parts.issue else ("", "", "")
    task = parts.task
    return Open(
        stop=stop,
        severity=parts.issue.severity if parts.issue else "",
        settles=", ".join(code.display or code.code for code in asked) or resolve,
        unusual=_told(_texts(parts.risk.note), UNUSUAL),
        review=f"{task.description} By {_day(task.restriction.period.end)}." if task else "",
    )


def _curves(predictions: Iterable[Prediction]) -> tuple[Curve, ...]:
    by_outcome: dict[str, list[Point]] = {}
    for prediction in predictions:
        by_outcome.setdefault(prediction.outcome.text, []).append(_point(prediction))
    return tuple(Curve(outcome=outcome, points=tuple(points)) for outcome, points in by_outcome.items())


def _point(prediction: Prediction) -> Point:
    start, end = map(datetime.fromisoformat, (prediction.when_period.start, prediction.when_period.end))
    band = prediction.band
    return Point(
        years=end.year - start.year,
        percent=prediction.probability_decimal,
        low=band.low.value if band else None,
        high=band.high.value if band else None,
    )


def _headline(curves: Iterable[Curve]) -> str:
    said = [(curve.outcome, point) for curve in curves for point in curve.points if point.years == _HEADLINE_YEARS]
    return f"Within {_HEADLINE_YEARS} years: " + "; ".join(
        f"{outcome.lower()} {point.number}" for outcome, point in said
    )


def _banner(parts: Parts, system: str) -> str:
    said = [tag.display or tag.code for tag in parts.risk.meta.tag if tag.system == system]
    if not said or not said[0]:
        raise MalformedResource(f"RiskAssessment/{parts.risk.id} says by no tag of {system} how far to trust it")
    return said[0]


def _is_follow_up(detail: Detail, system: str) -> bool:
    return any(one.system == system and one.code.startswith(_FOLLOW_UP) for one in detail.code.coding)


def _treatment(detail: Detail) -> Treatment:
    verdict, _, why = detail.description.partition(": ")
    return Treatment(title=detail.code.text, verdict="do not give" if detail.do_not_perform else verdict, why=why)


def _visit(detail: Detail) -> Visit:
    if detail.scheduled_timing is not None:
        when = _rhythm(detail.scheduled_timing)
    elif detail.scheduled_period is not None:
        when = f"once, {_day(detail.scheduled_period.start)} to {_day(detail.scheduled_period.end)}"
    else:
        when = "as needed"
    return Visit(title=detail.code.text, when=when, why=detail.description)


def _rhythm(timing: Timing) -> str:
    repeat = timing.repeat
    unit = _UNITS[repeat.period_unit]
    every = f"every {unit}" if repeat.period == 1 else f"every {repeat.period} {unit}s"
    return f"{every}, {_day(repeat.bounds_period.start)} to {_day(repeat.bounds_period.end)}"


def _day(text: str) -> str:
    return day_in_words(date.fromisoformat(text[:10]))


def _texts(notes: Iterable[Text]) -> tuple[str, ...]:
    return tuple(note.text for note in notes)


def _told(texts: Iterable[str], opening: str) -> str:
    """The sentence that begins so, its opening taken off; empty where there is none."""
    told = next((text.removeprefix(opening) for text in texts if text.startswith(opening)), "")
    return told[:1].upper() + told[1:]


def _small_print(texts: Iterable[str], elsewhere: Collection[str]) -> tuple[str, ...]:
    """What stands nowhere else on the page, each sentence once. The table has the ranges."""
    return tuple(text for text in dict.fromkeys(texts) if text not in elsewhere and not text.startswith(_SET_APART))


def _named(what: Reference) -> str:
    return what.reference or what.display or (what.identifier.value if what.identifier else "")


def _model(device: Device) -> str:
    versions = [entry.value for entry in device.version if entry.type.text == "model"]
    return " ".join([*(entry.name for entry in device.device_name), *versions])


def _policy(plan: CarePlan) -> str:
    return ", ".join(uri.rpartition(":")[2] for uri in plan.instantiates_uri)
