"""The wording of what we write: whole, refused by key, and no code with a typing error."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapter.decision.policy import Coding, load_policy
from adapter.errors import BadMapping
from adapter.fhir.delivery import load_delivery

_SNOMED = "http://snomed.info/sct"
_MULTIPLICATION = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
    [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
    [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
    [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
    [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
    [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
    [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
    [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
    [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
]
_STEP = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]


def _verhoeff_holds(code: str) -> bool:
    """SNOMED CT identifiers end in a Verhoeff check digit. Source: SNOMED CT Release File Specification."""
    check = 0
    for position, digit in enumerate(map(int, reversed(code))):
        permuted = digit
        for _ in range(position % 8):
            permuted = _STEP[permuted]
        check = _MULTIPLICATION[check][permuted]
    return check == 0


def _snomed_codes() -> list[str]:
    policy, delivery = load_policy(), load_delivery()
    codings: list[Coding | None] = [*delivery.codes.values()]
    codings += [wording.coding for wording in delivery.outcomes.values()]
    codings += [action.coding for action in policy.actions]
    codings += [visit.coding for visit in policy.visits]
    return sorted({coding.code for coding in codings if coding and coding.system == _SNOMED})


def test_the_check_itself_sees_a_typing_error() -> None:
    """A published mistake, one digit too many, fails the check digit."""
    assert _verhoeff_holds("709491003")
    assert not _verhoeff_holds("70709491003")


@pytest.mark.parametrize("code", _snomed_codes())
def test_every_snomed_code_we_write_has_its_check_digit(code: str) -> None:
    """A typing error in a code of ours fails the build."""
    assert _verhoeff_holds(code)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[labels]\nvalentine = "x"\n', "valentine"),
        ('[outcomes.boredom]\ntitle = "x"\n', "boredom"),
        ('[codes.ai_asserted.code]\nstatus = "surely"\n', "status"),
        ('[colours]\nred = "x"\n', "colours"),
    ],
)
def test_a_wrong_row_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    """A wording that nothing uses or nobody can mean never reaches an EHR."""
    (tmp_path / "delivery.toml").write_text(text)
    with pytest.raises(BadMapping, match=named):
        load_delivery(site_folder=tmp_path)


def test_a_site_may_name_its_own_systems(tmp_path: Path) -> None:
    """A site that publishes code systems overrides ours, and the digest says so."""
    (tmp_path / "delivery.toml").write_text('[systems]\nassessment = "urn:oid:2.999.1"\n')
    own = load_delivery(site_folder=tmp_path)
    assert own.systems["assessment"] == "urn:oid:2.999.1"
    assert own.digest != load_delivery().digest
