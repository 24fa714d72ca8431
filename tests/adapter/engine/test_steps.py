"""A step is tried again by the branch of its error, for a bounded time, and stops when the service stops."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.engine.steps import Interrupted, RetryPolicy, attempt
from adapter.errors import AdjuvantError, BadData, Misconfigured, PeerTimeout, PeerUnavailable, Transient

_POLICY = RetryPolicy(attempts=4, first_seconds=1.0, longest_seconds=10.0)


def failing(*errors: Exception) -> Callable[[], str]:
    """A step that raises these, one a time, and then succeeds."""
    waiting = list(errors)

    def step() -> str:
        if waiting:
            raise waiting.pop(0)
        return "done"

    return step


class Waits:
    """What the retry waited; says that the service is stopping from a given wait on."""

    def __init__(self, stopping_at: int | None = None) -> None:
        self.seconds: list[float] = []
        self._stopping_at = stopping_at

    def __call__(self, seconds: float) -> bool:
        """Remember, do not sleep."""
        self.seconds.append(seconds)
        return self._stopping_at is not None and len(self.seconds) >= self._stopping_at


def test_what_may_pass_is_tried_again() -> None:
    """Transient: the other side may recover."""
    waits = Waits()
    assert attempt(failing(PeerUnavailable("a"), PeerTimeout("b")), _POLICY, wait=waits, draw=lambda: 1.0) == "done"
    assert waits.seconds == [1.0, 2.0]


@pytest.mark.parametrize("error", [BadData("x"), Misconfigured("x"), ValueError("a bug")])
def test_what_a_retry_cannot_mend_is_not_tried_again(error: Exception) -> None:
    """Bad data stays bad, a wrong setting stays wrong: raised at once, without a wait."""
    waits = Waits()
    with pytest.raises(type(error)):
        attempt(failing(error), _POLICY, wait=waits)
    assert waits.seconds == []


def test_the_last_error_is_raised_when_the_attempts_are_used_up() -> None:
    """The outcome names what failed last."""
    waits = Waits()
    errors = [PeerUnavailable(str(number)) for number in range(9)]
    with pytest.raises(PeerUnavailable, match="3"):
        attempt(failing(*errors), _POLICY, wait=waits)
    assert len(waits.seconds) == _POLICY.attempts - 1


@pytest.mark.fault("F-03")
@given(st.integers(min_value=1, max_value=40), st.floats(min_value=0, max_value=1, exclude_max=True))
def test_every_wait_is_jittered_and_bounded(attempts: int, drawn: float) -> None:
    """Full jitter under a ceiling that doubles up to the longest wait: a herd of cases does not come back as one."""
    waits = Waits()
    policy = RetryPolicy(attempts=attempts, first_seconds=0.5, longest_seconds=20.0)
    with pytest.raises(Transient):
        attempt(failing(*(PeerTimeout("x") for _ in range(attempts))), policy, wait=waits, draw=lambda: drawn)
    ceilings = [min(20.0, 0.5 * 2**number) for number in range(attempts - 1)]
    assert waits.seconds == [drawn * ceiling for ceiling in ceilings]


def test_a_peer_that_names_a_time_is_waited_for_that_long() -> None:
    """Retry-After is the server's own word."""
    waits = Waits()
    attempt(failing(PeerUnavailable("busy", retry_after_seconds=7.5)), _POLICY, wait=waits)
    assert waits.seconds == [7.5]


def test_a_stopping_service_tries_no_more() -> None:
    """The wait is cut short and the step has no outcome: nobody who handles failures can take it for one."""
    waits = Waits(stopping_at=2)
    assert not issubclass(Interrupted, Exception)
    with pytest.raises(Interrupted):
        attempt(failing(PeerTimeout("first"), PeerTimeout("second"), PeerTimeout("third")), _POLICY, wait=waits)


def test_one_attempt_means_one() -> None:
    """A policy of a single attempt never waits."""
    waits = Waits()
    with pytest.raises(AdjuvantError):
        attempt(failing(PeerTimeout("x")), RetryPolicy(attempts=1), wait=waits)
    assert waits.seconds == []
