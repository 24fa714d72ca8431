"""One search read to its end: every page, each resource once, and the numbers that prove it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from adapter.domain.record import Quarantined, SearchTally
from adapter.errors import PullIncomplete, SearchExpired
from adapter.fhir.replies import Issue, Match, SearchPage

_RESTARTS = 1
# A server that mints a new link for ever sends pages without anything new; one that filters may send a few.
_BARREN_PAGES = 50
_INCOMPLETE_CODES = frozenset({"incomplete", "timeout", "too-costly", "throttled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Searchset:
    """Everything one search found. matches: one per id, newest version, sorted by id."""

    matches: tuple[Match, ...]
    included: tuple[Match, ...]
    issues: tuple[Issue, ...]
    quarantined: tuple[Quarantined, ...]
    tally: SearchTally


@dataclass(slots=True)
class _Gathered:
    """What one attempt has read so far; an expired attempt is thrown away whole."""

    newest: dict[tuple[str, str], Match] = field(default_factory=dict)
    included: dict[tuple[str, str], Match] = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    ignored: tuple[str, ...] = ()
    totals: list[int] = field(default_factory=list)
    pages: int = 0
    duplicates: int = 0
    barren: int = 0


def read_to_end(resource_type: str, pages: Callable[[], Iterator[SearchPage]]) -> Searchset:
    """Read one search completely, or raise.

    pages: starts the search from its first page each time it is called. A search whose snapshot expired is
    started over once. Raises SearchExpired when that happens again, PullIncomplete with the numbers when
    fewer resources came than the server counted, or when the server says that it left something out.
    """
    for restarts in range(_RESTARTS + 1):
        try:
            gathered = _gather(resource_type, pages())
        except SearchExpired:
            if restarts == _RESTARTS:
                raise
            continue
        _require_complete(resource_type, gathered)
        return _searchset(resource_type, gathered, restarts)
    raise AssertionError("unreachable: the last attempt returns or raises")


def newer(one: Match, other: Match) -> bool:
    """Judge whether `one` is later than `other`: by lastUpdated, else by a numeric versionId, else not."""
    mine, theirs = instant(one.last_updated), instant(other.last_updated)
    if mine is not None and theirs is not None and mine != theirs:
        return mine > theirs
    my_version, their_version = one.resource.version.version, other.resource.version.version
    if my_version.isdecimal() and their_version.isdecimal():
        return int(my_version) > int(their_version)
    return False


def instant(text: str | None) -> datetime | None:
    """Read a FHIR instant; None when absent or without an offset. Source: FHIR R4 datatypes, `instant`."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.utcoffset() is not None else None


def _gather(resource_type: str, pages: Iterable[SearchPage]) -> _Gathered:
    gathered = _Gathered()
    for page in pages:
        gathered.pages += 1
        gathered.ignored = gathered.ignored or page.ignored
        gathered.issues.extend(page.issues)
        gathered.quarantined.extend(page.quarantined)
        if page.total is not None:
            gathered.totals.append(page.total)
        repeated = _keep_newest(page.matches, gathered.newest) + _keep_newest(page.included, gathered.included)
        gathered.duplicates += repeated
        brought = len(page.matches) + len(page.included) + len(page.quarantined) - repeated
        gathered.barren = 0 if brought else gathered.barren + 1
        if gathered.barren >= _BARREN_PAGES:
            raise PullIncomplete(f"{resource_type}: {gathered.barren} pages in a row brought nothing new")
    return gathered


def _keep_newest(matches: Sequence[Match], newest: dict[tuple[str, str], Match]) -> int:
    """Keep each id once and count the rest; of two versions the newer stays: it changed while we paged."""
    repeated = 0
    for match in matches:
        version = match.resource.version
        name = (version.resource_type, version.resource_id)
        known = newest.setdefault(name, match)
        if known is not match:
            repeated += 1
            if newer(match, known):
                newest[name] = match
    return repeated


def _require_complete(resource_type: str, gathered: _Gathered) -> None:
    """Compare with `Bundle.total` where given, and heed what the server says about itself.

    The total is a lower bound only: the smallest of all pages counts, because resources may come and go while
    paging; entries that were set aside did come.
    """
    came = len(gathered.newest) + len(gathered.quarantined)
    if gathered.totals and came < min(gathered.totals):
        counted = min(gathered.totals)
        raise PullIncomplete(f"{resource_type}: {came} came in {gathered.pages} pages of {counted} counted")
    for issue in gathered.issues:
        if issue.severity in {"fatal", "error"} or issue.code in _INCOMPLETE_CODES:
            raise PullIncomplete(f"{resource_type}: the server says the searchset is not whole ({issue.code})")


def _searchset(resource_type: str, gathered: _Gathered, restarts: int) -> Searchset:
    return Searchset(
        matches=tuple(gathered.newest[name] for name in sorted(gathered.newest)),
        included=tuple(gathered.included[name] for name in sorted(gathered.included)),
        issues=tuple(gathered.issues),
        quarantined=tuple(gathered.quarantined),
        tally=SearchTally(
            resource_type=resource_type,
            pages=gathered.pages,
            entries=len(gathered.newest),
            duplicates=gathered.duplicates,
            restarts=restarts,
            ignored=gathered.ignored,
        ),
    )
