"""Reading PDUs from a socket in as few calls as there is data, within bounds."""

from __future__ import annotations

import socket
from collections.abc import Callable

_QUICK_ACKNOWLEDGEMENT = getattr(socket, "TCP_QUICKACK", None)  # Linux only; lasts until the kernel changes its mind
_PDU_HEADER_BYTES = 6  # type, reserved, length; source: PS3.8 section 9.3.1


class PduReader:
    """Stands in for pynetdicom's own `AssociationSocket.recv` on one inbound connection.

    pynetdicom reads 4,096 bytes a call and believes any PDU length up to 4 GiB. This reads what has arrived, refuses
    a PDU over the length we announced and a message over its cap (law F-50), and tells when bytes come.
    """

    def __init__(
        self, connection: socket.socket, *, pdu_bytes: int, message_bytes: int, heard: Callable[[], None]
    ) -> None:
        """pdu_bytes: largest PDU body. message_bytes: all bytes until `message_done`. heard: called for each piece."""
        self._connection = connection
        self._pdu_bytes, self._message_bytes = pdu_bytes, message_bytes
        self._heard = heard
        self._in_message = 0

    def message_done(self) -> None:
        """A whole message was taken: the next one may be as long again."""
        self._in_message = 0

    def recv(self, count: int) -> bytearray:
        """Exactly `count` bytes, fewer when the peer has closed. Raises OSError for too many, as a lost connection."""
        self._in_message += count
        if count > self._pdu_bytes + _PDU_HEADER_BYTES or self._in_message > self._message_bytes:
            raise OSError("a PDU or message over its cap")
        if _QUICK_ACKNOWLEDGEMENT is not None:
            # a sender with Nagle's algorithm on (DCMTK's default) waits 40 ms an image for a delayed acknowledgement
            self._connection.setsockopt(socket.IPPROTO_TCP, _QUICK_ACKNOWLEDGEMENT, 1)
        content = bytearray(count)
        rest = memoryview(content)
        while rest:
            received = self._connection.recv_into(rest)
            if not received:
                return content[: count - len(rest)]
            self._heard()
            rest = rest[received:]
        return content
