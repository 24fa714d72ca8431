"""A circuit breaker: a server that keeps failing is left alone for a while instead of being hammered."""

from __future__ import annotations

import threading
from collections.abc import Callable

from adapter.errors import PeerUnavailable


class CircuitBreaker:
    """Counts failed attempts in a row, over all threads of one client. Checklist FR-12, fault F-03."""

    def __init__(self, *, failures: int, rest_seconds: float, clock: Callable[[], float]) -> None:
        """failures: attempts in a row that open the circuit. clock: monotonic."""
        self._limit = failures
        self._rest_seconds = rest_seconds
        self._clock = clock
        self._failures = 0
        self._closed_from = 0.0
        self._lock = threading.Lock()

    def admit(self) -> None:
        """Raise PeerUnavailable with the time left while the circuit is open; then let one attempt probe."""
        with self._lock:
            left = self._closed_from - self._clock()
        if left > 0:
            raise PeerUnavailable("the server kept failing and is left alone", retry_after_seconds=left)

    def failed(self) -> None:
        """Note one failed attempt. After a rest a single failure opens the circuit again."""
        with self._lock:
            self._failures += 1
            if self._failures >= self._limit:
                self._closed_from = self._clock() + self._rest_seconds

    def succeeded(self) -> None:
        """Note that the server answered: the count starts over."""
        with self._lock:
            self._failures = 0
