"""Finished parts of a fit on disk: an interrupted training goes on where it stopped, and other work starts afresh."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from inference.contract import ModelContract
from training.cohorts.landmarks import LandmarkRow
from training.network import IllnessDeath
from training.recipe import Effort
from training.weights import arrays_of, model_of, read_arrays, write_arrays


class Checkpoints:
    """Keeps each part under the mark of all that it depends on. A context is one run of one training."""

    def __init__(self, folder: Path, mark: str, contract: ModelContract, progress: Callable[[str], None]) -> None:
        """folder: made where it is missing. mark: of `mark_of`. progress: takes one line per part."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._mark, self._contract, self._progress = folder, mark, contract, progress

    def keep(self, name: str, make: Callable[[], IllnessDeath]) -> IllnessDeath:
        """The part of that name: brought back where it was finished before, made and written down where not."""
        path = self._folder / f"{self._mark}-{name.replace(' ', '-')}.npz"
        if path.is_file():
            self._progress(f"{name}: kept from before")
            return model_of(self._contract, read_arrays(path))
        self._progress(f"{name}: fitting")
        model = make()
        write_arrays(path, arrays_of(model))
        return model


def mark_of(*cohorts: Iterable[LandmarkRow], contract: ModelContract, effort: Effort, seed: int) -> str:
    """Twelve hexadecimal digits of SHA-256 over the rows as the model sees them, the effort and the training code."""
    total = hashlib.sha256(f"{contract.schema_sha256} {effort} {seed}".encode())
    for number, rows in enumerate(cohorts):
        for row in rows:
            seen = row.model_input
            total.update(f"{number} {row.illness_days} {row.last_days} {row.died} {seen.years_since_surgery}".encode())
            for array in (seen.static, seen.static_mask, seen.sequence, seen.sequence_mask):
                total.update(array.tobytes())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()[:12]
