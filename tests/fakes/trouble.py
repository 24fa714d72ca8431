"""Questions that answer themselves, crash, hang or eat memory: what a process of its own must survive."""

from __future__ import annotations

import os
import time
from collections.abc import Callable


def prepare() -> Callable[[str], str]:
    """Ready at once."""
    return _answer


def _answer(question: str) -> str:
    if question == "crash":
        os.abort()
    if question == "hang":
        time.sleep(600)
    if question == "eat":
        return str(len(bytearray(2**40)))
    if question == "gorge":
        eaten = []
        while True:
            eaten.append(b"x" * 2**26)  # written to, so that it is memory and no promise
    return f"{question} by {os.getpid()}"
