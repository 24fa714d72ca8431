"""A stored case decided again: the same bytes, or the reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapter.domain.outcome import Skipped, TransactionBundle
from adapter.errors import BadStore
from adapter.fhir.entries import entries_of
from adapter.pipeline.assess import decided
from adapter.pipeline.case_file import CaseFile, stored_bundle, unseal
from adapter.pipeline.ports import DecisionPorts
from adapter.pipeline.practice import Practice

# What shapes a decision and is not among the tables, whose digests the transaction names.
_SETTINGS = (
    "fhir.known_time, fhir.time_zone, fhir.base_url, watch.quiet_seconds, patient_identifier_system of fhir or pacs"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What came out then and now. identical: byte for byte."""

    assessment_id: str
    bytes_then: int
    bytes_now: int
    identical: bool


def replayable(case_files: Sequence[str], ports: DecisionPorts) -> str:
    """Of the cases that delivered one assessment, the first that today's model and practice decided, else the first.

    case_files: digests, at least one. Raises BadStore for a case file that is damaged.
    """
    ours = (ports.predictor.identity.digest, ports.practice.digest)
    stored = ((digest, unseal(ports.files.recall(digest), CaseFile)) for digest in case_files)
    return next((digest for digest, file in stored if (file.model, file.practice) == ours), case_files[0])


def replay(case_file_digest: str, ports: DecisionPorts) -> Replay:
    """Decide the stored case again from the vault alone; the EHR and the PACS are not asked.

    Raises BadStore when the case has no transaction, or was decided by another model or under another practice: then
    equal bytes cannot be promised, and what would be needed is named.
    """
    case_file, then = (
        unseal(ports.files.recall(case_file_digest), CaseFile),
        stored_bundle(case_file_digest, ports.files),
    )
    if case_file.model != ports.predictor.identity.digest:
        raise BadStore(f"the case was decided by the model with manifest {case_file.model[:12]}: install that bundle")
    if case_file.practice != ports.practice.digest:
        differs = _what_differs(then, ports.practice)
        raise BadStore(
            f"the case was decided under practice {case_file.practice[:12]} and replays under no other; "
            f"other than today: {differs}"
        )
    decision = decided(case_file, ports)
    now = b"" if isinstance(decision, Skipped) else decision.bundle.content
    return Replay(
        assessment_id=then.assessment_id,
        bytes_then=len(then.content),
        bytes_now=len(now),
        identical=now == then.content,
    )


def _what_differs(then: TransactionBundle, today: Practice) -> str:
    """As far as the transaction tells: its Provenance names each table by digest, its tags the mode."""
    tables = {
        "mapping tables": today.reading.terminology.digest,
        "rules of the policy": today.policy.digest,
        "delivery tables": today.delivery.digest,
    }
    others = [name for name, digest in tables.items() if digest.encode() not in then.content]
    mode = f"{today.delivery.systems['mode']}|{today.delivery.tags[today.mode]}"
    if any(entry.mode != mode for entry in entries_of(then.content)):
        others.append("mode")
    return ", ".join(others) if others else f"a setting: {_SETTINGS}"
