"""Links a server hands out: followed verbatim, and only within the configured server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from adapter.errors import BadSettings, ForeignLink

_DEFAULT_PORT = {"http": 80, "https": 443}
# RFC 3986, and the `|{}` that real servers write. Parsers disagree on the host of a link with a blank or a
# backslash, which is how a link escapes a check.
_LINK = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%|{}]{1,65536}")


@dataclass(frozen=True, slots=True)
class ServiceBase:
    """The one server we talk to: scheme, host, port and the path every request stays under.

    url: all of it as configured, without a trailing slash.
    """

    scheme: str
    host: str
    port: int
    path: str
    url: str

    @classmethod
    def parse(cls, base_url: str) -> Self:
        """Raise BadSettings for anything but a plain http(s) URL: no user, query or fragment."""
        parts = _split(base_url)
        if parts is None or parts.hostname is None or parts.scheme not in _DEFAULT_PORT:
            raise BadSettings("fhir.base_url is not an http or https URL")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise BadSettings("fhir.base_url carries a user, a query or a fragment")
        return cls(parts.scheme, parts.hostname, _port(parts), parts.path.rstrip("/"), base_url.rstrip("/"))

    def admit(self, link: str, *, page_url: str) -> str:
        """Give the absolute form of a link found on a page, its query untouched.

        A relative link is resolved against the page it stood on (RFC 3986, section 5). Raises ForeignLink for
        another scheme, host, port or base path, a user part, or dot segments in any spelling.
        """
        if not _LINK.fullmatch(link):
            raise ForeignLink("a link holds characters that no URL has")
        if link.startswith(self.url) and link[len(self.url) :].startswith(("/", "?")):
            absolute = link  # the usual case: our own base, written as we write it
        else:
            absolute = self._same_server(_joined(page_url, link))
        path = absolute.partition("#")[0].partition("?")[0]
        if "/." in path or "%" in path:
            _require_no_dot_segments(path)
        return absolute.partition("#")[0]

    def _same_server(self, absolute: str) -> str:
        parts = _split(absolute)
        if parts is None or parts.username is not None or parts.password is not None:
            raise ForeignLink("a link is not a plain URL")
        if (parts.scheme, parts.hostname, _port(parts)) != (self.scheme, self.host, self.port):
            raise ForeignLink("a link leaves the configured server")
        if parts.path != self.path and not parts.path.startswith(f"{self.path}/"):
            raise ForeignLink("a link leaves the configured base path")
        return absolute


def request_target(url: str) -> bytes:
    """Cut path and query from an absolute URL as written: what goes on the request line."""
    after_host = url.split("://", 1)[1]
    cut = min((after_host.find(mark) for mark in "/?" if mark in after_host), default=len(after_host))
    target = after_host[cut:]
    return (target if target.startswith("/") else f"/{target}").encode("ascii")


def _require_no_dot_segments(path: str) -> None:
    if any(unquote(segment) in {".", ".."} for segment in path.split("/")):
        raise ForeignLink("a link climbs out of the configured base path")


def _joined(page_url: str, link: str) -> str:
    try:
        return urljoin(page_url, link)
    except ValueError as error:
        raise ForeignLink("a link is not a plain URL") from error


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _port(parts: SplitResult) -> int:
    return parts.port if parts.port is not None else _DEFAULT_PORT.get(parts.scheme, 0)
