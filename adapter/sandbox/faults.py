"""The ways the pretend FHIR server can misbehave, each seen at a real server."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class LinkStyle(Enum):
    """How `next` links look. All are opaque to a client."""

    OFFSET = "offset"
    HAPI = "hapi"
    ENCODED_CURSOR = "encoded-cursor"
    RAW_PLUS_CURSOR = "raw-plus-cursor"


@dataclass(frozen=True, slots=True, kw_only=True)
class FhirFaults:
    """Switches for one server; the default is a well-behaved one.

    unavailable_every: every n-th page request answers 503 with `Retry-After: retry_after`; 0 = never.
    expired_pages: how many page requests in a row answer 410. lost_replies: how many writes are carried out while the
    connection is cut before the reply. dropped_parameters: search parameters ignored and absent from `self`.
    duplicate_entries: the last entry of a page comes again on the next. outcome_entry: each page carries an
    OperationOutcome with search.mode outcome. bad_entry: each first page carries an entry that is no resource.
    html_page: a search answers 200 with an HTML error page. down: every request answers 500. forbidden: every one 403.
    """

    link_style: LinkStyle = LinkStyle.HAPI
    unavailable_every: int = 0
    retry_after: str = "0"
    looping_links: bool = False
    foreign_links: bool = False
    expired_pages: int = 0
    duplicate_entries: bool = False
    outcome_entry: bool = False
    bad_entry: bool = False
    html_page: bool = False
    dropped_parameters: frozenset[str] = frozenset()
    without_last_updated: bool = False
    without_update_create: bool = False
    without_conditional_create: bool = False
    without_transaction: bool = False
    lost_replies: int = 0
    delay_seconds: float = 0.0
    down: bool = False
    forbidden: bool = False
