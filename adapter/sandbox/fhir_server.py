"""A small FHIR R4 server in this process, on a loopback port: the EHR of the demo, and the wire of our tests.

Source of the behaviour: FHIR R4 `http.html` and `search.html`; where servers differ, HAPI 8.8 as measured.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from types import TracebackType
from urllib.parse import parse_qsl, quote, unquote, urlencode

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapter.sandbox.faults import FhirFaults, LinkStyle
from adapter.sandbox.repository import Refused, Repository, Resource, Stored
from adapter.sandbox.search import SUPPORTED, find

_FHIR_JSON = "application/fhir+json"
_PAGE_CAP = 200
_RESULT_PARAMETERS = {"_count", "_sort", "_total", "_summary", "_format"}
_CURSOR = "_cursor"


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A search result fixed at execution time, as HAPI fixes it."""

    resource_type: str
    self_query: str
    entries: tuple[Stored, ...]
    page_size: int


@dataclass(frozen=True, slots=True)
class _PlannedWrite:
    """One transaction entry with its final reference, `Type/id`."""

    full_url: str | None
    reference: str
    resource: Resource
    by_client: bool = False
    if_match: int | None = None
    existing: Stored | None = None


class FhirServer:
    """The server and its life: `with FhirServer(clock) as server: ... server.base_url`.

    faults may be replaced while it runs. repository may be filled directly or over HTTP.
    """

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        faults: FhirFaults | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Bind nothing yet. port 0 takes a free one."""
        self.repository = Repository(clock)
        self.faults = faults or FhirFaults()
        self.requests = 0
        self.public_url: str | None = None  # in its links, where a proxy stands before it
        self._clock = clock
        self._snapshots: dict[str, _Snapshot] = {}
        self._page_requests = 0
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app(), host=host, port=port, log_level="critical", lifespan="off", ws="none", date_header=False
            )
        )
        self._thread = threading.Thread(target=self._server.run, name="sandbox-fhir", daemon=True)
        self._host = host

    def __enter__(self) -> FhirServer:
        """Serve; returns once the port answers. Raises OSError when it cannot be bound."""
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise OSError("the sandbox FHIR server could not bind its port")
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving and wait for the thread."""
        self._server.should_exit = True
        self._thread.join(timeout=10)

    @property
    def base_url(self) -> str:
        """The service base, without a trailing slash."""
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://{self._host}:{port}/fhir"

    @property
    def _seen_url(self) -> str:
        return self.public_url or self.base_url

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/fhir/metadata", self._answer(self._metadata), methods=["GET"]),
                Route("/fhir", self._answer(self._base), methods=["GET", "POST"]),
                Route("/fhir/{type}", self._answer(self._type_level), methods=["GET", "POST"]),
                Route("/fhir/{type}/{id}", self._answer(self._instance), methods=["GET", "PUT", "DELETE"]),
                Route("/fhir/{type}/{id}/_history", self._answer(self._history), methods=["GET"]),
                Route("/fhir/{type}/{id}/_history/{version}", self._answer(self._vread), methods=["GET"]),
            ]
        )

    def _answer(self, handle: Callable[[Request, bytes], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            self.requests += 1
            if self.faults.delay_seconds:
                await asyncio.sleep(self.faults.delay_seconds)
            body = await request.body()
            if self.faults.down:
                return Response(status_code=500)
            if self.faults.forbidden:
                return Response(status_code=403)
            try:
                response = handle(request, body)
            except Refused as refusal:
                return _outcome(refusal)
            if request.method in {"POST", "PUT"} and self._reply_is_lost():
                return Response(status_code=200, headers={"content-length": "1"})
            response.headers["date"] = format_datetime(self._clock().astimezone(UTC), usegmt=True)
            return response

        return endpoint

    def _reply_is_lost(self) -> bool:
        if self.faults.lost_replies <= 0:
            return False
        self.faults = replace(self.faults, lost_replies=self.faults.lost_replies - 1)
        return True

    # reading

    def _metadata(self, _request: Request, _body: bytes) -> Response:
        return _json(200, capability_statement(self.faults))

    def _base(self, request: Request, body: bytes) -> Response:
        if request.method == "POST":
            return self._transaction(_resource_of(body))
        query = _raw_query(request)
        token = dict(parse_qsl(query)).get("_getpages")
        if token is None:
            raise Refused(400, "not-supported", "searching the whole system is not supported")
        return self._page(token, int(dict(parse_qsl(query)).get("_getpagesoffset", "0")))

    def _type_level(self, request: Request, body: bytes) -> Response:
        resource_type = request.path_params["type"]
        if resource_type not in SUPPORTED:
            raise Refused(404, "not-supported", f"resource type {resource_type[:40]} is not supported")
        if request.method == "POST":
            return self._create(resource_type, _resource_of(body), request.headers.get("if-none-exist"))
        query = _raw_query(request)
        cursor = _raw_parameter(query, _CURSOR)
        if cursor is not None:
            return self._page(*self._open_cursor(cursor))
        asked = parse_qsl(query, keep_blank_values=True)
        offset = int(dict(asked).get("_offset", "0"))
        return self._search(resource_type, [pair for pair in asked if pair[0] != "_offset"], offset)

    def _search(self, resource_type: str, asked: Sequence[tuple[str, str]], offset: int) -> Response:
        if self.faults.html_page:
            return Response("<html><body>gateway error</body></html>", media_type="text/html")
        dropped = set(self.faults.dropped_parameters)
        if self.faults.without_last_updated:
            dropped.add("_lastUpdated")
        applied = [(name, value) for name, value in asked if name not in dropped]
        filters = [(name, value) for name, value in applied if name not in _RESULT_PARAMETERS]
        for name, _ in filters:
            if name not in SUPPORTED[resource_type]:
                raise Refused(400, "not-supported", f"search parameter {name[:40]} is not supported")
        page_size = min(int(dict(asked).get("_count", "50")), _PAGE_CAP)
        snapshot = _Snapshot(
            resource_type, urlencode(applied), tuple(find(self.repository, resource_type, filters)), page_size
        )
        token = secrets.token_hex(16)
        self._snapshots[token] = snapshot
        return self._render(token, snapshot, offset)

    def _page(self, token: str, offset: int) -> Response:
        self._page_requests += 1
        if self.faults.expired_pages > 0:
            self.faults = replace(self.faults, expired_pages=self.faults.expired_pages - 1)
            raise Refused(410, "expired", "the search result is no longer held")
        every = self.faults.unavailable_every
        if every and self._page_requests % every == 0:
            response = _outcome(Refused(503, "transient", "busy"))
            response.headers["retry-after"] = self.faults.retry_after
            return response
        if token not in self._snapshots:
            raise Refused(410, "expired", "the search result is no longer held")
        return self._render(token, self._snapshots[token], offset)

    def _render(self, token: str, snapshot: _Snapshot, offset: int) -> Response:
        end = offset + snapshot.page_size
        start = max(0, offset - 1) if self.faults.duplicate_entries and offset else offset
        entries: list[object] = [
            {
                "fullUrl": f"{self._seen_url}/{snapshot.resource_type}/{stored.resource['id']}",
                "resource": stored.resource,
                "search": {"mode": "match"},
            }
            for stored in snapshot.entries[start:end]
        ]
        entries += list(self._extra_entries(offset))
        links = [{"relation": "self", "url": f"{self._seen_url}/{snapshot.resource_type}?{snapshot.self_query}"}]
        if end < len(snapshot.entries):
            links.append({"relation": "next", "url": self._next_link(token, snapshot, end)})
        bundle: Resource = {"resourceType": "Bundle", "type": "searchset", "link": links}
        if entries:
            bundle["entry"] = entries
        return _json(200, bundle)

    def _extra_entries(self, offset: int) -> Iterator[object]:
        if self.faults.outcome_entry:
            issue = {"severity": "information", "code": "informational", "details": {"text": "a note"}}
            yield {
                "resource": {"resourceType": "OperationOutcome", "issue": [issue]},
                "search": {"mode": "outcome"},
            }
        if self.faults.bad_entry and offset == 0:
            yield {"resource": {"resourceType": "Observation", "id": ["not", "an", "id"]}}

    def _next_link(self, token: str, snapshot: _Snapshot, offset: int) -> str:
        if self.faults.looping_links:
            offset = snapshot.page_size
        base = "http://elsewhere.invalid/fhir" if self.faults.foreign_links else self._seen_url
        style = self.faults.link_style
        if style is LinkStyle.OFFSET:
            query = f"{snapshot.self_query}&" if snapshot.self_query else ""
            return f"{base}/{snapshot.resource_type}?{query}_offset={offset}"
        if style is LinkStyle.HAPI:
            count = snapshot.page_size
            return f"{base}?_getpages={token}&_getpagesoffset={offset}&_count={count}&_bundletype=searchset"
        # bytes chosen so that standard base64 writes `+` and `/`, which break a client that re-encodes the link
        cursor = base64.b64encode(b"\xfb\xef\xff" + f"{token}:{offset}".encode()).decode()
        written = quote(cursor, safe="") if style is LinkStyle.ENCODED_CURSOR else cursor
        return f"{base}/{snapshot.resource_type}?{_CURSOR}={written}"

    def _open_cursor(self, written: str) -> tuple[str, int]:
        try:
            content = base64.b64decode(unquote(written), validate=True)
            token, offset = content.removeprefix(b"\xfb\xef\xff").decode().split(":")
        except ValueError as error:
            raise Refused(400, "invalid", "the cursor is not one of ours") from error
        return token, int(offset)

    def _instance(self, request: Request, body: bytes) -> Response:
        resource_type, resource_id = request.path_params["type"], request.path_params["id"]
        if request.method == "GET":
            return _stored(200, self.repository.read(resource_type, resource_id))
        if request.method == "DELETE":
            self.repository.delete(resource_type, resource_id)
            return Response(status_code=204)
        if_match = _version_in(request.headers.get("if-match"))
        return self._put(resource_type, resource_id, _resource_of(body), if_match)

    def _history(self, request: Request, _body: bytes) -> Response:
        versions = self.repository.history(request.path_params["type"], request.path_params["id"])
        entries = [{"resource": stored.resource} for stored in reversed(versions) if not stored.deleted]
        return _json(200, {"resourceType": "Bundle", "type": "history", "entry": entries})

    def _vread(self, request: Request, _body: bytes) -> Response:
        versions = self.repository.history(request.path_params["type"], request.path_params["id"])
        for stored in versions:
            if str(stored.version) == request.path_params["version"]:
                return _stored(200, stored)
        raise Refused(404, "not-found", "no such version")

    # writing

    def _put(self, resource_type: str, resource_id: str, resource: Resource, if_match: int | None) -> Response:
        if resource_type not in SUPPORTED:
            raise Refused(404, "not-supported", f"resource type {resource_type[:40]} is not supported")
        if self.faults.without_update_create and not _exists(self.repository, resource_type, resource_id):
            raise Refused(405, "not-supported", "clients cannot name ids here")
        stored, created = self.repository.update(resource_type, resource_id, resource, if_match)
        return _stored(201 if created else 200, stored)

    def _create(self, resource_type: str, resource: Resource, if_none_exist: str | None) -> Response:
        if if_none_exist is not None and not self.faults.without_conditional_create:
            with self.repository.transaction():
                found = find(self.repository, resource_type, parse_qsl(if_none_exist))
                if len(found) > 1:
                    raise Refused(412, "multiple-matches", "more than one resource matches")
                if found:
                    return _stored(200, found[0])
                return _stored(201, self.repository.create(resource))
        return _stored(201, self.repository.create(resource))

    def _transaction(self, bundle: Resource) -> Response:
        if self.faults.without_transaction or bundle.get("type") != "transaction":
            raise Refused(405, "not-supported", "this bundle type is not supported")
        entries = bundle.get("entry")
        if not isinstance(entries, list):
            raise Refused(400, "required", "a transaction has entries")
        with self.repository.transaction():
            planned = [_planned(self.repository, entry) for entry in entries]
            assigned = {write.full_url: write.reference for write in planned if write.full_url}
            done = [self._carry_out(write, assigned) for write in planned]
        return _json(200, {"resourceType": "Bundle", "type": "transaction-response", "entry": done})

    def _carry_out(self, write: _PlannedWrite, assigned: Mapping[str, str]) -> Resource:
        if write.existing is not None:
            response = _stored(200, write.existing)
        else:
            resource = _rewritten(write.resource, assigned)
            if not isinstance(resource, dict):
                raise Refused(400, "structure", "a resource is an object")
            kind, resource_id = write.reference.split("/")
            if write.by_client:
                response = self._put(kind, resource_id, resource, write.if_match)
            else:
                response = _stored(201, self.repository.create(resource, resource_id))
        return {
            "response": {
                "status": "201 Created" if response.status_code == 201 else "200 OK",
                "location": response.headers["location"],
                "etag": response.headers["etag"],
            }
        }


def capability_statement(faults: FhirFaults) -> Resource:
    """What the server says it can do; the faults that are limits rather than lies are declared."""
    missing = {"_lastUpdated"} if faults.without_last_updated else set()
    interactions = ["read", "vread", "history-instance", "search-type", "create", "update"]
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-01-01",
        "kind": "instance",
        "software": {"name": "adjuvant sandbox hospital (simulated)"},
        "implementation": {"description": "simulated patients only"},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [
            {
                "mode": "server",
                "resource": [
                    {
                        "type": kind,
                        "interaction": [{"code": code} for code in interactions],
                        "versioning": "versioned-update",
                        "readHistory": True,
                        "updateCreate": not faults.without_update_create,
                        "conditionalCreate": not faults.without_conditional_create,
                        "searchParam": [
                            {"name": name, "type": _parameter_type(name)} for name in sorted(parameters - missing)
                        ],
                    }
                    for kind, parameters in SUPPORTED.items()
                ],
                "interaction": [] if faults.without_transaction else [{"code": "transaction"}],
            }
        ],
    }


def _parameter_type(name: str) -> str:
    if name == "_lastUpdated":
        return "date"
    return "token" if name in {"_id", "identifier", "code"} else "reference"


def _planned(repository: Repository, entry: object) -> _PlannedWrite:
    """Where one transaction entry goes, before anything is stored, so that references can be rewritten."""
    request = entry.get("request") if isinstance(entry, dict) else None
    resource = entry.get("resource") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(request, dict) or not isinstance(resource, dict):
        raise Refused(400, "required", "each entry has a request and a resource")
    full_url, address = entry.get("fullUrl"), str(request.get("url", ""))
    full_url = full_url if isinstance(full_url, str) and full_url.startswith("urn:uuid:") else None
    if request.get("method") == "PUT" and address.count("/") == 1:
        if_match = _version_in(request.get("ifMatch"))
        return _PlannedWrite(full_url, address, resource, by_client=True, if_match=if_match)
    if request.get("method") != "POST" or address not in SUPPORTED:
        raise Refused(400, "not-supported", "only POST and PUT by id are supported in a transaction")
    criteria = request.get("ifNoneExist")
    found = find(repository, address, parse_qsl(criteria)) if isinstance(criteria, str) else []
    if len(found) > 1:
        raise Refused(412, "multiple-matches", "more than one resource matches")
    if found:
        return _PlannedWrite(full_url, f"{address}/{found[0].resource['id']}", resource, existing=found[0])
    return _PlannedWrite(full_url, f"{address}/{repository.reserve_id()}", resource)


def _rewritten(value: object, assigned: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return {key: _rewritten(inner, assigned) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rewritten(inner, assigned) for inner in value]
    return assigned.get(value, value) if isinstance(value, str) else value


def _exists(repository: Repository, resource_type: str, resource_id: str) -> bool:
    try:
        repository.read(resource_type, resource_id)
    except Refused:
        return False
    return True


def _raw_query(request: Request) -> str:
    return bytes(request.scope["query_string"]).decode("ascii", "replace")


def _raw_parameter(query: str, name: str) -> str | None:
    """A parameter as written, where `+` is a plus and not a blank: cursors are opaque."""
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if key == name:
            return value
    return None


def _version_in(etag: str | None) -> int | None:
    if etag is None:
        return None
    digits = etag.removeprefix("W/").strip('"')
    if not digits.isdigit():
        raise Refused(400, "value", "If-Match is not a version of ours")
    return int(digits)


def _resource_of(body: bytes) -> Resource:
    try:
        content = json.loads(body)
    except ValueError as error:
        raise Refused(400, "structure", "the body is not JSON") from error
    if not isinstance(content, dict):
        raise Refused(400, "structure", "the body is not a resource")
    return content


def _json(status: int, content: Resource) -> Response:
    return Response(json.dumps(content), status_code=status, media_type=_FHIR_JSON)


def _stored(status: int, stored: Stored) -> Response:
    response = _json(status, stored.resource)
    kind, resource_id = stored.resource["resourceType"], stored.resource["id"]
    response.headers["etag"] = f'W/"{stored.version}"'
    response.headers["location"] = f"{kind}/{resource_id}/_history/{stored.version}"
    response.headers["last-modified"] = format_datetime(stored.last_updated, usegmt=True)
    return response


def _outcome(refusal: Refused) -> Response:
    issue = {"severity": "error", "code": refusal.code, "diagnostics": str(refusal)}
    return _json(refusal.status, {"resourceType": "OperationOutcome", "issue": [issue]})
