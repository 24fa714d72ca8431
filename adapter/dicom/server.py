"""A listening application entity: pynetdicom's server, bounded before an association is negotiated."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Sequence
from typing import Any

from pynetdicom import AE
from pynetdicom.transport import ThreadedAssociationServer

from adapter.dicom.limits import Limits
from adapter.errors import BadSettings

_POLL_SECONDS = 0.02  # how soon a stop is noticed


class Listening:
    """A server in a thread of its own."""

    def __init__(
        self,
        entity: AE,
        address: tuple[str, int],
        handlers: Sequence[tuple[Any, Any]],
        limits: Limits,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Listen and serve at once. address: host, and port or 0. Raises BadSettings when it cannot be had."""
        try:
            self._server = entity.make_server(
                address, ssl_context=tls, evt_handlers=list(handlers), server_class=_bounded(limits)
            )
        except OSError as error:
            raise BadSettings(f"cannot listen on {address[0]}:{address[1]}: {error.strerror}") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="dicom-server", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Abort what is open and stop listening."""
        self._server.shutdown()
        self._thread.join()
        for association in self._server.active_associations:
            association.abort()


def send_at_once(connection: socket.socket) -> None:
    """Turn Nagle's algorithm off.

    A DIMSE message leaves as two writes (command, dataset); with it on, each costs a delayed acknowledgement of 40 ms.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _bounded(limits: Limits) -> type[ThreadedAssociationServer]:
    class BoundedServer(ThreadedAssociationServer):  # type: ignore[misc]  # pynetdicom has no types
        request_queue_size = 32

        def get_request(self) -> tuple[socket.socket, Any]:
            # an accepted socket has no timeout of its own: a peer that stops inside a PDU would hold a thread for ever
            connection, address = self.socket.accept()
            try:
                send_at_once(connection)
                if self.ssl_context:
                    connection.settimeout(limits.connect_seconds)
                    connection = self.ssl_context.wrap_socket(connection, server_side=True)
                connection.settimeout(limits.network_silence_seconds)
            except OSError:  # a failed handshake is one
                connection.close()
                raise
            return connection, address

        def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ANN401, ARG002 (signature of socketserver)
            return len(self.active_associations) < limits.connections

        def shutdown(self) -> None:
            # pynetdicom's own expects to be in a list that make_server leaves it out of
            socketserver.BaseServer.shutdown(self)
            self.server_close()

    return BoundedServer
