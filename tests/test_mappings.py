"""The mapping tables: every check digit holds, every row is sourced, and every row can be used both ways."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import mappings
from adapter.terminology import Feature, load_terminology

_FOLDER = Path(str(mappings.__file__)).parent
_TABLES = sorted(_FOLDER.rglob("*.toml"))
_SNOMED = {"snomed", "http://snomed.info/sct"}
_LOINC = {"loinc", "http://loinc.org"}
_TERMINOLOGY = load_terminology()
_FEATURES = tuple(_TERMINOLOGY.features.values())


def _dihedral(left: int, right: int) -> int:
    """The product in the dihedral group of ten elements, Verhoeff's `d` table."""
    if left < 5:
        return (left + right) % 5 if right < 5 else 5 + (left + right) % 5
    return 5 + (left - right) % 5 if right < 5 else (left - right) % 5


def verhoeff_holds(code: str) -> bool:
    """Whether a SNOMED CT identifier ends in its check digit.

    Source: SNOMED CT Release File Specification, section 5.5 (Check-digit), Verhoeff's dihedral algorithm.
    """
    if not code.isdecimal() or not 6 <= len(code) <= 18:
        return False
    step = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
    check = 0
    for position, digit in enumerate(reversed(code)):
        moved = int(digit)
        for _ in range(position % 8):
            moved = step[moved]
        check = _dihedral(check, moved)
    return check == 0


def mod_ten_holds(code: str) -> bool:
    """Whether a LOINC number ends in its check digit. Source: LOINC Users' Guide, appendix on the mod 10 algorithm."""
    number, dash, check = code.partition("-")
    if not dash or not number.isdecimal() or not 1 <= len(number) <= 7 or len(check) != 1:
        return False
    doubled = [int(digit) * (2 if position % 2 == 0 else 1) for position, digit in enumerate(reversed(number))]
    return (sum(value // 10 + value % 10 for value in doubled) + int(check)) % 10 == 0


def _codes_in(content: object) -> Iterator[dict[str, object]]:
    """Every table with a system and a code, however deep."""
    if isinstance(content, dict):
        if "system" in content and "code" in content:
            yield content
        for inner in content.values():
            yield from _codes_in(inner)
    elif isinstance(content, list):
        for inner in content:
            yield from _codes_in(inner)


def _rows(systems: set[str]) -> list[tuple[str, str]]:
    """`file` and code of every row of these systems, of every table, the policy's and the delivery's too."""
    return sorted(
        {
            (path.name, str(row["code"]))
            for path in _TABLES
            for row in _codes_in(tomllib.loads(path.read_text(encoding="utf-8")))
            if row["system"] in systems
        }
    )


def test_every_snomed_code_has_its_check_digit() -> None:
    """Clinical.md 5.17: a misprinted SNOMED CT code never ships."""
    rows = _rows(_SNOMED)
    assert len(rows) > 100
    assert [row for row in rows if not verhoeff_holds(row[1])] == []


def test_every_loinc_code_has_its_check_digit() -> None:
    """Clinical.md 5.17: a misprinted LOINC code never ships."""
    rows = _rows(_LOINC)
    assert len(rows) > 60
    assert [row for row in rows if not mod_ten_holds(row[1])] == []


@pytest.mark.parametrize("misprint", ["70709491003", "27708005"])
def test_published_snomed_misprints_are_caught(misprint: str) -> None:
    """The check is not decoration: it catches errors that were published."""
    assert not verhoeff_holds(misprint)


@pytest.mark.parametrize("code", ["709491003", "277208005", "371513001"])
def test_their_corrections_pass(code: str) -> None:
    """The same identifiers as they should have been printed."""
    assert verhoeff_holds(code)


def test_the_published_loinc_misprint_is_caught() -> None:
    """`1106630-7` was published; `2160-0` and `718-7` are right."""
    assert not mod_ten_holds("1106630-7")
    assert mod_ten_holds("2160-0")
    assert mod_ten_holds("718-7")


def test_every_code_has_a_source_and_a_status() -> None:
    """A reviewer can follow each row to where it was seen."""
    unsourced = [
        (path.name, row)
        for path in _TABLES
        for row in _codes_in(tomllib.loads(path.read_text(encoding="utf-8")))
        if not row.get("source") or row.get("status") not in {"verified", "unverified"}
    ]
    assert unsourced == []


def test_no_code_stands_in_one_row_twice() -> None:
    """A row that lists a code twice was pasted, not reviewed."""
    seen = Counter((table, row.system, row.code) for table, row in _TERMINOLOGY.rows() if table != "value_sets")
    assert [key for key, count in seen.items() if count > 1] == []


@pytest.mark.parametrize("feature", _FEATURES, ids=lambda feature: feature.key)
def test_every_code_of_a_feature_leads_back_to_it(feature: Feature) -> None:
    """What we write for a feature, we read as that feature."""
    assert all(_TERMINOLOGY.feature_of(code.system, code.code) == feature for code in feature.codes)
    assert _TERMINOLOGY.coding_of_feature(feature.key) == feature.codes[0]


@pytest.mark.parametrize("feature", _FEATURES, ids=lambda feature: feature.key)
def test_every_feature_can_be_answered(feature: Feature) -> None:
    """A number has a unit, a range and spellings that keep its sign; a coded feature has answers to choose from."""
    if feature.kind == "number":
        assert feature.unit is not None
        assert feature.hard is not None
        assert feature.hard[0] < feature.hard[1]
        assert all(spelling.factor > 0 for spelling in feature.units)
    else:
        assert _categories(feature.key) != []


def _categories(feature: str) -> list[str]:
    content = tomllib.loads((_FOLDER / "value_sets.toml").read_text(encoding="utf-8"))
    return [row["category"] for row in content["value"] if row["feature"] == feature]


@pytest.mark.parametrize("feature", [entry for entry in _FEATURES if entry.kind == "code"], ids=lambda entry: entry.key)
def test_every_category_can_be_written_and_read_back(feature: Feature) -> None:
    """Each row of a value set is used: its code and each of its spellings mean its category and no other."""
    for category in _categories(feature.key):
        code = _TERMINOLOGY.coding_of_category(feature.key, category)
        assert _TERMINOLOGY.category_of(feature.key, code.system, code.code) == category


def _shipped(table: str, name: str) -> list[dict[str, str]]:
    content = tomllib.loads((_FOLDER / f"{table}.toml").read_text(encoding="utf-8"))
    return list(content[name])


def test_every_condition_can_be_written_and_read_back() -> None:
    """The code we would write for a condition and site means that condition and site."""
    for row in _shipped("conditions", "condition"):
        code = _TERMINOLOGY.coding_of_condition(row["kind"], row.get("site_group"))
        found = _TERMINOLOGY.condition_of(code.system, code.code)
        assert found is not None
        assert (found.kind, found.site_group) == (row["kind"], row.get("site_group"))


def test_every_procedure_can_be_written_and_read_back() -> None:
    """The code we would write for a procedure means that procedure."""
    for row in _shipped("procedures", "procedure"):
        code = _TERMINOLOGY.coding_of_procedure(row["kind"])
        found = _TERMINOLOGY.procedure_of(code.system, code.code)
        assert found is not None
        assert found.kind == row["kind"]


def test_every_drug_can_be_written_and_read_back() -> None:
    """The code we would write for a drug means that drug."""
    for row in _shipped("medications", "medication"):
        code = _TERMINOLOGY.coding_of_ingredient(row["ingredient"])
        assert _TERMINOLOGY.ingredient_of(code.system, code.code) == row["ingredient"]
