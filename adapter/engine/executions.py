"""Which cases the threads of this process run, where two of them may run cases of one patient.

A worker that was silent for too long loses its cases to others, and may be given one of them back, or the patient's
next, while its old thread is still in a step. The old thread goes no further than that step; until then the new waits.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case


@dataclass(slots=True)
class _Patient:
    executions: Counter[str] = field(default_factory=Counter)  # by case id
    step: threading.Lock = field(default_factory=threading.Lock)


class Executions:
    """Counts them by patient and case. Safe from any thread."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._patients: dict[PatientId, _Patient] = {}
        self._lock = threading.Lock()

    @contextmanager
    def of(self, case: Case) -> Iterator[threading.Lock]:
        """One more while the block runs. Yields the lock to hold during a step of any case of the patient."""
        with self._lock:
            patient = self._patients.setdefault(case.patient_id, _Patient())
            patient.executions[case.case_id] += 1
        try:
            yield patient.step
        finally:
            with self._lock:
                patient.executions -= Counter([case.case_id])
                if not patient.executions:
                    del self._patients[case.patient_id]

    @property
    def cases(self) -> frozenset[str]:
        """Ids of the cases that some thread runs."""
        with self._lock:
            return frozenset(case_id for patient in self._patients.values() for case_id in patient.executions)
