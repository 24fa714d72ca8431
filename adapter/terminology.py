"""The mapping tables as an immutable lookup: from codes to our features, and back for what we write."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import msgspec

from adapter.errors import BadMapping

VALUE_SYSTEM = "urn:adjuvant:value"
_TABLE_OF = {
    "feature": "observations",
    "value": "value_sets",
    "condition": "conditions",
    "procedure": "procedures",
    "medication": "medications",
    "days": "reporting_delays",
}
_PLACE = re.compile(r"`\$\.(?P<section>\w+)(?:\[(?P<row>\d+)\])?")  # where msgspec says that an error lies
_TABLES = ("systems", "observations", "value_sets", "conditions", "procedures", "medications", "reporting_delays")


class Code(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One code of one system. system: canonical address once loaded. status: `verified` or `unverified`."""

    system: str
    code: str
    status: str
    source: str
    display: str = ""


class UnitSpelling(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Another unit that is accepted: value in `unit` times factor = value in the canonical unit."""

    unit: str
    factor: float


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an Observation can mean. kind: `number` or `code`. hard: outside these canonical bounds: quarantined.

    words: one of them stands in a label that means it; never: none of them does.
    """

    key: str
    kind: str
    group: str
    words: tuple[str, ...]
    codes: tuple[Code, ...]
    unit: str | None = None
    hard: tuple[float, float] | None = None
    units: tuple[UnitSpelling, ...] = ()
    never: tuple[str, ...] = ()


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One answer of a coded feature. text: spellings accepted as written, case ignored."""

    feature: str
    category: str
    codes: tuple[Code, ...] = ()
    text: tuple[str, ...] = ()


class ConditionKind(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a Condition can mean."""

    kind: str
    codes: tuple[Code, ...]
    site_group: str | None = None


class ProcedureKind(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a Procedure can mean."""

    kind: str
    codes: tuple[Code, ...]


class Ingredient(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A drug we know."""

    ingredient: str
    codes: tuple[Code, ...]


class _Tables(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    systems: dict[str, str]
    feature: tuple[Feature, ...]
    value: tuple[Value, ...]
    condition: tuple[ConditionKind, ...]
    procedure: tuple[ProcedureKind, ...]
    medication: tuple[Ingredient, ...]
    days: dict[str, float]


_DECODER = msgspec.json.Decoder(_Tables)
_Row = TypeVar("_Row", Feature, Value, ConditionKind, ProcedureKind, Ingredient)
_Key = TypeVar("_Key")
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminology:
    """Every table, indexed. digest: SHA-256, hexadecimal, over all rows in canonical JSON."""

    digest: str
    features: Mapping[str, Feature]
    delay_days: Mapping[str, float]
    _feature_by_code: Mapping[tuple[str, str], str] = field(repr=False)
    _category_by_code: Mapping[tuple[str, str, str], str] = field(repr=False)
    _category_by_text: Mapping[tuple[str, str], str] = field(repr=False)
    _value_codes: Mapping[tuple[str, str], tuple[Code, ...]] = field(repr=False)
    _conditions: Mapping[tuple[str, str], ConditionKind] = field(repr=False)
    _procedures: Mapping[tuple[str, str], ProcedureKind] = field(repr=False)
    _ingredients: Mapping[tuple[str, str], Ingredient] = field(repr=False)
    _rows: tuple[tuple[str, Code], ...] = field(repr=False)

    def feature_of(self, system: str, code: str) -> Feature | None:
        """The feature a code carries; None when it is not mapped."""
        key = self._feature_by_code.get((system, code))
        return self.features[key] if key is not None else None

    def category_of(self, feature: str, system: str, code: str) -> str | None:
        """The category a coded answer means for this feature; None when it is not mapped."""
        return self._category_by_code.get((feature, system, code))

    def category_of_text(self, feature: str, text: str) -> str | None:
        """The category of an answer that is one of the accepted spellings, case ignored."""
        return self._category_by_text.get((feature, text.strip().casefold()))

    def condition_of(self, system: str, code: str) -> ConditionKind | None:
        """The longest match among the condition rows."""
        return _longest(self._conditions, system, code)

    def procedure_of(self, system: str, code: str) -> ProcedureKind | None:
        """The longest match among the procedure rows."""
        return _longest(self._procedures, system, code)

    def ingredient_of(self, system: str, code: str) -> str | None:
        """The ingredient a drug code names."""
        found = self._ingredients.get((system, code))
        return found.ingredient if found else None

    def coding_of_feature(self, feature: str) -> Code:
        """The code we write for a feature: the first of its row."""
        return self.features[feature].codes[0]

    def coding_of_category(self, feature: str, category: str) -> Code:
        """The code we write for an answer. Raises BadMapping for a category the feature does not have."""
        codes = self._value_codes.get((feature, category))
        if not codes:
            raise BadMapping(f"value_sets: {feature} has no category {category}")
        return codes[0]

    def coding_of_condition(self, kind: str, site_group: str | None) -> Code:
        """A code that means this condition and site; never a prefix. Raises BadMapping."""
        return _first_exact(
            (row for row in self._conditions.values() if row.kind == kind and row.site_group == site_group),
            f"conditions: no code for {kind}",
        )

    def coding_of_procedure(self, kind: str) -> Code:
        """A code that means this procedure. Raises BadMapping."""
        rows = (row for row in self._procedures.values() if row.kind == kind)
        return _first_exact(rows, f"procedures: no code for {kind}")

    def coding_of_ingredient(self, ingredient: str) -> Code:
        """A code that means this drug. Raises BadMapping."""
        rows = (row for row in self._ingredients.values() if row.ingredient == ingredient)
        return _first_exact(rows, f"medications: no code for {ingredient}")

    def unverified(self) -> tuple[str, ...]:
        """`table: system|code` of every row that nobody has verified; live mode refuses a site that relies on one."""
        return tuple(f"{table}: {row.system}|{row.code}" for table, row in self._rows if row.status != "verified")

    def rows(self) -> Iterator[tuple[str, Code]]:
        """Every code of every table, with the table's name."""
        return iter(self._rows)


def load_terminology(mappings_folder: Path | None = None, site_folder: Path | None = None) -> Terminology:
    """Read the shipped tables, merge the site's own over them by key, check and index them.

    Raises BadMapping naming table and row: unknown key, duplicate code, unknown system, a row without a source.
    """
    content = {name: rows for table in _TABLES for name, rows in _read(table, mappings_folder, site_folder).items()}
    tables = _typed(content)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return _indexed(tables, hashlib.sha256(canonical.encode()).hexdigest())


def _typed(content: Mapping[str, object]) -> _Tables:
    """Every row as its type. Raises BadMapping naming table and row."""
    try:
        return _DECODER.decode(json.dumps(content))
    except msgspec.ValidationError as error:
        place = _PLACE.search(str(error))
        if place is None:
            raise BadMapping(f"mapping tables: {error}") from error
        section, number = place["section"], place["row"]
        rows = content[section]
        key = _name_of(rows[int(number)]) if number and isinstance(rows, list) else section
        raise BadMapping(f"{_TABLE_OF.get(section, section)}: {key}: {error}") from error


def _name_of(row: object) -> str:
    return " ".join(str(part) for part in _row_key(row) if part is not None)


def _read(table: str, folder: Path | None, site_folder: Path | None) -> dict[str, object]:
    shipped = (folder or Path(str(files("mappings")))) / f"{table}.toml"
    merged = _parsed(shipped)
    site = site_folder / f"{table}.toml" if site_folder else None
    if site and site.exists():
        for name, rows in _parsed(site).items():
            merged[name] = _merged(merged.get(name), rows)
    return merged


def _parsed(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadMapping(f"{path.name} cannot be read") from error


def _merged(shipped: object, site: object) -> object:
    """Site rows replace the shipped row of the same key and are added otherwise."""
    if isinstance(shipped, dict) and isinstance(site, dict):
        return {**shipped, **site}
    if isinstance(shipped, list) and isinstance(site, list):
        return list({**_by_key(shipped), **_by_key(site)}.values())
    return site


def _by_key(rows: Iterable[object]) -> dict[tuple[object, ...], object]:
    """The rows of one file by key. Raises BadMapping where two rows of it share one."""
    by_key: dict[tuple[object, ...], object] = {}
    for row in rows:
        key = _row_key(row)
        if key in by_key:
            raise BadMapping(f"a mapping row for {_name_of(row)} stands twice")
        by_key[key] = row
    return by_key


def _row_key(row: object) -> tuple[object, ...]:
    if not isinstance(row, dict):
        raise BadMapping("a mapping row is not a table")
    names = ("key",) if "key" in row else ("feature", "category", "kind", "site_group", "ingredient")
    return tuple(row.get(name) for name in names)


def _indexed(tables: _Tables, digest: str) -> Terminology:
    systems = tables.systems
    features = [_resolved(row, systems, "observations") for row in tables.feature]
    values = [_with_own_code(_resolved(row, systems, "value_sets")) for row in tables.value]
    conditions = [_resolved(row, systems, "conditions") for row in tables.condition]
    procedures = [_resolved(row, systems, "procedures") for row in tables.procedure]
    medications = [_resolved(row, systems, "medications") for row in tables.medication]
    known = {row.key for row in features}
    numbers = {row.key: row.kind == "number" for row in features}
    for value in values:
        if value.feature not in known:
            raise BadMapping(f"value_sets: {value.feature} is no feature")
        if numbers.get(value.feature) and not value.category.isdecimal():
            raise BadMapping(f"value_sets: {value.feature} is a number and {value.category} is none")
    for feature in features:
        if feature.group not in tables.days:
            raise BadMapping(f"observations: {feature.key} has a group without a reporting delay")
        if (feature.kind == "number") is (feature.unit is None) or feature.kind not in {"number", "code"}:
            raise BadMapping(f"observations: {feature.key} is a number with a unit or a code without one")
    return Terminology(
        digest=digest,
        features=_unique("observations", ((row.key, row) for row in features)),
        delay_days=MappingProxyType(dict(tables.days)),
        _feature_by_code=_unique(
            "observations", (((c.system, c.code), row.key) for row in features for c in row.codes)
        ),
        _category_by_code=_unique(
            "value_sets", (((row.feature, c.system, c.code), row.category) for row in values for c in row.codes)
        ),
        _category_by_text=_unique(
            "value_sets", (((row.feature, text.casefold()), row.category) for row in values for text in row.text)
        ),
        _value_codes=_unique("value_sets", (((row.feature, row.category), row.codes) for row in values)),
        _conditions=_unique("conditions", (((c.system, c.code), row) for row in conditions for c in row.codes)),
        _procedures=_unique("procedures", (((c.system, c.code), row) for row in procedures for c in row.codes)),
        _ingredients=_unique("medications", (((c.system, c.code), row) for row in medications for c in row.codes)),
        _rows=tuple(
            (table, code)
            for table, rows in (
                ("observations", features),
                ("value_sets", values),
                ("conditions", conditions),
                ("procedures", procedures),
                ("medications", medications),
            )
            for row in rows
            for code in row.codes
        ),
    )


def _resolved(row: _Row, systems: Mapping[str, str], table: str) -> _Row:
    """The row with canonical system addresses; each code has a source and a system we know."""
    codes = []
    for code in row.codes:
        if not code.source or code.status not in {"verified", "unverified"}:
            raise BadMapping(f"{table}: {code.system}|{code.code} has no source or no status")
        address = code.system if ":" in code.system else systems.get(code.system)
        if address is None:
            raise BadMapping(f"{table}: {code.system} is no system of systems.toml")
        codes.append(msgspec.structs.replace(code, system=address))
    return msgspec.structs.replace(row, codes=tuple(codes))


def _with_own_code(row: Value) -> Value:
    """Every category can be written: behind the standard codes stands one of our own, never verified."""
    own = Code(
        system=VALUE_SYSTEM,
        code=f"{row.feature}:{row.category}",
        display=row.category.replace("_", " "),
        status="unverified",
        source="adjuvant's own, so that every category can be written",
    )
    return msgspec.structs.replace(row, codes=(*row.codes, own))


def _unique(table: str, pairs: Iterable[tuple[_Key, _Found]]) -> Mapping[_Key, _Found]:
    index: dict[_Key, _Found] = {}
    for key, found in pairs:
        if key in index and index[key] != found:
            raise BadMapping(f"{table}: {key} stands for two things")
        index[key] = found
    return MappingProxyType(index)


def _longest(index: Mapping[tuple[str, str], _Found], system: str, code: str) -> _Found | None:
    """The row with exactly this code, else the one with the longest prefix, written with a closing `*`."""
    exact = index.get((system, code))
    if exact is not None:
        return exact
    for length in range(len(code), 0, -1):
        found = index.get((system, code[:length] + "*"))
        if found is not None:
            return found
    return None


def _first_exact(rows: Iterable[ConditionKind | ProcedureKind | Ingredient], complaint: str) -> Code:
    """The first code of the first row; of a prefix row its stem, which is a legal code too."""
    for row in rows:
        for code in row.codes:
            return msgspec.structs.replace(code, code=code.code.removesuffix("*"))
    raise BadMapping(complaint)
