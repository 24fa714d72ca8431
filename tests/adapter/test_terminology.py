"""The tables as one lookup: a site's rows go over ours by key, and a row that cannot be meant is refused by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from adapter.errors import BadMapping
from adapter.terminology import Terminology, load_terminology

_LOINC = "http://loinc.org"
_ICD = "http://hl7.org/fhir/sid/icd-10"
_HOSPITAL = "urn:oid:1.2.3.4"
_HGB = """
[[feature]]
key = "hgb"
kind = "number"
group = "laboratory"
unit = "g/dL"
hard = [4.0, 20.0]
words = ["hemoglobin"]
codes = [{ system = "urn:oid:1.2.3.4", code = "lab-1", status = "verified", source = "the laboratory's own list" }]
"""


def _site(folder: Path, table: str, text: str) -> Path:
    (folder / f"{table}.toml").write_text(text, encoding="utf-8")
    return folder


def test_a_site_row_replaces_ours_of_the_same_key(tmp_path: Path) -> None:
    """A hospital with local codes only (clinical.md 5.7) maps them in its own folder; the other rows stay."""
    site = load_terminology(site_folder=_site(tmp_path, "observations", _HGB))
    own = site.feature_of(_HOSPITAL, "lab-1")
    assert own is not None
    assert (own.key, own.hard) == ("hgb", (4.0, 20.0))
    assert site.feature_of(_LOINC, "718-7") is None
    assert site.features.keys() == load_terminology().features.keys()


def test_a_site_row_of_a_new_key_is_added(tmp_path: Path) -> None:
    """What we do not ship, a site may add."""
    added = _HGB.replace('"hgb"', '"ferritin"').replace("lab-1", "lab-2")
    site = load_terminology(site_folder=_site(tmp_path, "observations", added))
    assert site.features.keys() - load_terminology().features.keys() == {"ferritin"}


def test_a_site_row_changes_the_digest(tmp_path: Path) -> None:
    """Another table is another reading, so the digest that Provenance carries differs; the same tables share one."""
    site = load_terminology(site_folder=_site(tmp_path, "reporting_delays", "[days]\npathology = 12\n"))
    assert site.delay_days["pathology"] == 12
    assert site.delay_days["laboratory"] == load_terminology().delay_days["laboratory"]
    assert site.digest != load_terminology().digest
    assert load_terminology().digest == load_terminology().digest


@pytest.mark.parametrize(
    ("table", "text", "named"),
    [
        ("observations", "this is not TOML", "observations.toml"),
        ("observations", _HGB.replace("words", "wrods"), "observations: hgb: .*wrods"),
        ("observations", _HGB.replace("the laboratory's own list", ""), r"observations: .*lab-1 has no source"),
        ("observations", _HGB.replace('"verified"', '"perhaps"'), r"observations: .*lab-1 has no source or no status"),
        ("observations", _HGB.replace("urn:oid:1.2.3.4", "lionc"), "observations: lionc is no system"),
        ("observations", _HGB.replace('unit = "g/dL"\n', ""), "observations: hgb is a number with a unit"),
        ("observations", _HGB.replace('"laboratory"', '"gossip"'), "observations: hgb has a group without"),
        ("observations", _HGB.replace("urn:oid:1.2.3.4", "loinc").replace("lab-1", "777-3"), "777-3.* two things"),
        ("observations", _HGB + _HGB.replace("lab-1", "lab-2"), "hgb stands twice"),
        ("value_sets", '[[value]]\nfeature = "nothing"\ncategory = "a"\n', "value_sets: nothing is no feature"),
        (
            "value_sets",
            '[[value]]\nfeature = "pT"\ncategory = "early"\ntext = ["t1"]\n',
            "value_sets: .*t1.* two things",
        ),
        (
            "value_sets",
            '[[value]]\nfeature = "ecog"\ncategory = "fit"\n',
            "value_sets: ecog is a number and fit is none",
        ),
        ("reporting_delays", '[days]\npathology = "soon"\n', "reporting_delays: "),
    ],
)
def test_a_bad_row_is_refused_naming_table_and_row(tmp_path: Path, table: str, text: str, named: str) -> None:
    """Refuse to start rather than read a hospital by a table that cannot be meant."""
    with pytest.raises(BadMapping, match=named):
        load_terminology(site_folder=_site(tmp_path, table, text))


def test_the_longest_prefix_wins() -> None:
    """ICD-10 comes with more digits than the tables list; the most specific row decides, a stranger stays unknown."""
    terminology = load_terminology()
    tongue = terminology.condition_of(_ICD, "C02.9")
    assert tongue is not None
    assert (tongue.kind, tongue.site_group) == ("hnscc", "oral_cavity")
    breast = terminology.condition_of(_ICD, "C50.9")
    assert breast is not None
    assert breast.kind == "second_primary"
    assert terminology.condition_of(_ICD, "J45.9") is None
    assert terminology.condition_of("http://snomed.info/sct", "C02.9") is None


def test_text_is_taken_only_as_spelled() -> None:
    """Case and blanks around an answer are forgiven; a sentence is not searched for words."""
    terminology = load_terminology()
    assert terminology.category_of_text("pT", "  t4A ") == "pT4a"
    assert terminology.category_of_text("pT", "not T4a") is None


def test_what_nobody_verified_is_listed() -> None:
    """Live mode can name each row that it refuses; our own codes are always among them."""
    listed = load_terminology().unverified()
    assert "observations: http://loinc.org|1988-5" in listed
    assert "observations: http://loinc.org|718-7" not in listed
    assert any(row.startswith("value_sets: urn:adjuvant:value|p16:") for row in listed)


def test_the_tables_cannot_be_changed_in_passing() -> None:
    """One lookup serves every case: it is frozen, indexes included."""
    terminology: Terminology = load_terminology()
    with pytest.raises(dataclasses.FrozenInstanceError):
        terminology.digest = ""  # type: ignore[misc]  # the breach itself
    with pytest.raises(TypeError):
        terminology.features["hgb"] = None  # type: ignore[index]  # the breach itself


def test_a_category_or_kind_that_does_not_exist_cannot_be_written() -> None:
    """A writer that asks for an answer the feature does not have is stopped by name."""
    terminology = load_terminology()
    with pytest.raises(BadMapping, match="pT has no category pT9"):
        terminology.coding_of_category("pT", "pT9")
    with pytest.raises(BadMapping, match="no code for gout"):
        terminology.coding_of_condition("gout", None)
