"""A transaction as separate resources, and put together again in the form a given server accepts."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Protocol
from urllib.parse import quote

import msgspec

from adapter.domain.ids import BusinessIdentifier, ResourceVersion
from adapter.errors import MalformedResource

# JSON objects exist as Python dictionaries only where resources are written or marked: encode, entries, submit,
# supersede, fingerprint.
Json = dict[str, object]

_DECODER = msgspec.json.Decoder(Json, float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(decimal_format="number", order="deterministic")
_NAMESPACE = uuid.UUID("8a4f3f0e-6c0b-5d0a-9d53-0d4d1d1f7a55")  # fixed once, so that urn:uuid names never change


class _Token(msgspec.Struct):
    system: str | None = None
    code: str | None = None


class _Identifier(msgspec.Struct):
    system: str
    value: str


class _Meta(msgspec.Struct, frozen=True):
    tag: list[_Token] = []


class _Resource(msgspec.Struct, rename="camel"):
    resource_type: str
    id: str
    meta: _Meta = _Meta()
    identifier: list[_Identifier] = []


class _Entry(msgspec.Struct):
    resource: msgspec.Raw


class _Bundle(msgspec.Struct):
    entry: list[_Entry]


_RESOURCE = msgspec.json.Decoder(_Resource)
_BUNDLE = msgspec.json.Decoder(_Bundle)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteEntry:
    """One resource to be written. identifier: what it is found by, None for a type without identifiers.

    tag: the `meta.tag` token that names it, `system|code`. mode: the token that says how far to rely on it. content:
    canonical JSON, with our own id.
    """

    resource_type: str
    resource_id: str
    identifier: BusinessIdentifier | None
    tag: str
    mode: str
    content: bytes = field(repr=False)

    @property
    def reference(self) -> str:
        """The reference under our own id, `Type/id`."""
        return f"{self.resource_type}/{self.resource_id}"

    @property
    def placeholder(self) -> str:
        """The name the entry has inside a transaction where the server chooses ids."""
        return f"urn:uuid:{uuid.uuid5(_NAMESPACE, self.reference)}"


class Update(Protocol):
    """A resource the server holds, to be changed while it is still at the version that was read."""

    @property
    def version(self) -> ResourceVersion:
        """As it was read."""

    @property
    def reference(self) -> str:
        """`Type/id` as the server names it."""

    @property
    def content(self) -> bytes:
        """What it becomes."""


def canonical_json(content: object) -> bytes:
    """Write JSON with sorted keys, no spaces, and decimals digit for digit."""
    return _ENCODER.encode(content)


def read_json(content: bytes) -> Json:
    """Read JSON without losing a digit of a decimal."""
    return _DECODER.decode(content)


def entries_of(content: bytes) -> tuple[WriteEntry, ...]:
    """Take a transaction of ours apart, in order. Raises MalformedResource for one that encode did not write."""
    try:
        bundle = _BUNDLE.decode(content)
        return tuple(entry_of(bytes(entry.resource)) for entry in bundle.entry)
    except msgspec.MsgspecError as error:
        raise MalformedResource("not a transaction of ours") from error


def entry_of(content: bytes) -> WriteEntry:
    """Read how a resource of ours is found again; its first tag is the assessment's, its second the mode's."""
    resource = _RESOURCE.decode(content)
    return WriteEntry(
        resource_type=resource.resource_type,
        resource_id=resource.id,
        identifier=next((BusinessIdentifier(own.system, own.value) for own in resource.identifier), None),
        tag=_token(resource.meta.tag[0]),
        mode=_token(resource.meta.tag[1]),
        content=content,
    )


def _token(tag: _Token) -> str:
    return f"{tag.system}|{tag.code}"


def transaction_by_id(entries: Iterable[WriteEntry], known: Mapping[str, str], updates: Iterable[Update] = ()) -> bytes:
    """Put every resource under the id we chose; needs a server that lets clients name ids.

    known: references of ours that the server already holds, and how it names them. updates: in the same transaction.
    """
    puts: list[Json] = [
        {
            "resource": msgspec.Raw(with_references(entry, known)),
            "request": {"method": "PUT", "url": entry.reference},
        }
        for entry in entries
    ]
    return _transaction([*puts, *map(_updating, updates)])


def transaction_by_identifier(
    entries: Iterable[WriteEntry], known: Mapping[str, str], updates: Iterable[Update] = ()
) -> bytes:
    """Create each resource unless one with its identifier, or its tag, is there; the server chooses the ids.

    known: references of ours that the server already holds under other ids. updates: in the same transaction.
    """
    chosen = tuple(entries)
    references = {**known, **{entry.reference: entry.placeholder for entry in chosen}}
    posts: list[Json] = [
        {
            "fullUrl": entry.placeholder,
            "resource": msgspec.Raw(without_id(entry, references)),
            "request": {"method": "POST", "url": entry.resource_type, "ifNoneExist": condition_of(entry)},
        }
        for entry in chosen
    ]
    return _transaction([*posts, *map(_updating, updates)])


def _updating(update: Update) -> Json:
    """Only while the server holds the version that was read. Source: FHIR R4, Bundle.entry.request.ifMatch."""
    condition = f'W/"{update.version.version}"'
    return {
        "resource": msgspec.Raw(update.content),
        "request": {"method": "PUT", "url": update.reference, "ifMatch": condition},
    }


def condition_of(entry: WriteEntry) -> str:
    """Name the search that finds this entry, as If-None-Exist wants it."""
    if entry.identifier is None:
        return f"_tag={quote(entry.tag, safe='')}"
    return f"identifier={quote(f'{entry.identifier.system}|{entry.identifier.value}', safe='')}"


def without_id(entry: WriteEntry, references: Mapping[str, str]) -> bytes:
    """Leave the id to the server and write our references as the server knows them."""
    resource = read_json(entry.content)
    del resource["id"]
    return canonical_json(_rewritten(resource, references))


def with_references(entry: WriteEntry, references: Mapping[str, str]) -> bytes:
    """Keep our id and write references as the server knows them."""
    if all(ours == theirs for ours, theirs in references.items()):
        return entry.content
    return canonical_json(_rewritten(read_json(entry.content), references))


def with_replaced(entry: WriteEntry, replaced: Iterable[str]) -> WriteEntry:
    """The CarePlan with the plans it takes the place of."""
    plan = read_json(entry.content)
    plan["replaces"] = [{"reference": reference} for reference in replaced]
    return replace(entry, content=canonical_json(plan))


def without_references(content: bytes, left_out: Set[str]) -> bytes:
    """Leave out what refers to resources that are not written: the list entry it stands in, else the element."""
    return canonical_json(_pruned(read_json(content), left_out)) if left_out else content


def _pruned(value: object, left_out: Set[str]) -> object:
    if isinstance(value, list):
        return [_pruned(item, left_out) for item in value if not _refers(item, left_out)]
    if not isinstance(value, dict):
        return value
    pruned = {key: _pruned(item, left_out) for key, item in value.items() if not _refers(item, left_out)}
    return {key: item for key, item in pruned.items() if item != []}


def _refers(value: object, left_out: Set[str]) -> bool:
    """A reference to one of them, or an element that consists of one, such as an extension or a Provenance entity."""
    if not isinstance(value, dict):
        return False
    parts = [value, *(part for part in value.values() if isinstance(part, dict))]
    return any(part.get("reference") in left_out for part in parts)


def has_tag(content: bytes, tag: str) -> bool:
    """Whether a resource carries the `meta.tag` token `system|code`."""
    resource = _RESOURCE.decode(content)
    return any(_token(token) == tag for token in resource.meta.tag)


def _transaction(entries: Iterable[Json]) -> bytes:
    return canonical_json({"resourceType": "Bundle", "type": "transaction", "entry": list(entries)})


def _rewritten(value: object, references: Mapping[str, str]) -> object:
    if isinstance(value, list):
        return [_rewritten(item, references) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: references.get(item, item)
        if key == "reference" and isinstance(item, str)
        else _rewritten(item, references)
        for key, item in value.items()
    }
