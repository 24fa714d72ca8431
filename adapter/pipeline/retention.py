"""Case files live as long as the site says; the lines of the ledger stay, so that what was decided is still told."""

from __future__ import annotations

from datetime import datetime

from adapter.domain.ids import PatientId
from adapter.errors import StoreUnavailable
from adapter.pipeline.case_file import reached_by
from adapter.store.ledger import Ledger
from adapter.store.vault import Vault


def expire_case_files(ledger: Ledger, vault: Vault, before: datetime) -> int:
    """Remove every content that only cases settled before the time need; returns how many files.

    before: longer ago than any case runs, because cases that run hold contents which no ledger names yet.
    An expired case cannot be replayed. Raises BadStore when a younger case file is damaged: then no file is removed,
    though the expired cases name theirs no longer, and the first purge after the repair takes them.
    """
    ledger.release_case_files(before)
    return vault.purge(reached_by(ledger.case_files(), vault), before=before)


def forget_patient(ledger: Ledger, vault: Vault, patient_id: PatientId) -> tuple[int, int]:
    """Remove a patient's case files, then the cases; returns how many cases and how many files there were.

    Only while no service runs on this store. Contents go first: cut short, it can be done again. Contents that no case
    names, of attempts that were cut, go with them, unless a case that is still to be continued may hold them.
    Raises StoreUnavailable while a case of this patient waits or runs, BadStore when a case file that is needed is
    damaged; then nothing is removed.
    """
    unsettled = [entry for entry in ledger.list_cases() if entry.settled is None]
    if any(entry.patient_id == patient_id for entry in unsettled):
        raise StoreUnavailable(f"Patient/{patient_id} has a case that waits or runs: let the service settle it first")
    theirs = ledger.case_files(patient_id)
    needed = reached_by(ledger.case_files() - theirs, vault)
    begun = [entry.started for entry in unsettled if entry.started is not None]
    # where nothing is to be continued the purge alone takes theirs, even what is damaged
    removed = vault.remove(reached_by(theirs, vault) - needed) if begun else 0
    oldest = min(begun, default=None)
    removed += vault.purge(needed, before=oldest) + vault.sweep_interrupted(oldest)
    return ledger.forget(patient_id), removed
