"""The encrypted case files: AES-256-GCM under the site key, found again by the SHA-256 of their plain content."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from adapter.errors import BadStore

_KEY_BYTES, _NONCE_BYTES = 32, 12
_PRIVATE = 0o600


def create_site_key(path: Path) -> None:
    """Write a fresh random key, readable by its owner only. An existing file is left as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(secrets.token_bytes(_KEY_BYTES)))


def read_site_key(path: Path) -> bytes:
    """The 32 bytes of the key. Raises BadStore when absent, readable by others, or not 32 bytes in base64."""
    try:
        if path.stat().st_mode & 0o077:
            raise BadStore(f"the site key {path} can be read by others: chmod 600 {path}")
        key = base64.b64decode(path.read_bytes().strip(), validate=True)
    except OSError as error:
        raise BadStore(f"the site key {path} cannot be read: {error.strerror}") from error
    except binascii.Error as error:
        raise BadStore(f"the site key {path} is not base64") from error
    if len(key) != _KEY_BYTES:
        raise BadStore(f"the site key {path} is not {_KEY_BYTES} bytes")
    return key


class Vault:
    """Content kept once, under a name that does not tell its digest to who lacks the key."""

    def __init__(self, folder: Path, key: bytes) -> None:
        """folder: created when absent, for the service's own user only."""
        self._folder = folder
        self._cipher = AESGCM(key)
        self._naming_key = hashlib.sha256(b"adjuvant vault names" + key).digest()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def keep(self, content: bytes) -> str:
        """Store once, durably, and return the SHA-256 of the plain content, hexadecimal."""
        digest = hashlib.sha256(content).hexdigest()
        path = self._path(digest)
        if path.exists():
            return digest
        path.parent.mkdir(exist_ok=True, mode=0o700)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, content, digest.encode())
        temporary = path.with_suffix(f".{secrets.token_hex(8)}.tmp")
        with temporary.open("xb") as file:
            file.write(sealed)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        return digest

    def recall(self, digest: str) -> bytes:
        """The plain content. Raises BadStore when it is absent, altered, or sealed under another key."""
        try:
            sealed = self._path(digest).read_bytes()
        except OSError as error:
            raise BadStore(f"case file {digest[:12]} is not in the vault") from error
        if len(sealed) < _NONCE_BYTES:
            raise BadStore(f"case file {digest[:12]} was cut short")
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], digest.encode())
        except InvalidTag as error:
            raise BadStore(f"case file {digest[:12]} was altered or sealed under another key") from error

    def purge(self, keep: frozenset[str]) -> int:
        """Remove everything but the named contents, and leftovers of interrupted writes; returns how many files."""
        kept = {self._path(digest) for digest in keep}
        doomed = [path for path in self._folder.glob("*/*") if path not in kept]
        for path in doomed:
            path.unlink()
        return len(doomed)

    def _path(self, digest: str) -> Path:
        name = hmac.new(self._naming_key, digest.encode(), hashlib.sha256).hexdigest()
        return self._folder / name[:2] / name
