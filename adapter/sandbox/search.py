"""The search parameters the pretend server understands, and which resources they match."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime

from adapter.sandbox.repository import Refused, Repository, Resource, Stored

SUPPORTED: Mapping[str, frozenset[str]] = {
    "Patient": frozenset({"_id", "_lastUpdated", "identifier", "link"}),
    "Group": frozenset({"_id", "_lastUpdated", "identifier"}),
    "Observation": frozenset({"_id", "_lastUpdated", "identifier", "patient", "subject", "code"}),
    "Procedure": frozenset({"_id", "_lastUpdated", "identifier", "patient", "subject", "code"}),
    "Condition": frozenset({"_id", "_lastUpdated", "identifier", "patient", "subject", "code"}),
    "MedicationAdministration": frozenset({"_id", "_lastUpdated", "identifier", "patient", "subject"}),
    "ImagingStudy": frozenset({"_id", "_lastUpdated", "identifier", "patient", "subject"}),
    "DiagnosticReport": frozenset({"_id", "_lastUpdated", "identifier", "patient", "subject", "code"}),
    "Device": frozenset({"_id", "_lastUpdated", "identifier"}),
    "RiskAssessment": frozenset({"_id", "_lastUpdated", "identifier", "patient", "subject"}),
    "CarePlan": frozenset({"_id", "_lastUpdated", "identifier", "patient", "subject"}),
    "DocumentReference": frozenset({"_id", "_lastUpdated", "identifier", "patient", "subject"}),
    "GuidanceResponse": frozenset({"_id", "_lastUpdated", "identifier", "patient", "subject"}),
    "DetectedIssue": frozenset({"_id", "_lastUpdated", "identifier", "patient"}),
    "Task": frozenset({"_id", "_lastUpdated", "identifier", "patient", "subject"}),
    "Provenance": frozenset({"_id", "_lastUpdated", "target", "patient", "agent"}),
}
_PATIENT_REFERENCE = {"patient", "subject", "target", "agent", "link"}


def find(repository: Repository, resource_type: str, parameters: Iterable[tuple[str, str]]) -> list[Stored]:
    """Every live resource that matches all parameters, oldest change first. Raises Refused for a bad parameter."""
    tests = [_test(name, value) for name, value in parameters]
    return [stored for stored in repository.current(resource_type) if all(test(stored) for test in tests)]


def _test(name: str, value: str) -> Callable[[Stored], bool]:
    alternatives = set(value.split(","))
    if name == "_id":
        return lambda stored: stored.resource["id"] in alternatives
    if name == "_lastUpdated":
        holds = _bound(value)
        return lambda stored: holds(stored.last_updated)
    if name == "identifier":
        return lambda stored: not alternatives.isdisjoint(_tokens(stored.resource.get("identifier")))
    if name == "code":
        return lambda stored: not alternatives.isdisjoint(_code_tokens(stored.resource.get("code")))
    if name in _PATIENT_REFERENCE:
        wanted = {_local(alternative) for alternative in alternatives}
        return lambda stored: not wanted.isdisjoint(map(_local, _references(stored.resource, name)))
    raise Refused(400, "not-supported", f"search parameter {name[:40]} is not supported")


def _bound(expression: str) -> Callable[[datetime], bool]:
    prefix, text = (expression[:2], expression[2:]) if expression[:2].isalpha() else ("eq", expression)
    try:
        bound = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused(400, "value", "_lastUpdated is not a dateTime") from error
    bound = bound if bound.utcoffset() is not None else bound.replace(tzinfo=UTC)
    comparisons: Mapping[str, Callable[[datetime], bool]] = {
        "ge": lambda moment: moment >= bound,
        "gt": lambda moment: moment > bound,
        "le": lambda moment: moment <= bound,
        "lt": lambda moment: moment < bound,
        "eq": lambda moment: moment == bound,
    }
    if prefix not in comparisons:
        raise Refused(400, "value", f"_lastUpdated prefix {prefix} is not supported")
    return comparisons[prefix]


def _tokens(identifiers: object) -> Iterator[str]:
    for identifier in _as_list(identifiers):
        if isinstance(identifier, dict):
            yield f"{identifier.get('system', '')}|{identifier.get('value', '')}"
            yield str(identifier.get("value", ""))


def _code_tokens(concept: object) -> Iterator[str]:
    for coding in _as_list(concept.get("coding") if isinstance(concept, dict) else None):
        if isinstance(coding, dict):
            yield f"{coding.get('system', '')}|{coding.get('code', '')}"
            yield str(coding.get("code", ""))


def _references(resource: Resource, name: str) -> Iterator[str]:
    fields = {
        "patient": ("subject", "patient", "target", "for"),
        "subject": ("subject", "for"),
        "target": ("target",),
        "agent": ("agent",),
        "link": ("link",),
    }[name]
    for field in fields:
        for entry in _as_list(resource.get(field)):
            yield from _reference_in(entry)


def _reference_in(entry: object) -> Iterator[str]:
    if not isinstance(entry, dict):
        return
    for holder in (entry, entry.get("who"), entry.get("other")):
        if isinstance(holder, dict) and isinstance(holder.get("reference"), str):
            yield holder["reference"]


def _as_list(value: object) -> list[object]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _local(reference: str) -> str:
    """`Patient/p1/_history/2`, `Patient/p1` and `p1` all name p1."""
    return reference.split("/_history/", maxsplit=1)[0].rpartition("/")[2]
