"""Case files lie encrypted, whole, and once; who lacks the key learns nothing from them."""

from __future__ import annotations

import base64
import hashlib
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.errors import BadStore
from adapter.store.vault import Vault, create_site_key, read_site_key

_KEY, _OTHER_KEY = bytes(range(32)), bytes(32)
_CONTENT = b'{"resourceType": "Patient", "birthDate": "1960-07-01"}'


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """An empty vault under the first key."""
    return Vault(tmp_path / "vault", _KEY)


def _files(folder: Path) -> list[Path]:
    return [path for path in (folder / "vault").rglob("*") if path.is_file()]


@given(st.binary(max_size=4096))
def test_what_is_kept_is_recalled(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Any bytes come back as they were, under the SHA-256 of the plain content."""
    vault = Vault(tmp_path_factory.getbasetemp() / "vault-of-many", _KEY)
    digest = vault.keep(content)
    assert digest == hashlib.sha256(content).hexdigest()
    assert vault.recall(digest) == content


def test_the_same_content_is_kept_once(vault: Vault, tmp_path: Path) -> None:
    """Keeping again, as a repeated step does, neither adds a file nor writes the old one again."""
    vault.keep(_CONTENT)
    (before,) = _files(tmp_path)
    stamp = before.stat().st_mtime_ns
    vault.keep(_CONTENT)
    assert [path.stat().st_mtime_ns for path in _files(tmp_path)] == [stamp]


def test_a_file_tells_nothing_without_the_key(vault: Vault, tmp_path: Path) -> None:
    """Neither content nor its digest stands in a file or its name: a known document cannot be looked for."""
    digest = vault.keep(_CONTENT)
    (path,) = _files(tmp_path)
    assert b"Patient" not in path.read_bytes()
    assert digest[:8] not in str(path.relative_to(tmp_path))


@pytest.mark.parametrize("position", [0, 12, 20, -1])
def test_an_altered_file_is_refused(vault: Vault, tmp_path: Path, position: int) -> None:
    """One flipped bit in the nonce, the text or the tag: BadStore, never other content."""
    digest = vault.keep(_CONTENT)
    (path,) = _files(tmp_path)
    sealed = bytearray(path.read_bytes())
    sealed[position] ^= 1
    path.write_bytes(sealed)
    with pytest.raises(BadStore, match="altered"):
        vault.recall(digest)


@pytest.mark.parametrize("length", [0, 5, 12, 27])
def test_a_file_cut_short_is_refused(vault: Vault, tmp_path: Path, length: int) -> None:
    """A full disk leaves a stump: it is refused by our own error, however short it is."""
    digest = vault.keep(_CONTENT)
    (path,) = _files(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BadStore):
        vault.recall(digest)


def test_a_file_put_under_another_name_is_refused(vault: Vault, tmp_path: Path) -> None:
    """Two files exchanged: each is bound to its digest."""
    first = vault.keep(b"first")
    (path,) = _files(tmp_path)
    second = vault.keep(b"second")
    (other,) = [one for one in _files(tmp_path) if one != path]
    other.write_bytes(path.read_bytes())
    assert vault.recall(first) == b"first"
    with pytest.raises(BadStore):
        vault.recall(second)


def test_another_key_opens_nothing(vault: Vault, tmp_path: Path) -> None:
    """Under another key the names differ too, so the file is not even found."""
    digest = vault.keep(_CONTENT)
    with pytest.raises(BadStore, match="not in the vault"):
        Vault(tmp_path / "vault", _OTHER_KEY).recall(digest)


def test_purging_keeps_what_is_named_and_nothing_else(vault: Vault, tmp_path: Path) -> None:
    """Retention removes content and the leftovers of interrupted writes."""
    kept, gone = vault.keep(b"kept"), vault.keep(b"gone")
    (leftover,) = [path.with_suffix(".0123.tmp") for path in _files(tmp_path)[:1]]
    leftover.write_bytes(b"half")
    assert vault.purge(frozenset({kept})) == 2
    assert vault.recall(kept) == b"kept"
    with pytest.raises(BadStore):
        vault.recall(gone)


def test_folder_and_files_are_the_owner_s_only(vault: Vault, tmp_path: Path) -> None:
    """No other user of the machine can list the vault."""
    vault.keep(_CONTENT)
    assert stat.S_IMODE((tmp_path / "vault").stat().st_mode) == 0o700


def test_the_site_key_is_made_once_and_private(tmp_path: Path) -> None:
    """A second start leaves the key alone: a new one would lose every case file."""
    path = tmp_path / "keys" / "site.key"
    create_site_key(path)
    first = read_site_key(path)
    create_site_key(path)
    assert (read_site_key(path), len(first)) == (first, 32)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """The message says what to do."""
    path = tmp_path / "site.key"
    create_site_key(path)
    path.chmod(0o640)
    with pytest.raises(BadStore, match="chmod 600"):
        read_site_key(path)


@pytest.mark.parametrize("content", [b"", b"not base64!", base64.b64encode(b"too short"), base64.b64encode(bytes(64))])
def test_a_key_of_another_shape_is_refused(tmp_path: Path, content: bytes) -> None:
    """Half a key, or a password, is not stretched into one."""
    path = tmp_path / "site.key"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(BadStore):
        read_site_key(path)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    """Without its key the service does not start on an old vault with a new one."""
    with pytest.raises(BadStore, match="cannot be read"):
        read_site_key(tmp_path / "nowhere.key")
    assert list(tmp_path.iterdir()) == []
