"""The policy tables on disk: every row typed, every unknown key refused, a site's rows merged by key."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from adapter.errors import BadMapping

SHIPPED = Path(__file__).resolve().parents[2] / "mappings"
_TABLES = ("rules", "evidence", "regimens", "follow_up")
_ROW_KEYS = ("id", "key", "feature")

Verdicts = Literal[
    "concordant", "option", "uncertain", "discordant", "contraindicated", "not_assessable", "out_of_scope"
]
ActivityKind = Literal["Appointment", "MedicationRequest", "ServiceRequest"]


class _Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table row; a key it does not know is an error that names it."""


class ConditionRow(
    _Row,
    frozen=True,
    kw_only=True,
    rename={"any_of": "any", "all_of": "all", "unless": "not", "one_of": "in"},
):
    """One condition in the notation explained at the top of rules.toml."""

    feature: str | None = None
    one_of: tuple[str, ...] | None = None
    below: str | None = None
    at_most: str | None = None
    at_least: str | None = None
    above: str | None = None
    only_if: str | None = None
    rule: str | None = None
    all_of: tuple[ConditionRow, ...] | None = None
    any_of: tuple[ConditionRow, ...] | None = None
    unless: ConditionRow | None = None


class ParameterRow(_Row, frozen=True, kw_only=True):
    """A threshold in the canonical unit of the feature it is compared with."""

    value: float
    unit: str
    source: str


class ChoiceRow(_Row, frozen=True, kw_only=True):
    """A choice among named rows."""

    value: str
    source: str


class SwitchRow(_Row, frozen=True, kw_only=True):
    """A clause that a site turns on."""

    value: bool
    source: str


class FeatureRow(_Row, frozen=True, kw_only=True):
    """One feature the rules know; the columns are explained in rules.toml."""

    key: str
    title: str | None = None
    kind: Literal["number", "coded", "flag"]
    unit: str | None = None
    values: tuple[str, ...] = ()
    aliases: dict[str, str] = {}
    names: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    pathology: bool = False
    fresh: bool = False
    several: bool = False


class NotReadRow(_Row, frozen=True, kw_only=True):
    """Feature keys of the dictionary that no rule reads."""

    keys: tuple[str, ...]


class AssumptionRow(_Row, frozen=True, kw_only=True):
    """What absence on record means, where a site says so."""

    feature: str
    enabled: bool
    reads_as: Literal["no"]
    sentence: str
    source: str


class RuleRow(_Row, frozen=True, kw_only=True):
    """One named rule. sentence: said when true; violated: said when false."""

    id: str
    title: str
    when: ConditionRow
    sentence: str = ""
    violated: str = ""
    evidence: tuple[str, ...] = ()
    source: str


class PanelItemRow(_Row, frozen=True, kw_only=True):
    """One criterion of a cisplatin panel."""

    id: str
    severity: Literal["unsuitable", "borderline"]
    when: ConditionRow
    sentence: str


class PanelRow(_Row, frozen=True, kw_only=True):
    """One published panel on cisplatin. not_checked: its criteria that no feature can answer."""

    id: str
    title: str
    evidence: tuple[str, ...]
    not_checked: str
    item: tuple[PanelItemRow, ...]


class FlagRow(_Row, frozen=True, kw_only=True):
    """Something worth saying that changes no verdict."""

    id: str
    when: ConditionRow
    sentence: str
    source: str


class RulesTable(_Row, frozen=True, kw_only=True):
    """rules.toml."""

    version: str
    parameters: dict[str, ParameterRow]
    choices: dict[str, ChoiceRow]
    switches: dict[str, SwitchRow]
    feature: tuple[FeatureRow, ...]
    not_read: NotReadRow
    assumption: tuple[AssumptionRow, ...]
    rule: tuple[RuleRow, ...]
    panel: tuple[PanelRow, ...]
    flag: tuple[FlagRow, ...]


class EvidenceRow(_Row, frozen=True, kw_only=True):
    """One trial, guideline or consensus."""

    id: str
    title: str
    population: str
    effect: str
    checked: Literal["read", "not re-checked"]
    doi: str | None = None


class EffectRow(_Row, frozen=True, kw_only=True):
    """One hazard ratio of a trial. control_percent: without the event at control_months in a control arm.

    endpoint_kind: `event_free` where the hazard ratio moves a rate that is given; `cause` for one cause of death.
    risk_group: where the effect is of one group only.
    """

    id: str
    evidence: str
    endpoint: str
    endpoint_kind: Literal["event_free", "cause"]
    comparison: str
    population: str
    hazard_ratio: float
    low: float
    high: float
    checked: Literal["read", "not re-checked"]
    source: str
    level: float = 95
    risk_group: Literal["high", "intermediate"] | None = None
    control_percent: float | None = None
    control_months: int | None = None
    control_evidence: str | None = None
    control_arm: str = ""


class EvidenceTable(_Row, frozen=True, kw_only=True):
    """evidence.toml."""

    evidence: tuple[EvidenceRow, ...]
    effect: tuple[EffectRow, ...]


class CodeRow(_Row, frozen=True, kw_only=True):
    """One code of a code system, with how sure we are of it."""

    system: str
    code: str
    status: Literal["verified", "unverified"]
    source: str
    display: str | None = None


class VerdictRow(_Row, frozen=True, kw_only=True):
    """One line of an action's decision list."""

    when: ConditionRow
    verdict: Verdicts
    sentence: str


class RadiotherapyRow(_Row, frozen=True, kw_only=True):
    """One prescription, for one risk group or for any."""

    total_gy: float
    fractions: int
    source: str
    risk_group: Literal["high", "intermediate", "low"] | None = None


class DrugRow(_Row, frozen=True, kw_only=True):
    """One drug of a regimen; days count from the start of the phase."""

    ingredient: str
    dose: float
    unit: Literal["mg", "mg/m2"]
    phase: Literal["before", "with", "after"]
    every_days: int
    doses: int
    source: str
    first_day: int = 1
    at_most: bool = False


class ActionRow(_Row, frozen=True, kw_only=True):
    """One action of the closed set."""

    id: str
    title: str
    kind: ActivityKind
    regimen: str
    otherwise: Verdicts
    otherwise_sentence: str
    source: str
    verdicts: tuple[VerdictRow, ...]
    out_of_scope: Verdicts = "out_of_scope"
    undecided: Verdicts = "not_assessable"
    code: CodeRow | None = None
    evidence: tuple[str, ...] = ()
    radiotherapy: tuple[RadiotherapyRow, ...] = ()
    drug: tuple[DrugRow, ...] = ()
    effects: tuple[str, ...] = ()


class RegimensTable(_Row, frozen=True, kw_only=True):
    """regimens.toml."""

    action: tuple[ActionRow, ...]


class VisitRow(_Row, frozen=True, kw_only=True):
    """One follow-up activity, months after surgery. least, most: the guideline's bounds on every_months.

    adapts: whether a site that adapts follow-up to risk may move the interval within its bounds. kept_at_high_risk:
    whether it then never becomes wider than every_months for a patient at high risk.
    """

    id: str
    activity: str
    first_month: int
    last_month: int
    every_months: int
    least: int
    most: int
    kind: ActivityKind
    evidence: tuple[str, ...]
    code: CodeRow | None = None
    adapts: bool = False
    kept_at_high_risk: bool = False


class FollowUpTable(_Row, frozen=True, kw_only=True):
    """follow_up.toml."""

    visit: tuple[VisitRow, ...]


_RULES = msgspec.json.Decoder(RulesTable)
_EVIDENCE = msgspec.json.Decoder(EvidenceTable)
_REGIMENS = msgspec.json.Decoder(RegimensTable)
_FOLLOW_UP = msgspec.json.Decoder(FollowUpTable)
_Table = TypeVar("_Table", bound=msgspec.Struct)


class PolicyTables(_Row, frozen=True, kw_only=True):
    """All four tables, a site's rows merged in. digest: SHA-256, hexadecimal, over their canonical JSON."""

    rules: RulesTable
    evidence: EvidenceTable
    regimens: RegimensTable
    follow_up: FollowUpTable
    digest: str


def read_tables(mappings_folder: Path | None, site_folder: Path | None) -> PolicyTables:
    """Read the shipped tables and merge the site's over them. Raises BadMapping naming table and row."""
    merged = {name: read_table(name, mappings_folder or SHIPPED, site_folder) for name in _TABLES}
    canonical = json.dumps(merged, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return PolicyTables(
        rules=typed_table("rules", merged["rules"], _RULES),
        evidence=typed_table("evidence", merged["evidence"], _EVIDENCE),
        regimens=typed_table("regimens", merged["regimens"], _REGIMENS),
        follow_up=typed_table("follow_up", merged["follow_up"], _FOLLOW_UP),
        digest=hashlib.sha256(canonical.encode()).hexdigest(),
    )


def read_table(name: str, shipped: Path, site: Path | None) -> Mapping[str, object]:
    """Read one table, the site's rows merged over it. Raises BadMapping naming the file."""
    table = read_toml(shipped / f"{name}.toml")
    override = site / f"{name}.toml" if site else None
    if override is None or not override.is_file():
        return table
    return merged_tables(table, read_toml(override))


def read_toml(path: Path) -> Mapping[str, object]:
    """Parse one TOML file. Raises BadMapping naming it."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadMapping(f"{path.name}: {error}") from error


def merged_tables(shipped: Mapping[str, object], site: Mapping[str, object]) -> Mapping[str, object]:
    """Lay the site's keys over the shipped ones; rows meet by `id`, `key` or `feature`."""
    merged = dict(shipped)
    for key, value in site.items():
        merged[key] = _merged_value(merged.get(key), value)
    return merged


def _merged_value(shipped: object, site: object) -> object:
    if isinstance(shipped, Mapping) and isinstance(site, Mapping):
        return merged_tables(shipped, site)
    if isinstance(shipped, list) and isinstance(site, list):
        return _merged_rows(shipped, site)
    return site


def _merged_rows(shipped: Sequence[object], site: Sequence[object]) -> Sequence[object]:
    ours = {_row_key(row): row for row in shipped}
    theirs = {_row_key(row): row for row in site}
    if None in ours or None in theirs:
        return site
    kept = [_merged_value(row, theirs[key]) if key in theirs else row for key, row in ours.items()]
    return [*kept, *(row for key, row in theirs.items() if key not in ours)]


def _row_key(row: object) -> str | None:
    """Name a row; None for a plain value, whose list is replaced as a whole."""
    if not isinstance(row, Mapping):
        return None
    return next((str(row[key]) for key in _ROW_KEYS if key in row), None)


def typed_table(name: str, content: Mapping[str, object], decoder: msgspec.json.Decoder[_Table]) -> _Table:
    """Check one table against its row types. Raises BadMapping naming the table and the row."""
    try:
        return decoder.decode(json.dumps(content))
    except msgspec.ValidationError as error:
        place = _row_named_in(str(error), content)
        raise BadMapping(f"{name}.toml, with the site's rows: {place}{error}") from error


def _row_named_in(message: str, content: Mapping[str, object]) -> str:
    """`section key: ` of the row that an error is about; nothing where it has no key."""
    place = re.search(r"\$\.(\w+)\[(\d+)\]", message)
    rows = content.get(place[1]) if place else None
    key = _row_key(rows[int(place[2])]) if place and isinstance(rows, list) else None
    return f"{place[1]} {key}: " if place and key else ""
