"""Changes in the EHR become cases: a change is stored before the watermark moves past it."""

from __future__ import annotations

from collections.abc import Callable

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case, ChangePage
from adapter.engine.queue import CaseQueue
from adapter.fhir.changes import PolledChanges, Remembered, fetch_changes
from adapter.fhir.client import FhirClient
from adapter.fhir.cohort import Cohort
from adapter.store.ledger import Ledger
from adapter.store.watermark import WatermarkStore


def changed_patients(page: ChangePage) -> tuple[PatientId, ...]:
    """Whose record changed, each once, sorted."""
    return tuple(sorted({change.patient_id for change in page.changes}))


class Watcher:
    """Polls one EHR for one cohort."""

    def __init__(self, client: FhirClient, cohort: Cohort, feed: WatermarkStore) -> None:
        """feed: where the watermark of this server is kept."""
        self._client = client
        self._cohort = cohort
        self._feed = feed

    def poll(self) -> tuple[Case, ...]:
        """Steps 1 to 3: read the changes, store the cases they make and the watermark in one transaction."""
        people, hashes = self._feed.remembered()
        page: PolledChanges = fetch_changes(
            self._client, self._feed.read(), self._cohort, remembered=Remembered(people=people, hashes=hashes)
        )
        return self._feed.advance(
            page.next_watermark,
            changed_patients(page),
            people=page.remembered.people,
            hashes=page.remembered.hashes,
        )


def enqueue_open_cases(queue: CaseQueue, ledger: Ledger, give_up: Callable[[Case], None]) -> int:
    """Make the engine hold every case that waits or runs; returns how many there are. Doing it again does nothing.

    give_up: called for a case that the engine ended, before it began or while it ran, without an outcome written.
    """
    cases = ledger.unsettled_cases()
    held = queue.held() if cases else frozenset()
    for case in cases:
        if case.case_id in held:
            continue
        if queue.failed(case):
            give_up(case)
        else:
            queue.enqueue(case)
    queue.keep_pace(any_open=bool(cases))
    return len(cases)
