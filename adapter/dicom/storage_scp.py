"""Our Storage SCP: receive to disk, nothing else."""

from __future__ import annotations

import os
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    Verification,
)

from adapter.dicom.inbox import PARTIAL_SUFFIX, Delivery, Inbox
from adapter.dicom.instance import InstanceHeader, decode_header
from adapter.dicom.limits import Limits
from adapter.dicom.part10 import encode_file_meta
from adapter.dicom.pdu_reader import PduReader
from adapter.dicom.pixels import same_pixels
from adapter.dicom.server import Listening
from adapter.dicom.syntaxes import NATIVE, RECEIVED
from adapter.domain.ids import AETitle
from adapter.errors import BadData, BadSettings, ConflictingInstance, StoreUnavailable, WrongPatient
from adapter.moments import Moment, reach

# what a CT, MR or PET series may hold; secondary captures are received so that they can be refused by name later
_SOP_CLASSES = (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    MRImageStorage,
    EnhancedMRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    ComputedRadiographyImageStorage,
)
_LOOP_SECONDS = 0.00005
# C-STORE statuses; source: PS3.4 section B.2.3, table B.2-1, and PS3.7 annex C
STORED = 0x0000
DUPLICATE_INSTANCE = 0x0111
NOT_AUTHORISED = 0x0124
OUT_OF_RESOURCES = 0xA700
NOT_WHAT_IT_SAYS = 0xA900
CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who we are as a receiver. port 0: any free one. callers: AE titles that may store; nobody else may."""

    ae_title: AETitle
    bind: str
    port: int
    callers: tuple[AETitle, ...]
    tls: ssl.SSLContext | None = None


class StorageScp:
    """Accepts C-STORE of what the inbox expects; a context manager that listens while the block runs."""

    def __init__(self, listener: Listener, inbox: Inbox, limits: Limits) -> None:
        """Nothing is opened before the block is entered."""
        self._listener, self._inbox, self._limits = listener, inbox, limits
        self._listening: Listening | None = None
        self._readers: dict[int, PduReader] = {}

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._listening is None:
            raise RuntimeError("the Storage SCP does not listen")
        return self._listening.port

    def __enter__(self) -> StorageScp:
        """Start listening. Raises BadSettings when the address cannot be had."""
        entity = AE(ae_title=self._listener.ae_title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(self._listener.callers)
        entity.maximum_associations = self._limits.connections
        entity.maximum_pdu_size = self._limits.pdu_bytes
        entity.acse_timeout = self._limits.association_seconds
        entity.dimse_timeout = self._limits.network_silence_seconds
        entity.network_timeout = self._limits.network_silence_seconds
        entity.add_supported_context(Verification)
        for sop_class in _SOP_CLASSES:
            entity.add_supported_context(sop_class, list(RECEIVED))
        handlers = (
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_CONN_CLOSE, self._closed),
        )
        address = self._listener.bind, self._listener.port
        try:
            self._listening = Listening(entity, address, handlers, self._limits, self._listener.tls)
        except BadSettings as error:
            raise BadSettings(f"dicom.bind, dicom.port: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        """Abort what is open and stop listening."""
        if self._listening is not None:
            self._listening.stop()
            self._listening = None

    def _opened(self, event: evt.Event) -> None:
        transport = event.assoc.dul.socket
        reader = PduReader(
            transport.socket,
            pdu_bytes=self._limits.pdu_bytes,
            message_bytes=self._limits.instance_bytes,
            heard=self._inbox.touch,
        )
        transport.recv = reader.recv
        # pynetdicom looks for work once a millisecond, three times per image; measured: a fifth of a retrieval
        event.assoc.dul._run_loop_delay = _LOOP_SECONDS
        self._readers[id(event.assoc)] = reader
        if self._inbox.compressed_first:
            for context in event.assoc.acceptor.supported_contexts:
                context.transfer_syntax = sorted(context.transfer_syntax, key=lambda syntax: str(syntax) in NATIVE)

    def _closed(self, event: evt.Event) -> None:
        self._readers.pop(id(event.assoc), None)

    def _store(self, event: evt.Event) -> int:
        """Decide on one C-STORE request: the status says what became of it; 0000 only for what is on disk."""
        reader = self._readers.get(id(event.assoc))
        if reader is not None:
            reader.message_done()
        dataset = event.request.DataSet.getvalue()
        instance_uid, sop_class_uid = str(event.request.AffectedSOPInstanceUID), str(event.request.AffectedSOPClassUID)
        delivery = self._inbox.delivery_of(instance_uid)
        if delivery is None:
            return NOT_AUTHORISED
        transfer_syntax = str(event.context.transfer_syntax)
        try:
            header = decode_header(dataset, transfer_syntax, most_bytes=self._limits.instance_bytes)
            if (header.instance_uid, header.sop_class_uid) != (instance_uid, sop_class_uid):
                return NOT_WHAT_IT_SAYS
            delivery.require_ours(header)
        except WrongPatient as error:
            delivery.breach(error)
            return NOT_AUTHORISED
        except ConflictingInstance as error:
            delivery.breach(error)
            return DUPLICATE_INSTANCE
        except BadData:
            return CANNOT_UNDERSTAND
        content = encode_file_meta(sop_class_uid, instance_uid, transfer_syntax) + dataset
        return self._keep(delivery, header, content)

    def _keep(self, delivery: Delivery, header: InstanceHeader, content: bytes) -> int:
        path = delivery.path_of(header.instance_uid)
        if path.exists():
            if same_pixels(path.read_bytes(), content, most_bytes=self._limits.instance_bytes):
                return STORED
            delivery.breach(ConflictingInstance(f"instance {header.instance_uid} came with two contents"))
            return DUPLICATE_INSTANCE
        try:
            if not delivery.admits(len(content)):
                delivery.breach(StoreUnavailable(f"no image is received: no room for {len(content) >> 10} KiB"))
                return OUT_OF_RESOURCES
            reach(Moment.IMAGE_ARRIVED)
            write_durably(path, content)
            reach(Moment.IMAGE_RENAMED)
        except OSError as error:
            delivery.breach(StoreUnavailable(f"an image cannot be written: {error.strerror}"))
            return OUT_OF_RESOURCES
        delivery.stored(header.instance_uid)
        return STORED


def write_durably(path: Path, content: bytes) -> None:
    """Make the file appear whole or not at all: temporary name, sync, rename. Raises OSError, leaving nothing."""
    partial = path.with_suffix(f".{threading.get_ident()}{PARTIAL_SUFFIX}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.write(content)
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
