"""What happens to work: changes come in, cases run, each ends in one of four states."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from adapter.domain.ids import PatientId, ResourceVersion
from adapter.domain.period import require_aware


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceChange:
    """One resource the server reports as changed. patient_id: whose it is."""

    version: ResourceVersion
    patient_id: PatientId
    last_updated: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """Up to where the server's changes are safely ours, in the server's own time."""

    time: datetime

    def __post_init__(self) -> None:
        """Raise ValueError for a time without offset."""
        require_aware(self.time, "watermark")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePage:
    """Everything that changed since a watermark, read to the end. next_watermark: safe once the cases are stored."""

    changes: tuple[ResourceChange, ...]
    next_watermark: Watermark


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Case:
    """One piece of work: look at this patient again. revision: counts up per patient; a later one supersedes."""

    patient_id: PatientId
    revision: int

    @property
    def case_id(self) -> str:
        """The durable id, `patient:revision`."""
        return f"{self.patient_id}:{self.revision}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionBundle:
    """A FHIR transaction ready to send. content: canonical UTF-8 JSON; resources: `Type/id` in order of entry."""

    assessment_id: str
    content: bytes = field(repr=False)
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteReceipt:
    """The versions the server now holds for what we wrote; written is False where all were already there.

    left_out: what the server does not let us do, by name. superseded: versions of older assessments, as the server
    holds them, that say that this one stands instead. kept: such as somebody else has touched, and that stay as they
    are.
    """

    assessment_id: str
    versions: tuple[ResourceVersion, ...]
    written: bool
    left_out: tuple[str, ...] = ()
    superseded: tuple[ResourceVersion, ...] = ()
    kept: tuple[ResourceVersion, ...] = ()

    @property
    def remarks(self) -> str:
        """What a person should know beside the versions; empty where all went as it should."""
        said = [
            (self.left_out, "left out, the server does not offer"),
            (self.superseded, "marked as superseded"),
            (self.kept, "outdated but touched by somebody else, kept"),
        ]
        return "; ".join(f"{words}: {', '.join(map(str, what))}" for what, words in said if what)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The assessment stands on the server."""

    receipt: WriteReceipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Abstained:
    """The patient is ours but nothing honest can be said. reason: a stable code; detail: ids, codes, counts."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """The patient is not to be assessed now. reason: a stable code."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """The work itself failed for good and waits for a person. reason: the error's name."""

    reason: str
    detail: str


Settled = Delivered | Abstained | Skipped | DeadLetter
