"""Case files live as long as the site says; the lines of the ledger stay, so that what was decided is still told."""

from __future__ import annotations

from datetime import datetime

from adapter.pipeline.case_file import reach
from adapter.store.ledger import Ledger
from adapter.store.vault import Vault


def expire_case_files(ledger: Ledger, vault: Vault, before: datetime) -> int:
    """Remove every content that only cases settled before the time need; returns how many files.

    before: longer ago than any case runs, because cases that run hold contents which no ledger names yet.
    An expired case cannot be replayed. Raises BadStore, and removes nothing, when a younger case file is damaged.
    """
    ledger.release_case_files(before)
    needed = frozenset(reached for digest in ledger.case_files() for reached in reach(digest, vault))
    return vault.purge(needed, before=before)
