"""What a server answers to a transaction."""

from __future__ import annotations

import re

import msgspec

from adapter.domain.ids import ResourceId, ResourceVersion
from adapter.errors import BadIdentifier, UnknownOutcome
from adapter.fhir.replies import EntryReply, TransactionReply
from adapter.fhir.resource import read_issues

_LOCATION = re.compile(r"(?:.*/)?([A-Z][A-Za-z]{0,63})/([^/]+)/_history/([^/?#]+)")


class _Response(msgspec.Struct):
    status: str
    location: str | None = None
    etag: str | None = None
    outcome: msgspec.Raw = msgspec.Raw()


class _Entry(msgspec.Struct):
    response: _Response


class _Bundle(msgspec.Struct, rename="camel"):
    resource_type: str
    type: str
    entry: list[_Entry] = []


_BUNDLE = msgspec.json.Decoder(_Bundle)


def read_transaction_reply(content: bytes) -> TransactionReply:
    """Read a transaction-response.

    Raises UnknownOutcome when it is none: the server took the transaction, and what became of it must be
    looked up. Source: FHIR R4 `http.html`, "Transaction Response"; checklist FR-10.
    """
    try:
        bundle = _BUNDLE.decode(content)
        if bundle.resource_type != "Bundle" or bundle.type != "transaction-response":
            raise UnknownOutcome("the reply to a transaction is no transaction-response")
        return TransactionReply(entries=tuple(_entry_reply(entry.response) for entry in bundle.entry))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UnknownOutcome("the reply to a transaction cannot be read") from error


def version_in_location(location: str | None) -> ResourceVersion | None:
    """Read the version a Location names, absolute or relative; None when it names no legal one."""
    found = _LOCATION.fullmatch(location) if location else None
    if found is None:
        return None
    try:
        return ResourceVersion(found[1], str(ResourceId(found[2])), str(ResourceId(found[3])))
    except BadIdentifier:
        return None


def _entry_reply(response: _Response) -> EntryReply:
    return EntryReply(
        status=int(response.status[:3]),
        location=response.location,
        etag=response.etag,
        version=version_in_location(response.location),
        issues=read_issues(response.outcome) if bytes(response.outcome) else (),
    )
