"""The one door to images: find the series of a patient, and have one of them whole on disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import tzinfo
from pathlib import Path
from types import TracebackType

from adapter.dicom.ae import Archive, check_query_retrieve, echo
from adapter.dicom.find import find_series, require_single_value
from adapter.dicom.inbox import Inbox
from adapter.dicom.move import retrieve
from adapter.dicom.quiet import quiet_libraries
from adapter.dicom.storage_scp import Listener, StorageScp
from adapter.domain.ids import PatientId
from adapter.domain.imaging import DicomPatient, SeriesOnDisk, SeriesRef
from adapter.errors import PeerTimeout, SeriesIncomplete


class Pacs:
    """An `ImageArchive` (see `pipeline.ports`): C-FIND, and C-MOVE to a Storage SCP of our own.

    A context manager: the Storage SCP listens while the block runs. Safe to use from several threads; retrievals wait
    for each other, because images of two C-MOVEs to one AE title cannot be told apart for certain (the Move
    Originator fields are optional) and archives answer parallel ones with A702.
    """

    def __init__(self, archive: Archive, listener: Listener, *, folder: Path, zone: tzinfo) -> None:
        """folder: of received series, ours alone. zone: of the archive's dates and times without offset."""
        self._archive, self._listener, self._zone = archive, listener, zone
        self._inbox = Inbox(folder, archive.limits)
        self._scp = StorageScp(listener, self._inbox, archive.limits)
        self._one_move = threading.Lock()

    def __enter__(self) -> Pacs:
        """Start listening. Raises BadSettings when the address cannot be had."""
        quiet_libraries()
        self._scp.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening; what is being received is aborted."""
        self._scp.__exit__(kind, error, trace)

    @property
    def port(self) -> int:
        """The port our Storage SCP listens on."""
        return self._scp.port

    @property
    def unsolicited(self) -> int:
        """How many instances came that nobody had asked for; refused, nothing of them is kept."""
        return self._inbox.unsolicited

    def echo(self) -> None:
        """Return when the archive answers C-ECHO. Raises PeerUnavailable, PeerTimeout, AccessRefused."""
        echo(self._archive)

    def check(self) -> None:
        """Return when the archive answers C-ECHO and serves the FIND and MOVE we need. Raises UnsupportedPeer too."""
        echo(self._archive)
        check_query_retrieve(self._archive)

    def find_series(self, patient: DicomPatient) -> tuple[SeriesRef, ...]:
        """Every series of one patient with its IMAGE-level UIDs; an empty tuple is an answer. See `find`."""
        return find_series(self._archive, patient, self._zone)

    @contextmanager
    def retrieved(self, patient: DicomPatient, ref: SeriesRef, *, owner: PatientId) -> Iterator[SeriesOnDisk]:
        """All images of one series on disk while the block runs; other retrievals do not wait for the block.

        owner: the EHR's patient whose case asks; what arrives lies under this name. After a Transient error, of ours
        or of the block, it stays, and the owner's next retrieval goes on with it, until `abandon`; however else the
        block ends, nothing of it stays. Raises SeriesIncomplete with the counts, WrongPatient,
        ConflictingInstance, StoreUnavailable (our disk is full), PeerUnavailable (also when the archive says the
        series is offline), PeerTimeout, AccessRefused, UnsupportedPeer.
        """
        require_single_value(patient.patient_id)
        with self._inbox.folder_for(owner, patient, ref) as folder:
            yield self._retrieve(patient, ref, folder)

    def abandon(self, owner: PatientId) -> None:
        """Remove what had arrived for this owner's next try: there is none, and no plain image outlives its case."""
        self._inbox.abandon(owner)

    def sweep(self) -> None:
        """Remove what a crash left in plain, whosever it is. Only while no case runs: at the start of the service."""
        self._inbox.sweep()

    def _retrieve(self, patient: DicomPatient, ref: SeriesRef, folder: Path) -> SeriesOnDisk:
        deadline = time.monotonic() + self._archive.limits.series_seconds
        if not self._one_move.acquire(timeout=self._archive.limits.series_seconds):
            raise PeerTimeout(f"series {ref.series_uid} waited too long for another retrieval to end")
        try:
            return self._move(patient, ref, folder, deadline)
        finally:
            self._one_move.release()

    def _move(self, patient: DicomPatient, ref: SeriesRef, folder: Path, deadline: float) -> SeriesOnDisk:
        if not ref.instance_uids:
            raise SeriesIncomplete(f"the archive lists no image of series {ref.series_uid}", expected=0, missing=0)
        with self._inbox.expecting(patient, ref, folder) as delivery:
            if delivery.missing:
                delivery.require_room()  # else the archive would send all that we refuse, again and again
                retrieve(self._archive, delivery, self._listener.ae_title, deadline)
            return delivery.series_on_disk()
