"""The bearer token from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapter.errors import BadSettings
from adapter.fhir.auth import bearer_from_file


@pytest.mark.fault("F-32")
def test_a_rotated_token_is_picked_up(tmp_path: Path) -> None:
    """The file is read each time; surrounding blanks are not part of the token."""
    path = tmp_path / "token"
    token = bearer_from_file(path)
    path.write_text("first.token\n")
    assert token() == "first.token"
    path.write_text("second-token==")
    assert token() == "second-token=="


@pytest.mark.fault("F-32")
@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"secret\r\nX-Other: 1", b"\xff\xfe"])
def test_what_is_no_token_is_refused_without_repeating_it(tmp_path: Path, content: bytes) -> None:
    """Empty, several words, a header smuggled in: BadSettings names the file and not what it holds."""
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(BadSettings) as caught:
        bearer_from_file(path)()
    assert "token" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.fault("F-32")
def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The administrator reads which file is not there."""
    with pytest.raises(BadSettings, match="absent"):
        bearer_from_file(tmp_path / "absent")()


@pytest.mark.fault("F-48")
def test_a_token_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    """F-48: a secret others can read: the key is named and nothing of the content. The group may, who rotates it."""
    path = tmp_path / "token"
    path.write_text("s3cret")
    path.chmod(0o604)
    with pytest.raises(BadSettings, match=r"fhir\.token_file .* can be read by everybody") as refusal:
        bearer_from_file(path)
    assert "s3cret" not in str(refusal.value)
    path.chmod(0o640)
    assert bearer_from_file(path)() == "s3cret"
