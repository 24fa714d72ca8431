"""One resource as it came: its identity and version read, its bytes untouched."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from adapter.domain.ids import PatientId, ResourceVersion
from adapter.domain.record import RawResource
from adapter.errors import MalformedResource
from adapter.fhir.replies import Issue, Match
from adapter.fhir.strict_json import content_hash

_TYPE = r"[A-Z][A-Za-z]{0,63}"
_ID = r"[A-Za-z0-9\-.]{1,64}"  # FHIR R4 datatypes, `id`
_PATIENT = re.compile(rf"Patient/({_ID})(?:/_history/{_ID})?")
_ISSUE_TOKEN = re.compile(r"[a-z][a-z-]{0,39}")
_ISSUE_PLACE = re.compile(r"[A-Za-z][A-Za-z0-9.\[\]]{0,119}")  # a path; a predicate could quote a value

_ID_AND_VERSION = re.compile(rf"{_ID} {_ID}")
_TYPE_NAME = re.compile(_TYPE)
_TypeName = Annotated[str, msgspec.Meta(pattern=rf"\A{_TYPE}\Z")]
_Id = Annotated[str, msgspec.Meta(pattern=rf"\A{_ID}\Z")]


class _Meta(msgspec.Struct, rename="camel"):
    version_id: str | None = None
    last_updated: str | None = None


class _Reference(msgspec.Struct):
    reference: str | None = None


class Head(msgspec.Struct, rename="camel"):
    """What every resource says about itself, as written."""

    resource_type: str
    id: str | None = None
    meta: _Meta | None = None
    subject: _Reference | None = None
    patient: _Reference | None = None
    beneficiary: _Reference | None = msgspec.field(name="for", default=None)  # of a Task


class _Legible(msgspec.Struct, rename="camel"):
    resource_type: _TypeName
    id: _Id


class _LegibleEntry(msgspec.Struct):
    resource: _Legible | None = None


_LEGIBLE_ENTRY = msgspec.json.Decoder(_LegibleEntry)


class _Issue(msgspec.Struct):
    severity: str = "error"
    code: str = "unknown"
    expression: list[str] | None = None


class _OperationOutcome(msgspec.Struct, rename="camel"):
    resource_type: str
    issue: list[_Issue] = []


_HEAD = msgspec.json.Decoder(Head)
_OUTCOME = msgspec.json.Decoder(_OperationOutcome)


def read_head(content: bytes | msgspec.Raw) -> Head:
    """Read what one resource says about itself. Raises MalformedResource for an illegal or ill-typed element."""
    try:
        return _HEAD.decode(content)
    except msgspec.ValidationError as error:
        place = str(error).rpartition("`$")[2].rstrip("`")
        raise MalformedResource(f"an illegal element at ${place}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedResource("not JSON") from error


def match_of(head: Head, content: bytes) -> Match:
    """Join a head and the bytes it was read from (strict JSON).

    A missing versionId becomes `sha256-` and 32 hexadecimal digits of the content: every version has a name.
    head.resource_type is known to be a type name. Raises MalformedResource without an id, or with an
    illegal id or version.
    """
    if head.id is None:
        raise MalformedResource(f"{head.resource_type} without an id")
    meta = head.meta
    version = meta.version_id if meta else None
    if version is None:
        version = f"sha256-{content_hash(content)[:32]}"
    if not _ID_AND_VERSION.fullmatch(f"{head.id} {version}"):
        raise MalformedResource(f"{head.resource_type} with an illegal id or versionId")
    about = head.subject or head.patient or head.beneficiary
    return Match(
        resource=RawResource(version=ResourceVersion(head.resource_type, head.id, version), content=content),
        subject=about.reference if about else None,
        last_updated=meta.last_updated if meta else None,
    )


def read_match(content: bytes) -> Match:
    """Read one resource (strict JSON) and keep its bytes. Raises MalformedResource as its parts do."""
    head = read_head(content)
    require_type_name(head)
    return match_of(head, content)


def require_type_name(head: Head) -> None:
    """Raise MalformedResource unless the resourceType has the form of one."""
    if not _TYPE_NAME.fullmatch(head.resource_type):
        raise MalformedResource("resourceType is not a type name")


def named_as_far_as_legible(entry: msgspec.Raw) -> str | None:
    """Name the resource of a broken entry as `Type/id`, so that it can be found; None without a legal name."""
    try:
        resource = _LEGIBLE_ENTRY.decode(entry).resource
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return f"{resource.resource_type}/{resource.id}" if resource else None


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
    return PatientId(found[1]) if found else None


class _Identifier(msgspec.Struct):
    system: str | None = None
    value: str | None = None


class _Identified(msgspec.Struct):
    identifier: list[_Identifier] | _Identifier | None = None


_IDENTIFIED = msgspec.json.Decoder(_Identified)


def identifiers_of(content: bytes) -> frozenset[tuple[str | None, str | None]]:
    """Read the (system, value) pairs of a resource's identifiers; empty for an element of another shape."""
    try:
        found = _IDENTIFIED.decode(content).identifier
    except msgspec.ValidationError:
        return frozenset()
    written = found if isinstance(found, list) else [found] if found else []
    return frozenset((entry.system, entry.value) for entry in written)
