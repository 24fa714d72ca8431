"""A circuit breaker: a peer that keeps failing is left alone for a while instead of being hammered.

Own code because no kept library fits: pybreaker 1.4 rests by the wall clock, which jumps (fault F-26), circuitbreaker
2.1 lets every thread probe at once, and both probe with whatever work comes first. Here one neutral question probes,
so that a single patient whose requests always fail can neither keep a healthy peer shut nor be saved by it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import structlog

from adapter.errors import AdjuvantError, PeerDown, Transient

_SOON_SECONDS = 1.0  # while somebody else probes
_DOUBLINGS = 4


class CircuitState(Enum):
    """What happens to the next request."""

    CLOSED = "closed"  # it goes out
    HALF_OPEN = "half-open"  # one question is out to see whether the peer is back, everything else waits
    OPEN = "open"  # nothing goes out


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitReport:
    """One peer as monitors see it. failures: since the start, by the class of the error; never by what it said."""

    peer: str
    state: CircuitState
    failures: tuple[tuple[str, int], ...]


class CircuitBreaker:
    """One peer, over all threads that ask it. Checklist FR-12, fault F-03."""

    def __init__(
        self,
        peer: str,
        *,
        failures: int,
        rest_seconds: float,
        probe: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """failures: attempts in a row that open the circuit. clock: monotonic.

        rest_seconds: the first rest; each further one without a success in between is twice as long, up to 16 times.
        probe: asks the peer something that concerns no patient; raises Transient while it is down, any other answer,
        a refusal too, shows that it is there.
        """
        self._peer = peer
        self._limit = failures
        self._rest_seconds = rest_seconds
        self._probe = probe
        self._clock = clock
        self._lock = threading.Lock()
        self._state = CircuitState.CLOSED
        self._in_a_row = 0
        self._openings = 0
        self._rest_ends = 0.0
        self._counted: Counter[str] = Counter()
        self._why = ""

    def admit(self) -> None:
        """Return when a request may go out. Raises PeerDown with the time to wait: then nothing was tried."""
        with self._lock:
            if self._state is CircuitState.CLOSED:
                return
            left = self._rest_ends - self._clock()
            if left > 0 or self._state is CircuitState.HALF_OPEN:
                raise self._down(max(left, _SOON_SECONDS))
            self._state = CircuitState.HALF_OPEN
        try:
            self._probe()
        except Transient as error:
            with self._lock:
                self._counted[type(error).__name__] += 1
                self._why = f"{type(error).__name__}: {error}"  # the question concerned no patient
                self._open()
                raise self._down(self._rest_ends - self._clock()) from error
        except AdjuvantError:
            self._close()  # a refusal is an answer
        except BaseException:
            with self._lock:
                self._open()
            raise
        else:
            self._close()

    def failed(self, error: Transient) -> None:
        """Note one failed attempt."""
        with self._lock:
            self._counted[type(error).__name__] += 1
            self._in_a_row += 1
            if self._state is CircuitState.CLOSED and self._in_a_row >= self._limit:
                self._why = type(error).__name__
                self._open()
                structlog.get_logger().warning("peer left alone", peer=self._peer, error=self._why)

    def succeeded(self) -> None:
        """Note that the peer did what it was asked, or refused it: the counts start over."""
        with self._lock:
            self._in_a_row = 0
            self._openings = 0

    def report(self) -> CircuitReport:
        """How it stands."""
        with self._lock:
            return CircuitReport(peer=self._peer, state=self._state, failures=tuple(sorted(self._counted.items())))

    def _open(self) -> None:
        self._state = CircuitState.OPEN
        self._rest_ends = self._clock() + self._rest_seconds * 2 ** min(self._openings, _DOUBLINGS)
        self._openings += 1

    def _close(self) -> None:
        """Let work go on; only work that succeeds shortens the next rest again."""
        structlog.get_logger().warning("peer answers again", peer=self._peer)
        with self._lock:
            self._state = CircuitState.CLOSED
            self._in_a_row = 0

    def _down(self, seconds: float) -> PeerDown:
        return PeerDown(f"the {self._peer} kept failing and is left alone ({self._why})", retry_after_seconds=seconds)
