"""Make the server hold exactly one assessment, once, however often and from however many processes it is asked.

Look first, write only what is absent, and look again whenever a reply was lost or somebody else was faster. What is
already there is never written again: it may carry a clinician's edit. Older assessments that no longer stand are marked
in the same transaction, each only while it is as we wrote it. Source: checklist FR-08 to FR-11, F-06, F-42,
F-43; conditional create is not atomic on every server, so its result is searched and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import urlencode

from adapter.domain.ids import ResourceVersion
from adapter.domain.outcome import TransactionBundle, WriteReceipt
from adapter.domain.record import RawResource
from adapter.errors import AccessRefused, UnknownOutcome, UnsupportedPeer, VersionConflict, WriteRefused
from adapter.fhir.capabilities import ServerCapabilities
from adapter.fhir.client import FhirClient
from adapter.fhir.entries import (
    WriteEntry,
    condition_of,
    entries_of,
    has_tag,
    transaction_by_id,
    transaction_by_identifier,
    with_references,
    with_replaced,
    without_id,
    without_references,
)
from adapter.fhir.fingerprint import stamped
from adapter.fhir.replies import Gone
from adapter.fhir.supersede import Mark, Outdated, outdated
from adapter.moments import Moment, reach

_ATTEMPTS = 3
# What a reader can do without; the others are the result itself and whence it comes.
_CAN_BE_LEFT_OUT = frozenset({"DocumentReference", "GuidanceResponse", "DetectedIssue", "Task"})
_PROVENANCE_SEARCH = ("target", "agent")
_TARGETS = ("RiskAssessment", "DetectedIssue", "GuidanceResponse")  # Provenance is searched by the first that is there
_ABOUT_US = frozenset({"DocumentReference", "Device", "Provenance"})

# What the server holds, by our own reference: its version, or Gone where somebody deleted it.
_Held = Mapping[str, ResourceVersion | Gone]


def submit(client: FhirClient, bundle: TransactionBundle) -> WriteReceipt:
    """Write what is absent of one assessment, mark what it supersedes, and return the versions the server then holds.

    What a server does not offer, and the work can do without, is left out and named in the receipt. An assessment of
    which a part was deleted on the server was withdrawn by somebody and is left as it is. Raises UnsupportedPeer naming
    what the server cannot do, WriteRefused where it refuses a resource or holds one identifier more than once,
    Transient when after three attempts the outcome is still open.
    """
    chosen = _chosen(client.capabilities(), entries_of(bundle.content))
    if all(entry.resource_type in _ABOUT_US for entry in chosen.entries):
        return WriteReceipt(assessment_id=bundle.assessment_id, versions=(), written=False, left_out=chosen.left_out)
    held, superseding = _look(chosen, client)
    absent = _absent(chosen.entries, held)
    written = bool(absent)
    failure: UnknownOutcome | VersionConflict | None = None
    refused = False
    for _ in range(_ATTEMPTS):
        if not absent and (refused or not superseding.marks):
            break
        writing = _Writing(entries=absent, held=held, superseding=superseding)
        try:
            failure = _write_once(chosen.route, client, writing.without_marks() if refused else writing)
        except (WriteRefused, AccessRefused, UnsupportedPeer):
            if refused or not superseding.marks:
                raise
            refused, failure = True, None  # it may be the marks that are not wanted: the new result comes first
        # Whatever happened, part of it may be there: nothing is written again that the server was not asked about.
        held, superseding = _look(chosen, client)
        absent = _absent(chosen.entries, held)
    if absent:
        names = ", ".join(entry.reference for entry in absent)
        raise failure or UnknownOutcome(f"written and still absent: {names}")
    if failure is not None and superseding.marks and not refused:
        raise failure
    unmarked = sorted({*superseding.unmarkable, *(mark.version.resource_type for mark in superseding.marks)})
    return WriteReceipt(
        assessment_id=bundle.assessment_id,
        versions=_versions(chosen.entries, held),
        written=written,
        left_out=(*chosen.left_out, *(f"marking of older {kind}" for kind in unmarked)),
        superseded=superseding.superseded,
        kept=superseding.kept,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """What of an assessment a server is given, and how. left_out: the types it does not offer."""

    route: _Route
    entries: tuple[WriteEntry, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writing:
    """One attempt. entries: what is absent; held: what is there; superseding: what no longer stands."""

    entries: tuple[WriteEntry, ...]
    held: _Held
    superseding: Outdated

    def without_marks(self) -> _Writing:
        """The same, where a server has refused: what is old stays as it is, and the new plan replaces nothing."""
        return replace(self, superseding=Outdated())


def _chosen(capabilities: ServerCapabilities, entries: tuple[WriteEntry, ...]) -> _Chosen:
    """The route is chosen by what must be written; what the route cannot carry of the rest is left out by name."""
    needed = tuple(entry for entry in entries if entry.resource_type not in _CAN_BE_LEFT_OUT)
    route = _route_for(capabilities, needed)
    left_out = [entry for entry in entries if entry not in needed and not route.takes(capabilities, entry)]
    absent = frozenset(entry.reference for entry in left_out)
    kept = (entry for entry in entries if entry.reference not in absent)
    return _Chosen(
        route=route,
        entries=tuple(replace(entry, content=stamped(without_references(entry.content, absent))) for entry in kept),
        left_out=tuple(entry.resource_type for entry in left_out),
    )


def _look(chosen: _Chosen, client: FhirClient) -> tuple[_Held, Outdated]:
    """What is there of this assessment, and what no longer stands; one that somebody has withdrawn outdates nothing."""
    held = chosen.route.look_up(client, chosen.entries)
    withdrawn = any(isinstance(version, Gone) for version in held.values())
    return held, Outdated() if withdrawn else outdated(client, chosen.entries)


def _absent(entries: tuple[WriteEntry, ...], held: _Held) -> tuple[WriteEntry, ...]:
    """What has to be written; nothing of an assessment that somebody has withdrawn."""
    if any(isinstance(version, Gone) for version in held.values()):
        return ()
    return tuple(entry for entry in entries if entry.reference not in held)


def _write_once(route: _Route, client: FhirClient, writing: _Writing) -> UnknownOutcome | VersionConflict | None:
    """Write; give back the two failures after which only another look tells what became of it."""
    try:
        route.write(client, writing)
    except (UnknownOutcome, VersionConflict) as failure:
        return failure
    return None


def _versions(entries: tuple[WriteEntry, ...], held: _Held) -> tuple[ResourceVersion, ...]:
    """In the order of the bundle; what somebody deleted stays deleted and is left out."""
    found = [held.get(entry.reference) for entry in entries]
    return tuple(version for version in found if isinstance(version, ResourceVersion))


class _Route(Protocol):
    """One way to look up and to write, as far as a server allows."""

    def look_up(self, client: FhirClient, entries: tuple[WriteEntry, ...]) -> _Held:
        """Find what is already there."""

    def takes(self, capabilities: ServerCapabilities, entry: WriteEntry) -> bool:
        """Whether a resource that can be left out can go this way."""

    def write(self, client: FhirClient, writing: _Writing, /) -> None:
        """Write what is absent, then the marks; stops at the first refusal."""


def _route_for(capabilities: ServerCapabilities, entries: tuple[WriteEntry, ...]) -> _Route:
    """Choose the strongest way the server allows. Raises UnsupportedPeer naming each type it cannot write.

    HAPI lets clients name ids and does not declare `updateCreate`: where only `update` is declared, it is tried.
    """
    kinds = [entry.resource_type for entry in entries]
    by_id = _TransactionById() if capabilities.transaction else _OneByOneById()
    if all(capabilities.update_create(kind) for kind in kinds):
        return by_id
    by_identifier = _route_by_identifier(capabilities, entries)
    if all(capabilities.can(kind, "update") for kind in kinds):
        return _TriedById(by_id, otherwise=by_identifier)
    return by_identifier


def _route_by_identifier(capabilities: ServerCapabilities, entries: tuple[WriteEntry, ...]) -> _Route:
    kinds = [entry.resource_type for entry in entries]
    closed = [kind for kind in kinds if not capabilities.can(kind, "create")]
    if closed:
        raise UnsupportedPeer(f"the server does not let us create {', '.join(closed)}")
    unsearchable = [
        f"{entry.resource_type} by {parameter}"
        for entry in entries
        for parameter in (("identifier",) if entry.identifier else _PROVENANCE_SEARCH)
        if not capabilities.searches_by(entry.resource_type, parameter)
    ]
    if unsearchable:
        raise UnsupportedPeer(f"the server does not search {', '.join(unsearchable)}")
    conditional = all(capabilities.conditional_create(kind) for kind in kinds)
    if capabilities.transaction and conditional and capabilities.searches_by("Provenance", "_tag"):
        return _TransactionByIdentifier()
    return _OneByOneByIdentifier(conditional=conditional)


class _ById:
    """Looking up where our ids are the server's."""

    def takes(self, capabilities: ServerCapabilities, entry: WriteEntry) -> bool:
        """PUT to an id of ours is an update."""
        return capabilities.can(entry.resource_type, "update")

    def look_up(self, client: FhirClient, entries: tuple[WriteEntry, ...]) -> _Held:
        """Read each resource by id. A deleted Device is absent: it is no part of a patient's record."""
        held: dict[str, ResourceVersion | Gone] = {}
        for entry in entries:
            found = client.read(entry.resource_type, entry.resource_id)
            if isinstance(found, RawResource):
                held[entry.reference] = found.version
            elif found is not None and entry.resource_type != "Device":
                held[entry.reference] = found
        return held


class _TransactionById(_ById):
    """The normal way: one transaction of PUTs."""

    def write(self, client: FhirClient, writing: _Writing, /) -> None:
        """Write all or nothing."""
        references = _server_references(writing.held)
        client.post_transaction(transaction_by_id(_replacing(writing), references, writing.superseding.marks))


class _OneByOneById(_ById):
    """PUT by PUT, in order, so that nothing refers to what is not there yet."""

    def write(self, client: FhirClient, writing: _Writing, /) -> None:
        """Write in order; an interruption leaves a beginning that the next call completes."""
        references = _server_references(writing.held)
        for entry in _replacing(writing):
            client.put(entry.resource_type, entry.resource_id, with_references(entry, references))
            reach(Moment.BETWEEN_WRITES)
        _mark_one_by_one(client, writing.superseding.marks)


class _TriedById:
    """Our ids where the server takes them, its own where it refuses; looked up both ways."""

    def __init__(self, by_id: _TransactionById | _OneByOneById, *, otherwise: _Route) -> None:
        """otherwise: the way that is left when the first is refused."""
        self._by_id = by_id
        self._otherwise = otherwise

    def takes(self, capabilities: ServerCapabilities, entry: WriteEntry) -> bool:
        """Both ways must be open to it: which one it will be shows with the first try."""
        return all(route.takes(capabilities, entry) for route in (self._by_id, self._otherwise))

    def look_up(self, client: FhirClient, entries: tuple[WriteEntry, ...]) -> _Held:
        """Read by id, then search what is not there: an earlier call may have been given other ids."""
        return self._look_up(client, entries, {})

    def _look_up(self, client: FhirClient, entries: tuple[WriteEntry, ...], known: _Held) -> _Held:
        held = {**known, **self._by_id.look_up(client, entries)}
        if any(isinstance(version, Gone) for version in held.values()):
            return held
        return _found_by_identifier(client, entries, held)

    def write(self, client: FhirClient, writing: _Writing, /) -> None:
        """Try; what a refusal leaves unwritten goes the other way, and nothing that is there by now."""
        try:
            self._by_id.write(client, writing)
        except (WriteRefused, UnsupportedPeer):
            held = self._look_up(client, writing.entries, writing.held)
            absent = _absent(writing.entries, held)
            if not writing.entries:
                raise  # it was a mark that was refused
            if not absent:
                return  # all is there by now, through us or through somebody who was faster: the next look tells
            self._otherwise.write(client, replace(writing, entries=absent, held=held))


class _ByIdentifier:
    """Looking up where the server chooses ids."""

    def takes(self, capabilities: ServerCapabilities, entry: WriteEntry) -> bool:
        """What cannot be found again by its name would be written twice."""
        kind = entry.resource_type
        return capabilities.can(kind, "create") and capabilities.searches_by(kind, "identifier")

    def look_up(self, client: FhirClient, entries: tuple[WriteEntry, ...]) -> _Held:
        """Search each resource by what names it."""
        return _found_by_identifier(client, entries, {})


class _TransactionByIdentifier(_ByIdentifier):
    """One transaction of conditional creates."""

    def write(self, client: FhirClient, writing: _Writing, /) -> None:
        """Write all or nothing; a resource that appeared meanwhile is matched, not doubled."""
        references = _server_references(writing.held)
        client.post_transaction(transaction_by_identifier(_replacing(writing), references, writing.superseding.marks))


class _OneByOneByIdentifier(_ByIdentifier):
    """Create by create, in order, each under the id the server gave the one before."""

    def __init__(self, *, conditional: bool) -> None:
        """conditional: whether the server honours If-None-Exist."""
        self._conditional = conditional

    def write(self, client: FhirClient, writing: _Writing, /) -> None:
        """Write in order; an interruption leaves a beginning that the next call completes."""
        known = dict(writing.held)
        for entry in _replacing(writing):
            condition = condition_of(entry) if entry.identifier else urlencode(_provenance_query(known))
            reply = client.create(
                entry.resource_type,
                without_id(entry, _server_references(known)),
                if_none_exist=condition if self._conditional else None,
            )
            if reply.version is None:
                raise UnknownOutcome(f"{entry.resource_type} was written without an id in the reply")
            known[entry.reference] = reply.version
            reach(Moment.BETWEEN_WRITES)
        _mark_one_by_one(client, writing.superseding.marks)


def _mark_one_by_one(client: FhirClient, marks: tuple[Mark, ...]) -> None:
    """Each only while it is at the version that was read; the standing assessment is there already."""
    for mark in marks:
        version = mark.version
        client.put(version.resource_type, version.resource_id, mark.content, if_match=version.version)
        reach(Moment.BETWEEN_WRITES)


def _replacing(writing: _Writing) -> tuple[WriteEntry, ...]:
    """A plan that is written now names those it takes the place of. Source: FHIR R4, CarePlan.replaces."""
    replaced = writing.superseding.replaced
    return tuple(
        with_replaced(entry, replaced) if entry.resource_type == "CarePlan" and replaced else entry
        for entry in writing.entries
    )


def _found_by_identifier(client: FhirClient, entries: tuple[WriteEntry, ...], known: _Held) -> _Held:
    """Search what is not known yet; raises WriteRefused where one name has two resources: a person must see that."""
    held = dict(known)
    for entry in entries:
        found = [] if entry.reference in held else _versions_of(client, entry, held)
        if len(found) > 1:
            raise WriteRefused(f"{entry.resource_type} {entry.tag} is on the server {len(found)} times")
        if found:
            held[entry.reference] = found[0]
    return held


def _versions_of(client: FhirClient, entry: WriteEntry, held: _Held) -> list[ResourceVersion]:
    if entry.identifier is not None:
        found = client.search_by_identifier(entry.resource_type, entry.identifier.system, entry.identifier.value)
        return [resource.version for resource in found]
    return _provenance_versions(client, entry, held)


def _provenance_versions(client: FhirClient, entry: WriteEntry, held: _Held) -> list[ResourceVersion]:
    """Provenance has no identifier: ours has our tag and joins our assessment with our Device."""
    query = _provenance_query(held)
    if len(query) < len(_PROVENANCE_SEARCH):
        return []
    found = client.search(entry.resource_type, query)
    return [match.resource.version for match in found.matches if has_tag(match.resource.content, entry.tag)]


def _provenance_query(held: _Held) -> list[tuple[str, str]]:
    """Search by what the server itself calls the assessment and the Device; shorter while one is not there."""
    there = [version for version in held.values() if isinstance(version, ResourceVersion)]
    about = [version for kind in _TARGETS for version in there if version.resource_type == kind][:1]
    wanted = [*(("target", version) for version in about)]
    wanted += [("agent", version) for version in there if version.resource_type == "Device"]
    return [(parameter, f"{version.resource_type}/{version.resource_id}") for parameter, version in wanted]


def _server_references(held: _Held) -> Mapping[str, str]:
    return {
        ours: f"{version.resource_type}/{version.resource_id}"
        for ours, version in held.items()
        if isinstance(version, ResourceVersion)
    }
