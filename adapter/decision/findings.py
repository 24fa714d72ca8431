"""What is known of a patient, in the words of the rules: from a timeline, or from named values in a case file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product

from adapter.decision.policy import Assumption, FeatureKey, FeatureKind, Policy
from adapter.decision.rules import CodedFinding, Finding, Findings, NumericFinding
from adapter.domain.ids import ResourceVersion
from adapter.domain.period import Period, years_between
from adapter.domain.record import Comparator, Diagnosis, Measurement
from adapter.domain.timeline import Timeline
from adapter.domain.tristate import TriState, any_of
from adapter.errors import UnusableInput

_DAY = timedelta(days=1)
_CREATININE_UMOL_PER_MG_DL = 88.42  # clinical.md 1d
_FEMALE_FACTOR = 0.85  # Cockcroft and Gault 1976
_SPECIMEN_SLACK = _DAY  # one operation is charted as several resources within a day (clinical.md 1c)
# A diagnosis without a grade says that there is some: the lowest and the highest grade it leaves open.
_UNGRADED = {
    "hearing_loss": ("hearing_grade", 1.0, 5.0),
    "tinnitus": ("tinnitus_grade", 1.0, 5.0),
    "neuropathy": ("neuropathy_grade", 1.0, 5.0),
    "heart_failure": ("nyha", 1.0, 4.0),
}
_PN_WITH_ENE = frozenset({"pN3b"})
_PN_WITHOUT_ENE = frozenset({"pN0", "pN1", "pN2b", "pN2c", "pN3a"})
_RECURRENCES = frozenset({"recurrence", "local_recurrence", "regional_recurrence"})


def findings_at(timeline: Timeline, policy: Policy) -> Findings:
    """Read the timeline as the rules need it; a feature that is absent, contradicted or uncertain is left out.

    Findings of one feature that were true at the same time and differ leave it unknown. What a site declares its
    records complete for reads as `no` where nothing is on record.
    """
    found: dict[str, Finding] = {}
    for key in policy.features.values():
        finding = _measured(timeline, key)
        if finding is not None:
            found[key.key] = finding
    for finding in _from_history(timeline):
        found.setdefault(finding.feature, finding)
    events = _earlier_events(timeline)
    found |= {feature: finding for feature, finding in events.items() if finding is not None}
    for assumption in policy.assumptions:
        if assumption.feature not in events:
            found.setdefault(assumption.feature, _coded(assumption.feature, assumption.category))
    return with_derived(found, policy)


def sources_read(timeline: Timeline, policy: Policy) -> tuple[ResourceVersion, ...]:
    """Cite every version the rules looked at, those included that contradicted each other and were not used."""
    features = {*policy.features, "disease_status"}
    sources = {timeline.person.source, timeline.index_surgery.source}
    sources |= {entry.source for entry in timeline.measurements if entry.feature in features}
    sources |= {entry.source for entry in timeline.procedures}
    sources |= {entry.source for entry in timeline.diagnoses}
    sources |= {entry.source for entry in timeline.medications}
    return tuple(sorted(sources))


def assumed(findings: Findings, policy: Policy) -> tuple[Assumption, ...]:
    """Which of the site's assumptions stand in for something that no resource says."""
    return tuple(
        assumption
        for assumption in policy.assumptions
        if (finding := findings.get(assumption.feature)) is not None and not finding.sources
    )


def findings_given(features: Mapping[str, object], landmark: datetime, policy: Policy) -> Findings:
    """Read named values, as in a case file; an absent key, null or an `unknown` spelling is unknown.

    A value is a string, number, boolean, a list for a feature that allows several, or an object with `value` and
    `effective` (ISO 8601, with offset). Raises UnusableInput naming the key it cannot read.
    """
    found: dict[str, Finding] = {}
    for name, given in features.items():
        if name in policy.not_read:
            continue
        key = _known_key(name, policy)
        finding = _given(key, given, landmark)
        if finding is None:
            continue
        if key.key in found:
            raise UnusableInput(f"feature {key.key} is given twice")
        found[key.key] = finding
    return with_derived(found, policy)


def with_derived(found: Mapping[str, Finding], policy: Policy) -> Findings:
    """Add what follows from other findings.

    Creatinine clearance, distant metastasis, combined invasion, whether node counts contradict each other, and what
    pN suggests about extranodal extension, which stands for pathology only where the site says so.
    """
    derived = dict(found)
    candidate = _ene_candidate(found)
    for finding in (_clearance(found), _distant_metastasis(found), _invasion(found), _node_counts(found), candidate):
        if finding is not None:
            derived[finding.feature] = finding
    if candidate is not None and policy.infers_ene:
        derived["ene_path"] = replace(candidate, feature="ene_path")
    return derived


# ---- from a timeline


def _measured(timeline: Timeline, key: FeatureKey) -> Finding | None:
    entries = [entry for entry in timeline.of(key.key) if not key.pathology or _from_surgery_on(entry, timeline)]
    if not entries:
        return None
    newest = [entry for entry in entries if entry.effective == entries[-1].effective]
    latest = [entry for entry in newest if entry.known == newest[-1].known]
    if key.kind is FeatureKind.NUMBER:
        return _measured_number(key, latest, timeline.landmark.time)
    return _measured_code(key, latest, timeline.landmark.time)


def _from_surgery_on(entry: Measurement, timeline: Timeline) -> bool:
    """A specimen may be dated up to a day before the procedure resource that removed it."""
    return entry.effective.latest >= timeline.index_surgery.performed.earliest - _SPECIMEN_SLACK


def _measured_number(key: FeatureKey, entries: list[Measurement], at: datetime) -> Finding | None:
    spans = {_span(entry.number, entry.comparator) for entry in entries}
    if len(spans) != 1:
        return None
    low, high = spans.pop()
    return NumericFinding(
        feature=key.key, low=low, high=high, age_days=_age_days(entries, at), sources=_sources(entries)
    )


def _measured_code(key: FeatureKey, entries: list[Measurement], at: datetime) -> Finding | None:
    categories = frozenset(entry.category for entry in entries)
    if categories & key.unknown or not categories <= key.values or (len(categories) > 1 and not key.several):
        return None
    return CodedFinding(
        feature=key.key, categories=categories, age_days=_age_days(entries, at), sources=_sources(entries)
    )


def _age_days(entries: Iterable[Measurement], at: datetime) -> float:
    """The largest age the dates allow: a partial date must not look fresh."""
    return max((at - entry.effective.earliest) / _DAY for entry in entries)


def _sources(entries: Iterable[Measurement]) -> tuple[ResourceVersion, ...]:
    return tuple(sorted({entry.source for entry in entries}))


def _span(number: float, comparator: Comparator | None) -> tuple[float, float]:
    """The interval a measured number stands for; every feature the rules read is zero or more."""
    match comparator:
        case None:
            return number, number
        case Comparator.LESS:
            return 0.0, math.nextafter(number, -math.inf)
        case Comparator.LESS_OR_EQUAL:
            return 0.0, number
        case Comparator.GREATER:
            return math.nextafter(number, math.inf), math.inf
        case Comparator.GREATER_OR_EQUAL:
            return number, math.inf


def _from_history(timeline: Timeline) -> Iterable[Finding]:
    """What the person, the surgery and the diagnoses say. Absence says nothing here."""
    surgery = timeline.index_surgery
    yield _days_between("days_since_surgery", surgery.performed, timeline.landmark.time, (surgery.source,))
    person = timeline.person
    if person.birth is not None:
        yield _age_at(person.birth, surgery.performed, (person.source, surgery.source))
    if person.sex in {"male", "female"}:
        yield _coded("sex", person.sex, (person.source,))
    yield from _site(timeline.diagnoses)
    yield from _ungraded(timeline.diagnoses)


def _site(diagnoses: Iterable[Diagnosis]) -> Iterable[Finding]:
    primary = [entry for entry in diagnoses if entry.kind == "hnscc" and entry.confirmed is TriState.TRUE]
    groups = {entry.site_group for entry in primary if entry.site_group}
    if len(groups) == 1:
        yield _coded("site_group", groups.pop(), tuple(sorted(entry.source for entry in primary)))


def _earlier_events(timeline: Timeline) -> Mapping[str, Finding | None]:
    """What came before the index surgery or stands beside the cancer; None where dates or status leave it open."""
    surgery = timeline.index_surgery.performed.earliest
    radiotherapy = [
        (entry.performed.before(surgery), entry.source)
        for entry in timeline.procedures
        if entry.kind == "radiotherapy_course"
    ]
    pembrolizumab = [
        (entry.given.before(surgery), entry.source)
        for entry in timeline.medications
        if entry.ingredient == "pembrolizumab"
    ]
    relapses = [
        (entry.effective.before(surgery), entry.source)
        for entry in timeline.of("disease_status")
        if entry.value in _RECURRENCES
    ]
    second = [(entry.confirmed, entry.source) for entry in timeline.diagnoses if entry.kind == "second_primary"]
    distant = [(entry.confirmed, entry.source) for entry in timeline.diagnoses if entry.kind == "distant_metastasis"]
    distant += [
        (TriState.TRUE, entry.source) for entry in timeline.of("disease_status") if entry.value == "distant_metastasis"
    ]
    events = {
        "prior_rt_neck": radiotherapy,
        "neoadjuvant_ici": pembrolizumab,
        "salvage": relapses,
        "second_primary": second,
        "distant_metastasis": distant,
    }
    return {feature: _any_event(feature, signs) for feature, signs in events.items() if not _denied(signs)}


_Signs = list[tuple[TriState, ResourceVersion]]


def _denied(signs: _Signs) -> bool:
    """Whether nothing on record points to it, not even possibly."""
    return any_of(truth for truth, _ in signs) is TriState.FALSE


def _any_event(feature: str, signs: _Signs) -> Finding | None:
    sources = tuple(sorted(source for truth, source in signs if truth is TriState.TRUE))
    return _coded(feature, "yes", sources) if sources else None


def _ungraded(diagnoses: Iterable[Diagnosis]) -> Iterable[Finding]:
    confirmed = [entry for entry in diagnoses if entry.confirmed is TriState.TRUE]
    for kind, (feature, low, high) in _UNGRADED.items():
        sources = tuple(sorted(entry.source for entry in confirmed if entry.kind == kind))
        if sources:
            yield NumericFinding(feature=feature, low=low, high=high, sources=sources)


def _coded(feature: str, category: str, sources: tuple[ResourceVersion, ...] = ()) -> CodedFinding:
    return CodedFinding(feature=feature, categories=frozenset({category}), sources=sources)


def _days_between(feature: str, start: Period, end: datetime, sources: tuple[ResourceVersion, ...]) -> NumericFinding:
    low, high = (max(0.0, (end - moment) / _DAY) for moment in (start.latest, start.earliest))
    return NumericFinding(feature=feature, low=low, high=high, sources=sources)


def _age_at(birth: Period, surgery: Period, sources: tuple[ResourceVersion, ...]) -> NumericFinding:
    low = years_between(birth.latest, surgery.earliest)
    high = years_between(birth.earliest, surgery.latest)
    return NumericFinding(feature="age_at_surgery", low=low, high=high, sources=sources)


# ---- from a case file


def _known_key(name: str, policy: Policy) -> FeatureKey:
    if name not in policy.names:
        raise UnusableInput(f"feature {name[:40]!r} is not one the policy knows")
    return policy.features[policy.names[name]]


def _given(key: FeatureKey, given: object, landmark: datetime) -> Finding | None:
    age_days = None
    if isinstance(given, Mapping):
        age_days = _given_age(key, given.get("effective"), landmark)
        given = given.get("value")
    if given is None or (isinstance(given, str) and (given in {"unk", "unknown"} or given in key.unknown)):
        return None
    if key.kind is FeatureKind.NUMBER:
        return _given_number(key, given, age_days)
    items = given if isinstance(given, list) and key.several else [given]
    categories = frozenset(_given_category(key, item) for item in items)
    return CodedFinding(feature=key.key, categories=categories, age_days=age_days) if categories else None


def _given_age(key: FeatureKey, effective: object, landmark: datetime) -> float | None:
    if effective is None:
        return None
    try:
        moment = datetime.fromisoformat(str(effective))
        age = (landmark - moment) / _DAY
    except (ValueError, TypeError) as error:
        raise UnusableInput(f"feature {key.key}: effective is not a time with an offset") from error
    if age < 0:
        raise UnusableInput(f"feature {key.key}: effective lies after the landmark")
    return age


def _given_number(key: FeatureKey, given: object, age_days: float | None) -> NumericFinding:
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given) or given < 0:
        raise UnusableInput(f"feature {key.key} is not a number in {key.unit}")
    return NumericFinding(feature=key.key, low=float(given), high=float(given), age_days=age_days)


def _given_category(key: FeatureKey, given: object) -> str:
    if isinstance(given, bool):
        spelling = ("yes" if given else "no") if key.kind is FeatureKind.FLAG else str(given).lower()
    else:
        spelling = str(given)
    spelling = key.aliases.get(spelling, spelling)
    if spelling not in key.values:
        raise UnusableInput(f"feature {key.key} does not have the category given")
    return spelling


# ---- derived


def _clearance(found: Mapping[str, Finding]) -> Finding | None:
    """Cockcroft-Gault over every corner of what is known, mL/min; a clearance given as such widens the interval.

    Source: Cockcroft and Gault 1976; creatinine 88.42 umol/L per mg/dL.
    """
    given = found.get("crcl_cg")
    parts = [found.get(name) for name in ("age_at_surgery", "weight", "creatinine")]
    if not all(isinstance(part, NumericFinding) for part in parts):
        return given
    age, weight, creatinine = (part for part in parts if isinstance(part, NumericFinding))
    if creatinine.low <= 0.0 or not math.isfinite(weight.high):
        return given
    values = [
        (140.0 - years) * kilograms / (72.0 * umol / _CREATININE_UMOL_PER_MG_DL) * factor
        for years, kilograms, umol, factor in product(
            _ends(age), _ends(weight), _ends(creatinine), _sex_factors(found.get("sex"))
        )
    ]
    values += _ends(given) if isinstance(given, NumericFinding) else []
    inputs = [age, weight, creatinine, *(part for part in (found.get("sex"), given) if part is not None)]
    return NumericFinding(
        feature="crcl_cg",
        low=min(values),
        high=max(values),
        age_days=max((part.age_days for part in inputs if part.age_days is not None), default=None),
        sources=tuple(sorted({source for part in inputs for source in part.sources})),
    )


def _ends(finding: NumericFinding) -> tuple[float, ...]:
    return (finding.low,) if finding.low == finding.high else (finding.low, finding.high)


def _sex_factors(sex: Finding | None) -> tuple[float, ...]:
    if isinstance(sex, CodedFinding) and sex.categories == {"male"}:
        return (1.0,)
    if isinstance(sex, CodedFinding) and sex.categories == {"female"}:
        return (_FEMALE_FACTOR,)
    return (1.0, _FEMALE_FACTOR)


def _distant_metastasis(found: Mapping[str, Finding]) -> Finding | None:
    """Any sign of M1 decides; only a recorded M0 denies it."""
    signs = [
        finding
        for name, category in (("distant_metastasis", "yes"), ("cM", "cM1"), ("pM", "pM1"))
        if isinstance(finding := found.get(name), CodedFinding) and category in finding.categories
    ]
    if signs:
        return _coded("distant_metastasis", "yes", tuple(sorted({s for sign in signs for s in sign.sources})))
    clinical = found.get("cM")
    if isinstance(clinical, CodedFinding) and clinical.categories == {"cM0"}:
        return _coded("distant_metastasis", "no", clinical.sources)
    return None


def _ene_candidate(found: Mapping[str, Finding]) -> CodedFinding | None:
    """What pN says of extranodal extension where pathology states none; pN2a leaves it open.

    Source: AJCC 8, all sites but p16-positive oropharynx, which these rules do not cover; clinical.md 1b, certainty C.
    """
    stage, edition = found.get("pN"), found.get("tnm_edition")
    if "ene_path" in found or not isinstance(stage, CodedFinding) or not isinstance(edition, CodedFinding):
        return None
    if edition.categories != {"8"} or not stage.categories <= _PN_WITH_ENE | _PN_WITHOUT_ENE:
        return None
    answer = "positive" if stage.categories <= _PN_WITH_ENE else "negative"
    return _coded("ene_candidate", answer, stage.sources)


def _node_counts(found: Mapping[str, Finding]) -> Finding | None:
    """More nodes positive than examined: one of the two is wrong, and nobody can say which (clinical.md 1b)."""
    positive, examined = found.get("nodes_positive"), found.get("nodes_examined")
    if not isinstance(positive, NumericFinding) or not isinstance(examined, NumericFinding):
        return None
    contradict = "yes" if positive.low > examined.high else "no"
    return _coded("node_counts_contradict", contradict, tuple(sorted({*positive.sources, *examined.sources})))


def _invasion(found: Mapping[str, Finding]) -> Finding | None:
    """Lymphovascular invasion is lymphatic or vascular; it is absent only where both are (clinical.md 1b)."""
    combined, lymphatic, vascular = (found.get(name) for name in ("lvi", "lymphatic_invasion", "vascular_invasion"))
    known = [part for part in (combined, lymphatic, vascular) if isinstance(part, CodedFinding)]
    present = [part for part in known if "present" in part.categories]
    if present:
        return _coded("lvi", "present", tuple(sorted({s for part in present for s in part.sources})))
    if combined is not None or (lymphatic is not None and vascular is not None):
        return _coded("lvi", "absent", tuple(sorted({s for part in known for s in part.sources})))
    return None
