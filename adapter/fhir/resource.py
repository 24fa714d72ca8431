"""One resource as it came: its identity and version read, its bytes untouched."""

from __future__ import annotations

import re

import msgspec

from adapter.domain.ids import PatientId, ResourceId, ResourceVersion
from adapter.domain.record import RawResource
from adapter.errors import BadIdentifier, MalformedResource
from adapter.fhir.replies import Issue, Match
from adapter.fhir.strict_json import content_hash

_TYPE = re.compile(r"[A-Z][A-Za-z]{0,63}")
_ISSUE_TOKEN = re.compile(r"[a-z][a-z-]{0,39}")
_ISSUE_PLACE = re.compile(r"[A-Za-z][A-Za-z0-9.\[\]]{0,119}")  # a path; a predicate could quote a value


class _Meta(msgspec.Struct):
    versionId: str | None = None
    lastUpdated: str | None = None


class _Reference(msgspec.Struct):
    reference: str | None = None


class _Head(msgspec.Struct):
    resourceType: str
    id: str | None = None
    meta: _Meta | None = None
    subject: _Reference | None = None
    patient: _Reference | None = None


class _TypeOnly(msgspec.Struct):
    resourceType: str


class _Issue(msgspec.Struct):
    severity: str = "error"
    code: str = "unknown"
    expression: list[str] | None = None


class _OperationOutcome(msgspec.Struct):
    resourceType: str
    issue: list[_Issue] = []


_HEAD = msgspec.json.Decoder(_Head)
_TYPE_ONLY = msgspec.json.Decoder(_TypeOnly)
_OUTCOME = msgspec.json.Decoder(_OperationOutcome)


def resource_type_of(content: bytes | msgspec.Raw) -> str:
    """The `resourceType`, checked. Raises MalformedResource."""
    try:
        resource_type = _TYPE_ONLY.decode(content).resourceType
    except msgspec.MsgspecError as error:
        raise MalformedResource("no resourceType") from error
    if not _TYPE.fullmatch(resource_type):
        raise MalformedResource("resourceType is not a type name")
    return resource_type


def read_match(content: bytes) -> Match:
    """Take type, id, version and subject from one resource (strict JSON) and keep its bytes.

    A missing versionId becomes `sha256-` and 32 hexadecimal digits of the content, so that every version has a name.
    Raises MalformedResource for a missing or illegal id, version or element shape.
    """
    resource_type = resource_type_of(content)
    try:
        head = _HEAD.decode(content)
        if head.id is None:
            raise MalformedResource(f"a {resource_type} has no id")
        version = head.meta.versionId if head.meta else None
        named = ResourceVersion(
            resource_type,
            str(ResourceId(head.id)),
            f"sha256-{content_hash(content)[:32]}" if version is None else str(ResourceId(version)),
        )
    except msgspec.MsgspecError as error:
        raise MalformedResource(f"a {resource_type} has an element of the wrong type") from error
    except BadIdentifier as error:
        raise MalformedResource(f"a {resource_type} has an illegal id or versionId") from error
    about = head.subject or head.patient
    return Match(
        resource=RawResource(version=named, content=content),
        subject=about.reference if about else None,
        last_updated=head.meta.lastUpdated if head.meta else None,
    )


def read_issues(content: bytes | msgspec.Raw) -> tuple[Issue, ...]:
    """The issues of an OperationOutcome, code and place only; empty when it is none."""
    try:
        outcome = _OUTCOME.decode(content)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return ()  # an error page of a proxy: the status already says what happened
    if outcome.resourceType != "OperationOutcome":
        return ()
    return tuple(
        Issue(
            severity=issue.severity if _ISSUE_TOKEN.fullmatch(issue.severity) else "error",
            code=issue.code if _ISSUE_TOKEN.fullmatch(issue.code) else "unknown",
            expression=tuple(place for place in issue.expression or () if _ISSUE_PLACE.fullmatch(place)),
        )
        for issue in outcome.issue
    )


def patient_in(reference: str | None, base_url: str) -> PatientId | None:
    """Whom a reference names, when it names a Patient of our server: relative, absolute or with a version.

    None for anything else: contained, `urn:`, another server, another type, or no reference at all.
    """
    if reference is None:
        return None
    parts = reference.removeprefix(f"{base_url}/").split("/")
    plain = len(parts) == 2 or (len(parts) == 4 and parts[2] == "_history")
    if not plain or parts[0] != "Patient":
        return None
    try:
        return PatientId(parts[1])
    except BadIdentifier:
        return None


class _Identifier(msgspec.Struct):
    system: str | None = None
    value: str | None = None


class _Identified(msgspec.Struct):
    identifier: list[_Identifier] | _Identifier | None = None


def identifiers_of(content: bytes) -> frozenset[tuple[str | None, str | None]]:
    """The (system, value) pairs of a resource's business identifiers; empty for an element of another shape."""
    try:
        found = msgspec.json.decode(content, type=_Identified).identifier
    except msgspec.ValidationError:
        return frozenset()
    written = found if isinstance(found, list) else [found] if found else []
    return frozenset((entry.system, entry.value) for entry in written)
