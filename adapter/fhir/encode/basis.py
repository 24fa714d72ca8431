"""The findings by which a clinician knows the case again: site, stage, margin, extranodal extension, p16, operation."""

from __future__ import annotations

from collections.abc import Iterable

from adapter.decision.findings import findings_at
from adapter.decision.policy import Policy, in_words
from adapter.decision.rules import CodedFinding, Findings
from adapter.domain.timeline import Timeline
from adapter.fhir.encode.writing import day_in_words

# Feature of the rules and the words before its value; pT and pN carry their own.
_NAMED = {
    "site_group": "",
    "pT": "",
    "pN": "",
    "margin_class": "margin",
    "ene_path": "extranodal extension",
    "p16": "p16",
}
_UNSTATED = {"site_group": "site", "pT": "pT", "pN": "pN"}


def basis_words(timeline: Timeline, policy: Policy) -> str:
    """As the rules read the record at the landmark; what they do not know is said to be not known."""
    return "; ".join((*_stated(findings_at(timeline, policy)), f"surgery {_surgery_day(timeline)}"))


def _stated(findings: Findings) -> Iterable[str]:
    for feature, words in _NAMED.items():
        finding = findings.get(feature)
        if isinstance(finding, CodedFinding):
            value = " or ".join(in_words(category) for category in sorted(finding.categories))
            yield f"{words} {value}".strip()
        else:
            yield f"{words or _UNSTATED[feature]} not known"


def _surgery_day(timeline: Timeline) -> str:
    """In the offset it was charted with, so that a date stays the date that was written; both ends of a partial one."""
    performed = timeline.index_surgery.performed
    first, last = day_in_words(performed.earliest.date()), day_in_words(performed.latest.date())
    return first if first == last else f"between {first} and {last}"
