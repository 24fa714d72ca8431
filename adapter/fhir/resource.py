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
_PATIENT = re.compile(r"Patient/([^/]+)(?:/_history/[^/]+)?")
_ISSUE_TOKEN = re.compile(r"[a-z][a-z-]{0,39}")
_ISSUE_PLACE = re.compile(r"[A-Za-z][A-Za-z0-9.\[\]]{0,119}")  # a path; a predicate could quote a value


class _Meta(msgspec.Struct, rename="camel"):
    version_id: str | None = None
    last_updated: str | None = None


class _Reference(msgspec.Struct):
    reference: str | None = None


class _Head(msgspec.Struct, rename="camel"):
    resource_type: str
    id: str | None = None
    meta: _Meta | None = None
    subject: _Reference | None = None
    patient: _Reference | None = None


class _TypeOnly(msgspec.Struct, rename="camel"):
    resource_type: str


class _Legible(msgspec.Struct, rename="camel"):
    resource_type: object = None
    id: object = None


class _LegibleEntry(msgspec.Struct):
    resource: _Legible | None = None


class _Issue(msgspec.Struct):
    severity: str = "error"
    code: str = "unknown"
    expression: list[str] | None = None


class _OperationOutcome(msgspec.Struct, rename="camel"):
    resource_type: str
    issue: list[_Issue] = []


_HEAD = msgspec.json.Decoder(_Head)
_TYPE_ONLY = msgspec.json.Decoder(_TypeOnly)
_OUTCOME = msgspec.json.Decoder(_OperationOutcome)


def resource_type_of(content: bytes | msgspec.Raw) -> str:
    """Read the `resourceType`, checked. Raises MalformedResource."""
    try:
        resource_type = _TYPE_ONLY.decode(content).resource_type
    except msgspec.MsgspecError as error:
        raise MalformedResource("no resourceType") from error
    if not _TYPE.fullmatch(resource_type):
        raise MalformedResource("resourceType is not a type name")
    return resource_type


def read_match(content: bytes) -> Match:
    """Take type, id, version and subject from one resource (strict JSON) and keep its bytes.

    A missing versionId becomes `sha256-` and 32 hexadecimal digits of the content: every version has a name.
    Raises MalformedResource for a missing or illegal id, version or element shape.
    """
    resource_type = resource_type_of(content)
    try:
        head = _HEAD.decode(content)
        if head.id is None:
            raise MalformedResource(f"a {resource_type} has no id")
        version = head.meta.version_id if head.meta else None
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
        last_updated=head.meta.last_updated if head.meta else None,
    )


def named_as_far_as_legible(entry: msgspec.Raw) -> str | None:
    """Name the resource of a broken entry as `Type/id`, so that it can be found; None without a legal name."""
    try:
        resource = msgspec.json.decode(entry, type=_LegibleEntry).resource
        if resource is None or not isinstance(resource.id, str) or not isinstance(resource.resource_type, str):
            return None
        return (
            f"{resource.resource_type}/{ResourceId(resource.id)}" if _TYPE.fullmatch(resource.resource_type) else None
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, BadIdentifier):
        return None


def read_issues(content: bytes | msgspec.Raw) -> tuple[Issue, ...]:
    """Read the issues of an OperationOutcome, code and place only; empty when it is none."""
    try:
        outcome = _OUTCOME.decode(content)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return ()  # an error page of a proxy: the status already says what happened
    if outcome.resource_type != "OperationOutcome":
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
    found = _PATIENT.fullmatch(reference.removeprefix(f"{base_url}/"))
    try:
        return PatientId(found[1]) if found else None
    except BadIdentifier:
        return None


class _Identifier(msgspec.Struct):
    system: str | None = None
    value: str | None = None


class _Identified(msgspec.Struct):
    identifier: list[_Identifier] | _Identifier | None = None


def identifiers_of(content: bytes) -> frozenset[tuple[str | None, str | None]]:
    """Read the (system, value) pairs of a resource's identifiers; empty for an element of another shape."""
    try:
        found = msgspec.json.decode(content, type=_Identified).identifier
    except msgspec.ValidationError:
        return frozenset()
    written = found if isinstance(found, list) else [found] if found else []
    return frozenset((entry.system, entry.value) for entry in written)
