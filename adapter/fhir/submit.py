"""Make the server hold exactly one assessment, once, however often and from however many processes it is asked.

Look first, write only what is absent, and look again whenever a reply was lost or somebody else was faster. What is
already there is never written again: it may carry a clinician's edit. Source: checklist FR-08 to FR-11, F-06, F-42,
F-43; conditional create is not atomic on every server, so its result is searched and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlencode

from adapter.domain.ids import ResourceVersion
from adapter.domain.outcome import TransactionBundle, WriteReceipt
from adapter.domain.record import RawResource
from adapter.errors import UnknownOutcome, UnsupportedPeer, VersionConflict, WriteRefused
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
    without_id,
)
from adapter.fhir.replies import Gone
from adapter.moments import Moment, reach

_ATTEMPTS = 3
_PROVENANCE_SEARCH = ("target", "agent")

# What the server holds, by our own reference: its version, or Gone where somebody deleted it.
_Held = Mapping[str, ResourceVersion | Gone]


def submit(client: FhirClient, bundle: TransactionBundle) -> WriteReceipt:
    """Write what is absent of one assessment and return the versions the server then holds.

    An assessment of which a part was deleted on the server was withdrawn by somebody and is left as it is.
    Raises UnsupportedPeer naming what the server cannot do, WriteRefused where it refuses a resource or holds one
    identifier more than once, Transient when after three attempts the outcome is still open.
    """
    entries = entries_of(bundle.content)
    route = _route_for(client.capabilities(), entries)
    held = route.look_up(client, entries)
    absent = _absent(entries, held)
    written = bool(absent)
    for _ in range(_ATTEMPTS):
        if not absent:
            return _receipt(bundle, entries, held, written=written)
        failure = _write_once(route, client, absent, held)
        held = route.look_up(client, entries)
        absent = _absent(entries, held)
    if absent:
        names = ", ".join(entry.reference for entry in absent)
        raise failure or UnknownOutcome(f"written and still absent: {names}")
    return _receipt(bundle, entries, held, written=written)


def _absent(entries: tuple[WriteEntry, ...], held: _Held) -> tuple[WriteEntry, ...]:
    """What has to be written; nothing of an assessment that somebody has withdrawn."""
    if any(isinstance(version, Gone) for version in held.values()):
        return ()
    return tuple(entry for entry in entries if entry.reference not in held)


def _write_once(
    route: _Route, client: FhirClient, absent: tuple[WriteEntry, ...], held: _Held
) -> UnknownOutcome | VersionConflict | None:
    """Write; give back the two failures after which only another look tells what became of it."""
    try:
        route.write(client, absent, held)
    except (UnknownOutcome, VersionConflict) as failure:
        return failure
    return None


def _receipt(bundle: TransactionBundle, entries: tuple[WriteEntry, ...], held: _Held, *, written: bool) -> WriteReceipt:
    """Name the versions in the order of the bundle; what somebody deleted stays deleted and is left out."""
    found = [held.get(entry.reference) for entry in entries]
    return WriteReceipt(
        assessment_id=bundle.assessment_id,
        versions=tuple(version for version in found if isinstance(version, ResourceVersion)),
        written=written,
    )


class _Route(Protocol):
    """One way to look up and to write, as far as a server allows."""

    def look_up(self, client: FhirClient, entries: tuple[WriteEntry, ...]) -> _Held:
        """Find what is already there."""

    def write(self, client: FhirClient, absent: tuple[WriteEntry, ...], held: _Held, /) -> None:
        """Write what is absent; stops at the first refusal."""


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

    def write(self, client: FhirClient, absent: tuple[WriteEntry, ...], held: _Held, /) -> None:
        """Write all or nothing."""
        client.post_transaction(transaction_by_id(absent, _server_references(held)))


class _OneByOneById(_ById):
    """PUT by PUT, in order, so that nothing refers to what is not there yet."""

    def write(self, client: FhirClient, absent: tuple[WriteEntry, ...], held: _Held, /) -> None:
        """Write in order; an interruption leaves a beginning that the next call completes."""
        references = _server_references(held)
        for entry in absent:
            client.put(entry.resource_type, entry.resource_id, with_references(entry, references))
            reach(Moment.BETWEEN_WRITES)


class _TriedById:
    """Our ids where the server takes them, its own where it refuses; looked up both ways."""

    def __init__(self, by_id: _TransactionById | _OneByOneById, *, otherwise: _Route) -> None:
        """otherwise: the way that is left when the first is refused."""
        self._by_id = by_id
        self._otherwise = otherwise

    def look_up(self, client: FhirClient, entries: tuple[WriteEntry, ...]) -> _Held:
        """Read by id, then search what is not there: an earlier call may have been given other ids."""
        held = self._by_id.look_up(client, entries)
        if any(isinstance(version, Gone) for version in held.values()):
            return held
        return _found_by_identifier(client, entries, held)

    def write(self, client: FhirClient, absent: tuple[WriteEntry, ...], held: _Held, /) -> None:
        """Try; a refusal has written nothing."""
        try:
            self._by_id.write(client, absent, held)
        except (WriteRefused, UnsupportedPeer):
            self._otherwise.write(client, absent, held)


class _ByIdentifier:
    """Looking up where the server chooses ids."""

    def look_up(self, client: FhirClient, entries: tuple[WriteEntry, ...]) -> _Held:
        """Search each resource by what names it."""
        return _found_by_identifier(client, entries, {})


class _TransactionByIdentifier(_ByIdentifier):
    """One transaction of conditional creates."""

    def write(self, client: FhirClient, absent: tuple[WriteEntry, ...], held: _Held, /) -> None:
        """Write all or nothing; a resource that appeared meanwhile is matched, not doubled."""
        client.post_transaction(transaction_by_identifier(absent, _server_references(held)))


class _OneByOneByIdentifier(_ByIdentifier):
    """Create by create, in order, each under the id the server gave the one before."""

    def __init__(self, *, conditional: bool) -> None:
        """conditional: whether the server honours If-None-Exist."""
        self._conditional = conditional

    def write(self, client: FhirClient, absent: tuple[WriteEntry, ...], held: _Held, /) -> None:
        """Write in order; an interruption leaves a beginning that the next call completes."""
        known = dict(held)
        for entry in absent:
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
    wanted = dict(zip(("RiskAssessment", "Device"), _PROVENANCE_SEARCH, strict=True))
    return [
        (wanted[version.resource_type], f"{version.resource_type}/{version.resource_id}")
        for version in held.values()
        if isinstance(version, ResourceVersion) and version.resource_type in wanted
    ]


def _server_references(held: _Held) -> Mapping[str, str]:
    return {
        ours: f"{version.resource_type}/{version.resource_id}"
        for ours, version in held.items()
        if isinstance(version, ResourceVersion)
    }
