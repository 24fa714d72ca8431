"""What a FHIR server can answer, as values: pages, issues and the receipts of writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec

from adapter.domain.ids import ResourceVersion
from adapter.domain.record import Quarantined, RawResource


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One OperationOutcome issue without its words: diagnostics may hold patient data and are dropped.

    Source: FHIR R4, OperationOutcome; checklist FR-14.
    """

    severity: str
    code: str
    expression: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Code and place, for example `invalid at RiskAssessment.status`."""
        return f"{self.code} at {', '.join(self.expression)}" if self.expression else self.code


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """The server once had this resource and deleted it (410): not the same as never having had it (404)."""

    resource_type: str
    resource_id: str


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """One resource of a searchset. A struct and not a dataclass: a record holds thousands, built five times faster.

    subject: the reference of its `subject`, `patient` or `for` element as written, None when it has none.
    last_updated: `meta.lastUpdated` as written, None when the server does not say.
    """

    resource: RawResource
    subject: str | None = None
    last_updated: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPage:
    """One page of a searchset, split by `search.mode` and already free of what cannot be used.

    matches: mode `match`, or no mode and the searched type. included: mode `include`.
    next_url: absolute, on our server, None on the last page. ignored: parameters that the self link shows
    dropped, judged on the first page. total: as given. Source: FHIR R4 `search.html`, checklist FR-03 and
    FR-04.
    """

    matches: tuple[Match, ...]
    included: tuple[Match, ...] = ()
    issues: tuple[Issue, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    total: int | None = None
    next_url: str | None = field(default=None, repr=False)
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteReply:
    """What a create or update did. status: 200 or 201; version: None when the server named none."""

    status: int
    version: ResourceVersion | None

    @property
    def created(self) -> bool:
        """Whether the resource did not exist before."""
        return self.status == HTTPStatus.CREATED


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryReply:
    """One `entry.response` of a transaction-response. version: from location, else None."""

    status: int
    location: str | None = field(default=None, repr=False)
    etag: str | None = None
    version: ResourceVersion | None = None
    issues: tuple[Issue, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionReply:
    """A transaction that the server committed; entries in the order they were sent."""

    entries: tuple[EntryReply, ...]
