"""The judge of the chaos runs sees what it is there to see: each breach made on purpose is named."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adapter.pipeline.once import STEPS_TO_DELIVERY, assess_once
from adapter.rooms import Rooms
from adapter.sandbox.hospital import SandboxHospital
from adapter.sandbox.patients import CourseKind, simulate_course
from adapter.store.cases import ABSTAINED, DEAD_LETTER, SKIPPED
from adapter.store.ledger import LedgerEntry
from adapter.terminology import load_terminology
from tests.faults.hospitals import PretendHospital, Written
from tests.faults.judge import Due, Ending, Verdict, endings, judge
from tests.faults.workers import Worker

_TODAY = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Evidence:
    """What a judge is shown: what the EHR holds, the ledger, and what stands in the end."""

    hospital: PretendHospital
    held: dict[str, list[Written]]
    entries: list[LedgerEntry]
    endings: dict[str, Ending]
    statements: dict[str, str]
    folder: Path
    others: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def written(self, kind: str) -> Sequence[Written]:
        """As a hospital answers."""
        return self.held.get(kind, [])

    def resource(self, reference: str) -> Mapping[str, Any] | None:
        """The record is not spoilt; others may stand beside it."""
        return self.others.get(reference) or self.hospital.resource(reference)

    def first(self, kind: str) -> dict[str, Any]:
        """The resource of this type that was written first: of the superseded assessment."""
        place = max(range(len(self.held[kind])), key=lambda index: self.held[kind][index].version)
        own = dict(self.held[kind][place].resource)
        self.held[kind][place] = replace(self.held[kind][place], resource=own)
        return own


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    """One patient, looked at twice with news in between, so that the first assessment is superseded."""
    folder = tmp_path_factory.mktemp("judged")
    course = simulate_course(next(iter(CourseKind)), 1, seed=1, today=_TODAY)
    with SandboxHospital([course], load_terminology()) as sandbox:
        hospital = PretendHospital(sandbox)
        worker = Worker(0, hospital, folder, f"sqlite:///{folder}/adjuvant.db", hospital.base_url)
        (patient,) = hospital.patients
        entries: list[LedgerEntry] = []
        with Rooms(worker.settings) as rooms:
            while len({entry.assessment_id for entry in entries}) < 2:
                sandbox.unfold(1)
                case = rooms.store.ledger.request(patient)
                _, settled = assess_once(case, rooms.ports, None, STEPS_TO_DELIVERY, wait=lambda _: False)
                assert settled is not None
                rooms.store.ledger.record(case, settled)
                entries = [entry for entry in rooms.store.ledger.list_cases() if entry.assessment_id]
        found = dict(endings(entries))
        statements = {patient: str(ending.assessment_id) for patient, ending in found.items()}
        yield Evidence(hospital, {}, entries, found, statements, folder)


@pytest.fixture
def evidence(undisturbed: Evidence) -> Evidence:
    """A copy to be spoilt."""
    kinds = undisturbed.hospital.sandbox.ehr.repository.counts()
    held = {kind: copy.deepcopy(list(undisturbed.hospital.written(kind))) for kind in kinds}
    return replace(
        undisturbed,
        held=held,
        entries=list(undisturbed.entries),
        endings=dict(undisturbed.endings),
        statements=dict(undisturbed.statements),
        others={},
    )


def _judged(evidence: Evidence) -> Mapping[str, list[str]]:
    verdict = Verdict()
    due = Due(endings=evidence.endings, statements=evidence.statements)
    judge(verdict, evidence, evidence.entries, due, [evidence.folder])
    names = ("lost", "duplicates", "wrong_patient", "violations")
    return {name: found for name in names if (found := getattr(verdict, name))}


def test_what_was_not_disturbed_is_in_order(evidence: Evidence) -> None:
    """Two assessments, the first marked, all parts there."""
    assert len(evidence.held["RiskAssessment"]) == 2
    assert _judged(evidence) == {}


def _twice(kind: str) -> Callable[[Evidence], None]:
    return lambda evidence: evidence.held[kind].append(evidence.held[kind][0])


def _another_version(kind: str) -> Callable[[Evidence], None]:
    def spoil(evidence: Evidence) -> None:
        one = evidence.held[kind][0]
        evidence.held[kind][0] = replace(one, version=one.version + 1)

    return spoil


def _gone(kind: str) -> Callable[[Evidence], None]:
    return lambda evidence: evidence.held[kind].clear()


def _all_gone(evidence: Evidence) -> None:
    evidence.held.clear()


def _of_somebody_else(kind: str, element: str) -> Callable[[Evidence], None]:
    return lambda evidence: evidence.first(kind).update({element: {"reference": "Patient/stranger"}})


def _another_basis(evidence: Evidence) -> None:
    evidence.first("RiskAssessment")["basis"].append({"reference": "Observation/unknown"})


def _another_target(evidence: Evidence) -> None:
    evidence.held["Provenance"][0].resource["target"].append({"reference": "CarePlan/unknown"})


def _not_revoked(evidence: Evidence) -> None:
    evidence.first("CarePlan")["status"] = "draft"


def _without_mark(evidence: Evidence) -> None:
    for kind in ("RiskAssessment", "CarePlan", "Task", "DetectedIssue"):
        for index, one in enumerate(evidence.written(kind)):
            one.resource["meta"]["tag"][3:] = []
            status = {"CarePlan": {"status": "draft"}, "Task": {"status": "requested"}}.get(kind, {})
            evidence.held[kind][index] = replace(one, version=1, resource={**one.resource, **status})


def _in_no_case(evidence: Evidence) -> None:
    del evidence.entries[evidence.entries.index(min(evidence.entries, key=lambda entry: entry.revision))]


def _not_seen(evidence: Evidence) -> None:
    """That the patient died, say: nothing is written then, and the older assessment is all there is."""
    (patient,) = evidence.endings
    evidence.endings[patient] = Ending(state=SKIPPED, reason="not-alive")


def _never_looked_at(evidence: Evidence) -> None:
    evidence.endings["somebody"] = Ending(state=SKIPPED, reason="no-surgery")


def _abstention_not_told(evidence: Evidence) -> None:
    evidence.statements["somebody"] = "an abstention"


def _open(evidence: Evidence) -> None:
    evidence.entries[0] = replace(evidence.entries[0], settled=None)


def _dead(evidence: Evidence) -> None:
    evidence.entries[0] = replace(evidence.entries[0], state=DEAD_LETTER, reason="why")


@pytest.mark.parametrize(
    ("spoil", "breach"),
    [
        *((_twice(kind), "duplicates") for kind in ("RiskAssessment", "CarePlan", "Task", "Provenance", "Device")),
        *((_another_version(kind), "duplicates") for kind in ("RiskAssessment", "GuidanceResponse", "Provenance")),
        *((_gone(kind), "violations") for kind in ("RiskAssessment", "CarePlan", "Task", "Provenance")),
        (_all_gone, "lost"),
        (_of_somebody_else("CarePlan", "subject"), "wrong_patient"),
        (_of_somebody_else("Task", "for"), "wrong_patient"),
        (_another_basis, "wrong_patient"),
        (_another_target, "wrong_patient"),
        (_not_revoked, "violations"),
        (_without_mark, "violations"),
        (_not_seen, "lost"),
        (_never_looked_at, "lost"),
        (_abstention_not_told, "lost"),
        (_in_no_case, "violations"),
        (_open, "violations"),
        (_dead, "violations"),
    ],
)
def test_a_breach_is_named(evidence: Evidence, spoil: Callable[[Evidence], None], breach: str) -> None:
    """One thing is spoilt, one kind of breach is found."""
    spoil(evidence)
    assert _judged(evidence).keys() >= {breach}


def test_a_file_left_in_plain_is_named(evidence: Evidence) -> None:
    """An image that lies outside the vault after everything ended."""
    image = evidence.folder / "left.dcm"
    image.touch()
    try:
        assert _judged(evidence) == {"violations": ["left behind: left.dcm"]}
    finally:
        image.unlink()


def _abstained(evidence: Evidence, patient: str) -> None:
    """An abstention is written for somebody, whom the ledger knows to have been abstained for."""
    parts: dict[str, dict[str, Any]] = {
        "DetectedIssue": {"patient": {"reference": f"Patient/{patient}"}},
        "GuidanceResponse": {"subject": {"reference": f"Patient/{patient}"}},
        "Provenance": {"target": [{"reference": "DetectedIssue/di-0/_history/1"}]},
    }
    for kind, own in parts.items():
        head = {"resourceType": kind, "id": f"{kind[0].lower()}i-0", "meta": {"tag": [{"code": "0"}]}}
        evidence.held.setdefault(kind, []).append(Written(resource={**head, **own}, version=1))
    evidence.entries.append(replace(evidence.entries[0], state=ABSTAINED, assessment_id=None, patient_id="somebody"))


def test_an_abstention_belongs_to_a_patient_for_whom_we_abstained(evidence: Evidence) -> None:
    """The ledger keeps the end of such a case, not what was written. Breach: every abstention stood in no case."""
    _abstained(evidence, "somebody")
    assert _judged(evidence) == {}


def test_an_abstention_about_anybody_else_is_named(evidence: Evidence) -> None:
    """One for whom nobody abstained."""
    _abstained(evidence, "stranger")
    assert _judged(evidence).keys() == {"violations", "wrong_patient"}


@pytest.mark.parametrize(("link", "breaches"), [("replaced-by", set()), ("seealso", {"wrong_patient"})])
def test_a_record_that_was_merged_is_the_patients_own(evidence: Evidence, link: str, breaches: set[str]) -> None:
    """An input of the former record is the patient's only where that record says that it was replaced by theirs."""
    patient = evidence.first("RiskAssessment")["subject"]["reference"]
    evidence.first("RiskAssessment")["basis"].append({"reference": "Observation/former"})
    evidence.others["Observation/former"] = {"subject": {"reference": "Patient/former"}}
    evidence.others["Patient/former"] = {"link": [{"type": link, "other": {"reference": patient}}]}
    assert _judged(evidence).keys() == breaches
