"""What has arrived of the series we asked for: the listed set against the stored set, and how quiet the wire is."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from adapter.dicom.instance import InstanceHeader, read_header, require_patient
from adapter.dicom.limits import Limits
from adapter.domain.ids import InstanceUid, PatientId
from adapter.domain.imaging import DicomPatient, SeriesOnDisk, SeriesRef
from adapter.errors import BadData, ConflictingInstance, StoreUnavailable, Transient

PARTIAL_SUFFIX = ".partial"


class Delivery:
    """One series on its way: what is expected, what is stored, and what was wrong with what came.

    Stored means that a file of that name lies in the folder: a name appears by rename only, after the content was
    checked and synced. So a delivery that was cut by a crash goes on with what had arrived.
    """

    def __init__(self, patient: DicomPatient, ref: SeriesRef, folder: Path, limits: Limits) -> None:
        """folder: of this series alone, for this patient; it need not exist yet. Raises OSError where it cannot."""
        self.patient, self.ref, self.folder = patient, ref, folder
        self._limits = limits
        self._expected = frozenset(ref.instance_uids)
        self._stored: set[InstanceUid] = set()
        self.compressed_first = False
        self._breaches: list[BadData | StoreUnavailable] = []
        self._changed = threading.Condition()
        self._last_byte = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in folder.glob(f"*{PARTIAL_SUFFIX}"):
            leftover.unlink()
        self._take_what_is_there()

    def require_room(self) -> None:
        """Return while our disk has room for a series. Raises StoreUnavailable."""
        if shortage := self._limits.shortage(self.folder):
            raise StoreUnavailable(f"no image is received: {shortage}")

    def admits(self, size: int) -> bool:
        """Whether an image of so many bytes has room. Raises OSError."""
        return self._limits.admits(size, self.folder)

    def expects(self, instance_uid: str) -> bool:
        """Whether the archive listed this instance in the series."""
        return instance_uid in self._expected

    def path_of(self, instance_uid: str) -> Path:
        """Where the instance lies, or will. The name is a hash: no header value is part of any path."""
        return self.folder / f"{hashed(instance_uid)}.dcm"

    def require_ours(self, header: InstanceHeader) -> None:
        """Return when the instance belongs to this series of this patient.

        Raises WrongPatient, or ConflictingInstance for a listed instance that says it is of another series.
        """
        require_patient(self.patient, header.patient, where=f"instance {header.instance_uid}")
        if (header.study_uid, header.series_uid) != (self.ref.study_uid, self.ref.series_uid):
            raise ConflictingInstance(f"instance {header.instance_uid} exists in a second study or series")

    def prefer_other_syntaxes(self) -> None:
        """Nothing came: accept the other transfer syntaxes first from now on.

        An archive that offers one presentation context with a compressed and uncompressed syntaxes, and does not
        transcode (DCMTK's does not), can send only what the receiver picks; which of them it holds nobody says.
        """
        self.compressed_first = not self.compressed_first

    def touch(self) -> None:
        """A byte came: the wire is not quiet."""
        self._last_byte = time.monotonic()

    def stored(self, instance_uid: InstanceUid) -> None:
        """The instance lies at its path."""
        with self._changed:
            self._stored.add(instance_uid)
            self._changed.notify_all()

    def breach(self, error: BadData | StoreUnavailable) -> None:
        """Something came that makes the series unusable, or cannot be kept now; the delivery is over."""
        with self._changed:
            self._breaches.append(error)
            self._changed.notify_all()

    @property
    def missing(self) -> tuple[InstanceUid, ...]:
        """What is still owed, sorted."""
        with self._changed:
            return tuple(sorted(self._expected - self._stored))

    def raise_breach(self) -> None:
        """Raise the first thing that was wrong, if anything was."""
        with self._changed:
            if self._breaches:
                raise self._breaches[0]

    def wait_until_quiet(self, quiet_seconds: float, deadline: float) -> None:
        """Return once everything is stored, something was wrong, no byte came for `quiet_seconds`, or at the deadline.

        deadline: of time.monotonic(). The status of a C-MOVE is not waited for: some archives report success before
        they send (law D-05 of the project's standards).
        """
        self.touch()
        with self._changed:
            while self._expected - self._stored and not self._breaches:
                now = time.monotonic()
                rest = min(self._last_byte + quiet_seconds, deadline) - now
                if rest <= 0:
                    return
                self._changed.wait(rest)

    def series_on_disk(self) -> SeriesOnDisk:
        """The complete series, its files in the order of the listed UIDs."""
        files = tuple(self.path_of(uid) for uid in self.ref.instance_uids)
        return SeriesOnDisk(ref=self.ref, folder=self.folder, files=files)

    def _take_what_is_there(self) -> None:
        for uid in self.ref.instance_uids:
            path = self.path_of(uid)
            if path.exists():
                try:
                    self.require_ours(read_header(path, most_bytes=self._limits.instance_bytes))
                except BadData:
                    path.unlink()  # corrected in the archive since, or not ours: it is asked for again
                else:
                    self._stored.add(uid)


class Inbox:
    """Where series arrive, each in a folder of its owner's own, and the one delivery that is open.

    owner: the EHR's patient whose case asks. At most one case of theirs runs at a time, so no two cases share a
    folder, also where two records of the EHR are one patient of the archive.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        """folder: above them all, made when the first series is asked for; nobody else writes there."""
        self.folder, self._limits = folder, limits
        self._lock = threading.Lock()
        self._delivery: Delivery | None = None
        self._unsolicited = 0
        self._compressed_first = False

    @property
    def unsolicited(self) -> int:
        """How many instances came that nobody had asked for; they were refused and nothing of them is kept."""
        return self._unsolicited

    @property
    def compressed_first(self) -> bool:
        """Whether compressed transfer syntaxes are accepted before uncompressed ones; what last worked is kept."""
        delivery = self._delivery
        return delivery.compressed_first if delivery is not None else self._compressed_first

    @contextmanager
    def folder_for(self, owner: PatientId, patient: DicomPatient, ref: SeriesRef) -> Iterator[Path]:
        """The folder of this series while the block runs: it need not exist yet, and nothing of it stays.

        Unless the block ends in a Transient error: then the next try goes on with what had arrived.
        """
        key = "\0".join((patient.patient_id, patient.issuer or "", ref.study_uid, ref.series_uid))
        folder = self.folder / f"{hashed(owner)}.{hashed(key)}"
        with ExitStack() as leaving:
            leaving.callback(shutil.rmtree, folder, ignore_errors=True)
            try:
                yield folder
            except Transient:
                leaving.pop_all()
                raise

    @contextmanager
    def expecting(self, patient: DicomPatient, ref: SeriesRef, folder: Path) -> Iterator[Delivery]:
        """Accept this series into the folder, and nothing else, while the block runs. Deliveries do not overlap.

        Raises StoreUnavailable where our disk takes nothing.
        """
        try:
            delivery = Delivery(patient, ref, folder, self._limits)
        except OSError as error:
            raise StoreUnavailable(f"no series can be received: {error.strerror}") from error
        with self._lock:
            if self._delivery is not None:
                raise RuntimeError("one delivery at a time")
            self._delivery = delivery
        delivery.compressed_first = self._compressed_first
        try:
            yield delivery
        finally:
            self._compressed_first = delivery.compressed_first
            with self._lock:
                self._delivery = None

    def abandon(self, owner: PatientId) -> None:
        """Remove what arrived for this owner, and nobody else's: no try follows."""
        for folder in self.folder.glob(f"{hashed(owner)}.*"):
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a crash left, whosever it is. Only while no case runs."""
        for folder in self.folder.glob("*"):
            shutil.rmtree(folder, ignore_errors=True)

    def delivery_of(self, instance_uid: str) -> Delivery | None:
        """The open delivery that expects this instance; None counts it as unsolicited."""
        with self._lock:
            if self._delivery is not None and self._delivery.expects(instance_uid):
                return self._delivery
            self._unsolicited += 1
            return None

    def touch(self) -> None:
        """A byte came from somewhere."""
        delivery = self._delivery
        if delivery is not None:
            delivery.touch()


def hashed(text: str) -> str:
    """A file name for any text: 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
