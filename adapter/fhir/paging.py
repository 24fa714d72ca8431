"""A searchset page, split: what matched, what came along, what cannot be used, and where it goes on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

import msgspec

from adapter.domain.record import Quarantined
from adapter.errors import MalformedResource
from adapter.fhir.replies import Issue, Match
from adapter.fhir.resource import Head, match_of, named_as_far_as_legible, read_head, read_issues, require_type_name
from adapter.fhir.strict_json import require_strict_json

_NOT_FILTERS = frozenset({"_count", "_sort", "_format", "_pretty", "_summary", "_elements", "_total"})


class _Link(msgspec.Struct):
    relation: str
    url: str


class _Search(msgspec.Struct):
    mode: str | None = None


class _Entry(msgspec.Struct):
    resource: msgspec.Raw = msgspec.Raw()
    search: _Search | None = None


class _HeadOfEntry(msgspec.Struct):
    resource: Head


class _Bundle(msgspec.Struct, rename="camel"):
    resource_type: str
    type: str
    total: int | None = None
    link: list[_Link] = []


class _WholeBundle(_Bundle):
    entry: list[_Entry] = []


class _DoubtfulBundle(_Bundle):
    """The same with entries left as they are, for a page where some are no entries."""

    entry: list[msgspec.Raw] = []


class _Heads(msgspec.Struct):
    entry: list[_HeadOfEntry] = []


_WHOLE = msgspec.json.Decoder(_WholeBundle)
_DOUBTFUL = msgspec.json.Decoder(_DoubtfulBundle)
_ENTRY = msgspec.json.Decoder(_Entry)
_HEADS = msgspec.json.Decoder(_Heads)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPage:
    """A page as written; links not yet checked."""

    matches: tuple[Match, ...]
    included: tuple[Match, ...]
    issues: tuple[Issue, ...]
    quarantined: tuple[Quarantined, ...]
    total: int | None
    self_link: str | None = field(repr=False)
    next_link: str | None = field(repr=False)


@dataclass(slots=True)
class _Sorted:
    """Where the entries of one page go while it is being split."""

    matches: list[Match] = field(default_factory=list)
    included: list[Match] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)


def split_page(content: bytes, *, resource_type: str, page: int) -> SplitPage:
    """Split one searchset page without reading its resources; a bad entry is set aside, the rest goes on.

    page: counted from one, for the quarantine's source.
    Raises MalformedResource when the page itself cannot be trusted: then nothing of it is used.
    """
    bundle: _Bundle
    try:
        require_strict_json(content)
        bundle = whole = _WHOLE.decode(content)
        taken = _take_all(whole.entry, _HEADS.decode(content).entry, searched=resource_type)
    except (MalformedResource, msgspec.ValidationError):
        bundle = doubtful = _read_doubtful(content)
        require_strict_json(_without_entries(content, doubtful.entry))
        taken = _take_singly(doubtful.entry, searched=resource_type, page=page)
    if bundle.resource_type != "Bundle" or bundle.type != "searchset":
        raise MalformedResource("a page is no searchset Bundle")
    return SplitPage(
        matches=tuple(taken.matches),
        included=tuple(taken.included),
        issues=tuple(taken.issues),
        quarantined=tuple(taken.quarantined),
        total=bundle.total,
        self_link=_one_link(bundle, "self"),
        next_link=_one_link(bundle, "next"),
    )


def dropped_parameters(asked: Iterable[tuple[str, str]], self_link: str | None) -> tuple[str, ...]:
    """List the filters that were asked for and that the server's self link no longer shows.

    Only names are compared: servers rewrite values (`patient=1` becomes `patient=Patient/1`, or `subject`).
    Without a self link nothing is known to be dropped. Source: FHIR R4 `search.html`, "Server Conformance".
    """
    if self_link is None:
        return ()
    applied = {_plain(name) for name, _ in parse_qsl(urlsplit(self_link).query, keep_blank_values=True)}
    names = {_plain(name) for name, _ in asked} - _NOT_FILTERS
    return tuple(sorted(name for name in names if name not in applied))


def _plain(name: str) -> str:
    """Strip a modifier or chain; `subject` and `patient` ask the same of every type we search."""
    bare = name.partition(":")[0].partition(".")[0]
    return "patient" if bare == "subject" else bare


def _read_doubtful(content: bytes) -> _DoubtfulBundle:
    try:
        return _DOUBTFUL.decode(content)
    except RecursionError as error:
        raise MalformedResource("a page is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise MalformedResource("a page is not UTF-8") from error
    except msgspec.ValidationError as error:
        raise MalformedResource("a page is no searchset Bundle") from error
    except msgspec.MsgspecError as error:
        raise MalformedResource("a page is not JSON") from error


def _without_entries(content: bytes, entries: Iterable[msgspec.Raw]) -> bytes:
    """Blank each entry of a page: what is still wrong then is wrong with the page.

    Only objects are blanked, because their text cannot be a key; an entry that is no object stays and does no harm.
    """
    for entry in map(bytes, entries):
        if entry.startswith(b"{"):
            content = content.replace(entry, b"null", 1)
    return content


def _take_all(entries: Iterable[_Entry], heads: Iterable[_HeadOfEntry], *, searched: str) -> _Sorted:
    """Sort the entries of a page that is in order; two passes over a page are faster than one per entry.

    Raises MalformedResource at the first bad entry, without saying which.
    """
    taken = _Sorted()
    for entry, head in zip(entries, heads, strict=True):
        _take(entry, head.resource, taken, searched=searched)
    return taken


def _take_singly(entries: Iterable[msgspec.Raw], *, searched: str, page: int) -> _Sorted:
    """Sort entry by entry and set the bad ones aside."""
    taken = _Sorted()
    for position, written in enumerate(entries, start=1):
        try:
            require_strict_json(bytes(written))
            entry = _read_entry(written)
            _take(entry, read_head(entry.resource), taken, searched=searched)
        except MalformedResource as fault:
            source = named_as_far_as_legible(written) or f"{searched} page {page} entry {position}"
            taken.quarantined.append(Quarantined(source=source, reason="malformed-entry", detail=str(fault)))
    return taken


def _read_entry(written: msgspec.Raw) -> _Entry:
    try:
        entry = _ENTRY.decode(written)
    except msgspec.MsgspecError as error:
        raise MalformedResource("an entry has an element of the wrong type") from error
    if not bytes(entry.resource):
        raise MalformedResource("an entry has no resource")
    return entry


def _take(entry: _Entry, head: Head, taken: _Sorted, *, searched: str) -> None:
    """Put one entry where it belongs. Raises MalformedResource when it belongs nowhere."""
    content = bytes(entry.resource)
    if head.resource_type != searched:
        require_type_name(head)
    mode = entry.search.mode if entry.search else None
    if head.resource_type == "OperationOutcome" or mode == "outcome":
        taken.issues.extend(read_issues(content))
    elif head.resource_type == searched and mode != "include":
        taken.matches.append(match_of(head, content))
    elif mode == "match":
        raise MalformedResource(f"a {head.resource_type} matched a search of {searched}")
    else:
        taken.included.append(match_of(head, content))


def _one_link(bundle: _Bundle, relation: str) -> str | None:
    """Find the link of a relation. Raises MalformedResource for two that differ."""
    urls = {link.url for link in bundle.link if link.relation == relation}
    if len(urls) > 1:
        raise MalformedResource(f"a page has {len(urls)} different {relation} links")
    return urls.pop() if urls else None
