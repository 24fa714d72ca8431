"""What the walk needs from the outside, as protocols: the rooms behind them can be swapped, the walk cannot."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from adapter.domain.ids import PatientId
from adapter.domain.imaging import DicomPatient, SeriesOnDisk, SeriesRef
from adapter.domain.outcome import TransactionBundle, WriteReceipt
from adapter.domain.record import RawRecord
from adapter.pipeline.practice import Practice
from inference.contract import BundleIdentity, ModelContract, ModelInput, ModelOutput


class RecordSource(Protocol):
    """The EHR, read."""

    def fetch_record(self, patient_id: PatientId) -> RawRecord:
        """Every page of every search of one patient, or an error."""

    def knock(self) -> None:
        """Ask what concerns no patient. Raises what everybody's case would meet."""


class ImageArchive(Protocol):
    """The PACS."""

    def find_series(self, patient: DicomPatient) -> tuple[SeriesRef, ...]:
        """Every series of one patient with its IMAGE-level UIDs; an empty tuple is an answer."""

    def retrieved(
        self, patient: DicomPatient, ref: SeriesRef, *, owner: PatientId
    ) -> AbstractContextManager[SeriesOnDisk]:
        """All images of one series on disk for as long as the block runs, or SeriesIncomplete.

        owner: the EHR's patient whose case asks. Of a block that ends in a Transient error what had arrived stays for
        the owner's next try; of any other nothing does.
        """

    def abandon(self, owner: PatientId) -> None:
        """No try follows: remove what had arrived for this owner, and nobody else's."""

    def echo(self) -> None:
        """Ask what concerns no patient. Raises what everybody's case would meet."""


class Predictor(Protocol):
    """The model."""

    @property
    def contract(self) -> ModelContract:
        """The input order and shapes this model was built for."""

    @property
    def identity(self) -> BundleIdentity:
        """Name, version and digest that every output carries."""

    def predict(self, model_input: ModelInput) -> ModelOutput:
        """One forward pass; raises ContractBreach for an output that is not a probability curve."""

    def embed(self, crop: NDArray[np.float32]) -> NDArray[np.float32]:
        """What a model with an image input makes of one crop on its grid; raises ContractBreach, also without one."""


class RecordTarget(Protocol):
    """The EHR, written."""

    def submit(self, bundle: TransactionBundle) -> WriteReceipt:
        """Make the server hold exactly this assessment, once, however often it is called."""


class CaseFiles(Protocol):
    """The encrypted case files."""

    def keep(self, content: bytes) -> str:
        """Store once, return the SHA-256 of the plain content, hexadecimal."""

    def keep_file(self, path: Path) -> str:
        """As `keep`, for the content of a file of any size."""

    def recall(self, digest: str) -> bytes:
        """The plain content behind a digest. Raises CaseFileGone when absent, BadStore when altered."""

    def plain_copies(self, digests: Sequence[str]) -> AbstractContextManager[tuple[Path, ...]]:
        """The contents as files, in this order, for as long as the block runs. Raises BadStore."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionPorts:
    """What a decision needs, and nothing of the outside: a replay has no more than this."""

    files: CaseFiles
    predictor: Predictor
    practice: Practice


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports(DecisionPorts):
    """The rooms around the walk. archive: None where the site has no PACS."""

    source: RecordSource
    archive: ImageArchive | None
    target: RecordTarget
