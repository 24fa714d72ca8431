"""A stored case decided again: the same bytes, or the reason why not."""

from __future__ import annotations

from dataclasses import dataclass

from adapter.domain.outcome import Skipped
from adapter.errors import BadStore
from adapter.pipeline.assess import decided
from adapter.pipeline.case_file import CaseFile, stored_bundle, unseal
from adapter.pipeline.ports import DecisionPorts


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What came out then and now. identical: byte for byte."""

    assessment_id: str
    bytes_then: int
    bytes_now: int
    identical: bool


def replay(case_file_digest: str, ports: DecisionPorts) -> Replay:
    """Decide the stored case again from the vault alone; the EHR and the PACS are not asked.

    Raises BadStore when the case has no transaction, or was decided by another model or under another practice: then
    equal bytes cannot be promised, and the versions that would be needed are named.
    """
    case_file, then = (
        unseal(ports.files.recall(case_file_digest), CaseFile),
        stored_bundle(case_file_digest, ports.files),
    )
    if case_file.model != ports.predictor.identity.digest:
        raise BadStore(f"the case was decided by the model with manifest {case_file.model[:12]}: install that bundle")
    if case_file.practice != ports.practice.digest:
        raise BadStore(f"the case was decided under practice {case_file.practice[:12]}: use its mappings and settings")
    decision = decided(case_file, ports)
    now = b"" if isinstance(decision, Skipped) else decision.bundle.content
    return Replay(
        assessment_id=then.assessment_id,
        bytes_then=len(then.content),
        bytes_now=len(now),
        identical=now == then.content,
    )
