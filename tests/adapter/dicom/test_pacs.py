"""The door to images: what an archive does wrong, and the name under which it ends."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import C_MOVE

from adapter.dicom import move
from adapter.dicom.ae import Archive, echo
from adapter.dicom.limits import Limits
from adapter.domain.ids import AETitle, PatientId
from adapter.domain.imaging import DicomPatient, SeriesRef
from adapter.errors import (
    AccessRefused,
    AdjuvantError,
    BadIdentifier,
    BadStore,
    ConflictingInstance,
    PeerTimeout,
    PeerUnavailable,
    SeriesIncomplete,
    StoreUnavailable,
    UnsupportedPeer,
    WrongPatient,
)
from adapter.pipeline.ports import ImageArchive
from adapter.sandbox.ct import CtOptions, simulated_ct
from adapter.sandbox.pacs import PacsFaults
from tests.adapter.dicom.conftest import HURRIED, OPTIONS, PATIENT, Hospital

Build = Callable[..., Hospital]
OWNER, OTHER = PatientId("p1"), PatientId("p2")


def _files(there: Hospital) -> int:
    return sum(1 for path in there.folder.rglob("*") if path.is_file())


def _retrieve(there: Hospital, ref: SeriesRef, owner: PatientId = OWNER) -> int:
    """How many images lie on disk while the block runs."""
    with there.pacs.retrieved(PATIENT, ref, owner=owner) as series:
        return sum(file.exists() for file in series.files)


def test_a_listed_series_is_whole_on_disk(hospital: Build) -> None:
    """The block has one file per listed image, in the order of the list, after one C-MOVE; then nothing of them."""
    there = hospital()
    archive: ImageArchive = there.pacs
    (ref,) = archive.find_series(PATIENT)
    with archive.retrieved(PATIENT, ref, owner=OWNER) as series:
        assert [file.exists() for file in series.files] == [True] * 6
    assert _files(there) == 0
    assert len(ref.instance_uids) == 6
    assert there.archive.moves == ["SERIES"]


def test_what_is_on_disk_is_not_asked_for_twice(hospital: Build) -> None:
    """A block that will be tried again leaves its series for the next, which moves nothing; then it is gone."""
    there = hospital()
    (ref,) = there.pacs.find_series(PATIENT)
    with pytest.raises(StoreUnavailable), there.pacs.retrieved(PATIENT, ref, owner=OWNER):
        raise StoreUnavailable("the vault's disk is full")
    assert _retrieve(there, ref) == 6
    assert there.archive.moves == ["SERIES"]
    assert _retrieve(there, ref) == 6
    assert there.archive.moves == ["SERIES", "SERIES"]


@pytest.mark.parametrize("error", [BadStore("altered"), KeyError("a bug"), KeyboardInterrupt()])
def test_a_block_that_is_not_tried_again_leaves_no_image(hospital: Build, error: BaseException) -> None:
    """Law 8: whatever ends it for good, nothing of the series stays in plain."""
    there = hospital()
    (ref,) = there.pacs.find_series(PATIENT)
    with pytest.raises(type(error)), there.pacs.retrieved(PATIENT, ref, owner=OWNER):
        raise error
    assert _files(there) == 0


def test_a_patient_without_images_is_an_answer(hospital: Build) -> None:
    """No study is an empty tuple, not an error."""
    assert hospital().pacs.find_series(DicomPatient(patient_id="SIM-2")) == ()


@pytest.mark.parametrize("patient_id", ["SIM-*", "SIM-?", "*", "", " ", "SIM-1\\SIM-2", "SIM-1\n", "x" * 65])
def test_an_id_that_can_match_several_patients_is_never_sent(hospital: Build, patient_id: str) -> None:
    """Wildcards, several values and empty ids are refused before anything is asked."""
    there = hospital()
    with pytest.raises(BadIdentifier):
        there.pacs.find_series(DicomPatient(patient_id=patient_id))


@pytest.mark.parametrize(
    "patient",
    [
        DicomPatient(patient_id="SIM-1", birth_date="19600102", sex="M"),
        DicomPatient(patient_id="SIM-1", birth_date="19600101", sex="F"),
    ],
)
def test_the_same_id_with_another_birth_date_or_sex_is_another_patient(hospital: Build, patient: DicomPatient) -> None:
    """Where both sides have birth date or sex they must agree; the message holds no value."""
    with pytest.raises(WrongPatient) as caught:
        hospital().pacs.find_series(patient)
    assert "1960" not in str(caught.value)


def test_what_only_one_side_knows_is_not_compared(hospital: Build) -> None:
    """A birth date or sex that the EHR or the archive lacks decides nothing."""
    assert len(hospital().pacs.find_series(DicomPatient(patient_id="SIM-1"))) == 1


def test_an_archive_that_answers_with_another_patients_study_is_not_believed(hospital: Build) -> None:
    """A study with another Patient ID than asked for stops the query."""
    strangers = simulated_ct(CtOptions(patient_id="SIM-2", slices=2, rows=8, columns=8))
    there = hospital(PacsFaults(finds_everything=True), (*simulated_ct(OPTIONS), *strangers))
    with pytest.raises(WrongPatient):
        there.pacs.find_series(PATIENT)


@pytest.mark.fault("F-09")
@pytest.mark.parametrize(
    ("faults", "moves"),
    [
        (PacsFaults(moves_cut=1), ["SERIES", "IMAGE"]),
        (PacsFaults(moves_cut=1, says_success=True), ["SERIES", "IMAGE"]),
        (PacsFaults(success_first=True, slow_seconds=0.05), ["SERIES"]),
        (PacsFaults(moves_aborted=1), ["SERIES", "IMAGE"]),
        (PacsFaults(moves_refused=1), ["SERIES", "IMAGE"]),
        (PacsFaults(slow_seconds=0.02), ["SERIES"]),
    ],
    ids=["half", "half but success", "success before sending", "abort", "A702", "slow"],
)
def test_what_is_missing_is_asked_for_again(hospital: Build, faults: PacsFaults, moves: list[str]) -> None:
    """Half a series, whatever the archive says about it, is completed by asking for what is missing only."""
    patient = Limits(quiet_seconds=0.1 if len(moves) > 1 else 5, free_bytes=0)
    there = hospital(faults, limits=patient)
    (ref,) = there.pacs.find_series(PATIENT)
    assert _retrieve(there, ref) == 6
    assert there.archive.moves == moves


@pytest.mark.fault("F-10")
@pytest.mark.parametrize(
    ("faults", "missing"),
    [
        (PacsFaults(keeps_back=2), 2),
        (PacsFaults(sends_nothing=True), 6),
        (PacsFaults(status=0xC000), 6),
        (PacsFaults(status=0x0211), 6),
    ],
    ids=["half a series", "success with nothing", "C000", "a code outside the table"],
)
def test_half_a_series_is_an_error_with_the_numbers(hospital: Build, faults: PacsFaults, missing: int) -> None:
    """After three rounds the archive has had its chances: the error counts what was expected and what is missing."""
    there = hospital(faults)
    (ref,) = there.pacs.find_series(PATIENT)
    with pytest.raises(SeriesIncomplete) as caught:
        _retrieve(there, ref)
    assert (caught.value.expected, caught.value.missing) == (6, missing)


Robbed = Callable[[Callable[[Any], bool]], list[Any]]


@pytest.fixture
def robbed(monkeypatch: pytest.MonkeyPatch) -> Robbed:
    """Drop the first message for who waits that is such, as pynetdicom's own thread does (issue 875); returns them."""

    def rob(is_such: Callable[[Any], bool]) -> list[Any]:
        handed_over, dropped = DIMSEServiceProvider.get_msg, list[Any]()

        def get(provider: DIMSEServiceProvider, block: bool = False) -> Any:  # noqa: ANN401 (pynetdicom's)
            context, message = handed_over(provider, block)
            if not block or dropped or not is_such(message):
                return context, message
            dropped.append(message)
            return handed_over(provider, block)

        monkeypatch.setattr(DIMSEServiceProvider, "get_msg", get)
        return dropped

    return rob


def test_a_final_answer_lost_on_our_side_is_not_waited_for(
    hospital: Build, monkeypatch: pytest.MonkeyPatch, robbed: Robbed
) -> None:
    """Breach: five minutes in which no series of anybody came."""
    monkeypatch.setattr(move, "_HANDED_OVER_SECONDS", 0.2)
    dropped = robbed(lambda message: isinstance(message, C_MOVE) and message.Status not in {None, 0xFF00})
    there = hospital(PacsFaults(moves_cut=1), limits=Limits(quiet_seconds=0.2, series_seconds=20, free_bytes=0))
    (ref,) = there.pacs.find_series(PATIENT)
    assert _retrieve(there, ref) == 6
    assert len(dropped) == 1
    assert there.archive.moves == ["SERIES", "IMAGE"]


@pytest.mark.fault("F-09")
def test_an_end_lost_on_our_side_is_not_waited_for(hospital: Build, robbed: Robbed) -> None:
    """As above, of what says that the archive has aborted. Breach: the same five minutes."""
    dropped = robbed(lambda message: message is None)
    there = hospital(PacsFaults(moves_aborted=1))
    (ref,) = there.pacs.find_series(PATIENT)
    assert _retrieve(there, ref) == 6
    assert dropped == [None]


@pytest.mark.fault("F-09")
def test_an_attempt_goes_on_where_the_last_one_stopped(hospital: Build) -> None:
    """What arrived before a failure is not fetched again."""
    there = hospital(PacsFaults(keeps_back=2))
    (ref,) = there.pacs.find_series(PATIENT)
    with pytest.raises(SeriesIncomplete):
        _retrieve(there, ref)
    there.archive.faults = PacsFaults()
    there.archive.moves.clear()
    assert _retrieve(there, ref) == 6
    assert there.archive.moves == ["IMAGE"]


@pytest.mark.fault("F-13")
def test_an_image_of_another_patient_ends_everything(hospital: Build) -> None:
    """One image with another Patient ID: WrongPatient, and not one file of the series stays."""
    there = hospital(PacsFaults(stranger=True))
    (ref,) = there.pacs.find_series(PATIENT)
    with pytest.raises(WrongPatient):
        _retrieve(there, ref)
    assert _files(there) == 0


@pytest.mark.fault("F-12")
def test_one_uid_with_two_contents_ends_everything(hospital: Build) -> None:
    """The same SOP Instance UID with other pixels: ConflictingInstance, and not one file of the series stays."""
    there = hospital(PacsFaults(twin=True, keeps_back=1))
    (ref,) = there.pacs.find_series(PATIENT)
    with pytest.raises(ConflictingInstance):
        _retrieve(there, ref)
    assert _files(there) == 0


def test_a_listed_image_of_another_series_is_a_conflict(hospital: Build) -> None:
    """A dataset with a listed UID that names another series is not taken for the listed one."""
    there = hospital(PacsFaults(mislabelled=True))
    (ref,) = there.pacs.find_series(PATIENT)
    with pytest.raises(ConflictingInstance):
        _retrieve(there, ref)


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (PacsFaults(status=0xA900), UnsupportedPeer),
        (PacsFaults(status=0x0124), AccessRefused),
        (PacsFaults(availability="OFFLINE"), PeerUnavailable),
        (PacsFaults(availability="UNAVAILABLE"), PeerUnavailable),
    ],
)
def test_what_asking_again_cannot_help_is_named_at_once(
    hospital: Build, faults: PacsFaults, error: type[AdjuvantError]
) -> None:
    """Refusals that an administrator must settle, and series out of reach, are not asked for three times."""
    there = hospital(faults)
    (ref,) = there.pacs.find_series(PATIENT)
    with pytest.raises(error):
        _retrieve(there, ref)
    assert len(there.archive.moves) <= 1


def test_an_archive_that_does_not_know_us_is_the_administrators(hospital: Build) -> None:
    """An unknown move destination (A801) is AccessRefused."""
    there = hospital()
    (ref,) = there.pacs.find_series(PATIENT)
    there.archive.allow("ADJUVANT", "127.0.0.1", 1)
    del there.archive._destinations["ADJUVANT"]
    with pytest.raises(AccessRefused):
        _retrieve(there, ref)


def test_an_archive_that_refuses_associations_may_recover(hospital: Build) -> None:
    """A transient rejection is PeerUnavailable: the worker tries again."""
    there = hospital(PacsFaults(refuses_associations=True))
    with pytest.raises(PeerUnavailable, match="local limit"):
        there.pacs.echo()


@pytest.mark.fault("F-07")
def test_an_archive_that_never_answers_is_not_waited_for(hospital: Build) -> None:
    """A query without an answer ends as PeerTimeout after the limit."""
    there = hospital(PacsFaults(silent=True), limits=Limits(answer_seconds=0.5, association_seconds=1))
    with pytest.raises(PeerTimeout):
        there.pacs.find_series(PATIENT)


def test_a_healthy_archive_passes_the_check(hospital: Build) -> None:
    """C-ECHO answers, FIND and MOVE are served."""
    hospital().pacs.check()


def test_nobody_listens(hospital: Build) -> None:
    """An archive that is not there is PeerUnavailable."""
    there = hospital()
    there.archive.__exit__(None, None, None)
    try:
        with pytest.raises(PeerUnavailable):
            there.pacs.echo()
    finally:
        there.archive.__enter__()


@pytest.mark.fault("F-05")
def test_a_name_that_is_not_found_is_an_archive_that_is_away() -> None:
    """A short fault of the name service. Breach: a dead letter of everybody with images."""
    archive = Archive(
        host="pacs.invalid", port=104, ae_title=AETitle("PACS"), calling_ae_title=AETitle("OURS"), limits=HURRIED
    )
    with pytest.raises(PeerUnavailable, match=r"PACS at pacs\.invalid:104: "):
        echo(archive)


def test_threads_share_one_door(hospital: Build) -> None:
    """Several threads retrieve different series at once; each gets its own, one C-MOVE after the other."""
    series = [
        simulated_ct(CtOptions(patient_id="SIM-1", number=number, slices=3, rows=8, columns=8)) for number in range(4)
    ]
    there = hospital(instances=tuple(one for instances in series for one in instances))
    refs = there.pacs.find_series(DicomPatient(patient_id="SIM-1"))
    sizes = []

    def retrieve(index: int) -> None:
        sizes.append(_retrieve(there, refs[index]))

    threads = [threading.Thread(target=retrieve, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sizes == [3, 3, 3, 3]
    assert there.archive.moves == ["SERIES"] * 4


def test_the_wait_for_a_lying_archive_is_bounded(hospital: Build) -> None:
    """The deadline of a series ends the rounds, also when each is short."""
    there = hospital(PacsFaults(sends_nothing=True), limits=Limits(quiet_seconds=5, series_seconds=0.5, free_bytes=0))
    (ref,) = there.pacs.find_series(PATIENT)
    with pytest.raises(SeriesIncomplete):
        _retrieve(there, ref)
    assert len(there.archive.moves) == 1


@pytest.mark.fault("F-16")
def test_a_full_disk_is_ours_and_is_waited_for(hospital: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive is not blamed. Breaches: the patient had no assessment; all was sent again and again, to be refused.

    What comes while the disk fills up is refused (A700).
    """
    there = hospital(limits=replace(HURRIED, free_bytes=2**20))
    (ref,) = there.pacs.find_series(PATIENT)
    usage = shutil.disk_usage("/")
    for room, asked in ((0, 0), (2**30, 1)):
        free = itertools.chain([room], itertools.repeat(0))
        with monkeypatch.context() as full:
            full.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=next(free)))
            with pytest.raises(StoreUnavailable, match="no image is received: "):
                _retrieve(there, ref)
        assert (len(there.archive.moves), _files(there)) == (asked, 0)
    assert _retrieve(there, ref) == 6


def test_hurried_limits_are_what_the_tests_use() -> None:
    """The quiet time in tests is short, the default is not."""
    assert HURRIED.quiet_seconds < Limits().quiet_seconds


def test_what_came_of_an_incomplete_series_is_its_owners(hospital: Build) -> None:
    """Law 8: once its owner tries no more, no image of it stays in plain; another owner's next try goes on with theirs.

    Also where both are the same series: two records of the EHR can be one patient of the archive.
    """
    there = hospital(PacsFaults(moves_cut=99))
    (ref,) = there.pacs.find_series(PATIENT)
    for owner in (OWNER, OTHER):
        with pytest.raises(SeriesIncomplete):
            _retrieve(there, ref, owner)
    arrived = _files(there)
    there.pacs.abandon(OTHER)
    assert 0 < _files(there) < arrived
    there.archive.faults = PacsFaults()
    there.archive.moves.clear()
    assert _retrieve(there, ref) == len(ref.instance_uids)
    assert there.archive.moves == ["IMAGE"]
    assert _files(there) == 0


def test_one_owners_end_takes_nothing_from_anothers_block(hospital: Build) -> None:
    """The same series, in two blocks at once: the first that ends, well or not, leaves the other every file."""
    there = hospital()
    (ref,) = there.pacs.find_series(PATIENT)
    with there.pacs.retrieved(PATIENT, ref, owner=OWNER) as series:
        assert _retrieve(there, ref, OTHER) == 6
        there.pacs.abandon(OTHER)
        assert [file.exists() for file in series.files] == [True] * 6


def test_what_a_crash_left_is_swept(hospital: Build) -> None:
    """Law 8: at the start of the service everything goes, whosever it was; it can be asked for again."""
    there = hospital(PacsFaults(moves_cut=99))
    (ref,) = there.pacs.find_series(PATIENT)
    for owner in (OWNER, OTHER):
        with pytest.raises(SeriesIncomplete):
            _retrieve(there, ref, owner)
    assert _files(there) > 0
    there.pacs.sweep()
    assert _files(there) == 0
    there.archive.faults = PacsFaults()
    assert _retrieve(there, ref) == len(ref.instance_uids)
