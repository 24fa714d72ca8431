"""Questions that answer themselves, crash, hang or eat memory: what a process of its own must survive."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from adapter.errors import BadMapping
from adapter.store.vault import Vault


def prepare(_scratch: Path) -> Callable[[str], str]:
    """Ready at once."""
    return _answer


def prepare_badly(how: str, _scratch: Path) -> Callable[[str], str]:
    """Never ready: refused by name, or ended as a question can end a process."""
    if how == "refuse":
        raise BadMapping("landmarks.toml: a row that somebody is editing")
    _answer(how)
    return _answer


def prepare_to_read(vault_folder: Path, key: bytes, digest: str, scratch: Path) -> Callable[[str], str]:
    """The same questions, asked while a content lies open in plain."""
    vault = Vault(vault_folder, key, plain=scratch)

    def answer(question: str) -> str:
        with vault.plain_copies([digest]):
            return _answer(question)

    return answer


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
