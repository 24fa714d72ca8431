"""Which assessments of a patient no longer stand, and what is written on them: marks, never new results.

Of several assessments the one with the latest landmark stands; of two at one landmark, the one delivered now. What
does not stand is marked: a draft CarePlan revoked, a requested Task cancelled, RiskAssessment and DetectedIssue kept in
their status, for they were right about their landmark, with a note. Whatever somebody else has touched stays as it is.
Source: FHIR R4 request status, `CarePlan.replaces`, Task state machine; checklist FR-09, F-15, F-42.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from adapter.domain.ids import PatientId, ResourceVersion
from adapter.domain.record import RawResource
from adapter.errors import AccessRefused, MalformedResource, WrongPatient
from adapter.fhir.capabilities import ServerCapabilities
from adapter.fhir.client import FhirClient
from adapter.fhir.entries import Json, WriteEntry, canonical_json, read_json
from adapter.fhir.fingerprint import SUPERSEDED, superseded_by, untouched
from adapter.fhir.identity import Identity, resolve_identity
from adapter.fhir.ownership import divide_by_owner, search_of_patient
from adapter.fhir.replies import Match
from adapter.fhir.resource import patient_in

# Where each type says which landmark it belongs to.
_LANDMARKS = {
    "RiskAssessment": "occurrenceDateTime",
    "CarePlan": "created",
    "DetectedIssue": "identifiedDateTime",
    "Task": "authoredOn",
}
_FORECAST = "RiskAssessment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One resource of ours to be marked as superseded. content: canonical JSON; version: as it was read."""

    version: ResourceVersion
    content: bytes = field(repr=False)

    @property
    def reference(self) -> str:
        """`Type/id` as the server names it."""
        return f"{self.version.resource_type}/{self.version.resource_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outdated:
    """What no longer stands. replaced: the drafts among it whose place the assessment takes, `Type/id`.

    kept: versions that somebody else has touched, and that stay as they are. unmarkable: types of which the server
    lets us find or change none, so that older ones stay unmarked. superseded: what says already that the assessment
    stands instead, whoever marked it and when.
    """

    marks: tuple[Mark, ...] = ()
    replaced: tuple[str, ...] = ()
    kept: tuple[ResourceVersion, ...] = ()
    unmarkable: tuple[str, ...] = ()
    superseded: tuple[ResourceVersion, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """One resource of one of our assessments, as the server holds it."""

    assessment_id: str
    landmark: datetime
    version: ResourceVersion
    resource: Json


def outdated(client: FhirClient, entries: Iterable[WriteEntry]) -> Outdated:
    """Look for everything of ours about the patient that does not stand beside these entries, which are one assessment.

    An abstention, which has no forecast, takes nobody's place. Nothing is outdated by an assessment that is itself
    marked as superseded: only what was left open of it, where somebody was cut off while marking, is marked too.
    """
    ours = next((entry for entry in entries if entry.resource_type == _FORECAST), None)
    if ours is None:
        return Outdated()
    own = _read_own(ours)
    capabilities = client.capabilities()
    offered = [kind for kind in _LANDMARKS if kind in capabilities.resources]
    searched = {kind: _search(client, kind, ours) for kind in offered if _markable(kind, capabilities)}
    unmarkable = tuple(kind for kind in offered if searched.get(kind) is None)
    found = [one for held in searched.values() for one in held or ()]
    superseded = tuple(one.version for one in found if superseded_by(one.resource) == own.assessment_id)
    ours_found = [one for one in found if one.assessment_id == own.assessment_id]
    successors = {by for one in ours_found if (by := superseded_by(one.resource))}
    if successors:
        of_others = (one for one in found if one.version.resource_type == _FORECAST)
        instead = max((one for one in of_others if one.assessment_id in successors), key=_by_landmark, default=None)
        left = [one for one in ours_found if superseded_by(one.resource) is None and untouched(one.resource)]
        marks = () if instead is None else tuple(_mark(one, instead) for one in left)
        return Outdated(marks=marks, unmarkable=unmarkable, superseded=superseded)
    open_ones = [one for one in found if superseded_by(one.resource) is None]
    forecasts = [one for one in open_ones if one.version.resource_type == _FORECAST]
    standing = max((own, *forecasts), key=lambda one: (one.landmark, one.assessment_id == own.assessment_id))
    stale = [
        one for one in open_ones if one.assessment_id != standing.assessment_id and one.landmark <= standing.landmark
    ]
    marks = tuple(_mark(one, standing) for one in stale if untouched(one.resource))
    plans = tuple(mark.reference for mark in marks if mark.version.resource_type == "CarePlan")
    return Outdated(
        marks=marks,
        replaced=plans if standing.assessment_id == own.assessment_id else (),
        kept=tuple(one.version for one in stale if not untouched(one.resource)),
        unmarkable=unmarkable,
        superseded=superseded,
    )


def _by_landmark(one: _Found) -> datetime:
    return one.landmark


def _markable(kind: str, capabilities: ServerCapabilities) -> bool:
    return capabilities.can(kind, "update") and capabilities.patient_parameter(kind) is not None


def _read_own(entry: WriteEntry) -> _Found:
    resource = read_json(entry.content)
    found = _found(entry.resource_type, resource, entry, ResourceVersion(entry.resource_type, entry.resource_id, ""))
    if found is None:
        raise MalformedResource("an assessment of ours without identifier or landmark")
    return found


def _search(client: FhirClient, kind: str, ours: WriteEntry) -> list[_Found] | None:
    """Everything of this type about the patient that an assessment of ours in the same mode consists of.

    None where our account may not search it: what is new is delivered all the same. Raises PullIncomplete where the
    server did not filter by patient, WrongPatient where it filtered and another patient's came all the same.
    """
    subject = _object(read_json(ours.content).get("subject")).get("reference")
    patient_id = patient_in(str(subject), client.base_url)
    if patient_id is None:
        raise MalformedResource("an assessment of ours about no Patient of this server")
    try:
        matches = search_of_patient(client, kind, patient_id).matches
    except AccessRefused:
        return None
    theirs = _theirs(client, patient_id, matches)
    found = (_found(kind, read_json(resource.content), ours, resource.version) for resource in theirs)
    return [one for one in found if one is not None]


def _theirs(client: FhirClient, patient_id: PatientId, matches: tuple[Match, ...]) -> tuple[RawResource, ...]:
    """What names this patient. Another name is looked up once, for it may be one that was merged into this one."""
    alone = Identity(patient_id=patient_id, aliases=(), patients=())
    try:
        return divide_by_owner(matches, alone, base_url=client.base_url)[0]
    except WrongPatient:
        merged = resolve_identity(client, patient_id)
        return divide_by_owner(matches, merged, base_url=client.base_url)[0]


def _found(kind: str, resource: Json, ours: WriteEntry, version: ResourceVersion) -> _Found | None:
    if ours.identifier is None:
        return None
    names = [_object(one) for one in _list(resource.get("identifier"))]
    own = [str(one.get("value")) for one in names if one.get("system") == ours.identifier.system]
    landmark = resource.get(_LANDMARKS[kind])
    if not own or not isinstance(landmark, str) or _mode(resource, ours) is None:
        return None
    try:
        moment = datetime.fromisoformat(landmark)
    except ValueError:
        return None  # somebody has written another kind of time there: it is no longer ours
    if moment.tzinfo is None:
        return None
    return _Found(own[0].partition("-")[2], moment, version, resource)


def _mode(resource: Json, ours: WriteEntry) -> str | None:
    """Its tag, where it is the same as ours: a research result does not supersede a live one."""
    tags = [_object(tag) for tag in _list(_object(resource.get("meta")).get("tag"))]
    named = {f"{tag.get('system')}|{tag.get('code')}" for tag in tags}
    return ours.mode if ours.mode in named else None


# ---- the mark itself


def _mark(one: _Found, standing: _Found) -> Mark:
    day = standing.landmark.date().isoformat()
    words = f"Superseded by assessment {standing.assessment_id} at landmark {day}."
    meta = {key: value for key, value in _object(one.resource.get("meta")).items() if key not in _SET_BY_SERVERS}
    tag: Json = {"system": SUPERSEDED, "code": standing.assessment_id}
    changed = _CHANGES[one.version.resource_type](one.resource, words, standing)
    marked = {**one.resource, **changed, "meta": {**meta, "tag": [*_list(meta.get("tag")), tag]}}
    return Mark(version=one.version, content=canonical_json(marked))


def _revoked(resource: Json, words: str, _: _Found) -> Json:
    return {**_noted(resource, words, _), "status": "revoked"}


def _noted(resource: Json, words: str, _: _Found) -> Json:
    return {"note": [*_list(resource.get("note")), {"text": words}]}


def _cancelled(_: Json, words: str, standing: _Found) -> Json:
    modified = standing.resource.get(_LANDMARKS[standing.version.resource_type])
    return {"status": "cancelled", "statusReason": {"text": words}, "lastModified": modified}


def _mitigated(resource: Json, words: str, _: _Found) -> Json:
    return {"mitigation": [*_list(resource.get("mitigation")), {"action": {"text": words}}]}


_CHANGES: Mapping[str, Callable[[Json, str, _Found], Json]] = {
    "RiskAssessment": _noted,
    "CarePlan": _revoked,
    "DetectedIssue": _mitigated,
    "Task": _cancelled,
}
_SET_BY_SERVERS = frozenset({"versionId", "lastUpdated", "source"})


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
