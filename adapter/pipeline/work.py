"""A case as the durable engine runs it: each step tried again by the branch of its error, every end written down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import structlog

from adapter.domain.ids import ResourceVersion
from adapter.domain.outcome import Abstained, Case, DeadLetter, Delivered, Settled, Skipped, WriteReceipt
from adapter.engine.queue import SETTLED, STEPS, Checkpoint, Transaction, once_committed
from adapter.engine.steps import Interrupted, RetryPolicy, attempt
from adapter.errors import (
    AccessRefused,
    AdjuvantError,
    BadSettings,
    PeerDown,
    StoreUnavailable,
    UnsupportedPeer,
    reason_of,
)
from adapter.moments import Moment, reach
from adapter.pipeline.assess import StepResult, conclude_stored, deliver, gather, outcome_of, retrieve
from adapter.pipeline.case_file import CaseFile, unseal
from adapter.pipeline.ports import Ports
from adapter.store.ledger import Ledger

_CASE_FILE = "case_file"
_MOST_CRASHES = 10  # of a whole worker; a decision, which runs native code, has its own process and three tries there
_SHUT_OUT_SECONDS = 30.0
_GIVEN_UP, _MOST_LOOKS = "engine-gave-up", 3
Watching = Callable[[Case, str, Settled | None], None]
"""Called when a step of a case begins, and when the case is settled (step `settled`), once that is committed."""


class AssessmentWork:
    """The pipeline's side of `engine.queue.CaseWork`."""

    def __init__(
        self,
        ports: Ports,
        ledger: Ledger,
        *,
        retries: RetryPolicy,
        wait: Callable[[float], bool],
        watching: Watching,
        decide: Callable[[str], StepResult] | None = None,
    ) -> None:
        """wait: sleeps, returns True when the service is stopping. watching: sees progress; must not raise.

        decide: the third step of the case file with this digest, where it runs elsewhere than here.
        """
        self._ports = ports
        self._ledger = ledger
        self._retries = retries
        self._wait = wait
        self._watching = watching
        self._decide = decide or partial(conclude_stored, ports=ports)
        self._waiting_for_the_store: dict[str, str] = {}

    def run_step(self, name: str, case: Case, checkpoint: Checkpoint) -> dict[str, object]:
        """One of the four steps; an error that no retry mends becomes the outcome, a bug of ours included."""
        self._watching(case, name, None)
        case_file = str(checkpoint[_CASE_FILE]) if _CASE_FILE in checkpoint else None
        try:
            result = self._tried(name, case, case_file)
        except Exception as error:
            # left to the engine, a bug's message would be stored, and may hold a patient's data
            settled = outcome_of(error)
            if self._ports.archive is not None:
                self._ports.archive.abandon(case.patient_id)  # what came of a series that stays incomplete is in plain
            structlog.get_logger().warning("case ended", case=case.case_id, step=name, reason=settled.reason)
            return {_CASE_FILE: case_file, SETTLED: as_json(settled)}
        ended = {SETTLED: as_json(result.settled)} if result.settled else {}
        return {_CASE_FILE: result.case_file, **ended}

    def complaints(self) -> frozenset[str]:
        """Why cases wait for our own disk or database now."""
        return frozenset(self._waiting_for_the_store.copy().values())

    def _tried(self, name: str, case: Case, case_file: str | None) -> StepResult:
        try:
            return attempt(lambda: self._with_its_peers(name, case, case_file), self._retries, wait=self._wait)
        finally:
            self._waiting_for_the_store.pop(case.case_id, None)

    def _with_its_peers(self, name: str, case: Case, case_file_digest: str | None) -> StepResult:
        """Wait while a peer is known to be down, F-03, or lets nobody in, F-32: that is not the case's to pay for.

        A peer whose certificate has expired is an UnsupportedPeer, and lets nobody in either.
        """
        while True:
            try:
                return self._once(name, case, case_file_digest)
            except StoreUnavailable as ours:
                if case.case_id not in self._waiting_for_the_store:
                    structlog.get_logger().warning("case waits", case=case.case_id, step=name, reason=str(ours))
                self._waiting_for_the_store[case.case_id] = str(ours)
                raise
            except PeerDown as down:
                if self._wait(down.retry_after_seconds or 0.0):
                    raise Interrupted from down
            except (AccessRefused, BadSettings, UnsupportedPeer) as refused:
                if self._opens_to_others(name):
                    raise
                structlog.get_logger().warning("case waits", case=case.case_id, step=name, reason=reason_of(refused))
                if self._wait(_SHUT_OUT_SECONDS):
                    raise Interrupted from refused

    def _opens_to_others(self, name: str) -> bool:
        """Whether the peer of this step answers what concerns no patient: then its refusal is about this one."""
        if name == "decide":  # which has no peer
            return True
        try:
            if name == "retrieve" and self._ports.archive is not None:
                self._ports.archive.echo()
            else:
                self._ports.source.knock()
        except AdjuvantError:
            return False
        return True

    def _once(self, name: str, case: Case, case_file_digest: str | None) -> StepResult:
        self._ledger.begin_step(case, 1 + STEPS.index(name))
        if name == "gather":
            return gather(case, self._ports)
        if case_file_digest is None:
            raise ValueError(f"step {name} comes after gather, and there is no case file")
        if name == "decide":
            reach(Moment.BEFORE_DECISION)
            decided = self._decide(case_file_digest)
            reach(Moment.DECIDED)
            return decided
        case_file = unseal(self._ports.files.recall(case_file_digest), CaseFile)
        if name == "retrieve":
            return retrieve(case, case_file, self._ports)
        reach(Moment.BEFORE_DELIVERY)
        entry = self._ledger.find_case(case.case_id)
        if entry is None or entry.settled is not None:  # by `assess`, while no service ran: its result is the newer
            return StepResult(case_file=case_file_digest, settled=Skipped(reason="assessed-since", detail=""))
        return deliver(case_file, self._ports)

    def mark_started(self, transaction: Transaction, case: Case) -> bool:
        """Within the engine's transaction; False where it had ended, as by `assess` while no service ran."""
        return self._ledger.mark_started(transaction, case)

    def settle(self, transaction: Transaction, case: Case, checkpoint: Checkpoint) -> None:
        """Within the engine's transaction: step 20."""
        settled = from_json(checkpoint[SETTLED])
        case_file = checkpoint.get(_CASE_FILE)
        self._ledger.settle(transaction, case, settled, str(case_file) if case_file else None)
        once_committed(transaction, partial(self._watching, case, "settled", settled))

    def may_continue(self, case: Case, finished_steps: int) -> bool:
        """A poison case in whose step a worker dies again and again is closed; all others go on."""
        crashes = self._ledger.count_crash(case, finished_steps)
        if crashes < _MOST_CRASHES:
            return True
        detail = f"{crashes} workers died after step {finished_steps}"
        self._ledger.record(case, DeadLetter(reason="worker-crashed", detail=detail))
        return False


def give_up(case: Case, ledger: Ledger) -> None:
    """The engine ended the case before it could settle itself: close it, and ask for another look, twice at most.

    What the engine trips over, as a disk that was full at the wrong moment or an upgrade, is rarely the patient's
    record.
    """
    settled = [entry for entry in ledger.list_cases(patient_id=case.patient_id) if entry.settled]
    if len(settled) >= _MOST_LOOKS - 1 and all(entry.reason == _GIVEN_UP for entry in settled[: _MOST_LOOKS - 1]):
        ledger.record(case, DeadLetter(reason=_GIVEN_UP, detail=f"{_MOST_LOOKS} times in a row"))
        return
    ledger.record_and_request(case, Skipped(reason=_GIVEN_UP, detail="asked for again"))


def as_json(settled: Settled) -> dict[str, object]:
    """An outcome as the engine keeps it: ids, codes and versions."""
    if isinstance(settled, Delivered):
        receipt = settled.receipt
        versions = [list(_parts(entry)) for entry in receipt.versions]
        content = {"assessment": receipt.assessment_id, "versions": versions, "written": receipt.written}
        marked, kept = ([list(_parts(entry)) for entry in some] for some in (receipt.superseded, receipt.kept))
        remarks = {"left_out": list(receipt.left_out), "superseded": marked, "kept": kept}
        return {"kind": "Delivered", **content, **remarks}
    return {"kind": type(settled).__name__, "reason": settled.reason, "detail": settled.detail}


def from_json(content: object) -> Settled:
    """The inverse of `as_json`."""
    if not isinstance(content, dict):
        raise TypeError("a settled checkpoint is an object")
    if content["kind"] == "Delivered":
        receipt = WriteReceipt(
            assessment_id=str(content["assessment"]),
            versions=_versions_in(content["versions"]),
            written=bool(content["written"]),
            left_out=tuple(content.get("left_out", ())),  # absent where an earlier version of ours settled it
            superseded=_versions_in(content.get("superseded", ())),
            kept=_versions_in(content.get("kept", ())),
        )
        return Delivered(receipt=receipt)
    kinds: Mapping[str, type[Abstained | Skipped | DeadLetter]] = {
        kind.__name__: kind for kind in (Abstained, Skipped, DeadLetter)
    }
    return kinds[str(content["kind"])](reason=str(content["reason"]), detail=str(content["detail"]))


def _parts(version: ResourceVersion) -> tuple[str, str, str]:
    return version.resource_type, version.resource_id, version.version


def _versions_in(written: Iterable[Iterable[str]]) -> tuple[ResourceVersion, ...]:
    return tuple(ResourceVersion(*entry) for entry in written)
