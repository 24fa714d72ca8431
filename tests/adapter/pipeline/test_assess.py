"""How the third step ends where it runs on what the store holds alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from adapter.domain.outcome import DeadLetter
from adapter.errors import BadStore, StoreUnavailable
from adapter.pipeline.assess import conclude_stored


class _Vault:
    def __init__(self, error: BaseException) -> None:
        self._error = error

    def recall(self, digest: str) -> bytes:  # noqa: ARG002 (the vault's)
        """Fails as told."""
        raise self._error


def _ports(error: BaseException) -> Any:  # noqa: ANN401 (nothing but the vault is reached)
    return SimpleNamespace(files=_Vault(error))


@pytest.mark.fault("F-17")
@pytest.mark.parametrize("error", [MemoryError(), StoreUnavailable("the vault is away")])
def test_what_another_process_or_another_try_mends_is_no_outcome(error: BaseException) -> None:
    """F-17: a process whose memory is full ends, and the case has a fresh one. Breach: a dead letter at once."""
    with pytest.raises(type(error)):
        conclude_stored("0" * 64, _ports(error))


@pytest.mark.parametrize(
    ("error", "reason"), [(BadStore("a case file is damaged"), "bad-store"), (KeyError("x"), "unexpected-error")]
)
def test_every_other_error_is_an_outcome(error: BaseException, reason: str) -> None:
    """A damaged store, and a bug of ours."""
    settled = conclude_stored("0" * 64, _ports(error)).settled
    assert isinstance(settled, DeadLetter)
    assert settled.reason == reason
