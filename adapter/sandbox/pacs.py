"""The pretend PACS: C-ECHO, C-FIND at three levels and C-MOVE on loopback, and every way an archive can misbehave."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (
    BasicTextSRStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from adapter.dicom.ae import Sockets
from adapter.dicom.limits import Limits
from adapter.dicom.quiet import quiet_libraries
from adapter.dicom.server import Listening

AE_TITLE = "SANDBOX"
_UNIQUE_KEYS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_LEVEL_KEY = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
_PENDING, _CANNOT_PERFORM = 0xFF00, 0xA702


@dataclass(frozen=True, slots=True, kw_only=True)
class PacsFaults:
    """Switches for one archive; the default is a well-behaved one. Counts of moves count from the first C-MOVE.

    slow_seconds: before each answer and each image. refuses_associations: all are rejected, transiently.
    knows_nobody: all are rejected for good, as of an AE title that is not entered.
    silent: C-FIND is never answered. finds_everything: C-FIND ignores the Patient ID it is asked for.
    keeps_back: how many of the last images stored no C-MOVE ever
    sends. moves_cut: how many C-MOVEs send only half
    of what they were asked. says_success: of a cut C-MOVE, instead of a warning with the failures counted.
    success_first: the final status comes before the images. sends_nothing: success with zero images, always.
    moves_aborted: how many C-MOVEs end in an abort half way. moves_refused: how many are answered A702.
    status: a final C-MOVE status of every move, nothing is sent. stranger: the last image of a move comes with
    another patient's ID. twin: the last image of a move comes again with other pixels. mislabelled: the dataset of
    the last image names another SOP Instance UID than its C-STORE request. availability: what Instance Availability
    says.
    """

    slow_seconds: float = 0.0
    refuses_associations: bool = False
    knows_nobody: bool = False
    silent: bool = False
    finds_everything: bool = False
    keeps_back: int = 0
    moves_cut: int = 0
    says_success: bool = False
    success_first: bool = False
    sends_nothing: bool = False
    moves_aborted: int = 0
    moves_refused: int = 0
    status: int | None = None
    stranger: bool = False
    twin: bool = False
    mislabelled: bool = False
    availability: str = ""


class SandboxPacs:
    """An archive in memory; a context manager that listens on a loopback port of its own while the block runs."""

    def __init__(self, faults: PacsFaults | None = None, *, port: int = 0) -> None:
        """port: 0 for any free one."""
        self.faults = faults or PacsFaults()
        self.ae_title = AE_TITLE
        self.moves: list[str] = []
        self._wanted_port = port
        self._instances: list[Dataset] = []
        self._destinations: dict[str, tuple[str, int]] = {}
        self._withheld: set[str] = set()
        self._senders: list[threading.Thread] = []
        self._listening: Listening | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._listening is None:
            raise RuntimeError("the archive does not listen")
        return self._listening.port

    def add(self, instances: Iterable[Dataset]) -> None:
        """Store instances."""
        self._instances.extend(instances)

    def withhold(self, instances: Iterable[Dataset]) -> None:
        """List these in C-FIND and never send them: images that are lost inside the archive."""
        self._withheld.update(str(one.SOPInstanceUID) for one in instances)

    def release(self) -> None:
        """Send what was withheld: it has arrived in the archive."""
        self._withheld.clear()

    def sendable(self) -> tuple[Dataset, ...]:
        """Everything stored but what is withheld."""
        return tuple(one for one in self._instances if str(one.SOPInstanceUID) not in self._withheld)

    def allow(self, ae_title: str, host: str, port: int) -> None:
        """Make a move destination known."""
        self._destinations[ae_title] = (host, port)

    def __enter__(self) -> SandboxPacs:
        """Start listening."""
        quiet_libraries()
        entity = AE(ae_title=self.ae_title)
        entity.require_called_aet = True
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
        for sop_class in (
            Verification,
            StudyRootQueryRetrieveInformationModelFind,
            StudyRootQueryRetrieveInformationModelMove,
        ):
            entity.add_supported_context(sop_class)
        handlers = (
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_C_MOVE, self._move),
        )
        self._listening = Listening(entity, ("127.0.0.1", self._wanted_port), handlers, Limits())
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for what is still being sent, then stop listening."""
        for sender in self._senders:
            sender.join(timeout=30)
        if self._listening is not None:
            self._listening.stop()
            self._listening = None

    def _requested(self, event: evt.Event) -> None:
        if self.faults.refuses_associations or self.faults.knows_nobody:
            # PS3.8 table 9-21: an unknown calling AE title, for good; or a local limit, for now
            event.assoc.acse.send_reject(*((0x01, 0x01, 0x03) if self.faults.knows_nobody else (0x02, 0x03, 0x02)))
            event.assoc.kill()

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        time.sleep(self.faults.slow_seconds)
        while self.faults.silent and event.assoc.is_established:
            time.sleep(0.05)
        identifier = event.identifier
        key = _LEVEL_KEY[identifier.QueryRetrieveLevel]
        ignored = {"PatientID"} if self.faults.finds_everything else set()
        answered = set()
        for instance in self._matching(identifier, ignored):
            if instance[key].value not in answered:
                answered.add(instance[key].value)
                yield _PENDING, self._answer(identifier, instance)

    def _matching(self, identifier: Dataset, ignored: Iterable[str] = ()) -> list[Dataset]:
        wanted = {
            key: _values(identifier, key) for key in _UNIQUE_KEYS if key not in ignored and _values(identifier, key)
        }
        return [
            instance
            for instance in self._instances
            if all(str(instance.get(key, "")) in values for key, values in wanted.items())
        ]

    def _answer(self, identifier: Dataset, instance: Dataset) -> Dataset:
        answer = Dataset()
        answer.SpecificCharacterSet = instance.get("SpecificCharacterSet", "ISO_IR 100")
        for element in identifier:
            answer[element.tag] = deepcopy(instance.get(element.tag, element))
        answer.QueryRetrieveLevel = identifier.QueryRetrieveLevel
        if "InstanceAvailability" in identifier:
            answer.InstanceAvailability = self.faults.availability
        return answer

    def _move(self, event: evt.Event) -> Iterator[Any]:
        """Answer one C-MOVE as pynetdicom wants it: destination, count, then each image with its status."""
        self.moves.append(event.identifier.QueryRetrieveLevel)
        number = len(self.moves)
        destination = self._destinations.get(event.move_destination.strip())
        if destination is None:
            yield None, None
            return
        instances = self._sendable(event.identifier)
        asked = len(instances)
        cut = number <= self.faults.moves_cut
        if cut:
            instances = instances[: asked // 2]
        yield (*destination, {"contexts": _contexts(instances)})
        refused = _CANNOT_PERFORM if number <= self.faults.moves_refused else self.faults.status
        if refused is not None:
            yield asked
            yield refused, None
        elif self.faults.sends_nothing:
            yield 0
        elif self.faults.success_first:
            self._send_later(event.move_destination.strip(), instances)
            yield 0
        else:
            counted = cut and not self.faults.says_success
            failed = [_unsendable(instances[0])] * (asked - len(instances)) if counted else []
            yield len(instances) + len(failed)
            yield from self._images(event, [*instances, *failed], aborts=number <= self.faults.moves_aborted)

    def _sendable(self, identifier: Dataset) -> list[Dataset]:
        instances = [one for one in self._matching(identifier) if str(one.SOPInstanceUID) not in self._withheld]
        kept_back = self._instances[len(self._instances) - self.faults.keeps_back :]
        instances = [one for one in instances if not any(one is kept for kept in kept_back)]
        if instances and self.faults.stranger:
            instances[-1] = _changed(instances[-1], lambda one: setattr(one, "PatientID", "SIM-STRANGER"))
        if instances and self.faults.mislabelled:
            instances[-1] = _changed(instances[-1], lambda one: setattr(one, "SeriesInstanceUID", "2.25.1"))
        if instances and self.faults.twin:
            instances.append(_changed(instances[-1], _invert))
        return instances

    def _images(self, event: evt.Event, instances: list[Dataset], *, aborts: bool) -> Iterator[tuple[int, Dataset]]:
        for index, instance in enumerate(instances):
            time.sleep(self.faults.slow_seconds)
            if aborts and index >= len(instances) // 2:
                event.assoc.abort()
                return
            yield _PENDING, instance

    def _send_later(self, destination: str, instances: list[Dataset]) -> None:
        sender = threading.Thread(target=self._send, args=(destination, instances), name="late-sender")
        self._senders.append(sender)
        sender.start()

    def _send(self, destination: str, instances: list[Dataset]) -> None:
        time.sleep(self.faults.slow_seconds)
        sockets = Sockets(Limits())
        association = AE(ae_title=self.ae_title).associate(
            *self._destinations[destination],
            contexts=_contexts(instances),
            ae_title=destination,
            evt_handlers=sockets.handlers(),
        )
        for instance in instances if association.is_established else ():
            association.send_c_store(instance)
        association.release()
        sockets.close()


def _contexts(instances: Iterable[Dataset]) -> list[PresentationContext]:
    pairs = {(str(one.SOPClassUID), str(one.file_meta.TransferSyntaxUID)) for one in instances}
    return [build_context(sop_class, syntax) for sop_class, syntax in sorted(pairs)]


def _values(identifier: Dataset, key: str) -> set[str]:
    value = identifier.get(key)
    if not value:
        return set()
    return {str(value)} if isinstance(value, str) else {str(part) for part in value}


def _changed(instance: Dataset, change: Callable[[Dataset], None]) -> Dataset:
    copy = deepcopy(instance)
    change(copy)
    return copy


def _invert(instance: Dataset) -> None:
    words = np.frombuffer(instance.PixelData, "<u2")
    instance.PixelData = (np.uint16(4095) - words).tobytes()


def _unsendable(instance: Dataset) -> Dataset:
    """An instance of a SOP class that was not negotiated: its sub-operation fails and is counted."""
    return _changed(instance, lambda one: setattr(one, "SOPClassUID", BasicTextSRStorage))
