"""Case files lie encrypted, whole, and once; who lacks the key learns nothing from them."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import stat
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.errors import BadStore, CaseFileGone, StoreUnavailable
from adapter.store.vault import Vault, create_site_key, read_site_key

_KEY, _OTHER_KEY = bytes(range(32)), bytes(32)
_CONTENT = b'{"resourceType": "Patient", "birthDate": "1960-07-01"}'


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """An empty vault under the first key."""
    return Vault(tmp_path / "vault", _KEY)


def _files(folder: Path) -> list[Path]:
    """All but the name of the key."""
    return [path for path in (folder / "vault").rglob("*") if path.is_file() and path.name != "key-fingerprint"]


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
    inode = before.stat().st_ino
    vault.keep(_CONTENT)
    assert [path.stat().st_ino for path in _files(tmp_path)] == [inode]


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
    """The names would differ too, and every case file seem to have expired: the vault is not even opened."""
    vault.keep(_CONTENT)
    with pytest.raises(BadStore, match="under another site key"):
        Vault(tmp_path / "vault", _OTHER_KEY)
    (tmp_path / "vault" / "key-fingerprint").unlink()
    with pytest.raises(CaseFileGone, match="not in the vault"):
        Vault(tmp_path / "vault", _OTHER_KEY).recall(hashlib.sha256(_CONTENT).hexdigest())


def test_an_empty_vault_takes_another_key(vault: Vault, tmp_path: Path) -> None:
    """Nothing is sealed yet, so nothing would be lost: `vault` was opened with the first key."""
    other = Vault(tmp_path / "vault", _OTHER_KEY)
    assert other.recall(other.keep(_CONTENT)) == _CONTENT
    with pytest.raises(BadStore, match="under another site key"):
        Vault(tmp_path / "vault", _KEY)


def test_a_case_file_that_is_there_and_cannot_be_read_is_not_gone(vault: Vault, tmp_path: Path) -> None:
    """Only what is absent may be taken for expired."""
    digest = vault.keep(_CONTENT)
    path = next((tmp_path / "vault").glob("*/*"))
    path.unlink()
    path.mkdir()
    with pytest.raises(BadStore, match="cannot be read") as raised:
        vault.recall(digest)
    assert not isinstance(raised.value, CaseFileGone)


def test_purging_keeps_what_is_named_and_nothing_else(vault: Vault, tmp_path: Path) -> None:
    """Retention removes whole contents; what is being written now is no content yet, and not its to take."""
    kept, gone = vault.keep(b"kept"), vault.keep(b"gone")
    (written_now,) = [path.with_suffix(".0123.tmp") for path in _files(tmp_path)[:1]]
    written_now.write_bytes(b"half")
    assert vault.purge(frozenset({kept})) == 1
    assert vault.recall(kept) == b"kept"
    assert written_now.exists()
    with pytest.raises(BadStore):
        vault.recall(gone)


def test_purging_beside_a_running_service_spares_what_is_young(vault: Vault, tmp_path: Path) -> None:
    """A case that runs holds contents that no ledger names yet; keeping again makes an old one young."""
    old, used_again, young = (vault.keep(content) for content in (b"old", b"used again", b"young"))
    last_year = datetime.now(UTC) - timedelta(days=365)
    for path in _files(tmp_path):
        os.utime(path, (last_year.timestamp(), last_year.timestamp()))
    vault.keep(b"used again")
    vault.remove([young])
    vault.keep(b"young")
    assert vault.purge(frozenset(), before=last_year + timedelta(days=1)) == 1
    assert (vault.recall(used_again), vault.recall(young)) == (b"used again", b"young")
    with pytest.raises(BadStore):
        vault.recall(old)


def test_what_is_gone_meanwhile_stops_no_purge(vault: Vault, tmp_path: Path) -> None:
    """Breach: one file that a write renames, or another worker purges, between listing and looking left all the rest.

    Beside threads that seal and workers that purge the same vault without a pause, every purge comes to its end.
    """
    stop = threading.Event()

    def seal(name: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            vault.keep(f"{name} {number}".encode())

    def purge(_: int) -> None:
        for _ in range(100):
            vault.purge(frozenset(), before=datetime(2100, 1, 1, tzinfo=UTC))
            vault.sweep_interrupted(datetime(2000, 1, 1, tzinfo=UTC))

    with ThreadPoolExecutor(4) as pool:
        sealing = [pool.submit(seal, name) for name in range(2)]
        purging = [pool.submit(purge, name) for name in range(2)]
        try:
            for one in purging:
                one.result(timeout=60)
        finally:
            stop.set()
        for one in sealing:
            one.result(timeout=60)
    assert [path.name for path in _files(tmp_path) if path.suffix] == []


def test_removing_takes_the_named_contents_only(vault: Vault) -> None:
    """A patient who is forgotten leaves nothing, and takes nothing of others along; absent ones are not counted."""
    gone, kept = vault.keep(b"gone"), vault.keep(b"kept")
    assert vault.remove([gone, gone, "0" * 64]) == 1
    assert vault.recall(kept) == b"kept"


def test_a_damaged_file_is_written_again(vault: Vault, tmp_path: Path) -> None:
    """A step that is repeated after a disk error heals what it finds, instead of trusting the name."""
    digest = vault.keep(_CONTENT)
    (path,) = _files(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert vault.keep(_CONTENT) == digest
    assert vault.recall(digest) == _CONTENT


@pytest.mark.fault("F-16")
def test_a_disk_that_cannot_be_written_is_waited_for(vault: Vault, tmp_path: Path) -> None:
    """F-16: our own transient error, so that the case is tried again; no stump is left."""
    for name in range(256):
        (tmp_path / "vault" / f"{name:02x}").write_bytes(b"")  # no folder can be made here
    with pytest.raises(StoreUnavailable):
        vault.keep(_CONTENT)
    assert len(_files(tmp_path)) == 256


_MEBIBYTE = 2**20


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of sixteen and a bit pieces."""
    path = tmp_path / "large.dcm"
    path.write_bytes(random.Random(7).randbytes(16 * _MEBIBYTE + 5))
    return path


@pytest.mark.fault("F-17")
def test_a_large_file_passes_through_little_memory(vault: Vault, large: Path, tmp_path: Path) -> None:
    """A series of any size is kept and recalled in pieces: the same digest and the same bytes."""
    tracemalloc.start()
    digest = vault.keep_file(large)
    with vault.plain_copies([digest]) as (copy,):
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 6 * _MEBIBYTE
        assert digest == hashlib.sha256(large.read_bytes()).hexdigest()
        assert copy.read_bytes() == large.read_bytes() == vault.recall(digest)
        assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
    assert not copy.parent.exists()


@pytest.mark.parametrize("harm", ["last piece left out", "two pieces exchanged", "a piece repeated"])
def test_pieces_keep_their_order_and_number(vault: Vault, large: Path, tmp_path: Path, harm: str) -> None:
    """Each piece alone is genuine, the whole is not: refused, and no half file is left behind."""
    digest = vault.keep_file(large)
    (path,) = _files(tmp_path)
    sealed, size = path.read_bytes(), _MEBIBYTE + 16
    prefix, pieces = sealed[:7], [sealed[start : start + size] for start in range(7, len(sealed), size)]
    assert len(pieces) == 17
    if harm == "last piece left out":
        del pieces[-1]
    elif harm == "two pieces exchanged":
        pieces[3], pieces[4] = pieces[4], pieces[3]
    else:
        pieces.insert(3, pieces[3])
    path.write_bytes(prefix + b"".join(pieces))
    with pytest.raises(BadStore, match="altered"), vault.plain_copies([digest]):
        pass
    assert _files(tmp_path) == [path]


@pytest.mark.parametrize("size", [0, 1, _MEBIBYTE - 1, _MEBIBYTE, _MEBIBYTE + 1, 2 * _MEBIBYTE])
def test_any_size_around_a_piece(vault: Vault, size: int) -> None:
    """Nothing is special about a full last piece, or about none."""
    content = bytes(size)
    assert vault.recall(vault.keep(content)) == content


@pytest.mark.fault("F-01")
def test_plain_copies_of_a_crash_are_swept_and_nothing_else(vault: Vault, tmp_path: Path) -> None:
    """F-01: what a killed process left in plain is gone after the next start; a purge never touches an open copy."""
    digest = vault.keep(_CONTENT)
    left = vault.plain_copies([digest])
    (copy,) = left.__enter__()
    vault.purge(frozenset({digest}))
    assert copy.read_bytes() == _CONTENT
    vault.sweep()
    assert (copy.exists(), vault.recall(digest)) == (False, _CONTENT)


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


@pytest.mark.fault("F-48")
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


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was told to outlive a loss of power, in this order; the disk itself cannot be unplugged here."""
    told: list[Path] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        fsync(descriptor)
        told.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(os, "fsync", record)
    return told


def test_a_kept_content_is_found_after_a_loss_of_power(tmp_path: Path, synced: list[Path]) -> None:
    """Law: kept is kept durably: the content, its name, and the names of the folder that holds it and of the vault.

    Breach: the name of a folder that was just made was lost, and every content in it.
    """
    vault = Vault(tmp_path / "vault", _KEY)
    assert tmp_path in synced
    synced.clear()
    vault.keep(_CONTENT)
    path = next((tmp_path / "vault").glob("*/*"))
    content = [one for one in synced if one.name.startswith(path.name)]
    assert len(content) == 1
    assert {*synced} == {*content, path.parent, path.parent.parent}


def test_the_site_key_is_found_after_a_loss_of_power(tmp_path: Path, synced: list[Path]) -> None:
    """Without its name the key is gone, and with it everything that was sealed meanwhile."""
    create_site_key(tmp_path / "keys" / "site.key")
    assert [one for one in synced if one.parent == tmp_path / "keys"] != []
    assert synced[-1] == tmp_path / "keys"
    assert tmp_path in synced


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    """Without its key the service does not start on an old vault with a new one."""
    with pytest.raises(BadStore, match="cannot be read"):
        read_site_key(tmp_path / "nowhere.key")
    assert list(tmp_path.iterdir()) == []


def test_two_workers_share_a_vault_and_sweep_their_own(tmp_path: Path) -> None:
    """What one sealed the other opens; the start of one leaves the open copy of the other alone."""
    one = Vault(tmp_path / "vault", _KEY, plain=tmp_path / "one" / "plain")
    other = Vault(tmp_path / "vault", _KEY, plain=tmp_path / "other" / "plain")
    digest = one.keep(_CONTENT)
    with other.plain_copies([digest]) as (copy,):
        one.sweep()
        assert copy.read_bytes() == _CONTENT


def test_many_who_start_at_once_have_one_key(tmp_path: Path) -> None:
    """Nobody reads half a key, and nobody seals with one that another has replaced."""
    path = tmp_path / "site.key"

    def start(_: int) -> bytes:
        create_site_key(path)
        return read_site_key(path)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(start, range(32)))) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_write_left_is_swept_after_a_while(vault: Vault, tmp_path: Path) -> None:
    """A write that may still be going on is left alone; contents are."""
    digest = vault.keep(_CONTENT)
    folder = next((tmp_path / "vault").glob("[0-9a-f][0-9a-f]"))
    left = folder / "abc.0123456789abcdef.tmp"
    left.write_bytes(b"half")
    assert vault.sweep_interrupted(datetime(2000, 1, 1, tzinfo=UTC)) == 0
    assert vault.sweep_interrupted(datetime(2100, 1, 1, tzinfo=UTC)) == 1
    assert (left.exists(), vault.recall(digest)) == (False, _CONTENT)
