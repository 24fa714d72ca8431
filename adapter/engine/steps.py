"""Trying one step of a case again by the branch of its error, and saying how it ended."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from adapter.errors import StoreUnavailable, Transient

_Result = TypeVar("_Result")
_SLOW = 4  # our own store is looked at again under the ceiling of the fourth attempt, for ever


class Interrupted(BaseException):
    """The service stops while a step waits: the step has no outcome, and runs again at the next start.

    No `Exception`, like KeyboardInterrupt: whoever handles failures, the durable engine included, must not take it
    for one and write it down.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how long a transient error is waited out. Seconds; full jitter under a doubling ceiling.

    store_attempts: where our own store cannot be used; None for as long as it takes.
    """

    attempts: int = 6
    store_attempts: int | None = None
    first_seconds: float = 1.0
    longest_seconds: float = 120.0

    def ceiling(self, attempt: int) -> float:
        """The longest wait after this attempt, counted from 1."""
        return float(min(self.longest_seconds, self.first_seconds * 2 ** (attempt - 1)))


def attempt(
    step: Callable[[], _Result],
    policy: RetryPolicy,
    *,
    wait: Callable[[float], bool],
    draw: Callable[[], float] = random.random,
) -> _Result:
    """Run the step until it returns, or raises what another attempt cannot mend.

    wait: sleeps the seconds, and returns True when the service is stopping; then Interrupted is raised.
    A peer that named a time is waited for as long as it asked. A store of ours that cannot be used now is waited for
    without end, unless the policy says otherwise: no case could be settled there either, and readiness tells.
    Raises what the step raised last.
    """
    failures = store_failures = 0
    while True:
        try:
            return step()
        except Transient as error:
            if isinstance(error, StoreUnavailable):
                store_failures += 1
                over = policy.store_attempts is not None and store_failures >= policy.store_attempts
            else:
                failures += 1
                over = failures >= policy.attempts
            if over:
                raise
            asked = error.retry_after_seconds
            pause = asked if asked is not None else draw() * policy.ceiling(max(failures, min(store_failures, _SLOW)))
            if wait(pause):
                raise Interrupted from error
