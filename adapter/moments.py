"""Named moments at which a process may be killed: hooks that do nothing, until a test says otherwise.

Source: the project's standards, section 4, kill points K1 to K14.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum


class Moment(Enum):
    """Where we are. The value is the kill point's number."""

    TOKEN_READ = "K1"  # noqa: S105 (the name of a moment)
    BETWEEN_PAGES = "K2"
    BEFORE_WATERMARK = "K3"
    AFTER_WATERMARK = "K4"
    MOVE_REQUESTED = "K5"
    IMAGE_ARRIVED = "K6"
    IMAGE_RENAMED = "K7"
    BEFORE_DECISION = "K8"
    DECIDED = "K9"
    BEFORE_DELIVERY = "K10"
    WRITE_SENT = "K11"
    WRITE_ANSWERED = "K12"
    BETWEEN_WRITES = "K13"
    MIGRATING = "K14"


def _go_on(_: Moment) -> None:
    """What every process does that is not under test."""


_hook: Callable[[Moment], None] = _go_on


def reach(moment: Moment) -> None:
    """We are here."""
    _hook(moment)


def install(hook: Callable[[Moment], None]) -> None:
    """Be told of every moment from now on, from any thread."""
    global _hook  # noqa: PLW0603 (one hook for the process is the point)
    _hook = hook
