"""Reading pages to the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from adapter.domain.ids import ResourceVersion
from adapter.domain.record import Quarantined, RawResource
from adapter.errors import PullIncomplete, SearchExpired
from adapter.fhir.replies import Match, SearchPage
from adapter.fhir.search import instant, newer, read_to_end


def match(name: str, version: str = "1", updated: str | None = None) -> Match:
    """One Observation."""
    named = ResourceVersion("Observation", name, version)
    return Match(resource=RawResource(version=named, content=b"{}"), last_updated=updated)


@pytest.mark.fault("F-20")
def test_an_attempt_that_expired_leaves_nothing_behind() -> None:
    """Matches, duplicates and notes of the first attempt are forgotten with it; the second failure is final."""
    attempts = 0

    def pages() -> Iterator[SearchPage]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            note = Quarantined(source="Observation/o1", reason="malformed-entry", detail="x")
            yield SearchPage(matches=(match("o1"), match("o1")), quarantined=(note,), total=9)
            raise SearchExpired("gone")
        yield SearchPage(matches=(match("o2"),))

    found = read_to_end("Observation", pages)
    assert [entry.resource.version.resource_id for entry in found.matches] == ["o2"]
    assert (found.tally.restarts, found.tally.duplicates, found.quarantined) == (1, 0, ())

    def always_gone() -> Iterator[SearchPage]:
        yield SearchPage(matches=())
        raise SearchExpired("gone")

    with pytest.raises(SearchExpired):
        read_to_end("Observation", always_gone)


def test_the_smallest_total_is_the_lower_bound() -> None:
    """Deleted while paging: later pages count fewer. Set-aside entries came; missing ones are an error."""
    note = Quarantined(source="Observation/o2", reason="malformed-entry", detail="x")
    pages = (SearchPage(matches=(match("o1"),), total=3), SearchPage(matches=(), quarantined=(note,), total=2))
    assert read_to_end("Observation", lambda: iter(pages)).tally.entries == 1
    with pytest.raises(PullIncomplete, match="1 came in 1 pages of 3 counted"):
        read_to_end("Observation", lambda: iter(pages[:1]))


@pytest.mark.fault("F-21")
@pytest.mark.parametrize(
    ("one", "other", "later"),
    [
        (match("o", "1", "2026-03-29T02:00:00+01:00"), match("o", "9", "2026-03-29T00:30:00Z"), True),
        (match("o", "10"), match("o", "9"), True),
        (match("o", "9"), match("o", "10"), False),
        (match("o", "a"), match("o", "b"), False),
        (match("o", "2", "2026-03-29T00:30:00"), match("o", "1", "2026-03-29T00:30:00"), True),
    ],
)
def test_the_newer_version_is_known_by_time_then_number(one: Match, other: Match, later: bool) -> None:
    """Times are compared with their offsets; a time without one is no time; opaque versions have no order."""
    assert newer(one, other) is later


@pytest.mark.parametrize("text", [None, "", "2026-03-29", "2026-03-29T00:30:00", "2026-02-30T00:00:00Z", "yesterday"])
def test_what_is_no_instant_is_none(text: str | None) -> None:
    """Dates without a time of day or an offset cannot be ordered against others."""
    assert instant(text) is None
