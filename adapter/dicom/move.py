"""C-MOVE to our own Storage SCP, until every listed image is stored or the archive has had its chances.

Counters and final statuses are advice: two real archives answer the same fault with different codes and counts
(DCMTK: 0000 for an unknown study; Orthanc: C000 with all counters zero after one refusal). Only the set of stored
UIDs against the listed set decides.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from adapter.dicom.ae import Archive, associated, hang_up, put_question
from adapter.dicom.find import require_in_reach
from adapter.dicom.inbox import Delivery
from adapter.domain.ids import InstanceUid
from adapter.domain.imaging import SeriesRef
from adapter.errors import AccessRefused, SeriesIncomplete, UnsupportedPeer
from adapter.moments import Moment, reach

_HANDED_OVER_SECONDS = 5.0  # an answer that arrived is in our hands long before, on the slowest machine too


class MoveHandling(Enum):
    """What we do about a C-MOVE status. In each case a series that is complete is complete."""

    GO_ON = "sub-operations go on: read the next response"
    COMPARE = "the archive says it has finished: compare the stored set, ask again for what is missing"
    ASK_AGAIN = "the archive has failed or been cancelled: compare the stored set, ask again for what is missing"
    UNKNOWN_DESTINATION = "the archive does not know our AE title: stop, the site's administrator acts"
    NOT_AUTHORISED = "the archive refuses us: stop, the site's administrator acts"
    UNSUPPORTED = "the archive cannot do this query: stop, the site's administrator acts"


@dataclass(frozen=True, slots=True)
class MoveStatus:
    """A row of the status table: codes from `first` to `last`."""

    first: int
    last: int
    meaning: str
    handling: MoveHandling


# source: PS3.4 section C.4.2.1.5, table C.4-2; PS3.7 annex C for 01xx
MOVE_STATUSES = (
    MoveStatus(0x0000, 0x0000, "Success: all sub-operations completed", MoveHandling.COMPARE),
    MoveStatus(0xB000, 0xB000, "Warning: completed, one or more failures", MoveHandling.COMPARE),
    MoveStatus(0xA701, 0xA701, "Refused: cannot calculate number of matches", MoveHandling.ASK_AGAIN),
    MoveStatus(0xA702, 0xA702, "Refused: cannot perform sub-operations", MoveHandling.ASK_AGAIN),
    MoveStatus(0xA801, 0xA801, "Refused: move destination unknown", MoveHandling.UNKNOWN_DESTINATION),
    MoveStatus(0xA900, 0xA900, "Error: identifier does not match SOP class", MoveHandling.UNSUPPORTED),
    MoveStatus(0xC000, 0xCFFF, "Failed: unable to process", MoveHandling.ASK_AGAIN),
    MoveStatus(0xFE00, 0xFE00, "Cancel: sub-operations terminated", MoveHandling.ASK_AGAIN),
    MoveStatus(0xFF00, 0xFF00, "Pending: sub-operations continue", MoveHandling.GO_ON),
    MoveStatus(0x0122, 0x0122, "Refused: SOP class not supported", MoveHandling.UNSUPPORTED),
    MoveStatus(0x0124, 0x0124, "Refused: not authorised", MoveHandling.NOT_AUTHORISED),
)
OTHER_STATUS = MoveHandling.ASK_AGAIN  # a code outside the standard, or none because the association ended


def handling_of(code: int | None) -> MoveHandling:
    """The row of a status. code: None when the association ended without a final response."""
    rows = (row for row in MOVE_STATUSES if code is not None and row.first <= code <= row.last)
    return next((row.handling for row in rows), OTHER_STATUS)


def retrieve(archive: Archive, delivery: Delivery, destination: str, deadline: float) -> None:
    """Return once every listed image is stored.

    The series is asked for as a whole, then what is missing in lists of images, then image by image. After each round
    the wire must be quiet before the sets are compared. deadline: of time.monotonic().
    Raises SeriesIncomplete with the counts, what was wrong with an image that came (WrongPatient,
    ConflictingInstance), StoreUnavailable where our disk has no room for it, AccessRefused, UnsupportedPeer,
    PeerUnavailable.
    """
    limits = archive.limits
    for requests in _rounds(delivery, limits.rounds, limits.images_per_list):
        owed = len(delivery.missing)
        _ask(archive, delivery, requests, destination, deadline)
        delivery.wait_until_quiet(limits.quiet_seconds, deadline)
        delivery.raise_breach()
        if not delivery.missing:
            return
        if time.monotonic() >= deadline:
            break
        if len(delivery.missing) == owed:
            delivery.prefer_other_syntaxes()
    expected, missing = len(delivery.ref.instance_uids), len(delivery.missing)
    raise SeriesIncomplete(
        f"{archive.ae_title} delivered {expected - missing} of {expected} images of series {delivery.ref.series_uid}",
        expected=expected,
        missing=missing,
    )


def _rounds(delivery: Delivery, rounds: int, images_per_list: int) -> Iterator[list[Dataset]]:
    """The requests of each round, made from what is missing when it starts."""
    ref = delivery.ref
    if len(delivery.missing) == len(ref.instance_uids):
        yield [_identifier(ref)]
    else:  # an earlier attempt was cut: only the rest is fetched
        yield _lists(ref, delivery.missing, images_per_list)
    for number in range(1, rounds):
        yield _lists(ref, delivery.missing, images_per_list if number == 1 else 1)


def _lists(ref: SeriesRef, missing: Sequence[InstanceUid], size: int) -> list[Dataset]:
    return [_identifier(ref, missing[start : start + size]) for start in range(0, len(missing), size)]


def _identifier(ref: SeriesRef, instance_uids: Sequence[InstanceUid] = ()) -> Dataset:
    """All unique keys above the level; a list of UIDs is legal at the level itself. Source: PS3.4 section C.4.2.1.4."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "IMAGE" if instance_uids else "SERIES"
    identifier.StudyInstanceUID = ref.study_uid
    identifier.SeriesInstanceUID = ref.series_uid
    if instance_uids:
        identifier.SOPInstanceUID = list(instance_uids)
    return identifier


def _ask(archive: Archive, delivery: Delivery, requests: Sequence[Dataset], destination: str, deadline: float) -> None:
    """Send the requests one after the other on one association; stop early when there is nothing to gain."""
    wanted = (StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove)
    with associated(archive, *wanted, answer_seconds=archive.limits.answer_seconds) as association:
        require_in_reach(archive, association, delivery.ref)
        association.dimse_timeout = archive.limits.move_silence_seconds
        for request in requests:
            handling = _move(association, request, destination)
            if not delivery.missing:
                return
            _require_possible(handling, archive, destination)
            delivery.raise_breach()
            if not association.is_established or time.monotonic() >= deadline:
                return


def _move(association: Association, request: Dataset, destination: str) -> MoveHandling:
    """Send one C-MOVE and read its responses to the final one."""
    handling = OTHER_STATUS
    with _lost_answer_noticed(association):
        answers = put_question(
            association.send_c_move, request, destination, StudyRootQueryRetrieveInformationModelMove
        )
        for status, _ in answers:
            reach(Moment.MOVE_REQUESTED)
            handling = handling_of(getattr(status, "Status", None))
    return handling


@contextmanager
def _lost_answer_noticed(association: Association) -> Iterator[None]:
    """Hang up where a final answer arrives and the block does not end.

    The thread that pynetdicom keeps for each association now and then takes an answer away and drops it (pynetdicom
    issue 875). The block would wait out the silence that is granted to an archive, and every other series with it.
    """
    waiting: list[threading.Timer] = []

    def arrived(event: evt.Event) -> None:
        if handling_of(getattr(event.message.command_set, "Status", None)) is not MoveHandling.GO_ON:
            waiting.append(threading.Timer(_HANDED_OVER_SECONDS, hang_up, [association]))
            waiting[-1].start()

    association.bind(evt.EVT_DIMSE_RECV, arrived)
    try:
        yield
    finally:
        association.unbind(evt.EVT_DIMSE_RECV, arrived)
        for timer in waiting:
            timer.cancel()
            timer.join()  # one that hangs up just now: nobody may go on with the association


def _require_possible(handling: MoveHandling, archive: Archive, destination: str) -> None:
    if handling is MoveHandling.UNKNOWN_DESTINATION:
        raise AccessRefused(f"{archive.ae_title} does not know the move destination {destination} (A801)")
    if handling is MoveHandling.NOT_AUTHORISED:
        raise AccessRefused(f"{archive.ae_title} does not authorise {archive.calling_ae_title} to move (0124)")
    if handling is MoveHandling.UNSUPPORTED:
        raise UnsupportedPeer(f"{archive.ae_title} does not serve Study Root C-MOVE at this level")
