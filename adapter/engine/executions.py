"""Which cases the threads of this process run, where one case may be run by two of them.

A worker that was silent for too long loses its cases to others, and may be given one of them back while its old thread
is still in a step of it. The old thread goes no further than that step; until then the new one waits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Case:
    executions: int = 0
    step: threading.Lock = field(default_factory=threading.Lock)


class Executions:
    """Counts them by case. Safe from any thread."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._cases: dict[str, _Case] = {}
        self._lock = threading.Lock()

    @contextmanager
    def of(self, case_id: str) -> Iterator[threading.Lock]:
        """One more while the block runs. Yields the lock to hold during a step of the case."""
        with self._lock:
            case = self._cases.setdefault(case_id, _Case())
            case.executions += 1
        try:
            yield case.step
        finally:
            with self._lock:
                case.executions -= 1
                if case.executions == 0:
                    del self._cases[case_id]

    @property
    def cases(self) -> frozenset[str]:
        """Ids of the cases that some thread runs."""
        with self._lock:
            return frozenset(self._cases)
