"""Our application entity as a caller: one association at a time, its refusals named."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from adapter.dicom.limits import Limits
from adapter.dicom.server import send_at_once
from adapter.domain.ids import AETitle
from adapter.errors import AccessRefused, PeerTimeout, PeerUnavailable, UnsupportedPeer

_Answer = TypeVar("_Answer")
_REJECTED_TRANSIENT = 2
# (source, reason) of A-ASSOCIATE-RJ; source: PS3.8 section 9.3.4, table 9-21
_REJECTIONS = {
    (1, 1): "no reason given",
    (1, 2): "application context not supported",
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
_SUCCESS = 0x0000


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The archive we ask, and as whom. tls: a client context (see `tls`), None for plain TCP."""

    host: str
    port: int
    ae_title: AETitle
    calling_ae_title: AETitle
    limits: Limits = field(default_factory=Limits)
    tls: ssl.SSLContext | None = None

    @property
    def place(self) -> str:
        """Who and where, for an error's sentence."""
        return f"{self.ae_title} at {self.host}:{self.port}"


@contextmanager
def associated(archive: Archive, *sop_classes: str, answer_seconds: float) -> Iterator[Association]:
    """Open an association for these SOP classes, and release it however the block ends.

    Raises PeerUnavailable (no connection, transient rejection, abort), AccessRefused (permanent rejection) and
    UnsupportedPeer (a SOP class is not served).
    """
    entity = AE(ae_title=archive.calling_ae_title)
    entity.connection_timeout = archive.limits.connect_seconds
    entity.acse_timeout = archive.limits.association_seconds
    entity.network_timeout = answer_seconds
    entity.dimse_timeout = answer_seconds
    for sop_class in sop_classes:
        entity.add_requested_context(sop_class)
    sockets = Sockets(archive.limits)
    if archive.tls:
        archive.tls.sslsocket_class = _ClosedWhenRefused
    try:
        association = entity.associate(
            archive.host,
            archive.port,
            ae_title=archive.ae_title,
            max_pdu=archive.limits.pdu_bytes,
            tls_args=(archive.tls, archive.host) if archive.tls else None,
            evt_handlers=[*sockets.handlers(), (evt.EVT_CONN_CLOSE, _wake)],
        )
    except OSError as error:  # before anything is sent: the host's name is looked up
        sockets.close()
        raise PeerUnavailable(f"{archive.place}: {error.strerror}") from error
    if not association.is_established:
        sockets.close()
        raise _refusal(association, archive)
    try:
        for context in association.rejected_contexts:
            raise UnsupportedPeer(f"{archive.ae_title} does not serve SOP class {context.abstract_syntax}")
        yield association
    finally:
        if association.is_established:
            association.release()
        sockets.close()


def put_question(send: Callable[..., _Answer], *arguments: object) -> _Answer:
    """Send a request. Raises PeerUnavailable where the peer ended the association since it was looked at."""
    try:
        return send(*arguments)
    except RuntimeError as error:  # which is how pynetdicom says so
        raise PeerUnavailable("the archive ended the association before it was asked") from error


def hang_up(association: Association) -> None:
    """End it as a lost connection does: who waits for an answer is told at once; pynetdicom's `abort` does not."""
    transport: Any = association.dul.socket
    if transport is not None and transport.socket is not None:
        with suppress(OSError):  # it is gone already
            transport.socket.shutdown(socket.SHUT_RDWR)


def _wake(event: evt.Event) -> None:
    """Tell who waits for an answer that none comes any more.

    pynetdicom does so too, but the thread that it keeps for each association now and then takes away what was meant
    for who waits (its issue 875), and ends: a C-MOVE was waited for as long as an archive may be silent.
    """
    event.assoc.dimse.msg_queue.put((None, None))


class _ClosedWhenRefused(ssl.SSLSocket):
    """A TLS socket that does not stay open when its handshake fails: pynetdicom shuts it down, which fails too."""

    def shutdown(self, how: int) -> None:
        """Shut down, or close what cannot be shut down."""
        try:
            super().shutdown(how)
        except OSError:
            self.close()


class Sockets:
    """The TCP socket of an association being made: set up when it opens, closed when it never does."""

    def __init__(self, limits: Limits) -> None:
        """limits: for how long a peer may be silent."""
        self._silence_seconds = limits.network_silence_seconds
        self._sockets: set[socket.socket] = set()

    def handlers(self) -> list[tuple[Any, Any]]:
        """What `AE.associate` takes as `evt_handlers`."""
        return [(evt.EVT_ACSE_SENT, self._asked), (evt.EVT_CONN_OPEN, self._opened)]

    def close(self) -> None:
        """Close what could not connect: pynetdicom forgets it."""
        for one in self._sockets:
            one.close()

    def _asked(self, event: evt.Event) -> None:
        transport = event.assoc.dul.socket
        if transport is not None and transport.socket is not None:
            self._sockets.add(transport.socket)

    def _opened(self, event: evt.Event) -> None:
        connection = event.assoc.dul.socket.socket
        send_at_once(connection)
        # without it a peer that stops inside a PDU would hold the thread for ever
        connection.settimeout(self._silence_seconds)


def _refusal(association: Association, archive: Archive) -> Exception:
    answer = association.acceptor.primitive
    if association.is_rejected:
        reason = _REJECTIONS.get((answer.result_source, answer.diagnostic), "reason not in the standard")
        sentence = f"{archive.place} rejected the association of {archive.calling_ae_title}: {reason}"
        return PeerUnavailable(sentence) if answer.result == _REJECTED_TRANSIENT else AccessRefused(sentence)
    if association.rejected_contexts:
        return UnsupportedPeer(f"{archive.ae_title} serves none of the SOP classes it was asked for")
    return PeerUnavailable(f"no association with {archive.place}: no connection, no answer, or aborted")


def echo(archive: Archive) -> None:
    """Return when the archive answers C-ECHO with success. Raises what `associated` raises, or PeerTimeout."""
    seconds = archive.limits.answer_seconds
    with associated(archive, Verification, answer_seconds=seconds) as association:
        status = getattr(put_question(association.send_c_echo), "Status", None)
    if status is None:
        raise PeerTimeout(f"{archive.ae_title} did not answer C-ECHO")
    if status != _SUCCESS:
        raise UnsupportedPeer(f"{archive.ae_title} answered C-ECHO with {status:04X}")


def check_query_retrieve(archive: Archive) -> None:
    """Return when the archive serves Study Root FIND and MOVE; nothing is asked. Raises what `associated` raises."""
    wanted = (StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove)
    with associated(archive, *wanted, answer_seconds=archive.limits.answer_seconds):
        pass
