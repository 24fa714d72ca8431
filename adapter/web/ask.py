"""What a running service says of itself, asked from another process on the same machine."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import cast

_SECONDS = 3.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (where a service that listens everywhere is asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """The answer of `/health/ready`. peers: the state of each peer's circuit."""

    status: str
    complaints: tuple[str, ...]
    peers: tuple[tuple[str, str], ...]


def ask_readiness(host: str, port: int) -> Readiness | None:
    """Ask; None where nobody answers as a service does."""
    connection = http.client.HTTPConnection(_EVERYWHERE.get(host, host), port, timeout=_SECONDS)
    try:
        connection.request("GET", "/health/ready")
        content = json.loads(connection.getresponse().read())
        return Readiness(
            status=str(content["status"]),
            complaints=tuple(map(str, content["complaints"])),
            peers=tuple(sorted(cast("dict[str, str]", content["peers"]).items())),
        )
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        connection.close()
