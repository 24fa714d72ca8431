"""A peer that keeps failing is left alone, and comes back by itself."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from adapter.breaker import CircuitBreaker, CircuitState
from adapter.errors import AccessRefused, PeerDown, PeerTimeout, PeerUnavailable, Transient


class Peer:
    """A peer that is up or down, and a clock that is moved."""

    def __init__(self) -> None:
        """Up."""
        self.now = 0.0
        self.fault: Exception | None = None
        self.probes = 0
        self.breaker = CircuitBreaker("EHR", failures=2, rest_seconds=30.0, probe=self.probe, clock=lambda: self.now)

    def probe(self) -> None:
        """What the breaker asks."""
        self.probes += 1
        if self.fault is not None:
            raise self.fault

    def fail(self, times: int = 2, error: Transient | None = None) -> None:
        """Work that fails."""
        for _ in range(times):
            self.breaker.admit()
            self.breaker.failed(error or PeerTimeout("slow"))

    def rest(self) -> float:
        """How long the next one is told to wait."""
        with pytest.raises(PeerDown) as caught:
            self.breaker.admit()
        assert caught.value.retry_after_seconds is not None
        return caught.value.retry_after_seconds

    @property
    def state(self) -> CircuitState:
        """What the report says."""
        return self.breaker.report().state


@pytest.fixture
def peer() -> Peer:
    """One that is up."""
    return Peer()


@pytest.mark.fault("F-03")
def test_failures_in_a_row_open_the_circuit_and_a_success_starts_the_count_over(peer: Peer) -> None:
    """One failure, a success, one failure: closed. A second in a row: nothing goes out, and the wait is told."""
    peer.fail(1)
    peer.breaker.succeeded()
    peer.fail(1)
    peer.breaker.admit()
    peer.breaker.failed(PeerTimeout("slow"))
    assert (peer.state, peer.rest()) == (CircuitState.OPEN, 30.0)


@pytest.mark.fault("F-03")
def test_why_a_peer_is_left_alone_is_told(peer: Peer) -> None:
    """In the log once, and to everybody who waits. Breach: soon nobody saw that a name was not found."""
    with capture_logs() as logs:
        peer.fail()
        with pytest.raises(PeerDown, match="PeerTimeout"):
            peer.breaker.admit()
        peer.fault = PeerUnavailable("host name not found")
        for _ in range(2):
            peer.now += 480.0
            with pytest.raises(PeerDown, match="host name not found"):
                peer.breaker.admit()
        peer.fault = None
        peer.now += 480.0
        peer.breaker.admit()
    assert [entry["event"] for entry in logs] == ["peer left alone", "peer answers again"]


def test_after_the_rest_one_question_decides(peer: Peer) -> None:
    """A peer that is still down costs one question a rest, each rest twice as long up to 16 times; then it is back."""
    peer.fail()
    peer.fault = PeerUnavailable("down")
    rests = []
    for _ in range(6):
        rests.append(peer.rest())
        peer.now += rests[-1]
        peer.rest()
    assert rests == [30.0, 60.0, 120.0, 240.0, 480.0, 480.0]
    assert peer.probes == 6
    peer.fault = None
    peer.now += 480.0
    peer.breaker.admit()
    assert peer.state is CircuitState.CLOSED


def test_a_refusal_shows_that_the_peer_is_there(peer: Peer) -> None:
    """403 to the question is an answer: work goes out and is refused by its own name."""
    peer.fail()
    peer.fault = AccessRefused("403")
    peer.now = 30.0
    peer.breaker.admit()
    assert peer.state is CircuitState.CLOSED


def test_while_one_asks_the_others_wait(peer: Peer) -> None:
    """Half-open lets a single question out, however many threads come."""
    told: list[float | None] = []

    def ask() -> None:
        assert peer.state is CircuitState.HALF_OPEN
        with pytest.raises(PeerDown) as caught:
            peer.breaker.admit()
        told.append(caught.value.retry_after_seconds)

    breaker = CircuitBreaker("PACS", failures=1, rest_seconds=5.0, probe=ask, clock=lambda: peer.now)
    peer.breaker = breaker
    peer.fail(1)
    peer.now = 5.0
    breaker.admit()
    assert told == [1.0]


def test_a_bug_in_the_question_leaves_the_circuit_open(peer: Peer) -> None:
    """No thread is left holding the one question for ever."""
    peer.fail()
    peer.fault = KeyError("x")
    peer.now = 30.0
    with pytest.raises(KeyError):
        peer.breaker.admit()
    assert peer.state is CircuitState.OPEN


def test_one_patient_whose_requests_always_fail_does_not_keep_a_healthy_peer_shut(peer: Peer) -> None:
    """The question is neutral: after it the patient's attempts go on and come to their end."""
    for _ in range(3):
        peer.fail()
        peer.now += peer.rest()
    peer.breaker.admit()


def test_the_report_counts_failures_by_class(peer: Peer) -> None:
    """Names of errors and numbers, never what an error said."""
    peer.fail(1, PeerUnavailable("secret"))
    peer.fail(1)
    peer.rest()
    report = peer.breaker.report()
    assert (report.peer, report.failures) == ("EHR", (("PeerTimeout", 1), ("PeerUnavailable", 1)))
