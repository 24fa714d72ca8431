"""When to ask again, and how long to wait first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from adapter.fhir.limits import Limits

# A server that answers these may do better in a moment. Source: RFC 9110 section 15; checklist FR-12.
RETRIED_READS = frozenset({408, 429, 500, 502, 503, 504})
# For a write only an answer that says "not now": behind 500, 502 and 504 it may have been carried out.
RETRIED_WRITES = frozenset({429, 503})


def http_date(text: str | None) -> datetime | None:
    """Read an HTTP-date as an aware time; None when absent or not one. Source: RFC 9110 section 5.6.7."""
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.utcoffset() is not None else None


def asked_wait_seconds(headers: Mapping[str, str], limits: Limits) -> float | None:
    """Read what `Retry-After` asks for, within [0, cap]; None when it says nothing usable.

    A date is compared with the same reply's `Date`, so that our own clock does not matter. Source: RFC 9110
    section 10.2.3; fault F-04 (seconds, date, absurd, negative).
    """
    written = headers.get("retry-after")
    if written is None:
        return None
    until, now = http_date(written), http_date(headers.get("date"))
    if until is not None:
        if now is None:
            return None
        seconds = (until - now).total_seconds()
    else:
        try:
            seconds = float(written)
        except ValueError:
            return None
    if math.isnan(seconds):  # float() reads "nan"
        return None
    return min(max(seconds, 0.0), limits.retry_after_cap_seconds)


def wait_seconds(attempt: int, asked: float | None, *, jitter: Callable[[], float], limits: Limits) -> float:
    """Choose the wait after the `attempt`-th failure, counted from one: full jitter, never less than asked for.

    A server that names a wait is believed once; when it then fails again we back off on top of what it says, or a
    `Retry-After: 0` would make us hot-loop. Source: fault F-04.
    """
    if asked is not None and attempt == 1:
        return asked
    ceiling = min(limits.backoff_cap_seconds, limits.backoff_start_seconds * 2.0 ** (attempt - 1))
    return (asked or 0.0) + jitter() * ceiling
