"""A web application on its own thread, started and stopped with the service."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import uvicorn
from fastapi import FastAPI

from adapter.errors import BadSettings

_START_SECONDS = 10.0


class WebServer:
    """Serves one application at one address: `with WebServer(app, host, port) as server`."""

    def __init__(self, app: FastAPI, *, host: str, port: int) -> None:
        """Bind nothing yet. port 0 takes a free one."""
        config = uvicorn.Config(app, host=host, port=port, log_level="critical", lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._address = f"{host}:{port}"
        self._host = host

    def _run(self) -> None:
        try:
            self._server.run()
        except SystemExit:  # uvicorn's way to say that the port is taken
            return

    def __enter__(self) -> Self:
        """Return once the port answers. Raises BadSettings when it cannot be bound."""
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise BadSettings(f"web.bind, web.port: cannot listen on {self._address}")
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and wait for the thread."""
        self._server.should_exit = True
        self._thread.join(timeout=_START_SECONDS)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self._host}:{self._server.servers[0].sockets[0].getsockname()[1]}"
