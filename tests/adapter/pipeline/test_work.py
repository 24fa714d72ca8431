"""How a case ends: every error by its branch, every outcome kept and read back, every bug without its message."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from sqlmodel import Session
from structlog.testing import capture_logs

from adapter import errors
from adapter.cli import assess as assess_command
from adapter.decision.policy import load_policy
from adapter.dicom.ae import Archive
from adapter.dicom.limits import Limits
from adapter.dicom.pacs import Pacs
from adapter.dicom.storage_scp import Listener
from adapter.domain.ids import AETitle, BusinessIdentifier, PatientId, ResourceVersion
from adapter.domain.outcome import (
    Abstained,
    Case,
    DeadLetter,
    Delivered,
    Settled,
    Skipped,
    TransactionBundle,
    WriteReceipt,
)
from adapter.domain.record import RawRecord
from adapter.domain.risk import SkipReason
from adapter.engine.queue import SETTLED, STEPS, CaseQueue, QueueOptions
from adapter.engine.steps import RetryPolicy
from adapter.errors import (
    AccessRefused,
    AdjuvantError,
    BadData,
    BadSettings,
    PeerDown,
    PeerTimeout,
    PeerUnavailable,
    PullIncomplete,
    SeriesIncomplete,
    StoreUnavailable,
    UnsupportedPeer,
    WriteRefused,
)
from adapter.features.at_risk import LandmarkPolicy
from adapter.fhir.decode import Reading
from adapter.fhir.delivery import OutputMode, load_delivery
from adapter.pipeline import assess
from adapter.pipeline import work as work_module
from adapter.pipeline.assess import outcome_of
from adapter.pipeline.guarded import GuardedArchive
from adapter.pipeline.once import STEPS_TO_DELIVERY, assess_once
from adapter.pipeline.ports import ImageArchive, Ports
from adapter.pipeline.practice import Practice
from adapter.pipeline.work import AssessmentWork, Watching, as_json, from_json
from adapter.sandbox.ct import CtOptions, simulated_ct
from adapter.sandbox.pacs import PacsFaults, SandboxPacs
from adapter.store.database import open_database
from adapter.store.ledger import Ledger
from adapter.store.vault import Vault
from adapter.store.workers import WorkerRegister
from adapter.terminology import load_terminology
from inference.contract import ContractBreach, ModelInput, ModelOutput
from tests.fakes.assessments import resources_of
from tests.fakes.predictors import SensitivePredictor
from tests.fakes.raw_records import as_raw, raw_record
from tests.fakes.records import operated

_CASE = Case(patient_id=PatientId("p1"), revision=1)
_ANOTHER = Case(patient_id=PatientId("p2"), revision=1)
_NUMBER, _ANOTHER_NUMBER = "4711", "4712"
_TERMINOLOGY = load_terminology()
_SECRET = "Jane Example, born 1960-07-01"
_PRIVATE = ("Simulated", "urn:oid:1.2.3", "definitive-resection", "valueQuantity")  # long: chance writes short ones
_PRACTICE = Practice(
    reading=Reading(terminology=_TERMINOLOGY),
    landmarks=LandmarkPolicy(),
    policy=load_policy(),
    delivery=load_delivery(),
    mode=OutputMode.RESEARCH,
    base_url="http://127.0.0.1:8080/fhir",
)


def _operated(case: Case = _CASE, number: str = _NUMBER) -> RawRecord:
    record = operated()
    ids = (BusinessIdentifier("urn:oid:1.2.3", number),)
    someone = replace(record.person, patient_id=case.patient_id, identifiers=ids, birth=None)
    return replace(as_raw(replace(record, person=someone), _TERMINOLOGY), patient_id=case.patient_id)


class Hospital:
    """An EHR in memory. fetching, sending, knocking: called first, to fail."""

    def __init__(self, raw: RawRecord) -> None:
        self._raw = raw
        self.sent: list[TransactionBundle] = []
        self.fetching: Callable[[], None] = lambda: None
        self.sending: Callable[[], None] = lambda: None
        self.knocking: Callable[[], None] = lambda: None

    def knock(self) -> None:
        """There."""
        self.knocking()

    def fetch_record(self, patient_id: PatientId) -> RawRecord:
        """The same record each time."""
        assert patient_id == self._raw.patient_id
        self.fetching()
        return self._raw

    def submit(self, bundle: TransactionBundle) -> WriteReceipt:
        """Keep what was sent."""
        self.sending()
        self.sent.append(bundle)
        version = ResourceVersion("RiskAssessment", "ra-1", "1")
        return WriteReceipt(assessment_id=bundle.assessment_id, versions=(version,), written=True)


@pytest.fixture
def hospital() -> Hospital:
    """One with the operated patient."""
    return Hospital(_operated())


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """One that knows the cases."""
    engine = open_database(f"sqlite:///{tmp_path / 'adjuvant.db'}")
    ledger = Ledger(engine, lambda: datetime(2026, 3, 1, tzinfo=UTC))
    assert [ledger.request(case.patient_id) for case in (_CASE, _ANOTHER)] == [_CASE, _ANOTHER]
    yield ledger
    engine.dispose()


@pytest.fixture
def work(hospital: Hospital, ledger: Ledger, tmp_path: Path) -> AssessmentWork:
    """The pipeline's side of the queue, in a site without an archive; retries do not wait."""
    return work_of(hospital, ledger, tmp_path)


def work_of(
    hospital: Hospital,
    ledger: Ledger,
    folder: Path,
    predictor: SensitivePredictor | None = None,
    *,
    watching: Watching = lambda _case, _step, _settled: None,
) -> AssessmentWork:
    """The real walk over an EHR in memory, in a site without an archive."""
    return work_with(ports_of(hospital, folder, predictor=predictor), ledger, watching=watching)


def ports_of(
    hospital: Hospital,
    folder: Path,
    *,
    archive: ImageArchive | None = None,
    predictor: SensitivePredictor | None = None,
) -> Ports:
    """The rooms of a site. archive: None for one without."""
    return Ports(
        source=hospital,
        archive=archive,
        predictor=predictor or SensitivePredictor(),
        target=hospital,
        files=Vault(folder / "vault", bytes(32)),
        practice=_PRACTICE,
    )


def work_with(
    ports: Ports,
    ledger: Ledger,
    wait: Callable[[float], bool] = lambda _seconds: False,
    watching: Watching = lambda _case, _step, _settled: None,
) -> AssessmentWork:
    """The real walk through these rooms. wait: what happens between two tries. watching: sees each step."""
    return AssessmentWork(
        ports,
        ledger,
        retries=RetryPolicy(attempts=3, first_seconds=0.0),
        wait=wait,
        watching=watching,
    )


def run(work: AssessmentWork, case: Case = _CASE) -> Settled:
    """All four steps, as the queue does."""
    checkpoint: dict[str, object] = {}
    for name in STEPS:
        checkpoint = work.run_step(name, case, checkpoint)
        if SETTLED in checkpoint:
            break
    return from_json(checkpoint[SETTLED])


def failing(error: Exception, times: int = 99) -> Callable[[], None]:
    """Raise so many times, then let it pass."""
    left = [times]

    def fail() -> None:
        if left[0]:
            left[0] -= 1
            raise error

    return fail


def test_a_case_walks_to_its_delivery(work: AssessmentWork, hospital: Hospital) -> None:
    """Steps 5 to 19: one transaction sent, its receipt the outcome."""
    settled = run(work)
    assert isinstance(settled, Delivered)
    assert [bundle.assessment_id for bundle in hospital.sent] == [settled.receipt.assessment_id]


def test_what_assess_answered_since_is_not_delivered(work: AssessmentWork, hospital: Hospital, ledger: Ledger) -> None:
    """A stopped service had begun, `assess` looked later. Breach: the older record's result replaced the newer one's.

    So too where the patient was forgotten since.
    """
    checkpoint: dict[str, object] = {}
    for name in STEPS[:-1]:
        checkpoint = work.run_step(name, _CASE, checkpoint)
    newer = replace(_CASE, revision=2)
    ledger.begin(newer)
    listed = ledger.list_cases(patient_id=_CASE.patient_id)
    states = {entry.case_id: (entry.state, entry.reason) for entry in listed}
    assert states == {"p1:1": ("skipped", "assessed-since"), "p1:2": ("running", "")}
    for _ in ("ended", "forgotten"):
        settled = from_json(work.run_step(STEPS[-1], _CASE, checkpoint)[SETTLED])
        assert (settled, hospital.sent) == (Skipped(reason="assessed-since", detail=""), [])
        ledger.forget(_CASE.patient_id)


@pytest.mark.fault("F-16")
def test_why_a_case_waits_for_our_own_disk_is_told(hospital: Hospital, ledger: Ledger, tmp_path: Path) -> None:
    """Also where bytes are free, as with no inodes left or a shared vault away. Breach: ready, and nothing moved."""
    hospital.fetching = failing(StoreUnavailable("no inode is left"), times=3)
    seen: list[frozenset[str]] = []

    def wait(_seconds: float) -> bool:
        seen.append(waiting.complaints())
        return False

    waiting = work_with(ports_of(hospital, tmp_path), ledger, wait)
    with capture_logs() as logged:
        assert isinstance(run(waiting), Delivered)
    assert seen == [frozenset({"no inode is left"})] * 3
    assert waiting.complaints() == frozenset()
    assert [entry["event"] for entry in logged] == ["case waits"]


def test_a_repeated_step_hands_on_the_same_digests(work: AssessmentWork) -> None:
    """After a crash a step runs again: what it returns is what it returned."""
    checkpoint: dict[str, object] = {}
    for name in STEPS:
        again = work.run_step(name, _CASE, checkpoint)
        checkpoint = work.run_step(name, _CASE, checkpoint)
        assert again == checkpoint


def test_a_checkpoint_holds_digests_only(work: AssessmentWork) -> None:
    """Law 8: what the engine stores of a step is one digest until the case settles."""
    checkpoint: dict[str, object] = {}
    for name in STEPS[:-1]:
        checkpoint = work.run_step(name, _CASE, checkpoint)
        assert checkpoint.keys() == {"case_file"}
        assert len(bytes.fromhex(str(checkpoint["case_file"]))) == 32


@dataclass(frozen=True, slots=True)
class Imaging:
    """A running archive with a CT of each of two patients, our door to it, and where series arrive."""

    archive: SandboxPacs
    door: GuardedArchive
    inbox: Path

    def arrived(self) -> int:
        """How many images lie there in plain."""
        return sum(1 for path in self.inbox.rglob("*") if path.is_file())


@pytest.fixture
def imaging(tmp_path: Path) -> Iterator[Imaging]:
    """One that misbehaves as its faults say."""
    limits = Limits(quiet_seconds=0.1, series_seconds=20, answer_seconds=3, association_seconds=3, free_bytes=0)
    ours, inbox = AETitle("ADJUVANT"), tmp_path / "inbox"
    with SandboxPacs() as archive:
        theirs = AETitle(archive.ae_title)
        for number in (_NUMBER, _ANOTHER_NUMBER):
            archive.add(_ct(number))
        asked = Archive(host="127.0.0.1", port=archive.port, ae_title=theirs, calling_ae_title=ours, limits=limits)
        listener = Listener(ae_title=ours, bind="127.0.0.1", port=0, callers=(theirs,))
        with Pacs(asked, listener, folder=inbox, zone=UTC) as pacs:
            archive.allow(ours, "127.0.0.1", pacs.port)
            yield Imaging(archive, GuardedArchive(pacs), inbox)


def _ct(number: str, study: int = 1) -> tuple[Dataset, ...]:
    """A series before the landmark, the later the higher the study's number."""
    return simulated_ct(
        CtOptions(patient_id=number, study=study, date=f"202501{study:02}", slices=20, rows=8, columns=8)
    )


class MeanwhileVault(Vault):
    """Case files; before the second image of a series is sealed, something else happens."""

    def __init__(self, folder: Path, meanwhile: Callable[[], object]) -> None:
        """meanwhile: called once."""
        super().__init__(folder, bytes(32))
        self._calls = iter([lambda: None, meanwhile])

    def keep_file(self, path: Path) -> str:
        """As a vault does."""
        next(self._calls, lambda: None)()
        return super().keep_file(path)


def _withdrawn(imaging: Imaging, another: Hospital) -> type[Settled]:
    another.fetching = failing(PullIncomplete("Observation: 3 of 5"))
    return Abstained


def _owed(imaging: Imaging, another: Hospital) -> type[Settled]:
    imaging.archive.withhold(_ct(_ANOTHER_NUMBER)[:3])
    return Abstained


def _out_of_order(imaging: Imaging, another: Hospital) -> type[Settled]:
    another.sending = failing(KeyError("a bug"))
    return DeadLetter


@pytest.mark.parametrize("trouble", [_withdrawn, _owed, _out_of_order])
def test_one_patients_failure_takes_no_image_from_another(
    imaging: Imaging, ledger: Ledger, tmp_path: Path, trouble: Callable[[Imaging, Hospital], type[Settled]]
) -> None:
    """Law 6: a case that ends while another's images are being sealed removes its own, and the other is delivered."""
    another = Hospital(_operated(_ANOTHER, _ANOTHER_NUMBER))
    end = trouble(imaging, another)
    failed = work_with(ports_of(another, tmp_path, archive=imaging.door), ledger)
    ends: list[Settled] = []
    vault = MeanwhileVault(tmp_path / "vault", lambda: ends.append(run(failed, _ANOTHER)))
    ports = replace(ports_of(Hospital(_operated()), tmp_path, archive=imaging.door), files=vault)
    assert isinstance(run(work_with(ports, ledger)), Delivered)
    assert [type(ended) for ended in ends] == [end]
    assert imaging.arrived() == 0


def test_two_records_of_one_patient_seal_their_own_copies(imaging: Imaging, ledger: Ledger, tmp_path: Path) -> None:
    """A merge changes two records at once, and both cases ask for the same images: neither removes the other's."""
    twin = work_with(ports_of(Hospital(_operated(_ANOTHER, _NUMBER)), tmp_path, archive=imaging.door), ledger)
    ends: list[Settled] = []
    vault = MeanwhileVault(tmp_path / "vault", lambda: ends.append(run(twin, _ANOTHER)))
    ports = replace(ports_of(Hospital(_operated()), tmp_path, archive=imaging.door), files=vault)
    ends.append(run(work_with(ports, ledger)))
    assert [type(ended) for ended in ends] == [Delivered, Delivered]


def test_what_had_arrived_is_there_at_the_next_try(
    imaging: Imaging, hospital: Hospital, ledger: Ledger, tmp_path: Path
) -> None:
    """An incomplete series goes on where it stopped, though another case failed while it waited."""
    failed = work_with(ports_of(Hospital(_operated(_ANOTHER, _ANOTHER_NUMBER)), tmp_path, archive=imaging.door), ledger)
    imaging.archive.withhold([*_ct(_NUMBER)[:3], *_ct(_ANOTHER_NUMBER)[:3]])

    def another_fails(_seconds: float) -> bool:
        assert imaging.arrived() == 17
        assert isinstance(run(failed, _ANOTHER), Abstained)
        assert imaging.arrived() == 17
        imaging.archive.release()
        imaging.archive.moves.clear()
        return False

    work = work_with(ports_of(hospital, tmp_path, archive=imaging.door), ledger, another_fails)
    assert isinstance(run(work), Delivered)
    assert imaging.archive.moves == ["IMAGE"]
    assert imaging.arrived() == 0


def test_a_case_that_ends_without_its_images_leaves_none_in_plain(
    imaging: Imaging, hospital: Hospital, ledger: Ledger, tmp_path: Path
) -> None:
    """Law 8: when the attempts are over, what had come of the series is removed before the outcome is written."""
    imaging.archive.withhold(_ct(_NUMBER)[:3])
    waiting: list[int] = []

    def count(_seconds: float) -> bool:
        waiting.append(imaging.arrived())
        return False

    settled = run(work_with(ports_of(hospital, tmp_path, archive=imaging.door), ledger, count))
    assert isinstance(settled, Abstained)
    assert (settled.reason, waiting, imaging.arrived()) == ("series-incomplete", [17, 17], 0)


def test_a_series_that_is_chosen_no_more_leaves_none_in_plain(
    imaging: Imaging, hospital: Hospital, ledger: Ledger, tmp_path: Path
) -> None:
    """Law 8: what came of a series goes with the case also where the next try finds, and seals, a newer one."""
    imaging.archive.withhold(_ct(_NUMBER)[:3])

    def newer(_seconds: float) -> bool:
        assert imaging.arrived() == 17
        imaging.archive.add(_ct(_NUMBER, study=2))
        return False

    settled = run(work_with(ports_of(hospital, tmp_path, archive=imaging.door), ledger, newer))
    assert isinstance(settled, Delivered)
    assert imaging.arrived() == 0


def test_a_patient_assessed_once_leaves_no_image_in_plain(imaging: Imaging, hospital: Hospital, tmp_path: Path) -> None:
    """Law 8: without the queue, too, and where the error is the caller's because nothing is known of the patient."""
    imaging.archive.withhold(_ct(_NUMBER)[:3])

    def gone(_seconds: float) -> bool:
        assert imaging.arrived() == 17
        imaging.archive.faults = PacsFaults(refuses_associations=True)
        return False

    ports = ports_of(hospital, tmp_path, archive=imaging.door)
    with pytest.raises(PeerUnavailable):
        assess_once(_CASE, ports, None, STEPS_TO_DELIVERY, wait=gone)
    assert imaging.arrived() == 0


class _SaysNonsense(SensitivePredictor):
    """A model whose answer is no probability curve."""

    def predict(self, model_input: ModelInput) -> ModelOutput:
        raise ContractBreach(f"recurrence of {model_input.static.size} findings holds NaN")


def test_a_refused_forecast_is_an_issue_in_the_record_and_no_number(ledger: Ledger, tmp_path: Path) -> None:
    """F-29: the case abstains, and the EHR is told why: an issue with every input, a failed response, no assessment."""
    hospital = Hospital(_operated())
    work = work_of(hospital, ledger, tmp_path, predictor=_SaysNonsense())
    settled = run(work)
    assert isinstance(settled, Abstained)
    assert settled.reason == "invalid-forecast"
    assert settled.detail.endswith("holds NaN")
    (sent,) = hospital.sent
    written = {name: json.loads(content) for name, content in resources_of(sent).items()}
    assert set(written) == {"Device", "DetectedIssue", "GuidanceResponse", "Provenance"}
    issue = written["DetectedIssue"]
    assert (issue["status"], issue["severity"]) == ("final", "high")
    assert [code["code"] for code in issue["code"]["coding"]] == ["invalid-forecast", "conflicting-data"]
    assert issue["evidence"]
    assert written["GuidanceResponse"]["status"] == "failure"
    assert "probability" not in sent.content.decode().replace("probability curve", "")
    assert run(work_of(hospital, ledger, tmp_path, predictor=_SaysNonsense())) == settled
    assert hospital.sent[1].content == sent.content  # law 3: the same refusal, the same bytes


def test_a_patient_who_is_not_ours_is_skipped(ledger: Ledger, tmp_path: Path) -> None:
    """Law 6: skipped with its reason, and nothing is sent."""
    hospital = Hospital(raw_record())
    settled = run(work_of(hospital, ledger, tmp_path))
    assert isinstance(settled, Skipped)
    assert settled.reason == "no-head-and-neck-squamous-cell-carcinoma"
    assert hospital.sent == []


def test_a_peer_that_recovers_is_no_outcome(work: AssessmentWork, hospital: Hospital) -> None:
    """Two timeouts, then an answer: delivered."""
    hospital.fetching = failing(PeerTimeout("slow"), times=2)
    assert isinstance(run(work), Delivered)


def test_a_peer_that_stays_away_is_a_dead_letter(work: AssessmentWork, hospital: Hospital) -> None:
    """Nothing is wrong with the patient's data: a person looks at the peer and retries."""
    hospital.sending = failing(PeerTimeout("slow"))
    assert run(work) == DeadLetter(reason="peer-timeout", detail="slow")


@pytest.mark.fault("F-03")
def test_an_outage_makes_no_dead_letters(work: AssessmentWork, hospital: Hospital) -> None:
    """F-03: a peer known to be down is waited for, however long, without an attempt spent; then it is delivered."""
    hospital.fetching = failing(PeerDown("the EHR kept failing", retry_after_seconds=30.0), times=500)
    hospital.sending = failing(PeerDown("the EHR kept failing", retry_after_seconds=30.0), times=500)
    assert isinstance(run(work), Delivered)


@pytest.mark.fault("F-32")
@pytest.mark.parametrize(
    "refusal",
    [AccessRefused("401"), BadSettings("the token file cannot be read"), UnsupportedPeer("its certificate is refused")],
)
def test_who_lets_nobody_in_makes_no_dead_letters(work: AssessmentWork, hospital: Hospital, refusal: Exception) -> None:
    """Breach: a token or a certificate that was renewed ten minutes late, and a dead letter of every case met by it."""
    hospital.fetching, hospital.sending = failing(refusal, times=200), failing(refusal, times=200)
    hospital.knocking = failing(refusal, times=400)
    assert isinstance(run(work), Delivered)


def test_a_record_that_is_closed_to_us_is_a_dead_letter(work: AssessmentWork, hospital: Hospital) -> None:
    """The EHR answers what concerns nobody: the refusal is about this patient, and the others go on meanwhile."""
    hospital.fetching = failing(AccessRefused("403"))
    assert run(work) == DeadLetter(reason="access-refused", detail="403")


def test_an_archive_that_knows_our_title_no_more_makes_no_dead_letters(
    imaging: Imaging, hospital: Hospital, ledger: Ledger, tmp_path: Path
) -> None:
    """Everybody's association is refused: the case waits until the PACS team has entered us again."""
    imaging.archive.faults = PacsFaults(knows_nobody=True)
    waited: list[float] = []

    def until_entered_again(seconds: float) -> bool:
        waited.append(seconds)
        if len(waited) == 5:
            imaging.archive.faults = PacsFaults()
        return False

    settled = run(work_with(ports_of(hospital, tmp_path, archive=imaging.door), ledger, until_entered_again))
    assert isinstance(settled, Delivered)
    assert waited == [30.0] * 5


@pytest.mark.fault("F-10")
def test_incomplete_data_abstains(work: AssessmentWork, hospital: Hospital) -> None:
    """Law 5: a pull that cannot be counted to its end gives no number."""
    hospital.fetching = failing(PullIncomplete("Observation: 3 of 5"))
    assert run(work) == Abstained(reason="pull-incomplete", detail="Observation: 3 of 5")
    assert hospital.sent == []


@pytest.mark.fault("F-37")
@pytest.mark.parametrize("place", ["fetching", "sending"])
def test_a_bug_is_a_dead_letter_without_its_message(work: AssessmentWork, hospital: Hospital, place: str) -> None:
    """Law 8: the message of an unforeseen error may hold a patient's data; class and place suffice to find it."""
    setattr(hospital, place, failing(KeyError(_SECRET)))
    with capture_logs() as logged:
        settled = run(work)
    assert isinstance(settled, DeadLetter)
    assert settled.reason == "unexpected-error"
    assert settled.detail.startswith("KeyError at test_work.py:")
    assert _SECRET not in str(settled) + str(logged)


@pytest.mark.fault("F-37")
@pytest.mark.parametrize("place", [None, "fetching", "sending"])
def test_nothing_on_disk_shows_a_patient(hospital: Hospital, tmp_path: Path, place: str | None) -> None:
    """Law 8: a case delivered, or ended by a bug, leaves no name, number or finding in database or vault."""
    if place is not None:
        setattr(hospital, place, failing(KeyError(_SECRET)))
    engine = open_database(f"sqlite:///{tmp_path / 'adjuvant.db'}")
    ledger = Ledger(engine, lambda: datetime(2026, 3, 1, tzinfo=UTC))
    work = work_of(hospital, ledger, tmp_path)
    with CaseQueue(engine, work, QueueOptions(poll_seconds=0.02), WorkerRegister(engine)) as queue:
        queue.enqueue(ledger.request(_CASE.patient_id))
        assert queue.wait_until_idle(20)
    assert [entry.state for entry in ledger.list_cases()] == ["delivered" if place is None else "dead-letter"]
    engine.dispose()
    hospital.fetching = lambda: None
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"adjuvant_case" in stored
    received = b"".join(resource.content for resource in hospital.fetch_record(_CASE.patient_id).resources)
    assert [word for word in _PRIVATE if word.encode() not in received] == []
    assert [word for word in (_SECRET, *_PRIVATE) if word.encode() in stored] == []


@pytest.mark.parametrize("committed", [True, False])
def test_an_end_is_told_once_it_is_committed(hospital: Hospital, tmp_path: Path, *, committed: bool) -> None:
    """A transaction that is rolled back, as where another worker's came first, tells nobody that the case settled."""
    told: list[str] = []
    engine = open_database(f"sqlite:///{tmp_path / 'adjuvant.db'}")
    ledger = Ledger(engine, lambda: datetime(2026, 3, 1, tzinfo=UTC))
    work = work_of(hospital, ledger, tmp_path, watching=lambda _case, step, _settled: told.append(step))
    case = ledger.request(_CASE.patient_id)
    with Session(engine) as session:
        work.settle(session, case, {SETTLED: as_json(Skipped(reason="test", detail=""))})
        assert told == []
        if committed:
            session.commit()
    engine.dispose()
    assert told == ["settled"] * committed


def _leaves() -> list[type[AdjuvantError]]:
    found = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, AdjuvantError)]
    return [kind for kind in found if not kind.__subclasses__()]


@pytest.mark.parametrize("kind", _leaves(), ids=lambda kind: kind.__name__)
def test_every_error_has_an_end_by_who_acts(kind: type[AdjuvantError]) -> None:
    """Bad or incomplete data abstains, the rest waits for a person; the reason is the error's name, hyphenated."""
    error = kind("x", expected=2, missing=1) if kind is SeriesIncomplete else kind("x")
    settled = outcome_of(error)
    expected = Abstained if issubclass(kind, BadData | SeriesIncomplete) else DeadLetter
    assert type(settled) is expected
    assert settled.reason.replace("-", "") == kind.__name__.lower()
    assert settled.detail == "x"


def test_a_refused_write_abstains_by_its_name() -> None:
    """The reason is a stable code that people search for."""
    assert outcome_of(WriteRefused("processing")) == Abstained(reason="write-refused", detail="processing")


_BRANCHES = {errors.AdjuvantError, errors.Transient, errors.BadData, errors.Misconfigured, errors.Defect}
_WAITED_OUT = {errors.PeerDown, errors.StoreUnavailable, errors.StoreUnreachable, errors.Overtaken}
_OF_COMMANDS = {errors.UnknownCase, errors.NoStore, errors.OldStore, errors.StoreInUse}


def test_every_reason_is_explained() -> None:
    """Breach: at night a reason in `cases list` that no page explains."""
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, AdjuvantError)}
    named = {errors.reason_of(kind.__new__(kind)) for kind in kinds - _BRANCHES - _WAITED_OUT - _OF_COMMANDS}
    others = set(
        re.findall(
            r'(?:reason=|_GIVEN_UP, _MOST_LOOKS = )"([a-z-]+)"',
            inspect.getsource(assess) + inspect.getsource(work_module) + inspect.getsource(assess_command),
        )
    )
    reasons = named | others | {reason.value for reason in SkipReason}
    lines = (Path(__file__).parents[3] / "docs" / "cases.md").read_text().splitlines()
    explained = " ".join(line.split("|")[1] for line in lines if line.startswith("| `"))
    assert set(re.findall(r"`([a-z-]+)`", explained)) == reasons


_TEXT = st.text(max_size=40)
_OUTCOMES: st.SearchStrategy[Settled] = st.one_of(
    st.builds(Abstained, reason=_TEXT, detail=_TEXT),
    st.builds(Skipped, reason=_TEXT, detail=_TEXT),
    st.builds(DeadLetter, reason=_TEXT, detail=_TEXT),
    st.builds(
        Delivered,
        receipt=st.builds(
            WriteReceipt,
            assessment_id=_TEXT,
            versions=st.lists(st.builds(ResourceVersion, _TEXT, _TEXT, _TEXT), max_size=4).map(tuple),
            written=st.booleans(),
        ),
    ),
)


@given(_OUTCOMES)
def test_every_outcome_reads_back_as_itself(settled: Settled) -> None:
    """from_json undoes as_json: the engine may replay a settled checkpoint years later."""
    assert from_json(as_json(settled)) == settled


@pytest.mark.parametrize("content", [None, "Delivered", [], {"kind": "Invented", "reason": "", "detail": ""}])
def test_what_is_no_outcome_is_refused(content: object) -> None:
    """A foreign checkpoint is an error, never a default."""
    with pytest.raises((TypeError, KeyError)):
        from_json(content)
