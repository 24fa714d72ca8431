"""What the pretend hospital remembers: every version of every resource, searchable, in memory."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

Resource = dict[str, object]


class Refused(Exception):
    """An interaction the server refuses, as HTTP status and FHIR issue code."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        """status: HTTP status. code: an issue type of the FHIR R4 IssueType value set."""
        super().__init__(sentence)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of one resource. deleted: the version is a tombstone."""

    resource: Resource
    version: int
    last_updated: datetime
    deleted: bool = False


class Repository:
    """All resources of one pretend server. Thread safe: each call takes the one lock.

    clock: aware time for `meta.lastUpdated`; the repository makes it strictly rising, as a database would.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        """Start empty."""
        self._clock = clock
        self._versions: dict[tuple[str, str], list[Stored]] = {}
        self._lock = threading.RLock()
        self._next_id = 1
        self._latest = datetime.min.replace(tzinfo=UTC)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside, or nothing: an exception restores what was there before."""
        with self._lock:
            kept = {key: list(versions) for key, versions in self._versions.items()}
            next_id = self._next_id
            try:
                yield
            except BaseException:
                self._versions, self._next_id = kept, next_id
                raise

    def read(self, resource_type: str, resource_id: str) -> Stored:
        """The current version. Raises Refused 404 for an unknown id and 410 for a deleted one."""
        stored = self.history(resource_type, resource_id)[-1]
        if stored.deleted:
            raise Refused(410, "deleted", f"{resource_type}/{resource_id} was deleted")
        return stored

    def history(self, resource_type: str, resource_id: str) -> list[Stored]:
        """Every version, oldest first. Raises Refused 404."""
        with self._lock:
            versions = self._versions.get((resource_type, resource_id))
            if not versions:
                raise Refused(404, "not-found", f"{resource_type}/{resource_id} is not known")
            return list(versions)

    def reserve_id(self) -> str:
        """An id of the server's own that no other resource will get."""
        with self._lock:
            self._next_id += 1
            return f"srv{self._next_id - 1}"

    def create(self, resource: Resource, resource_id: str | None = None) -> Stored:
        """Store under a reserved id, or one reserved now."""
        with self._lock:
            return self._append(_type_of(resource), resource_id or self.reserve_id(), resource)

    def update(
        self, resource_type: str, resource_id: str, resource: Resource, if_match: int | None
    ) -> tuple[Stored, bool]:
        """Store as a new version, or return the current one where nothing differs; second value: created.

        Raises Refused 412 when `if_match` is not the current version.
        """
        with self._lock:
            if _type_of(resource) != resource_type or resource.get("id") != resource_id:
                raise Refused(400, "invalid", "the body is another resource than the address names")
            versions = self._versions.get((resource_type, resource_id))
            current = versions[-1] if versions else None
            if if_match is not None and (current is None or current.version != if_match):
                raise Refused(412, "conflict", f"{resource_type}/{resource_id} is at another version")
            if current and not current.deleted and _content(current.resource) == _content(resource):
                return current, False
            return self._append(resource_type, resource_id, resource), current is None

    def delete(self, resource_type: str, resource_id: str) -> None:
        """Leave a tombstone version."""
        with self._lock:
            current = self.read(resource_type, resource_id)
            tombstone = Stored(current.resource, current.version + 1, self._rising_time(), deleted=True)
            self._versions[resource_type, resource_id].append(tombstone)

    def current(self, resource_type: str) -> list[Stored]:
        """Every live resource of a type, oldest change first."""
        with self._lock:
            live = [
                versions[-1]
                for (kind, _), versions in self._versions.items()
                if kind == resource_type and not versions[-1].deleted
            ]
        return sorted(live, key=lambda stored: (stored.last_updated, str(stored.resource["id"])))

    def counts(self) -> Mapping[str, int]:
        """How many live resources there are of each type."""
        with self._lock:
            tally: dict[str, int] = {}
            for (kind, _), versions in self._versions.items():
                if not versions[-1].deleted:
                    tally[kind] = tally.get(kind, 0) + 1
            return tally

    def _append(self, resource_type: str, resource_id: str, resource: Resource) -> Stored:
        versions = self._versions.setdefault((resource_type, resource_id), [])
        moment = self._rising_time()
        content = copy.deepcopy(resource)
        meta = content.get("meta")
        content["id"] = resource_id
        content["meta"] = {
            **(meta if isinstance(meta, dict) else {}),
            "versionId": str(len(versions) + 1),
            "lastUpdated": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        }
        stored = Stored(content, len(versions) + 1, moment)
        versions.append(stored)
        return stored

    def _rising_time(self) -> datetime:
        now = self._clock().astimezone(UTC)
        smallest_step = self._latest.resolution
        self._latest = max(now, self._latest + smallest_step) if self._latest.year > 1 else now
        return self._latest


def _type_of(resource: Resource) -> str:
    resource_type = resource.get("resourceType")
    if not isinstance(resource_type, str) or not resource_type.isalpha():
        raise Refused(400, "structure", "the body has no resourceType")
    return resource_type


def _content(resource: Resource) -> Resource:
    """The resource without what the server itself sets, so that an identical PUT is seen as identical."""
    content = dict(resource)
    meta = content.get("meta")
    if isinstance(meta, dict):
        kept = {key: value for key, value in meta.items() if key not in {"versionId", "lastUpdated"}}
        content["meta"] = kept
    else:
        content["meta"] = {}
    return content
