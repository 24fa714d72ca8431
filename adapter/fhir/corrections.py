"""When each resource became known, and which Observation a later one of the same identity replaced.

Source: FHIR R4, Observation.identifier and Observation.status; clinical.md sections 5.8 and 5.11.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from adapter.domain.ids import ResourceVersion
from adapter.domain.record import Quarantined, RawResource
from adapter.fhir.elements import Stamp

FINAL = frozenset({"final", "amended", "corrected"})
_CORRECTING = frozenset({"amended", "corrected"})
_Identity = tuple[str, str, frozenset[tuple[str | None, str | None]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamped:
    """A resource and its times. reported: as the source says. known: as the site reads it; None where unreadable."""

    resource: RawResource
    stamp: Stamp | None
    reported: datetime | None
    known: datetime | None


def superseded(resources: Iterable[Stamped]) -> Mapping[ResourceVersion, Quarantined]:
    """Each Observation that a newer one replaces, with the entry that says so, known since the newer one is.

    The newest is the last reported. It replaces what shares an identifier and every code with it, if it calls itself
    amended or corrected or was true at the same time: laboratories give one order number to a whole series of
    measurements, and those stay.
    """
    by_identity: dict[_Identity, list[Stamped]] = defaultdict(list)
    for stamped in resources:
        for identity in _identities(stamped):
            by_identity[identity].append(stamped)
    replaced: dict[ResourceVersion, Quarantined] = {}
    for rivals in by_identity.values():
        newest = max(rivals, key=lambda one: (one.reported, one.resource.version))
        for older in rivals:
            if older is not newest and _replaces(newest, older):
                replaced[older.resource.version] = _entry(newest, older)
    return replaced


def _identities(stamped: Stamped) -> Iterator[_Identity]:
    """Business identifiers, each with the codes; none where the Observation is not final or has no time."""
    stamp = stamped.stamp
    if stamp is None or stamped.reported is None or stamped.resource.version.resource_type != "Observation":
        return
    codes = frozenset((coding.system, coding.code) for coding in stamp.code.coding)
    if stamp.status in FINAL and codes:
        for identifier in stamp.identifier:
            if identifier.system and identifier.value and identifier.use != "old":
                yield identifier.system, identifier.value, codes


def _replaces(newest: Stamped, older: Stamped) -> bool:
    new, old = newest.stamp, older.stamp
    if new is None or old is None:
        return False
    return new.status in _CORRECTING or _effective(new) == _effective(old)


def _effective(stamp: Stamp) -> tuple[object, ...]:
    return stamp.effective_date_time, stamp.effective_instant, stamp.effective_period


def _entry(newest: Stamped, older: Stamped) -> Quarantined:
    version = newest.resource.version
    return Quarantined(
        source=str(older.resource.version),
        reason="superseded",
        detail=f"by {version.resource_type}/{version.resource_id}",
        known=newest.known,
    )
