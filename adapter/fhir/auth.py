"""The bearer token: read from a file that somebody else keeps current, never from the configuration itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from adapter.errors import BadSettings
from adapter.moments import Moment, reach

_OTHERS = 0o007
_BEARER = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


def bearer_from_file(path: Path) -> Callable[[], str]:
    """Give a source of tokens that reads the file each time it is asked, so that a rotated token is picked up.

    Raises BadSettings at once where everybody on this machine can read the file; its group may, for somebody else
    keeps it current. Later only the content counts: a rotation must not stop the cases that run.

    The source raises BadSettings, naming the file and never its content, when it cannot be read or holds no token.
    Source: RFC 6750 section 2.1 (the grammar also keeps line breaks out of the header).
    """
    _require_secret(path)

    def token() -> str:
        try:
            written = path.read_text(encoding="ascii").strip()
        except OSError as error:
            raise BadSettings(f"the token file {path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise BadSettings(f"the token file {path} holds no bearer token") from error
        if not _BEARER.fullmatch(written):
            raise BadSettings(f"the token file {path} holds no bearer token")
        reach(Moment.TOKEN_READ)
        return written

    return token


def _require_secret(path: Path) -> None:
    """One that is not there yet is named when a token is asked for."""
    with suppress(OSError):
        if path.stat().st_mode & _OTHERS:
            raise BadSettings(f"fhir.token_file {path} can be read by everybody on this machine: chmod o= {path}")
