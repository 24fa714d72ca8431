"""A searchset page, split: what matched, what came along, what cannot be used, and where it goes on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

import msgspec

from adapter.domain.record import Quarantined
from adapter.errors import MalformedResource
from adapter.fhir.replies import Issue, Match
from adapter.fhir.resource import Head, match_of, named_as_far_as_legible, read_head, read_issues
from adapter.fhir.strict_json import require_shallow_json, require_strict_json

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
    entry: list[msgspec.Raw] = []


class _Entries(msgspec.Struct):
    entry: list[_Entry] = []


class _Heads(msgspec.Struct):
    entry: list[_HeadOfEntry] = []


_BUNDLE = msgspec.json.Decoder(_Bundle)
_ENTRY = msgspec.json.Decoder(_Entry)
_ENTRIES = msgspec.json.Decoder(_Entries)
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


def split_page(content: bytes, *, resource_type: str, page: int, deepest: int) -> SplitPage:
    """Split one searchset page without reading its resources; a bad entry is set aside, the rest goes on.

    page: counted from one, for the quarantine's source. deepest: levels of nesting allowed in a resource.
    Raises MalformedResource when the page itself cannot be trusted: then nothing of it is used.
    """
    bundle = _read_bundle(content)
    taken = _Sorted()
    if _is_strict(content):
        try:
            _take_all(content, taken, searched=resource_type, deepest=deepest)
        except (msgspec.ValidationError, MalformedResource):
            taken = _Sorted()
            _take_singly(bundle.entry, taken, searched=resource_type, page=page, deepest=deepest)
    else:
        require_strict_json(_without_entries(content, bundle.entry))
        _take_singly(bundle.entry, taken, searched=resource_type, page=page, deepest=deepest)
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


def _read_bundle(content: bytes) -> _Bundle:
    try:
        bundle = _BUNDLE.decode(content)
    except RecursionError as error:
        raise MalformedResource("a page is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise MalformedResource("a page is not UTF-8") from error
    except msgspec.ValidationError as error:
        raise MalformedResource("a page is no searchset Bundle") from error
    except msgspec.MsgspecError as error:
        raise MalformedResource("a page is not JSON") from error
    if bundle.resource_type != "Bundle" or bundle.type != "searchset":
        raise MalformedResource("a page is no searchset Bundle")
    return bundle


def _is_strict(content: bytes) -> bool:
    try:
        require_strict_json(content)
    except MalformedResource:
        return False
    return True


def _without_entries(content: bytes, entries: Iterable[msgspec.Raw]) -> bytes:
    """Blank each entry of a page: what is still wrong then is wrong with the page."""
    for entry in entries:
        content = content.replace(bytes(entry), b"null", 1)
    return content


def _take_all(content: bytes, taken: _Sorted, *, searched: str, deepest: int) -> None:
    """Sort every entry of a strict page; two passes over the whole page are faster than one per entry.

    Raises MalformedResource or ValidationError at the first bad one, without saying which.
    """
    for entry, head in zip(_ENTRIES.decode(content).entry, _HEADS.decode(content).entry, strict=True):
        _take(entry, head.resource, taken, searched=searched, deepest=deepest)


def _take_singly(entries: Iterable[msgspec.Raw], taken: _Sorted, *, searched: str, page: int, deepest: int) -> None:
    """Sort entry by entry and set the bad ones aside."""
    for position, written in enumerate(entries, start=1):
        try:
            require_strict_json(bytes(written))
            entry = _read_entry(written)
            _take(entry, read_head(entry.resource), taken, searched=searched, deepest=deepest)
        except MalformedResource as fault:
            source = named_as_far_as_legible(written) or f"{searched} page {page} entry {position}"
            taken.quarantined.append(Quarantined(source=source, reason="malformed-entry", detail=str(fault)))


def _read_entry(written: msgspec.Raw) -> _Entry:
    try:
        entry = _ENTRY.decode(written)
    except msgspec.MsgspecError as error:
        raise MalformedResource("an entry has an element of the wrong type") from error
    if not bytes(entry.resource):
        raise MalformedResource("an entry has no resource")
    return entry


def _take(entry: _Entry, head: Head, taken: _Sorted, *, searched: str, deepest: int) -> None:
    """Put one entry where it belongs. Raises MalformedResource when it belongs nowhere."""
    content = bytes(entry.resource)
    require_shallow_json(content, deepest=deepest)
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
