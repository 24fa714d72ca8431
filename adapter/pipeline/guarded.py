"""The PACS behind a circuit breaker: an archive that keeps failing is left alone, and cases wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from adapter.breaker import CircuitBreaker, CircuitReport
from adapter.domain.ids import PatientId
from adapter.domain.imaging import DicomPatient, SeriesOnDisk, SeriesRef
from adapter.errors import PeerTimeout, PeerUnavailable, SeriesIncomplete
from adapter.pipeline.ports import ImageArchive

_FAILURES, _REST_SECONDS = 5, 30.0
_Answer = TypeVar("_Answer")


class GuardedArchive:
    """An `ImageArchive` that is asked only while it is not known to be down. Raises PeerDown otherwise."""

    def __init__(self, archive: ImageArchive, *, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: monotonic seconds."""
        self._archive = archive
        self._breaker = CircuitBreaker(
            "PACS", failures=_FAILURES, rest_seconds=_REST_SECONDS, probe=archive.echo, clock=clock
        )

    def circuit(self) -> CircuitReport:
        """Whether associations are opened, and how many failed in which way."""
        return self._breaker.report()

    def find_series(self, patient: DicomPatient) -> tuple[SeriesRef, ...]:
        """As the archive does."""
        return self._asked(lambda: self._archive.find_series(patient))

    @contextmanager
    def retrieved(self, patient: DicomPatient, ref: SeriesRef, *, owner: PatientId) -> Iterator[SeriesOnDisk]:
        """As the archive does; how the block ends says nothing about the archive."""
        with ExitStack() as block:
            retrieval = self._archive.retrieved(patient, ref, owner=owner)
            yield self._asked(lambda: block.enter_context(retrieval))

    def abandon(self, owner: PatientId) -> None:
        """As the archive does."""
        self._archive.abandon(owner)

    def echo(self) -> None:
        """As the archive does, whether or not it is left alone."""
        self._archive.echo()

    def _asked(self, question: Callable[[], _Answer]) -> _Answer:
        self._breaker.admit()
        try:
            answer = question()
        except (PeerUnavailable, PeerTimeout) as error:
            self._breaker.failed(error)
            raise
        except SeriesIncomplete:
            self._breaker.succeeded()  # it answered, and owes images of one patient: others need not wait for that
            raise
        self._breaker.succeeded()
        return answer
