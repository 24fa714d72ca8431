"""What a command prints: rows for people, one JSON document for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from adapter.checkup import Finding
from adapter.decision.show import PolicyRow
from adapter.engine.queue import STEPS
from adapter.pipeline.reconcile import Reconciliation
from adapter.store.cases import DELIVERED, RUNNING, TERMINAL
from adapter.store.ledger import LedgerEntry
from adapter.store.workers import SignOfLife
from adapter.web.ask import Readiness

out = Console(highlight=False, soft_wrap=True)  # a line is never cut: a terminal wraps it, a pipe gets it whole
err = Console(stderr=True, highlight=False)


def print_json(content: Mapping[str, object]) -> None:
    """One document on standard output."""
    sys.stdout.write(json.dumps(content, ensure_ascii=False) + "\n")


def print_cases(entries: Iterable[LedgerEntry]) -> None:
    """One line each, whole: since when it is in its state, and why, how far it has got, or which assessment it made."""
    rows = [(entry.case_id, entry.state, _since(entry), _outcome(entry)) for entry in entries]
    if not rows:
        out.print("no case")
        return
    rows.insert(0, ("case", "state", "since", "assessment, or reason"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for *cells, outcome in rows:
        aligned = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
        out.print("  ".join([*aligned, outcome]).rstrip(), markup=False)


def _since(entry: LedgerEntry) -> str:
    since = entry.settled or entry.started or entry.asked
    return since.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ") if since else ""


def _outcome(entry: LedgerEntry) -> str:
    """The assessment's id, as `replay` takes it; where there is none, why, or how far it has got."""
    if entry.state == DELIVERED:
        return entry.assessment_id or ""
    if entry.state == RUNNING:
        deaths = f"; workers that died in it: {entry.crashes}" if entry.crashes else ""
        return f"{_step(entry) or 'to be gone on with'}{deaths}"
    return f"{entry.reason}: {entry.detail}" if entry.detail else entry.reason


def _step(entry: LedgerEntry) -> str | None:
    """The step that a worker began last, of a case that runs."""
    return STEPS[entry.begun_after - 1] if entry.state == RUNNING and entry.begun_after else None


def report(entries: Iterable[LedgerEntry], seconds: float) -> dict[str, object]:
    """How many cases ended in which way, and each case; seconds: how long it took."""
    rows = [case_row(entry) for entry in entries]
    states = [row["state"] for row in rows]
    ended = {state: states.count(state) for state in TERMINAL}
    return {"settled": sum(ended.values()), **ended, "seconds": round(seconds, 2), "cases": rows}


def case_row(entry: LedgerEntry) -> dict[str, object]:
    """One case with everything the ledger knows of it, in every list as alone. Times: ISO 8601, UTC."""
    return {
        "case": entry.case_id,
        "patient": entry.patient_id,
        "state": entry.state,
        "step": _step(entry),
        "reason": entry.reason,
        "detail": entry.detail,
        "assessment": entry.assessment_id,
        "resources": list(entry.resources),
        "case_file": entry.case_file,
        "asked": _utc(entry.asked),
        "started": _utc(entry.started),
        "ended": _utc(entry.settled),
        "crashes": entry.crashes,
    }


def _utc(time: datetime | None) -> str | None:
    """PostgreSQL answers in the offset of its session."""
    return time.astimezone(UTC).isoformat() if time else None


def finding_line(finding: Finding) -> str:
    """One line of a check."""
    return f"{'ok  ' if finding.passed else 'FAIL'}  {finding.what:20} {finding.detail}"


def finding_row(finding: Finding) -> dict[str, object]:
    """The same for machines."""
    return {
        "what": finding.what,
        "passed": finding.passed,
        "unreachable": finding.unreachable,
        "detail": finding.detail,
    }


def findings_row(findings: Sequence[Finding]) -> dict[str, object]:
    """A whole check for machines. passed: of every line."""
    return {
        "passed": all(finding.passed for finding in findings),
        "checks": [finding_row(finding) for finding in findings],
    }


def readiness_lines(service: Readiness | None) -> list[str]:
    """What the running service says, one line each."""
    if service is None:
        return ["service      does not answer at web.bind and web.port"]
    peers = [f"{peer:12} circuit {state}" for peer, state in service.peers]
    return [f"service      {service.status}", *peers, *(f"  - {complaint}" for complaint in service.complaints)]


def readiness_row(service: Readiness | None) -> dict[str, object] | None:
    """The same for machines."""
    if service is None:
        return None
    return {"status": service.status, "complaints": list(service.complaints), "peers": dict(service.peers)}


def worker_line(worker: SignOfLife) -> str:
    """One process that runs cases."""
    place = worker.place or "of an unknown host"
    return f"worker       {place} ({worker.executor_id}), last sign of life {worker.age.total_seconds():.0f} s ago"


def worker_row(worker: SignOfLife) -> dict[str, object]:
    """The same for machines."""
    return {"executor": worker.executor_id, "place": worker.place, "seen": _utc(worker.seen)}


def reconciliation_lines(rounds: Sequence[Reconciliation]) -> list[str]:
    """What a comparison of all records found, one line each."""
    lines = []
    for one in rounds:
        for found in one.found:
            counts = (
                f": {found.new} new, {found.changed} changed, {found.deleted} gone" if found.new is not None else ""
            )
            detail = f" ({found.detail})" if found.detail else ""
            lines.append(f"Patient/{found.patient_id} {found.what}{detail}{counts}; asked for {found.case_id}")
        lines += [f"Patient/{patient} left the cohort" for patient in one.left]
        differ, missing = len(one.found) - one.missing, f", {one.missing} without its result" if one.missing else ""
        refused = f", {one.refused} not to be read" if one.refused else ""
        unasked = f", {one.unasked} whose result cannot be asked for" if one.unasked else ""
        ending = f"{one.open} have an open case{refused}{unasked}"
        lines.append(f"{one.compared} records compared, {differ} differ{missing}, {ending}")
        if one.dead_letters:
            lines.append(f"{one.dead_letters} ended as a dead letter: adjuvant cases list --state dead-letter")
        if one.interrupted:
            lines.append(f"not finished, to be gone on with: {one.interrupted}")
    return lines


def reconciliation_row(rounds: Sequence[Reconciliation], seconds: float) -> dict[str, object]:
    """The same for machines."""
    return {
        "compared": sum(one.compared for one in rounds),
        "open": sum(one.open for one in rounds),
        "refused": sum(one.refused for one in rounds),
        "missing": sum(one.missing for one in rounds),
        "unasked": sum(one.unasked for one in rounds),
        "dead_letters": sum(one.dead_letters for one in rounds),
        "found": [
            {
                "patient": found.patient_id,
                "what": found.what,
                "detail": found.detail,
                "new": found.new,
                "changed": found.changed,
                "deleted": found.deleted,
                "case": found.case_id,
            }
            for one in rounds
            for found in one.found
        ],
        "left": [patient for one in rounds for patient in one.left],
        "interrupted": rounds[-1].interrupted if rounds else "",
        "seconds": round(seconds, 2),
    }


def print_policy(rows: Iterable[PolicyRow]) -> None:
    """Every rule and action as a table."""
    table = Table("kind", "code", "what", "when", "verdict", "evidence")
    for row in rows:
        table.add_row(row.kind, row.code, row.title, row.condition, row.verdict, ", ".join(row.evidence))
    Console(width=200).print(table)


def policy_rows(rows: Iterable[PolicyRow]) -> list[dict[str, object]]:
    """The same for machines."""
    fields = ("kind", "code", "title", "condition", "verdict", "evidence", "source")
    return [{name: getattr(row, name) for name in fields} for row in rows]


def print_verdict(verdict: Mapping[str, object]) -> None:
    """What the rules say about one case, its reasons below."""
    out.print(f"scope {verdict['scope']}, risk group {verdict['risk_group']}")
    actions, reasons = verdict["actions"], verdict["reasons"]
    for action, word in actions.items() if isinstance(actions, Mapping) else ():
        out.print(f"  {action:10} {word}")
    for reason in reasons if isinstance(reasons, Sequence) else ():
        out.print(f"  - {reason}", markup=False)
