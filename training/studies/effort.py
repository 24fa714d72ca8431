"""How much a study repeats: in full for what is published, quickly for tests."""

from __future__ import annotations

import enum


class Effort(enum.Enum):
    """FULL is what docs/evaluation holds; QUICK runs the same code in seconds, and its numbers mean nothing."""

    FULL = "full"
    QUICK = "quick"
