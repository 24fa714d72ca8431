"""The verbs of FHIR R4 over HTTP: the only module here that knows httpx."""

from __future__ import annotations

import logging
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlencode

import httpx
import msgspec

from adapter.breaker import CircuitBreaker, CircuitReport
from adapter.domain.ids import ResourceVersion
from adapter.domain.record import RawResource
from adapter.errors import (
    AccessRefused,
    AdjuvantError,
    ForeignLink,
    MalformedResource,
    PeerTimeout,
    PeerUnavailable,
    PullIncomplete,
    SearchExpired,
    TooLarge,
    Transient,
    UnknownOutcome,
    UnsupportedPeer,
    VersionConflict,
    WriteRefused,
    WrongPatient,
)
from adapter.fhir.body import read_body
from adapter.fhir.capabilities import ServerCapabilities, read_capabilities
from adapter.fhir.limits import Limits
from adapter.fhir.links import ServiceBase, request_target
from adapter.fhir.paging import dropped_parameters, split_page
from adapter.fhir.replies import Gone, SearchPage, TransactionReply, WriteReply
from adapter.fhir.resource import identifiers_of, read_issues, read_match
from adapter.fhir.retry import RETRIED_READS, RETRIED_WRITES, asked_wait_seconds, http_date, wait_seconds
from adapter.fhir.search import Searchset, read_to_end
from adapter.fhir.strict_json import require_strict_json
from adapter.fhir.transaction import read_transaction_reply, version_in_location
from adapter.moments import Moment, reach

Parameters = Sequence[tuple[str, str]]

_FHIR_JSON = "application/fhir+json"
_NOBODY = "adjuvant-asks-for-nobody"
_CAPABILITIES_SECONDS = 24 * 3600.0  # checklist FR-01: at start and daily
_HEADERS = {"Accept": _FHIR_JSON, "Accept-Encoding": "gzip", "User-Agent": "adjuvant"}
_NO_CACHE = {"Cache-Control": "no-cache"}  # HAPI answers identical searches from a cache for a minute
_REDIRECTIONS = frozenset({301, 302, 303, 307, 308})
_CERTAINLY_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    """One request. what: how messages name it, ids and types only."""

    method: str
    url: str = field(repr=False)
    what: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """One reply, read to its end. url: where it came from, after redirects."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)
    url: str = field(repr=False)


class FhirClient:
    """One FHIR R4 server. Synchronous, safe to share between threads, a context manager.

    Reads are retried inside, with full jitter and within a budget; a write whose reply was lost never is.
    """

    def __init__(
        self,
        base_url: str,
        *,
        transport: httpx.BaseTransport | None = None,
        token: Callable[[], str] | None = None,
        tls: ssl.SSLContext | None = None,
        limits: Limits | None = None,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect to nothing yet. token: gives the current bearer token; asked before each request.

        tls: the certificates to trust, the system's when None. sleep, jitter (0 to 1), clock (monotonic
        seconds): for tests that must not wait. Raises BadSettings for a base_url that is not a plain http(s)
        URL.
        """
        self._base = ServiceBase.parse(base_url)
        self._limits = limits or Limits()
        self._token = token
        self._sleep = sleep
        self._jitter = jitter
        self._clock = clock
        self._date: str | None = None
        self._capabilities: tuple[float, ServerCapabilities] | None = None
        self._breaker = CircuitBreaker(
            "EHR",
            failures=self._limits.breaker_failures,
            rest_seconds=self._limits.breaker_seconds,
            probe=self.knock,
            clock=clock,
        )
        # A transport and no httpx.Client: no redirects followed, no cookies kept, nothing read from the environment
        # (proxies, netrc logins, certificates), and no URL logged, which httpx.Client does at INFO.
        self._transport = transport or httpx.HTTPTransport(
            verify=tls if tls is not None else ssl.create_default_context(), http2=True, trust_env=False
        )
        # httpcore logs every header at DEBUG: the bearer token.
        logging.getLogger("httpcore").setLevel(logging.WARNING)
        seconds = self._limits.first_byte_seconds
        self._timeouts = httpx.Timeout(seconds, connect=self._limits.connect_seconds).as_dict()

    def __enter__(self) -> Self:
        """Give the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    @property
    def base_url(self) -> str:
        """The service base URL, without a trailing slash."""
        return self._base.url

    def circuit(self) -> CircuitReport:
        """Whether requests go out, and how many failed in which way."""
        return self._breaker.report()

    def server_time(self) -> datetime | None:
        """Give the `Date` of the latest reply, aware; None before the first and when it sends none."""
        return http_date(self._date)

    def capabilities(self) -> ServerCapabilities:
        """Read what the server declares, once a day. Raises UnsupportedPeer unless it is R4."""
        known = self._capabilities
        if known is None or self._clock() - known[0] > _CAPABILITIES_SECONDS:
            return self.reload_capabilities()
        return known[1]

    def reload_capabilities(self) -> ServerCapabilities:
        """Read `metadata` now, whatever was read before; errors as `capabilities`."""
        address = self._under("metadata")
        answer = self._get(address, what="metadata", headers=_NO_CACHE)
        if answer.status != HTTPStatus.OK:
            raise _refusal(answer, str(address))
        try:
            capabilities = read_capabilities(answer.content)
        except UnsupportedPeer as error:
            raise UnsupportedPeer(f"{address}: {error}") from error
        self._capabilities = (self._clock(), capabilities)
        return capabilities

    # reading

    def search_pages(self, resource_type: str, parameters: Parameters) -> Iterator[SearchPage]:
        """Yield every page of one search in order, following `next` verbatim.

        Raises SearchExpired when a page link is gone (start over), PullIncomplete for a loop or too many
        pages, ForeignLink before connecting anywhere else, MalformedResource for a page that cannot be
        trusted. `search` restarts, removes duplicates and counts: prefer it.
        """
        url = self._search_url(resource_type, parameters)
        visited: set[str] = set()
        entries = 0
        for number in range(1, self._limits.pages + 1):
            visited.add(url)
            page = self._fetch_page(resource_type, parameters, url, number)
            entries += len(page.matches) + len(page.included) + len(page.quarantined)
            if entries > self._limits.entries:
                raise PullIncomplete(f"{resource_type}: more than {self._limits.entries} entries")
            if page.next_url in visited:
                raise PullIncomplete(f"{resource_type}: the next link of page {number} leads back")
            yield page
            if page.next_url is None:
                return
            url = page.next_url
        raise PullIncomplete(f"{resource_type}: more than {self._limits.pages} pages")

    def search(self, resource_type: str, parameters: Parameters) -> Searchset:
        """Read one search to its end: each resource once, in its newest version.

        Raises PullIncomplete with the numbers, SearchExpired, and what `search_pages` raises.
        """
        return read_to_end(resource_type, lambda: self.search_pages(resource_type, parameters))

    def search_by_identifier(self, resource_type: str, system: str, value: str) -> tuple[RawResource, ...]:
        """Every current resource with this business identifier, by id: none, one, or a conflict to be seen.

        Raises UnsupportedPeer when the server does not filter by identifier, and what `search` raises.
        """
        found = self.search(resource_type, [("identifier", f"{system}|{value}")])
        strangers = [match for match in found.matches if (system, value) not in identifiers_of(match.resource.content)]
        if strangers or "identifier" in found.tally.ignored:
            raise UnsupportedPeer(f"{resource_type} search does not filter by identifier")
        return tuple(match.resource for match in found.matches)

    def read(self, resource_type: str, resource_id: str) -> RawResource | Gone | None:
        """Read the current version of one resource: None for 404, Gone for 410.

        Raises MalformedResource for what is not that resource, WrongPatient for another patient,
        AccessRefused, Transient.
        """
        what = f"{resource_type}/{resource_id}"
        answer = self._get(self._under(resource_type, resource_id), what=what)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        if answer.status == HTTPStatus.GONE:
            return Gone(resource_type=resource_type, resource_id=resource_id)
        if answer.status != HTTPStatus.OK:
            raise _refusal(answer, what)
        require_strict_json(answer.content)
        resource = read_match(answer.content).resource
        if (resource.version.resource_type, resource.version.resource_id) != (resource_type, resource_id):
            wrong = WrongPatient if resource_type == "Patient" else MalformedResource
            raise wrong(f"read of {what} returned another resource")
        return resource

    # writing

    def post_transaction(self, content: bytes) -> TransactionReply:
        """Send one transaction Bundle (UTF-8 JSON): all of it is committed, or nothing.

        Raises UnknownOutcome when it may have been carried out (look up before sending again),
        VersionConflict (409, 412), WriteRefused (400, 404, 422), UnsupportedPeer (405, 501), AccessRefused,
        PeerUnavailable when it certainly was not carried out.
        """
        answer = self._write("POST", self._base.url, content, what="transaction", headers={})
        return read_transaction_reply(answer.content)

    def put(self, resource_type: str, resource_id: str, content: bytes, *, if_match: str | None = None) -> WriteReply:
        """Update one resource, or create it under this id where the server lets clients name ids.

        if_match: a bare versionId; another current one raises VersionConflict. Errors as `post_transaction`.
        """
        headers = {} if if_match is None else {"If-Match": f'W/"{if_match}"'}
        what = f"PUT {resource_type}/{resource_id}"
        url = self._under(resource_type, resource_id)
        answer = self._write("PUT", url, content, what=what, headers=headers)
        return _write_reply(answer, ResourceVersion(resource_type, resource_id, ""))

    def create(self, resource_type: str, content: bytes, *, if_none_exist: str | None = None) -> WriteReply:
        """Create one resource under an id of the server's choice.

        if_none_exist: a search query, such as `identifier=system%7Cvalue`; where one
        resource matches, nothing is written and its version comes back. Errors as `post_transaction`.
        """
        headers = {} if if_none_exist is None else {"If-None-Exist": if_none_exist}
        what = f"POST {resource_type}"
        answer = self._write("POST", self._under(resource_type), content, what=what, headers=headers)
        return _write_reply(answer, ResourceVersion(resource_type, "", ""))

    # addresses

    def _under(self, *segments: str) -> str:
        return "/".join((self._base.url, *(quote(segment, safe="") for segment in segments)))

    def _search_url(self, resource_type: str, parameters: Parameters) -> str:
        asked = list(parameters)
        if not any(name == "_count" for name, _ in asked):
            asked.append(("_count", str(self._limits.page_size)))
        return f"{self._under(resource_type)}?{urlencode(asked, safe=',|/:')}"

    def _fetch_page(self, resource_type: str, parameters: Parameters, url: str, number: int) -> SearchPage:
        what = f"{resource_type} search page {number}"
        answer = self._get(url, what=what, headers=_NO_CACHE)
        if number > 1 and answer.status in {404, 410}:
            raise SearchExpired(f"{what} is gone ({answer.status})")
        if answer.status != HTTPStatus.OK:
            raise _refusal(answer, what)
        split = split_page(answer.content, resource_type=resource_type, page=number)
        reach(Moment.BETWEEN_PAGES)
        following = split.next_link and self._base.admit(split.next_link, page_url=answer.url)
        return SearchPage(
            matches=split.matches,
            included=split.included,
            issues=split.issues,
            quarantined=split.quarantined,
            total=split.total,
            next_url=following or None,
            ignored=dropped_parameters(parameters, split.self_link) if number == 1 else (),
        )

    # one request, and asking again

    def _get(self, url: str, *, what: str, headers: Mapping[str, str] | None = None) -> _Answer:
        """Answer of a safe request; every kind of passing failure is tried again within the budget."""
        ask = _Ask(method="GET", url=url, what=what, headers=headers or {})
        return self._persist(ask, retried=RETRIED_READS, again_after=(Transient,))

    def _write(self, method: str, url: str, content: bytes, *, what: str, headers: Mapping[str, str]) -> _Answer:
        """Answer of a write that was carried out; tried again only where it certainly was not."""
        ask = _Ask(
            method=method,
            url=url,
            what=what,
            headers={"Content-Type": _FHIR_JSON, "Prefer": "return=minimal", **headers},
            content=content,
        )
        answer = self._persist(ask, retried=RETRIED_WRITES, again_after=(PeerUnavailable,))
        if answer.status in {408, 500, 502, 504}:
            raise UnknownOutcome(f"{what} was answered {answer.status}: it may have been carried out")
        if answer.status in {409, 412}:
            raise VersionConflict(f"{what} met another version ({answer.status})")
        if answer.status not in {200, 201}:
            raise _refusal(answer, what, refused=WriteRefused)
        reach(Moment.WRITE_ANSWERED)
        return answer

    def _persist(self, ask: _Ask, *, retried: frozenset[int], again_after: tuple[type[Transient], ...]) -> _Answer:
        patience = self._limits.patience_seconds
        for attempt in range(1, self._limits.attempts + 1):
            self._breaker.admit()
            try:
                answer = self._authorised(ask)
                if answer.status not in RETRIED_READS:
                    self._breaker.succeeded()
                    return answer
                asked = asked_wait_seconds(answer.headers, self._limits)
                failure: Transient = PeerUnavailable(
                    f"{ask.what} was answered {answer.status}", retry_after_seconds=asked
                )
                self._breaker.failed(failure)
                if answer.status not in retried:
                    return answer
            except Transient as error:
                self._breaker.failed(error)
                if not isinstance(error, again_after):
                    raise
                failure, asked = error, None
            wait = wait_seconds(attempt, asked, jitter=self._jitter, limits=self._limits)
            patience -= wait
            if attempt == self._limits.attempts or patience < 0:
                raise failure
            self._sleep(wait)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def knock(self) -> None:
        """Ask for a patient that does not exist: what lies behind the server has to work to say so, and nobody is read.

        A CapabilityStatement would not do: servers give it with their database down, and without a token. Raises
        Transient; AccessRefused (401) or BadSettings where nobody's record is open to us: we have no token that counts.
        """
        ask = _Ask(method="GET", url=self._under("Patient", _NOBODY), what="a question whether the server is back")
        answer = self._authorised(ask)
        if answer.status in RETRIED_READS:
            raise PeerUnavailable(f"{ask.what} was answered {answer.status}")
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise _refusal(answer, ask.what)

    def _authorised(self, ask: _Ask) -> _Answer:
        """Send with the current token; a 401 asks once for another one: nothing was carried out."""
        if self._token is None:
            return self._redirected(ask, {})
        token = self._token()
        answer = self._redirected(ask, {"Authorization": f"Bearer {token}"})
        if answer.status == HTTPStatus.UNAUTHORIZED and (renewed := self._token()) != token:
            return self._redirected(ask, {"Authorization": f"Bearer {renewed}"})
        return answer

    def _redirected(self, ask: _Ask, authorisation: Mapping[str, str]) -> _Answer:
        """Follow redirects of reads within our own server; a write is never sent on."""
        url = ask.url
        for _ in range(self._limits.redirects + 1):
            answer = self._exchange(ask, url, authorisation)
            if answer.status not in _REDIRECTIONS or ask.method != "GET":
                return answer
            location = answer.headers.get("location")
            if location is None:
                return answer
            url = self._base.admit(location, page_url=url)
        raise PullIncomplete(f"{ask.what} was redirected more than {self._limits.redirects} times")

    def _exchange(self, ask: _Ask, url: str, authorisation: Mapping[str, str]) -> _Answer:
        """Send once and read the reply to its end. Raises our own errors only."""
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ForeignLink("a link is not a plain URL") from error
        # Read again by the library that will connect: two parsers must not disagree on the host.
        if (address.scheme, address.host) != (self._base.scheme, self._base.host) or address.userinfo:
            raise ForeignLink("a link leaves the configured server")
        # `target` as written: the `+` of a cursor is not ours to escape
        extensions = {"target": request_target(url), "timeout": self._timeouts}
        headers = {**_HEADERS, **ask.headers, **authorisation}
        request = httpx.Request(ask.method, address, headers=headers, content=ask.content, extensions=extensions)
        try:
            response = self._transport.handle_request(request)
            if ask.method != "GET":
                reach(Moment.WRITE_SENT)
            try:
                content = self._body_of(response)
            finally:
                response.close()
        except _CERTAINLY_NOT_SENT as error:
            raise _unreachable(error, ask.what, self._base) from error
        except (httpx.TransportError, PeerTimeout, PeerUnavailable, TooLarge, MalformedResource) as error:
            if ask.method != "GET":
                raise UnknownOutcome(f"{ask.what} was sent and its reply was lost") from error
            raise _broken(error, ask.what) from error
        self._date = response.headers.get("date") or self._date
        return _Answer(status=response.status_code, headers=response.headers, content=content, url=url)

    def _body_of(self, response: httpx.Response) -> bytes:
        if response.is_stream_consumed:  # a transport in memory has read it already
            return response.content
        encoding = response.headers.get("content-encoding", "")
        return read_body(response.iter_raw(), encoding=encoding, limits=self._limits, clock=self._clock)


def _unreachable(error: Exception, what: str, peer: ServiceBase) -> AdjuvantError:
    """Name why no connection came about; a certificate that does not hold is never tried again."""
    address = f"{peer.host}:{peer.port}"
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return UnsupportedPeer(f"{what}: the server's certificate is refused (X.509 code {cause.verify_code})")
            case ssl.SSLError():
                return PeerUnavailable(f"{what}: TLS handshake failed at {address} ({cause.reason})")
            case socket.gaierror():
                return PeerUnavailable(f"{what}: host name not found: {peer.host}")
            case ConnectionRefusedError():
                return PeerUnavailable(f"{what}: connection refused at {address}")
            case httpx.ConnectTimeout():
                return PeerUnavailable(f"{what}: nobody answers at {address}")
            case _:
                continue
    return PeerUnavailable(f"{what}: no connection to {address} ({type(error).__name__})")


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what led to it, the first cause first."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None:
        causes.insert(0, cause)
        cause = cause.__cause__ or cause.__context__
    return causes


def _broken(error: Exception, what: str) -> AdjuvantError:
    if isinstance(error, (TooLarge, MalformedResource)):
        return type(error)(f"{what}: {error}")
    if isinstance(error, (httpx.TimeoutException, PeerTimeout)):
        return PeerTimeout(f"{what}: no whole answer in time")
    return PeerUnavailable(f"{what}: the connection was lost ({type(error).__name__})")


def _refusal(answer: _Answer, what: str, *, refused: type[AdjuvantError] = UnsupportedPeer) -> AdjuvantError:
    """Turn a final status into the error of the branch that acts; the server's own words are not repeated."""
    codes = "; ".join(str(issue) for issue in read_issues(answer.content))
    message = f"{what} was answered {answer.status}{f' ({codes})' if codes else ''}"
    if answer.status in {401, 403}:
        return AccessRefused(message)
    if answer.status in {405, 501, *_REDIRECTIONS}:
        return UnsupportedPeer(message)
    return refused(message)


def _write_reply(answer: _Answer, named: ResourceVersion) -> WriteReply:
    """Take the version from Location, else from ETag, else from a returned resource. Checklist FR-11."""
    version = version_in_location(answer.headers.get("location"))
    etag = answer.headers.get("etag", "").removeprefix("W/").strip('"')
    if version is None and etag and named.resource_id:
        version = ResourceVersion(named.resource_type, named.resource_id, etag)
    if version is None and answer.content and not read_issues(answer.content):
        try:
            version = read_match(answer.content).resource.version
        except (MalformedResource, msgspec.MsgspecError):
            version = None  # it was written; what it is called now is for the caller to look up
    return WriteReply(status=answer.status, version=version)
