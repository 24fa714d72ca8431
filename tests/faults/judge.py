"""What must hold after every schedule, read from what the servers and the ledger hold: nothing of it is told by us.

Source: the project's standards, section 4, invariants I1, I2, I3 and I6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapter.store.ledger import LedgerEntry
from tests.faults.hospitals import Hospital


@dataclass(slots=True)
class Verdict:
    """What was found. Each entry names what it is about; empty means that the law held."""

    cycles: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    wrong_patient: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    breached: int = 0

    @property
    def line(self) -> str:
        """The one line of the result."""
        return (
            f"cycles {self.cycles}, lost {len(self.lost)}, duplicates {len(self.duplicates)}, "
            f"wrong patient {len(self.wrong_patient)}, violations {len(self.violations)}"
        )

    @property
    def breaches(self) -> tuple[str, ...]:
        """Everything that did not hold."""
        return (*self.lost, *self.duplicates, *self.wrong_patient, *self.violations)

    def add(self, other: Verdict) -> None:
        """Count another schedule in."""
        self.cycles += other.cycles
        self.killed += other.killed
        self.lost += other.lost
        self.duplicates += other.duplicates
        self.wrong_patient += other.wrong_patient
        self.violations += other.violations


def judge(
    verdict: Verdict,
    hospital: Hospital,
    entries: Sequence[LedgerEntry],
    expected: Mapping[str, str],
    folders: Sequence[Path],
) -> None:
    """Compare what the EHR holds with the ledger, and with what one undisturbed look would have written.

    expected: assessment id by patient. folders: of all workers; nothing half done may lie there.
    """
    held = {kind: hospital.written(kind) for kind in ("RiskAssessment", "CarePlan")}
    delivered = {entry.assessment_id: entry.patient_id for entry in entries if entry.assessment_id}
    for kind, stored in held.items():
        names = Counter(_name(one.resource) for one in stored)
        verdict.duplicates += [f"{kind} {name} is there {count} times" for name, count in names.items() if count > 1]
        for one in stored:
            identity = _name(one.resource).partition("-")[2]
            if one.version != 1:
                verdict.duplicates.append(f"{kind} {identity} was written {one.version} times")
            if identity not in delivered:
                verdict.violations.append(f"{kind} {identity} stands in no case")
            elif one.resource["subject"]["reference"] != f"Patient/{delivered[identity]}":
                verdict.wrong_patient.append(f"{kind} {identity}")
    for one in held["RiskAssessment"]:
        verdict.wrong_patient += list(_strangers(one.resource, hospital))
    there = {_name(one.resource).partition("-")[2] for one in held["RiskAssessment"]}
    verdict.lost += [f"{patient}: {identity}" for patient, identity in expected.items() if identity not in there]
    verdict.violations += [f"{entry.case_id} is {entry.state}" for entry in entries if entry.settled is None]
    verdict.violations += [f"{entry.case_id}: {entry.reason}" for entry in entries if entry.state == "dead-letter"]
    left = [path for folder in folders for path in folder.rglob("*") if path.is_file() and _is_plain(path)]
    verdict.violations += [f"left behind: {path.name}" for path in left]


def _is_plain(path: Path) -> bool:
    """Whether it is a patient's image or record that is not sealed."""
    return path.suffix in {".partial", ".dcm"} or "plain" in path.parts


def _name(resource: Mapping[str, object]) -> str:
    """The business identifier by which an assessment's resources are known."""
    return str(resource["identifier"][0]["value"])  # type: ignore[index]  # JSON of our own writing


def _strangers(risk: Mapping[str, object], hospital: Hospital) -> Iterator[str]:
    """Inputs that belong to somebody else, or to nobody."""
    subject = risk["subject"]["reference"]  # type: ignore[index]
    for entry in risk["basis"]:  # type: ignore[attr-defined]
        reference = entry["reference"].partition("/_history/")[0]
        resource = hospital.resource(reference)
        if reference == subject:
            continue
        if resource is None or resource["subject"]["reference"] != subject:  # type: ignore[index]
            yield f"{_name(risk)} rests on {reference}"
