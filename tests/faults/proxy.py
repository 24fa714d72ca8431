"""A TCP proxy on loopback that behaves badly: what a network, a gateway or a dying server does to a connection."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from enum import Enum
from typing import Self

_CHUNK = 65_536
_LOOK_SECONDS = 0.05
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() sends RST


class Manner(Enum):
    """How connections are treated from now on; those that are open are treated so too."""

    PASS = "pass"
    SILENT = "silent"  # bytes of both sides vanish, the connections stay: a firewall that forgot them
    TRICKLE = "trickle"  # one byte a second comes back
    RESET = "reset"  # every connection is reset
    LOSE_REPLIES = "lose replies"  # what is sent arrives, what is answered does not, and the connection is reset
    ANSWER = "answer"  # every request over HTTP is answered by the gateway itself


class TcpProxy:
    """Stands before one server; a context manager. Threads: one a connection, few connections are expected."""

    def __init__(self, host: str, port: int) -> None:
        """Of the server."""
        self._target = host, port
        self._manner = Manner.PASS
        self._answer = b""
        self._generation = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="bad-proxy", daemon=True)

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Reset what is open."""
        self._closing.set()
        self._listener.close()
        self._thread.join(timeout=5)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def behave(self, manner: Manner) -> None:
        """From now on."""
        self._manner = manner

    def cut(self) -> None:
        """Reset every connection that is open now; new ones are welcome."""
        self._generation += 1

    def answer(self, status: int, **headers: str) -> None:
        """Answer every request with this status from now on; an underscore in a header's name is a dash."""
        lines = [f"HTTP/1.1 {status} x", "content-length: 0", "connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self._answer = ("\r\n".join(lines) + "\r\n\r\n").encode()
        self._manner = Manner.ANSWER

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="bad-connection", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server: socket.socket | None = None
        generation = self._generation
        with contextlib.suppress(OSError), selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ)
            while not self._closing.is_set() and self._manner is not Manner.RESET and generation == self._generation:
                if server is None and self._manner in {Manner.PASS, Manner.TRICKLE, Manner.LOSE_REPLIES}:
                    server = socket.create_connection(self._target, timeout=5)
                    ready.register(server, selectors.EVENT_READ)
                for key, _ in ready.select(_LOOK_SECONDS):
                    if not self._pass_on(key.fileobj, client, server):
                        return self._reset(client, server)
        return self._reset(client, server)

    def _pass_on(self, source: object, client: socket.socket, server: socket.socket | None) -> bool:
        """Read once from a side that has something; False ends the connection."""
        content = client.recv(_CHUNK) if source is client else server.recv(_CHUNK) if server else b""
        if not content or self._manner is Manner.SILENT:
            return bool(content)
        return self._towards(client, server, content) if source is client else self._back(client, content)

    def _towards(self, client: socket.socket, server: socket.socket | None, content: bytes) -> bool:
        if self._manner is Manner.ANSWER:
            client.sendall(self._answer)
            return False
        if server is not None:
            server.sendall(content)
        return True

    def _back(self, client: socket.socket, content: bytes) -> bool:
        if self._manner is Manner.LOSE_REPLIES:
            return False
        if self._manner is Manner.TRICKLE:
            return self._trickle(content, client)
        client.sendall(content)
        return True

    def _trickle(self, content: bytes, client: socket.socket) -> bool:
        for index in range(len(content)):
            if self._manner is not Manner.TRICKLE or self._closing.wait(1.0):
                client.sendall(content[index:])
                return True
            client.sendall(content[index : index + 1])
        return True

    @staticmethod
    def _reset(client: socket.socket, server: socket.socket | None) -> None:
        with contextlib.suppress(OSError):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        client.close()
        if server is not None:
            server.close()
