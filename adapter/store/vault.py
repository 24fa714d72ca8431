"""The encrypted case files: AES-256-GCM under the site key, found again by the SHA-256 of their plain content."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import io
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from adapter.errors import BadStore, CaseFileGone, StoreUnavailable

_KEY_BYTES, _PREFIX_BYTES, _TAG_BYTES = 32, 7, 16
_PIECE_BYTES = 2**20
_Stream = io.BytesIO | io.BufferedReader
_PRIVATE, _PRIVATE_FOLDER = 0o600, 0o700


def create_site_key(path: Path) -> None:
    """Write a fresh random key, readable by its owner only. An existing file is left as it is."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    sync_folder(path.parent.parent)
    _create(path, base64.b64encode(secrets.token_bytes(_KEY_BYTES)))


def _create(path: Path, content: bytes) -> None:
    """Write a private file, whole from its first moment, unless there is one."""
    if path.exists():
        return
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another worker was faster: its file is whole, and it counts
            path.hardlink_to(fresh)
        sync_folder(path.parent)  # content without a name would be lost with the power
    finally:
        fresh.unlink()


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


def key_fingerprint(key: bytes) -> str:
    """A name for a key that does not tell the key: whether a backup needs this one or another."""
    return hashlib.sha256(b"adjuvant key fingerprint" + key).hexdigest()[:16]


def _require_key_of(folder: Path, fingerprint: str) -> None:
    """Under another key every name differs: each case file would seem to have expired, and would be purged."""
    mark = mark_of(folder)
    try:
        make_private_folder(folder)
        if not any(case_file_paths(folder)) and mark.exists() and mark.read_text() != fingerprint:
            mark.unlink()  # nothing is sealed yet: it may be any key's
        _create(mark, fingerprint.encode())
        found = mark.read_text()
    except OSError as error:
        raise BadStore(f"the vault {folder} cannot be opened: {error.strerror}") from error
    if found != fingerprint:
        raise BadStore(f"the vault {folder} is sealed under another site key (fingerprint {found})")


def case_file_paths(folder: Path) -> Iterator[Path]:
    """Every whole case file of a vault; what is being written now is none."""
    yield from (path for path in folder.glob("[0-9a-f][0-9a-f]/*") if not path.suffix and path.is_file())


def is_vault(folder: Path) -> bool:
    """Whether a vault was ever opened or restored there: the place where one is to be mounted is none."""
    return mark_of(folder).exists() or any(case_file_paths(folder))


def mark_of(folder: Path) -> Path:
    """The file that names a vault's key; an empty one makes any folder the beginning of a vault."""
    return folder / "key-fingerprint"


class Vault:
    """Content kept once, under a name that does not tell its digest to who lacks the key.

    A file is seven random bytes, then the content in sealed pieces of a mebibyte, so that a series of any size passes
    through little memory. Each content has a key of its own, derived from the site key and its digest: a file under
    another's name opens as nothing. A piece's nonce is the random bytes, its number and whether it is the last, so
    pieces cannot be left out, repeated or put in another order. Source: Hoang, Reyhanitabar, Rogaway, Vizar 2015
    (STREAM), 10.1007/978-3-662-47989-6_24.
    """

    def __init__(self, folder: Path, key: bytes, *, plain: Path | None = None) -> None:
        """folder: created when absent, for the service's own user only; several workers may share it.

        plain: where plain copies lie while they are read, of this worker alone; inside the folder by default.
        Raises BadStore where the folder belongs to another key or cannot be opened.
        """
        self._folder = folder
        self._plain = plain or folder / ".plain"
        self._naming_key = hashlib.sha256(b"adjuvant vault names" + key).digest()
        self._sealing_key = hashlib.sha256(b"adjuvant vault contents" + key).digest()
        _require_key_of(folder, key_fingerprint(key))

    def keep(self, content: bytes) -> str:
        """Store once, durably, and return the SHA-256 of the plain content, hexadecimal.

        Raises StoreUnavailable when the disk is full or cannot be written now.
        """
        return self._keep(io.BytesIO(content))

    def keep_file(self, path: Path) -> str:
        """As `keep`, for the content of a file, which need not fit into memory."""
        with path.open("rb") as file:
            return self._keep(file)

    def recall(self, digest: str) -> bytes:
        """The plain content. Raises CaseFileGone when it is absent, BadStore when altered or unreadable."""
        return b"".join(self._opened(digest))

    @contextmanager
    def plain_copies(self, digests: Sequence[str]) -> Iterator[tuple[Path, ...]]:
        """The plain contents as files, in this order, in a private folder that is gone when the block ends.

        A crash within the block leaves them: who started a process of its own removes what it left, and `sweep` the
        rest at the next start. Raises BadStore as `recall` does, StoreUnavailable when the disk is full or cannot be
        written now.
        """
        with ExitStack() as stack:
            try:
                self._plain.mkdir(parents=True, exist_ok=True, mode=_PRIVATE_FOLDER)
                folder = Path(stack.enter_context(TemporaryDirectory(dir=self._plain)))
                paths = tuple(self._copied(digest, folder / f"{n:05d}") for n, digest in enumerate(digests))
            except OSError as error:
                raise StoreUnavailable(f"case files cannot be opened: {error.strerror}") from error
            yield paths

    def sweep(self) -> None:
        """Remove the plain copies that a crash left. Only while nobody else uses the folder of plain copies."""
        shutil.rmtree(self._plain, ignore_errors=True)

    def sweep_interrupted(self, before: datetime | None) -> int:
        """Remove what writes that were killed left, begun earlier than this; returns how many files.

        before: None only where nobody writes.
        """
        doomed = [path for path in self._folder.glob("[0-9a-f][0-9a-f]/*.tmp") if _is_older(path, before)]
        for path in doomed:
            path.unlink(missing_ok=True)
        return len(doomed)

    def _copied(self, digest: str, path: Path) -> Path:
        with path.open("wb") as file:
            for piece in self._opened(digest):
                file.write(piece)
        return path

    def remove(self, digests: Iterable[str]) -> int:
        """Remove the named contents; returns how many were there."""
        doomed = [path for path in map(self._path, set(digests)) if path.exists()]
        for path in doomed:
            path.unlink(missing_ok=True)
        return len(doomed)

    def purge(self, keep: frozenset[str], before: datetime | None = None) -> int:
        """Remove every whole content but the named ones; returns how many files.

        before: only what was last kept earlier. Cases that run now hold contents that no ledger names yet: beside a
        running service, give a time longer ago than any case takes.
        """
        kept = {self._path(digest) for digest in keep}
        removed = 0
        for path in case_file_paths(self._folder):
            if path not in kept and _is_older(path, before):  # asked now: a running case may have just kept it again
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _keep(self, content: _Stream) -> str:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
        path = self._path(digest)
        try:
            if self._is_whole(digest):
                os.utime(path)  # used again: as young as if it were new
                return digest
            content.seek(0)
            make_private_folder(path.parent)
            self._write(path, digest, content)
        except OSError as error:
            raise StoreUnavailable(f"case file {digest[:12]} cannot be written: {error.strerror}") from error
        return digest

    def _write(self, path: Path, digest: str, content: _Stream) -> None:
        temporary = path.with_suffix(f".{secrets.token_hex(8)}.tmp")
        try:
            temporary.touch(mode=_PRIVATE, exist_ok=False)
            with temporary.open("wb") as file:
                for sealed in self._sealed(digest, content):
                    file.write(sealed)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)  # without it the name itself may be lost with the power

    def _sealed(self, digest: str, content: _Stream) -> Iterator[bytes]:
        cipher, prefix = self._cipher(digest), secrets.token_bytes(_PREFIX_BYTES)
        seen = hashlib.sha256()
        yield prefix
        for number, piece, last in _pieces(content, _PIECE_BYTES):
            seen.update(piece)
            yield cipher.encrypt(_nonce(prefix, number, last=last), piece, None)
        if seen.hexdigest() != digest:
            raise BadStore(f"the file behind {digest[:12]} changed while it was read")

    def _opened(self, digest: str) -> Iterator[bytes]:
        try:
            file = self._path(digest).open("rb")
        except FileNotFoundError as error:
            raise CaseFileGone(f"case file {digest[:12]} is not in the vault") from error
        except OSError as error:
            raise BadStore(f"case file {digest[:12]} cannot be read: {error.strerror}") from error
        with file:
            cipher, prefix = self._cipher(digest), file.read(_PREFIX_BYTES)
            try:
                if len(prefix) < _PREFIX_BYTES:
                    raise InvalidTag
                for number, piece, last in _pieces(file, _PIECE_BYTES + _TAG_BYTES):
                    yield cipher.decrypt(_nonce(prefix, number, last=last), piece, None)
            except InvalidTag as error:
                raise BadStore(f"case file {digest[:12]} was altered or sealed under another key") from error

    def _is_whole(self, digest: str) -> bool:
        """Whether the content is here and opens: a damaged file is written again instead of being trusted."""
        try:
            for _ in self._opened(digest):
                pass
        except BadStore:
            return False
        return True

    def _cipher(self, digest: str) -> AESGCM:
        return AESGCM(hmac.new(self._sealing_key, digest.encode(), hashlib.sha256).digest())

    def _path(self, digest: str) -> Path:
        name = hmac.new(self._naming_key, digest.encode(), hashlib.sha256).hexdigest()
        return self._folder / name[:2] / name


def _pieces(stream: _Stream, size: int) -> Iterator[tuple[int, bytes, bool]]:
    """Number, content and whether it is the last; at least one, which is empty where the stream is."""
    piece, number = stream.read(size), 0
    while True:
        following = stream.read(size)
        yield number, piece, not following
        if not following:
            return
        piece, number = following, number + 1


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + number.to_bytes(4) + bytes([last])


def _is_older(path: Path, before: datetime | None) -> bool:
    """False for what is gone: its write came to its end meanwhile, or another worker was faster."""
    if before is None:
        return True
    try:
        return path.stat().st_mtime < before.timestamp()
    except FileNotFoundError:
        return False


def save_private(path: Path, content: bytes) -> None:
    """Write a file that its owner alone can read, also in place of one that others could. Raises OSError."""
    path.touch(mode=_PRIVATE)
    path.chmod(_PRIVATE)
    path.write_bytes(content)


def make_private_folder(folder: Path) -> None:
    """For its owner only, where there is none; its name outlives a loss of power, also where another just made it."""
    folder.mkdir(parents=True, exist_ok=True, mode=_PRIVATE_FOLDER)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder outlive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
