"""What must hold after every schedule, read from what the servers and the ledger hold: nothing of it is told by us.

Source: the project's standards, section 4, invariants I1, I2, I3 and I6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapter.fhir.fingerprint import superseded_by
from adapter.store.cases import ABSTAINED, DEAD_LETTER
from adapter.store.ledger import LedgerEntry
from tests.faults.hospitals import Ehr, Written

Json = Mapping[str, Any]
# Every type that we write about a patient, with the element that names whom; a Provenance names its targets.
_ABOUT_A_PATIENT = {
    "RiskAssessment": "subject",
    "CarePlan": "subject",
    "DetectedIssue": "patient",
    "GuidanceResponse": "subject",
    "Task": "for",
    "Provenance": "target",
}
_ABOUT_US = ("Device", "DocumentReference")
_OF_AN_ASSESSMENT = frozenset({"RiskAssessment", "CarePlan", "GuidanceResponse", "Task", "Provenance"})
_OF_AN_ABSTENTION = frozenset({"DetectedIssue", "GuidanceResponse", "Provenance"})
# The status of what asks somebody to do something: while it stands, and when another stands instead.
_OPEN_AND_ENDED = {"CarePlan": ("draft", "revoked"), "Task": ("requested", "cancelled")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the newest look at a patient ended, as the ledger says it."""

    state: str
    reason: str = ""
    assessment_id: str | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What one undisturbed look comes to: how each patient's newest case ends, and what of it the EHR is told.

    statements: the id of the assessment or abstention that is written, of the patients of whom anything is.
    """

    endings: Mapping[str, Ending]
    statements: Mapping[str, str]


def endings(entries: Sequence[LedgerEntry]) -> Mapping[str, Ending]:
    """Of the newest case of each patient."""
    newest = {entry.patient_id: entry for entry in sorted(entries, key=lambda entry: entry.revision)}
    return {
        patient: Ending(state=entry.state, reason=entry.reason, assessment_id=entry.assessment_id)
        for patient, entry in newest.items()
    }


def judge(
    verdict: Verdict,
    hospital: Ehr,
    entries: Sequence[LedgerEntry],
    due: Due,
    folders: Sequence[Path],
) -> None:
    """Compare what the EHR holds with the ledger, and with what one undisturbed look would have written.

    folders: of all workers; nothing half done may lie there.
    """
    found = endings(entries)
    verdict.lost += [
        f"{patient} ended with {found.get(patient)}, due is {ending}"
        for patient, ending in due.endings.items()
        if found.get(patient) != ending
    ]
    delivered = {entry.assessment_id: entry.patient_id for entry in entries if entry.assessment_id}
    abstained = {entry.patient_id for entry in entries if entry.state == ABSTAINED}
    parts: dict[str, dict[str, Written]] = {}
    for kind in (*_ABOUT_A_PATIENT, *_ABOUT_US):
        stored = hospital.written(kind)
        names = Counter(_statement(one.resource) for one in stored)
        verdict.duplicates += [f"{kind} of {name} is there {count} times" for name, count in names.items() if count > 1]
        verdict.duplicates += [f"{_name(one)} is at version {one.version}" for one in stored if _rewritten(one)]
        if kind in _ABOUT_A_PATIENT:
            for one in stored:
                parts.setdefault(_statement(one.resource), {})[kind] = one
    for statement, written in parts.items():
        verdict.violations += [f"{statement} has no {kind}" for kind in sorted(_missing(written))]
        verdict.violations += _contradictions(statement, written)
        # the ledger does not keep what an abstention wrote: it can be that of any patient for whom we abstained
        patient = delivered.get(statement) or next((one for one in abstained if _abstains_for(one, written)), None)
        if patient is None:
            verdict.violations.append(f"{statement} stands in no case")
        verdict.wrong_patient += _strangers(written, f"Patient/{patient}", hospital)
        verdict.violations += _left_standing(statement, written, due)
    wanted = {*due.statements.items(), *((patient, statement) for statement, patient in delivered.items())}
    verdict.lost += [f"{patient}: {statement}" for patient, statement in sorted(wanted) if statement not in parts]
    verdict.violations += [f"{entry.case_id} is {entry.state}" for entry in entries if entry.settled is None]
    verdict.violations += [f"{entry.case_id}: {entry.reason}" for entry in entries if entry.state == DEAD_LETTER]
    left = [path for folder in folders for path in folder.rglob("*") if path.is_file() and _is_plain(path)]
    verdict.violations += [f"left behind: {path.name}" for path in left]


def _statement(resource: Json) -> str:
    """The assessment or abstention that a resource is part of, or the model that it describes: its first tag."""
    return str(resource["meta"]["tag"][0]["code"])


def _name(one: Written) -> str:
    return f"{one.resource['resourceType']}/{one.resource['id']}"


def _rewritten(one: Written) -> bool:
    """Written once, and marked at most once."""
    return one.version != (1 if superseded_by(dict(one.resource)) is None else 2)


def _missing(written: Mapping[str, Written]) -> frozenset[str]:
    """What an assessment, or an abstention, is not whole without."""
    whole = _OF_AN_ASSESSMENT if written.keys() & {"RiskAssessment", "CarePlan", "Task"} else _OF_AN_ABSTENTION
    return whole - written.keys()


def _abstains_for(patient: str, written: Mapping[str, Written]) -> bool:
    issue = written.get("DetectedIssue")
    return (
        written.keys() <= _OF_AN_ABSTENTION
        and issue is not None
        and issue.resource["patient"]["reference"] == f"Patient/{patient}"
    )


def _contradictions(statement: str, written: Mapping[str, Written]) -> Iterator[str]:
    """A draft that is superseded and still to be done, or revoked and nothing stands instead; marks that disagree."""
    marks = {kind: superseded_by(dict(one.resource)) for kind, one in written.items() if kind in _OPEN_AND_ENDED}
    if len(set(marks.values())) > 1:
        yield f"{statement} is superseded in part: {marks}"
    for kind, stands_instead in marks.items():
        status = written[kind].resource.get("status")
        if status != _OPEN_AND_ENDED[kind][stands_instead is not None]:
            yield f"{kind} of {statement} is {status}, superseded by {stands_instead}"


def _strangers(written: Mapping[str, Written], patient: str, hospital: Ehr) -> Iterator[str]:
    """Parts about somebody else than the case, and inputs that belong to somebody else, or to nobody."""
    of_ours = {_name(one) for one in written.values()}
    for kind, one in written.items():
        if kind == "Provenance":
            targets = {target["reference"].partition("/_history/")[0] for target in one.resource["target"]}
            if not targets <= of_ours:
                yield f"{_name(one)} is about {sorted(targets - of_ours)}"
        elif one.resource[_ABOUT_A_PATIENT[kind]]["reference"] != patient:
            yield f"{_name(one)} is not about {patient}"
    for entry in written["RiskAssessment"].resource["basis"] if "RiskAssessment" in written else ():
        reference = entry["reference"].partition("/_history/")[0]
        resource = hospital.resource(reference)
        about: Json = (
            {"reference": reference} if reference.startswith("Patient/") else (resource or {}).get("subject", {})
        )
        if not _same_person(about.get("reference", ""), patient, hospital):
            yield f"{_name(written['RiskAssessment'])} rests on {reference}"


def _same_person(reference: str, patient: str, hospital: Ehr) -> bool:
    """Whether it names the patient, or a record that says that it was replaced by the patient's."""
    if reference == patient:
        return True
    links = (hospital.resource(reference) or {}).get("link", ())
    return any(link["type"] == "replaced-by" and link["other"]["reference"] == patient for link in links)


def _left_standing(statement: str, written: Mapping[str, Written], due: Due) -> Iterator[str]:
    """An older assessment that does not say which one stands instead."""
    if "RiskAssessment" not in written:
        return
    risk = written["RiskAssessment"].resource
    ending = due.endings.get(str(risk["subject"]["reference"]).removeprefix("Patient/"))
    newest = ending.assessment_id if ending is not None else None
    if newest is not None and statement != newest and superseded_by(dict(risk)) is None:
        yield f"{statement} stands beside {newest}"


def _is_plain(path: Path) -> bool:
    """Whether it is a patient's image or record that is not sealed."""
    return path.suffix in {".partial", ".dcm"} or "plain" in path.parts
