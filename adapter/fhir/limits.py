"""How much time, memory and patience one FHIR server is given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Every cap of the client in one place; seconds, bytes and counts.

    connect_seconds, first_byte_seconds: also the longest silence between two pieces of a body.
    whole_seconds: one request with its body. slowest_bytes_per_second: judged after `grace_seconds`.
    body_bytes: of one reply after decompression.
    pages, entries: of one search. attempts: of one request, the first included. backoff_*: full jitter
    between attempts. retry_after_cap_seconds: more than this no server can make us wait in place.
    patience_seconds: all waits of one request together. breaker_failures: attempts in a row that open the
    circuit for `breaker_seconds`. Source: checklist FR-12 and FR-13 of the project's standards; page size cap
    of HAPI starter 8.10 is 200.
    """

    connect_seconds: float = 5.0
    first_byte_seconds: float = 30.0
    whole_seconds: float = 120.0
    slowest_bytes_per_second: float = 1024.0
    grace_seconds: float = 5.0
    body_bytes: int = 64 * 1024 * 1024
    pages: int = 10_000
    entries: int = 1_000_000
    page_size: int = 200
    redirects: int = 3
    attempts: int = 6
    backoff_start_seconds: float = 0.2
    backoff_cap_seconds: float = 10.0
    retry_after_cap_seconds: float = 30.0
    patience_seconds: float = 60.0
    breaker_failures: int = 20
    breaker_seconds: float = 30.0
