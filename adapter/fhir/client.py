"""The verbs of FHIR R4 over HTTP: the only module that knows httpx. Skeleton: signatures are settled."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

import httpx

from adapter.domain.record import RawResource
from adapter.fhir.capabilities import ServerCapabilities
from adapter.fhir.limits import Limits
from adapter.fhir.replies import Gone, SearchPage, TransactionReply, WriteReply

Parameters = Sequence[tuple[str, str]]


class FhirClient:
    """One FHIR R4 server. Synchronous, safe to share between threads, a context manager."""

    def __init__(
        self,
        base_url: str,
        *,
        transport: httpx.BaseTransport | None = None,
        token: Callable[[], str] | None = None,
        tls: ssl.SSLContext | None = None,
        limits: Limits = Limits(),
        sleep: Callable[[float], None] = ...,
        jitter: Callable[[], float] = ...,
        clock: Callable[[], float] = ...,
    ) -> None:
        """token: gives the current bearer token. sleep, jitter (0 to 1) and clock (monotonic seconds) are swappable."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Close every connection."""

    @property
    def base_url(self) -> str:
        """The service base URL, without a trailing slash."""
        raise NotImplementedError

    def server_time(self) -> datetime | None:
        """The `Date` header of the latest reply, aware; None before the first or when the server sends none."""
        raise NotImplementedError

    def capabilities(self) -> ServerCapabilities:
        """Read `metadata`. Raises UnsupportedPeer unless it is an R4 CapabilityStatement."""
        raise NotImplementedError

    def search_pages(self, resource_type: str, parameters: Parameters) -> Iterator[SearchPage]:
        """Yield every page of one search, following `next` verbatim.

        Raises SearchExpired when a page link is gone (the caller starts over), PullIncomplete, ForeignLink,
        MalformedResource. `search.read_search` restarts and counts; prefer it.
        """
        raise NotImplementedError

    def search_by_identifier(self, resource_type: str, system: str, value: str) -> tuple[RawResource, ...]:
        """Every current resource with this business identifier, in order of id: none, one, or a conflict to see."""
        raise NotImplementedError

    def read(self, resource_type: str, resource_id: str) -> RawResource | Gone | None:
        """The current version; None for 404, Gone for 410. Raises MalformedResource, AccessRefused, Transient."""
        raise NotImplementedError

    def post_transaction(self, content: bytes) -> TransactionReply:
        """Send one transaction Bundle (UTF-8 JSON), all or nothing.

        Raises UnknownOutcome when the reply was lost (look up before sending again), VersionConflict (409, 412),
        WriteRefused (other 4xx), UnsupportedPeer (405, 501), PeerUnavailable when it certainly was not sent.
        """
        raise NotImplementedError

    def put(
        self, resource_type: str, resource_id: str, content: bytes, *, if_match: str | None = None
    ) -> WriteReply:
        """Update, or create under this id where the server allows it. if_match: a bare versionId; errors as above."""
        raise NotImplementedError

    def create(self, resource_type: str, content: bytes, *, if_none_exist: str | None = None) -> WriteReply:
        """Create. if_none_exist: a search query such as `identifier=system%7Cvalue`; errors as above."""
        raise NotImplementedError
