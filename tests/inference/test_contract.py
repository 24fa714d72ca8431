"""The schema hash is the contract: whatever a number's meaning depends on changes it, and the version does not."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from inference.contract import ImageInput, ModelContract, SequenceInput, StaticInput

_STATIC = StaticInput(name="pN", feature="pN", levels=(("pN0", 0.0), ("pN1", 1.0)))
_COLUMN = SequenceInput(name="hgb", feature="hgb", unit="g/dL")
_CONTRACT = ModelContract(
    model_name="made-up",
    model_version="1",
    static=(StaticInput(name="age", feature="age_at_surgery", unit="a", required=True), _STATIC),
    sequence=(_COLUMN, SequenceInput(name="rdw", feature="rdw", unit="%")),
    sequence_length=8,
    horizon_quarters=20,
)
_IMAGE = ImageInput(shape=(4, 8, 8), spacing_mm=(6.0, 6.0, 6.0), window_hu=(-200.0, 300.0), embedding=8)
_CHANGES: dict[str, object] = {
    "model_name": "other",
    "static": _CONTRACT.static[::-1],
    "sequence": _CONTRACT.sequence[::-1],
    "sequence_length": 9,
    "horizon_quarters": 8,
    "image": _IMAGE,
}


def test_every_field_is_under_test() -> None:
    """A field that is added later is either in the hash or said not to be."""
    assert {field.name for field in fields(ModelContract)} == {*_CHANGES, "model_version"}


def test_the_hash_is_a_known_one() -> None:
    """Breach: two versions of adjuvant that disagree about what the same bundle says."""
    assert _CONTRACT.schema_sha256 == "c6ba7a828af630586867cf1ac70ae37fd8f50359f17e6abc0b132df4206d423a"


def test_a_new_version_of_the_same_schema_keeps_the_hash() -> None:
    """Weights may change, meaning may not."""
    assert replace(_CONTRACT, model_version="2").schema_sha256 == _CONTRACT.schema_sha256


@pytest.mark.parametrize("name", _CHANGES)
def test_any_other_field_changes_the_hash(name: str) -> None:
    """Order and shape included."""
    assert replace(_CONTRACT, **{name: _CHANGES[name]}).schema_sha256 != _CONTRACT.schema_sha256  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [
        replace(_STATIC, name="n"),
        replace(_STATIC, feature="cN"),
        replace(_STATIC, unit="1"),
        replace(_STATIC, levels=_STATIC.levels[::-1]),
        replace(_STATIC, levels=(("pN0", 0.0), ("pN1", 2.0))),
        replace(_STATIC, required=True),
    ],
)
def test_any_change_of_an_entry_changes_the_hash(other: StaticInput) -> None:
    """Its unit, the number behind a category, whether the model may be asked without it."""
    changed = replace(_CONTRACT, static=(_CONTRACT.static[0], other))
    assert changed.schema_sha256 != _CONTRACT.schema_sha256


@pytest.mark.parametrize(
    "other", [replace(_COLUMN, name="hb"), replace(_COLUMN, feature="hct"), replace(_COLUMN, unit="g/L")]
)
def test_any_change_of_a_column_changes_the_hash(other: SequenceInput) -> None:
    """Grams per litre in a column of grams per decilitre is another schema."""
    assert replace(_CONTRACT, sequence=(other, _CONTRACT.sequence[1])).schema_sha256 != _CONTRACT.schema_sha256


@pytest.mark.parametrize(
    "other",
    [
        replace(_IMAGE, shape=(8, 4, 8)),
        replace(_IMAGE, spacing_mm=(6.0, 6.0, 3.0)),
        replace(_IMAGE, window_hu=(-200.0, 400.0)),
        replace(_IMAGE, embedding=16),
    ],
)
def test_any_change_of_the_image_changes_the_hash(other: ImageInput) -> None:
    """Another grid, window or embedding is another schema: an encoder never reads what it was not trained on."""
    assert replace(_CONTRACT, image=other).schema_sha256 != replace(_CONTRACT, image=_IMAGE).schema_sha256


def test_a_contract_without_image_says_nothing_of_one() -> None:
    """Bundles made before there were images keep their hash."""
    assert "image" not in _CONTRACT.stated
