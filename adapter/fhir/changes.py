"""What changed since the watermark: in the server's own time, filtered to the cohort here, never by our clock."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from adapter.domain.ids import PatientId, ResourceVersion
from adapter.domain.outcome import ChangePage, ResourceChange, Watermark
from adapter.domain.record import Quarantined, RawResource
from adapter.errors import BadData
from adapter.fhir.client import FhirClient
from adapter.fhir.cohort import Cohort, SelectCohort, find_members, since_parameter
from adapter.fhir.identity import Identity, replaced_by, resolve_identity
from adapter.fhir.ownership import divide_by_owner, search_of_patient
from adapter.fhir.replies import Match
from adapter.fhir.resource import patient_in
from adapter.fhir.search import instant
from adapter.fhir.strict_json import content_hash

WATCHED_TYPES = ("Patient", "Observation", "Procedure")  # nothing that we write ourselves
OVERLAP = timedelta(minutes=10)
_BEFORE_ANY_RECORD = datetime(1970, 1, 1, tzinfo=UTC)

ContentHashes = Mapping[str, str]
"""`Type/id` to SHA-256 of the content. On a server without `_lastUpdated`: `Patient/id` to one hash of all it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What a poll must know of the one before; the caller stores it together with the watermark.

    people: each known Patient id of the cohort, merged ones too, to the id that survives. Losing it loses no
    change: what is in the window is reported once more.
    """

    people: Mapping[PatientId, PatientId] = field(default_factory=lambda: MappingProxyType({}))
    hashes: ContentHashes = field(default_factory=lambda: MappingProxyType({}), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolledChanges(ChangePage):
    """A ChangePage, what the next poll needs, and the changed resources that could not be read."""

    remembered: Remembered
    quarantined: tuple[Quarantined, ...] = ()


def fetch_changes(
    client: FhirClient,
    since: Watermark | None,
    cohort: Cohort,
    *,
    remembered: Remembered | None = None,
    overlap: timedelta = OVERLAP,
) -> PolledChanges:
    """Find what changed for the cohort since the watermark, read to the end.

    Who is new to the cohort is reported once, by the Patient resource: a case reads everything anyway; with
    `since` None that is everybody. Where the server filters by `_lastUpdated`, one search per watched type
    covers all patients, however many; it starts `overlap` before the watermark, because resources are stamped
    before they are committed, and what was reported before is recognised by its content. Elsewhere:
    `reread_cohort`. The next watermark is the latest `lastUpdated` seen that is not after the server's own
    `Date`; where that clock was put back behind the overlap, the watermark goes back with it, or nothing would be
    seen until the clock has caught up. Raises what `FhirClient.search` raises. Source: checklist FR-05, fault F-26.
    """
    known = remembered or Remembered()
    if not _filters_by_time(client):
        return reread_cohort(client, cohort, remembered=known)
    if since is None:
        return _enrol(client, cohort, known)
    poll = _Poll(client, since.time, overlap, known)
    if not poll.read():
        return reread_cohort(client, cohort, remembered=known)
    poll.welcome(cohort)
    return poll.changes()


def reread_cohort(client: FhirClient, cohort: Cohort, *, remembered: Remembered | None = None) -> PolledChanges:
    """Read the watched types of every patient of the cohort and report whose content differs from last time.

    The only honest way on a server without `_lastUpdated`. Each changed patient is reported once, by the Patient
    resource. Elsewhere `pipeline.reconcile` compares whole records nightly.
    """
    known = remembered or Remembered()
    now = _server_time(client)
    people: dict[PatientId, PatientId] = {}
    hashes: dict[str, str] = {}
    changes: list[ResourceChange] = []
    for member in sorted(find_members(client, cohort, changed_since=None)):
        if member in people:
            continue
        identity, version = _identified(client, member)
        people.update(dict.fromkeys(identity.ids, identity.patient_id))
        name = f"Patient/{identity.patient_id}"
        if name in hashes:
            continue
        hashes[name] = _hash_of_everything(client, identity)
        if known.hashes.get(name) != hashes[name]:
            changes.append(ResourceChange(version=version, patient_id=identity.patient_id, last_updated=now))
    return PolledChanges(
        changes=tuple(changes),
        next_watermark=Watermark(time=now),
        remembered=Remembered(people=people, hashes=hashes),
    )


class _Poll:
    """One poll by time: a search per watched type over all patients, then the cohort's share of it."""

    def __init__(self, client: FhirClient, since: datetime, overlap: timedelta, known: Remembered) -> None:
        """Ask nothing yet."""
        self._client = client
        self._since = since
        self._window_start = since - overlap
        self._overlap = overlap
        self._known = known
        self._people = dict(known.people)
        self._changes: list[ResourceChange] = []
        self._matches: list[Match] = []
        self._quarantined: list[Quarantined] = []
        self._server_time: datetime | None = None

    def read(self) -> bool:
        """Search every watched type; False when the server dropped the filter by time after all."""
        for resource_type in WATCHED_TYPES:
            found = self._client.search(resource_type, [since_parameter(self._window_start)])
            if "_lastUpdated" in found.tally.ignored:
                return False
            self._server_time = self._server_time or self._client.server_time()
            if self._server_time is not None and self._server_time < self._window_start:
                self._go_back_to(self._server_time)
                return self.read()
            self._matches.extend(found.matches)
            self._quarantined.extend(found.quarantined)
        return True

    def _go_back_to(self, moment: datetime) -> None:
        """The server's clock was put back: what is stamped from now on is earlier than all that was seen."""
        self._since = moment
        self._window_start = moment - self._overlap
        self._matches.clear()
        self._quarantined.clear()

    def welcome(self, cohort: Cohort) -> None:
        """Report who is in the cohort now and was not before; a search is only asked for its recent changes."""
        incremental = isinstance(cohort, SelectCohort) and bool(self._people)
        window = self._window_start if incremental else None
        members = find_members(self._client, cohort, changed_since=window)
        if not incremental:
            survivors = {self._people[member] for member in members if member in self._people}
            self._people = {one: other for one, other in self._people.items() if other in survivors}
        for member in sorted(members - self._people.keys()):
            identity, version = _identified(self._client, member)
            self._people.update(dict.fromkeys(identity.ids, identity.patient_id))
            self._changes.append(
                ResourceChange(version=version, patient_id=identity.patient_id, last_updated=self._now())
            )

    def changes(self) -> PolledChanges:
        """Report the cohort's share, in order of time, with the watermark to go on from."""
        for match in self._matches:
            version = match.resource.version
            if version.resource_type == "Patient" and not self._was_reported(version, _digest(match)):
                self._follow_merge(match.resource)
        next_time = self._next_time()
        kept: dict[str, str] = {}
        for match in self._matches:
            self._report(match, kept, window_start=next_time - self._overlap)
        return PolledChanges(
            changes=_in_order(self._changes),
            next_watermark=Watermark(time=next_time),
            remembered=Remembered(people=self._people, hashes=kept),
            quarantined=tuple(self._quarantined),
        )

    def _follow_merge(self, patient: RawResource) -> None:
        """Learn a merge that touches the cohort: whoever was replaced counts for the one who replaced them."""
        own_id = PatientId(patient.version.resource_id)
        touched = {own_id, *replaced_by(patient, self._client.base_url)} & self._people.keys()
        for member in touched:
            identity, _ = _identified(self._client, member)
            self._people.update(dict.fromkeys(identity.ids, identity.patient_id))

    def _report(self, match: Match, kept: dict[str, str], *, window_start: datetime) -> None:
        version = match.resource.version
        owner = (
            PatientId(version.resource_id)
            if version.resource_type == "Patient"
            else patient_in(match.subject, self._client.base_url)
        )
        if owner is None or owner not in self._people:
            return
        digest = _digest(match)
        updated = instant(match.last_updated)
        if updated is None or updated >= window_start:
            kept[_name(version)] = digest  # the next poll sees it again
        if not self._was_reported(version, digest):
            change = ResourceChange(
                version=version, patient_id=self._people[owner], last_updated=updated or self._now()
            )
            self._changes.append(change)

    def _was_reported(self, version: ResourceVersion, digest: str) -> bool:
        return self._known.hashes.get(_name(version)) == digest

    def _next_time(self) -> datetime:
        """The latest time seen, unless the server itself calls it the future; without a `Date` nothing can be told."""
        if self._server_time is None:
            return self._since
        seen = (instant(match.last_updated) for match in self._matches)
        past = [moment for moment in seen if moment is not None and moment <= self._server_time]
        return max([self._since, *past])

    def _now(self) -> datetime:
        return self._server_time or self._since


def _enrol(client: FhirClient, cohort: Cohort, known: Remembered) -> PolledChanges:
    """Report every member once. Whatever is stored from now on is later than the server's time taken first."""
    now = _server_time(client)
    people: dict[PatientId, PatientId] = {}
    changes: list[ResourceChange] = []
    for member in sorted(find_members(client, cohort, changed_since=None)):
        if member in people:
            continue
        identity, version = _identified(client, member)
        if identity.patient_id not in people:
            changes.append(ResourceChange(version=version, patient_id=identity.patient_id, last_updated=now))
        people.update(dict.fromkeys(identity.ids, identity.patient_id))
    return PolledChanges(
        changes=tuple(changes),
        next_watermark=Watermark(time=now),
        remembered=Remembered(people=people, hashes=known.hashes),
    )


def _identified(client: FhirClient, member: PatientId) -> tuple[Identity, ResourceVersion]:
    """Who a member is, and the version that says so.

    One whose identity cannot be resolved stands for themselves: their own case will say why, and nobody else
    waits.
    """
    try:
        identity = resolve_identity(client, member)
    except BadData:
        return Identity(patient_id=member, aliases=(), patients=()), ResourceVersion("Patient", member, "unread")
    survivor = next(p for p in identity.patients if p.version.resource_id == identity.patient_id)
    return identity, survivor.version


def contents_of(resources: Iterable[RawResource]) -> ContentHashes:
    """What each resource says, as a hash."""
    return {_name(resource.version): content_hash(resource.content) for resource in resources}


def digest_of(contents: ContentHashes) -> str:
    """One SHA-256 over all that a record says, whatever the order."""
    lines = sorted(f"{name} {digest}" for name, digest in contents.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def digest_of_unreadable(error: BadData) -> str:
    """The same for a record that cannot be read: its error's name, so that it is noticed when that changes."""
    return hashlib.sha256(f"unreadable {type(error).__name__}".encode()).hexdigest()


def _hash_of_everything(client: FhirClient, identity: Identity) -> str:
    """One SHA-256 over all watched resources of a person; what cannot be read counts as its error's name."""
    try:
        resources = list(_everything(client, identity))
    except BadData as error:
        return digest_of_unreadable(error)
    return digest_of(contents_of(resources))


def _everything(client: FhirClient, identity: Identity) -> Iterable[RawResource]:
    yield from identity.patients
    for resource_type in WATCHED_TYPES[1:]:
        for patient_id in identity.ids:
            found = search_of_patient(client, resource_type, patient_id)
            yield from divide_by_owner(found.matches, identity, base_url=client.base_url)[0]


def _name(version: ResourceVersion) -> str:
    return f"{version.resource_type}/{version.resource_id}"


def _digest(match: Match) -> str:
    return content_hash(match.resource.content)


def _filters_by_time(client: FhirClient) -> bool:
    capabilities = client.capabilities()
    return all(capabilities.searches_by(resource_type, "_lastUpdated") for resource_type in WATCHED_TYPES)


def _server_time(client: FhirClient) -> datetime:
    """The server's time now; the beginning of all records when it sends none, so that nothing is skipped."""
    client.reload_capabilities()
    return client.server_time() or _BEFORE_ANY_RECORD


def _in_order(changes: Iterable[ResourceChange]) -> tuple[ResourceChange, ...]:
    return tuple(sorted(changes, key=lambda change: (change.last_updated, change.patient_id, change.version)))
