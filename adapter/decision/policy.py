"""The policy: rules, actions and follow-up, compiled from tables into conditions for `rules.judge`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar

from adapter.decision.rules import Compared, Condition, Every, OneOf, Relation, Some, Unless, features_of
from adapter.decision.tables import (
    ActionRow,
    CodeRow,
    ConditionRow,
    DrugRow,
    EffectRow,
    EvidenceRow,
    PanelRow,
    PolicyTables,
    RadiotherapyRow,
    RulesTable,
    VisitRow,
    read_tables,
)
from adapter.domain.plan import DrugCourse, RadiotherapyDose, RiskGroup, Verdict
from adapter.errors import BadMapping

# The three rules that the chosen cisplatin panel defines; rules.toml and regimens.toml refer to them by name.
CISPLATIN_UNSUITABLE = "CISPLATIN_UNSUITABLE"
CISPLATIN_BORDERLINE = "CISPLATIN_BORDERLINE"
CISPLATIN_OK = "CISPLATIN_OK"
# Rules that propose.py asks by name.
IN_SCOPE, HIGH, INTERMEDIATE = "IN_SCOPE", "HIGH", "INT"
# Features computed from others (findings.py), so that conditions may name them.
DERIVED: Mapping[str, frozenset[str]] = {
    "distant_metastasis": frozenset({"yes", "no"}),
    "ene_candidate": frozenset({"positive", "negative"}),
    "node_counts_contradict": frozenset({"yes", "no"}),
}

_MAX_NESTING = 32
_BEFORE_SURGERY = "preoperative:"  # how a model's contract names the last value before surgery
_ASKED_FOR = {"distant_metastasis": "cM"}  # what a rule reads and what it is computed from


class FeatureKind(Enum):
    """What a feature's value is."""

    NUMBER = "number"
    CODED = "coded"
    FLAG = "flag"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureKey:
    """One feature the rules know. title: how a clinician is asked for it.

    unit: canonical UCUM of a number. values: the categories of a code. aliases: other spellings of a value;
    unknown: spellings that mean it is not known. pathology: only findings from the index surgery on count.
    fresh_days: older findings read as unknown, None for any age.
    """

    key: str
    title: str
    kind: FeatureKind
    unit: str | None
    values: frozenset[str]
    aliases: Mapping[str, str]
    unknown: frozenset[str]
    pathology: bool
    fresh_days: float | None
    several: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One named rule. parts: the rules it is made of. sentence: said when true; violated: said when false."""

    code: str
    title: str
    when: Condition
    parts: tuple[str, ...]
    sentence: str
    violated: str
    evidence: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictLine:
    """One line of an action's decision list."""

    when: Condition
    verdict: Verdict
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """One code of a code system; verified is False where a person still has to confirm its meaning."""

    system: str
    code: str
    display: str | None
    verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action of the closed set and the lines that decide its verdict.

    kind: FHIR R4 CarePlan.activity.detail.kind. regimen: dose and schedule in words. radiotherapy: by risk group.
    effects: rows of evidence.toml [[effect]].
    """

    code: str
    title: str
    kind: str
    regimen: str
    coding: Coding | None
    lines: tuple[VerdictLine, ...]
    otherwise: Verdict
    otherwise_sentence: str
    out_of_scope: Verdict
    undecided: Verdict
    evidence: tuple[str, ...]
    source: str
    radiotherapy: Mapping[RiskGroup, RadiotherapyDose]
    drugs: tuple[DrugCourse, ...]
    effects: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One follow-up activity, in months after surgery; every_months 0: once. least, most: its bounds.

    adapts: whether its interval may follow the patient's risk within them, where the policy adapts follow-up.
    kept_at_high_risk: whether it then stays at most every_months unless the risk group is known to be lower.
    """

    code: str
    activity: str
    first_month: int
    last_month: int
    every_months: int
    least: int
    most: int
    kind: str
    coding: Coding | None
    evidence: tuple[str, ...]
    adapts: bool
    kept_at_high_risk: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One trial, guideline or consensus. effect: as published, with interval. read: checked in the source."""

    code: str
    title: str
    population: str
    effect: str
    doi: str | None
    read: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One hazard ratio of a trial, with the rate its control arm had. read: checked in the source.

    control_percent: without the event at control_months; None where no such rate is on file. cause: whether it is
    one cause of death, so that it moves no event-free rate. risk_group: None where it is of all patients.
    """

    code: str
    evidence: str
    endpoint: str
    cause: bool
    comparison: str
    population: str
    hazard_ratio: float
    low: float
    high: float
    level: float
    risk_group: RiskGroup | None
    control_percent: float | None
    control_months: int | None
    control_evidence: str | None
    control_arm: str
    read: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLimits:
    """What a model must reach before it may set treatments apart (model.md, order of gates).

    least_typicality: fraction of training patients at least as unusual; below unusual_typicality the reader is warned
    and nothing stops. least_propensity: fraction of patients like this one who received the action. least_sample:
    their effective number. benefit_points: percentage points of recurrence-free survival at three years. most_missing:
    model inputs.
    """

    least_typicality: float
    unusual_typicality: float
    least_propensity: float
    least_sample: float
    benefit_points: float
    most_missing: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """What the site says absence on record means. category: `no`."""

    feature: str
    category: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything the decision rests on, frozen. digest: SHA-256, hexadecimal, over all tables as merged.

    panel: title of the chosen cisplatin panel; panel_not_checked: its criteria that no feature answers.
    adjuvant_closed_days: after surgery; from then on no adjuvant treatment is proposed.
    infers_ene: whether the site reads extranodal extension out of pN where pathology states none.
    adapts_follow_up: whether intervals follow the patient's predicted risk within the guideline's bounds.
    start_target_days, start_late_days: from surgery to radiotherapy.
    """

    version: str
    digest: str
    features: Mapping[str, FeatureKey]
    names: Mapping[str, str]
    not_read: frozenset[str]
    assumptions: tuple[Assumption, ...]
    rules: Mapping[str, Rule]
    flags: tuple[Rule, ...]
    actions: tuple[Action, ...]
    visits: tuple[Visit, ...]
    evidence: Mapping[str, Evidence]
    effects: Mapping[str, Effect]
    gates: GateLimits
    panel: str
    panel_not_checked: str
    adjuvant_closed_days: float
    infers_ene: bool
    adapts_follow_up: bool
    start_target_days: float
    start_late_days: float

    def asked_for(self, feature: str) -> str:
        """How a clinician is asked for a feature, also for one that is computed, or that the model alone reads."""
        if feature.startswith(_BEFORE_SURGERY):
            return f"{self.asked_for(feature.removeprefix(_BEFORE_SURGERY))} before surgery"
        name = _ASKED_FOR.get(feature, feature)
        return self.features[name].title if name in self.features else in_words(name)

    def action(self, code: str) -> Action:
        """Return the row of one action. Raises KeyError for an action outside the closed set."""
        return _row_of(self.actions, code)

    def names_of_conditions(self) -> Mapping[int, str]:
        """The rule each condition belongs to, by the object's id: a row that names a rule holds its very condition."""
        return {id(rule.when): rule.code for rule in self.rules.values()}

    def visit(self, activity: str) -> Visit:
        """Return the row of one follow-up activity. Raises KeyError for one that is not in the table."""
        return _row_of(self.visits, activity)


def in_words(key: str) -> str:
    """A key as words."""
    return key.replace("_", " ")


_Row = TypeVar("_Row", Action, Visit)


def _row_of(rows: Iterable[_Row], code: str) -> _Row:
    for row in rows:
        if row.code == code:
            return row
    raise KeyError(code)


def load_policy(mappings_folder: Path | None = None, site_folder: Path | None = None) -> Policy:
    """Read, merge and compile the policy tables; the shipped ones where no folder is named.

    Raises BadMapping for a row that names a rule, feature, threshold or evidence that is not there.
    """
    tables = read_tables(mappings_folder, site_folder)
    return _Compiler(tables).policy()


class _Compiler:
    """Turns rows into conditions; every name a row uses must exist."""

    def __init__(self, tables: PolicyTables) -> None:
        self._tables = tables
        self._table: RulesTable = tables.rules
        self._panel = self._chosen_panel()
        self._fresh = {row.key: row.fresh for row in self._table.feature}
        self._rows = {row.id: row.when for row in self._table.rule} | self._panel_conditions(self._panel)
        self._compiled: dict[str, Condition] = {}
        self._require_unique()

    def policy(self) -> Policy:
        """Compile and check the whole."""
        version = f"{self._table.version}+{self._tables.digest[:12]}"
        policy = Policy(
            version=version,
            digest=self._tables.digest,
            features=self._features(),
            names={name: row.key for row in self._table.feature for name in (row.key, *row.names)},
            not_read=frozenset(self._table.not_read.keys),
            assumptions=tuple(
                Assumption(feature=row.feature, category=row.reads_as, sentence=row.sentence)
                for row in self._table.assumption
                if row.enabled
            ),
            rules=self._rules(),
            flags=tuple(
                self._rule(row.id, when=row.when, sentence=row.sentence, source=row.source) for row in self._table.flag
            ),
            actions=tuple(self._action(row) for row in self._tables.regimens.action),
            visits=tuple(_visit(row) for row in self._tables.follow_up.visit),
            evidence={row.id: _evidence(row) for row in self._tables.evidence.evidence},
            effects={row.id: _effect(row) for row in self._tables.evidence.effect},
            gates=GateLimits(
                least_typicality=self._threshold("least_typicality", "[gates]"),
                unusual_typicality=self._threshold("unusual_typicality", "[gates]"),
                least_propensity=self._threshold("least_propensity", "[gates]"),
                least_sample=self._threshold("least_effective_sample", "[gates]"),
                benefit_points=self._threshold("benefit_points", "[gates]"),
                most_missing=self._threshold("most_missing_inputs", "[gates]"),
            ),
            panel=self._panel.title,
            panel_not_checked=self._panel.not_checked,
            adjuvant_closed_days=self._threshold("adjuvant_closed_days", "[policy]"),
            infers_ene=self._switch("infer_ene_from_pn", "[policy]"),
            adapts_follow_up=self._switch("adapt_follow_up", "[policy]"),
            start_target_days=self._threshold("radiotherapy_target_days", "[policy]"),
            start_late_days=self._threshold("radiotherapy_late_days", "[policy]"),
        )
        _require_known_names(policy, cited={code for row in self._table.panel for code in row.evidence})
        for panel in self._table.panel:
            for item in panel.item:
                _require_known_categories(item.id, self._condition(item.when, item.id, 0), policy)
        return policy

    def _chosen_panel(self) -> PanelRow:
        chosen = self._table.choices.get("cisplatin_panel")
        for panel in self._table.panel:
            if chosen and panel.id == chosen.value:
                return panel
        raise BadMapping("rules.toml: [choices] cisplatin_panel names no panel")

    def _panel_conditions(self, panel: PanelRow) -> dict[str, ConditionRow]:
        """Express a panel as rules: any criterion makes unsuitable or borderline, none leaves suitable."""
        unsuitable, borderline = (
            ConditionRow(any_of=tuple(ConditionRow(rule=item.id) for item in panel.item if item.severity == severity))
            for severity in ("unsuitable", "borderline")
        )
        neither = ConditionRow(
            all_of=(
                ConditionRow(unless=ConditionRow(rule=CISPLATIN_UNSUITABLE)),
                ConditionRow(unless=ConditionRow(rule="CISPLATIN_DOUBT")),
            )
        )
        only_borderline = ConditionRow(
            all_of=(
                ConditionRow(unless=ConditionRow(rule=CISPLATIN_UNSUITABLE)),
                ConditionRow(rule="CISPLATIN_DOUBT"),
            )
        )
        return {
            **{item.id: item.when for item in panel.item},
            CISPLATIN_UNSUITABLE: unsuitable,
            "CISPLATIN_DOUBT": borderline,
            CISPLATIN_BORDERLINE: only_borderline,
            CISPLATIN_OK: neither,
        }

    def _rules(self) -> dict[str, Rule]:
        rules = {
            row.id: self._rule(
                row.id,
                when=row.when,
                title=row.title,
                sentence=row.sentence,
                violated=row.violated,
                evidence=row.evidence,
                source=row.source,
            )
            for row in self._table.rule
        }
        items = {
            item.id: self._rule(
                item.id,
                when=item.when,
                title=f"cisplatin by {self._panel.title}",
                sentence=item.sentence,
                evidence=self._panel.evidence,
                source=self._panel.title,
            )
            for item in self._panel.item
        }
        named = {
            code: self._rule(
                code,
                when=self._rows[code],
                title=title,
                evidence=self._panel.evidence,
                source=self._panel.title,
                parts=parts,
            )
            for code, title, parts in (
                (CISPLATIN_UNSUITABLE, "cisplatin unsuitable", self._items("unsuitable")),
                (CISPLATIN_BORDERLINE, "cisplatin borderline", self._items("borderline")),
                (CISPLATIN_OK, "cisplatin suitable", ()),
            )
        }
        return rules | items | named

    def _items(self, severity: str) -> tuple[str, ...]:
        return tuple(item.id for item in self._panel.item if item.severity == severity)

    def _rule(
        self,
        code: str,
        *,
        when: ConditionRow,
        title: str = "",
        sentence: str = "",
        violated: str = "",
        evidence: tuple[str, ...] = (),
        source: str = "",
        parts: tuple[str, ...] | None = None,
    ) -> Rule:
        return Rule(
            code=code,
            title=title,
            when=self._named_rule(code, code, 0) if code in self._rows else self._condition(when, code, 0),
            parts=_direct_rules(when) if parts is None else parts,
            sentence=sentence,
            violated=violated,
            evidence=evidence,
            source=source,
        )

    def _action(self, row: ActionRow) -> Action:
        return Action(
            code=row.id,
            title=row.title,
            kind=row.kind,
            regimen=row.regimen,
            coding=coding_of(row.code),
            lines=tuple(
                VerdictLine(
                    when=self._condition(line.when, row.id, 0),
                    verdict=Verdict(line.verdict),
                    sentence=line.sentence,
                )
                for line in row.verdicts
            ),
            otherwise=Verdict(row.otherwise),
            otherwise_sentence=row.otherwise_sentence,
            out_of_scope=Verdict(row.out_of_scope),
            undecided=Verdict(row.undecided),
            evidence=row.evidence,
            source=row.source,
            radiotherapy=_doses(row.radiotherapy),
            drugs=tuple(_drug(drug) for drug in row.drug),
            effects=row.effects,
        )

    def _features(self) -> dict[str, FeatureKey]:
        fresh_days = self._threshold("fresh_days", "[feature]")
        return {
            row.key: FeatureKey(
                key=row.key,
                title=row.title or in_words(row.key),
                kind=FeatureKind(row.kind),
                unit=row.unit,
                values=frozenset(row.values or ("yes", "no")),
                aliases=row.aliases,
                unknown=frozenset(row.unknown),
                pathology=row.pathology,
                fresh_days=fresh_days if row.fresh else None,
                several=row.several,
            )
            for row in self._table.feature
        }

    def _condition(self, row: ConditionRow, owner: str, depth: int) -> Condition:
        """Compile one condition, named rules written out. Raises BadMapping naming the row that owns it."""
        if depth > _MAX_NESTING:
            raise BadMapping(f"rule {owner} refers to itself")
        if row.rule is not None:
            return self._named_rule(row.rule, owner, depth)
        if row.all_of is not None:
            return Every(self._conditions(row.all_of, owner, depth))
        if row.any_of is not None:
            return Some(self._conditions(row.any_of, owner, depth))
        if row.unless is not None:
            return Unless(self._condition(row.unless, owner, depth + 1))
        return self._finding_condition(row, owner)

    def _conditions(self, rows: Iterable[ConditionRow], owner: str, depth: int) -> tuple[Condition, ...]:
        """Compile the parts; a clause behind a switch that is off does not exist."""
        return tuple(self._condition(row, owner, depth + 1) for row in rows if self._switched_on(row, owner))

    def _switched_on(self, row: ConditionRow, owner: str) -> bool:
        return row.only_if is None or self._switch(row.only_if, owner)

    def _switch(self, name: str, owner: str) -> bool:
        if name not in self._table.switches:
            raise BadMapping(f"rule {owner} names the unknown switch {name}")
        return self._table.switches[name].value

    def _named_rule(self, name: str, owner: str, depth: int) -> Condition:
        """Return the rule's condition, one object however many rows name it, so that it is judged once."""
        if name not in self._rows:
            raise BadMapping(f"rule {owner} names the unknown rule {name}")
        if name not in self._compiled:
            self._compiled[name] = self._condition(self._rows[name], owner, depth + 1)
        return self._compiled[name]

    def _finding_condition(self, row: ConditionRow, owner: str) -> Condition:
        if row.feature is None or (row.feature not in self._fresh and row.feature not in DERIVED):
            raise BadMapping(f"rule {owner} reads the unknown feature {row.feature}")
        fresh_days = self._threshold("fresh_days", owner) if self._fresh.get(row.feature) else None
        if row.one_of is not None:
            return OneOf(feature=row.feature, categories=frozenset(row.one_of), fresh_days=fresh_days)
        for relation in Relation:
            parameter = getattr(row, relation.value)
            if parameter is not None:
                threshold = self._threshold(parameter, owner)
                return Compared(feature=row.feature, relation=relation, threshold=threshold, fresh_days=fresh_days)
        raise BadMapping(f"rule {owner} asks nothing of {row.feature}")

    def _threshold(self, name: str, owner: str) -> float:
        if name not in self._table.parameters:
            raise BadMapping(f"rule {owner} names the unknown parameter {name}")
        return self._table.parameters[name].value

    def _require_unique(self) -> None:
        for table, codes in (
            ("rule", [row.id for row in self._table.rule]),
            ("feature", [name for row in self._table.feature for name in (row.key, *row.names)]),
            ("action", [row.id for row in self._tables.regimens.action]),
            ("evidence", [row.id for row in self._tables.evidence.evidence]),
            ("effect", [row.id for row in self._tables.evidence.effect]),
            ("visit", [row.id for row in self._tables.follow_up.visit]),
        ):
            twice = sorted({code for code in codes if codes.count(code) > 1})
            if twice:
                raise BadMapping(f"{table} rows given twice: {', '.join(twice)}")


def _direct_rules(row: ConditionRow) -> tuple[str, ...]:
    return tuple(part.rule for part in (*(row.all_of or ()), *(row.any_of or ())) if part.rule is not None)


def coding_of(row: CodeRow | None) -> Coding | None:
    """Turn a row into a code; None stays None."""
    if row is None:
        return None
    return Coding(system=row.system, code=row.code, display=row.display, verified=row.status == "verified")


def _visit(row: VisitRow) -> Visit:
    """Refuse an interval outside the guideline's own bounds. Raises BadMapping."""
    if not row.least <= row.every_months <= row.most or not 0 < row.first_month <= row.last_month:
        raise BadMapping(f"follow_up.toml: {row.id} lies outside its own bounds")
    return Visit(
        code=row.id,
        activity=row.activity,
        first_month=row.first_month,
        last_month=row.last_month,
        every_months=row.every_months,
        least=row.least,
        most=row.most,
        kind=row.kind,
        coding=coding_of(row.code),
        evidence=row.evidence,
        adapts=row.adapts,
        kept_at_high_risk=row.kept_at_high_risk,
    )


def _evidence(row: EvidenceRow) -> Evidence:
    return Evidence(
        code=row.id,
        title=row.title,
        population=row.population,
        effect=row.effect,
        doi=row.doi,
        read=row.checked == "read",
    )


def _effect(row: EffectRow) -> Effect:
    """Refuse a hazard ratio outside its own interval, or half a control rate. Raises BadMapping."""
    if not 0 < row.low <= row.hazard_ratio <= row.high or not _whole(row):
        raise BadMapping(f"evidence.toml: {row.id} contradicts itself")
    return Effect(
        code=row.id,
        evidence=row.evidence,
        endpoint=row.endpoint,
        cause=row.endpoint_kind == "cause",
        comparison=row.comparison,
        population=row.population,
        hazard_ratio=row.hazard_ratio,
        low=row.low,
        high=row.high,
        level=row.level,
        risk_group=RiskGroup(row.risk_group) if row.risk_group else None,
        control_percent=row.control_percent,
        control_months=row.control_months,
        control_evidence=row.control_evidence,
        control_arm=row.control_arm,
        read=row.checked == "read",
    )


def _whole(row: EffectRow) -> bool:
    """A control rate comes with its month and its trial, or not at all."""
    return len({entry is None for entry in (row.control_percent, row.control_months, row.control_evidence)}) == 1


def _doses(rows: Iterable[RadiotherapyRow]) -> Mapping[RiskGroup, RadiotherapyDose]:
    """A row without a risk group holds for every group that has none of its own."""
    doses: dict[RiskGroup, RadiotherapyDose] = {}
    for row in sorted(rows, key=lambda row: row.risk_group is not None):
        dose = RadiotherapyDose(total_gy=row.total_gy, fractions=row.fractions)
        groups = RiskGroup if row.risk_group is None else (RiskGroup(row.risk_group),)
        doses |= dict.fromkeys(groups, dose)
    return doses


def _drug(row: DrugRow) -> DrugCourse:
    return DrugCourse(
        ingredient=row.ingredient,
        dose=row.dose,
        unit=row.unit,
        phase=row.phase,
        first_day=row.first_day,
        every_days=row.every_days,
        doses=row.doses,
        at_most=row.at_most,
    )


def _require_known_names(policy: Policy, cited: set[str]) -> None:
    """Refuse evidence, categories or assumptions that no row defines. Raises BadMapping."""
    cited = cited | {code for rule in policy.rules.values() for code in rule.evidence}
    cited |= {code for action in policy.actions for code in action.evidence}
    cited |= {code for visit in policy.visits for code in visit.evidence}
    cited |= {effect.evidence for effect in policy.effects.values()}
    cited |= {effect.control_evidence for effect in policy.effects.values() if effect.control_evidence}
    used = {code for action in policy.actions for code in action.effects}
    if used ^ set(policy.effects):
        raise BadMapping(f"effects unknown or unused: {', '.join(sorted(used ^ set(policy.effects)))}")
    if cited - set(policy.evidence):
        raise BadMapping(f"evidence not in evidence.toml: {', '.join(sorted(cited - set(policy.evidence)))}")
    unread = set(policy.evidence) - cited
    if unread:
        raise BadMapping(f"evidence that nothing cites: {', '.join(sorted(unread))}")
    for assumption in policy.assumptions:
        if assumption.feature not in policy.features:
            raise BadMapping(f"assumption about the unknown feature {assumption.feature}")
    for rule in (*policy.rules.values(), *policy.flags):
        _require_known_categories(rule.code, rule.when, policy)
    for action in policy.actions:
        for line in action.lines:
            _require_known_categories(action.code, line.when, policy)


def _require_known_categories(owner: str, condition: Condition, policy: Policy) -> None:
    match condition:
        case Every(parts) | Some(parts):
            for part in parts:
                _require_known_categories(owner, part, policy)
        case Unless(part):
            _require_known_categories(owner, part, policy)
        case OneOf():
            feature = policy.features.get(condition.feature)
            legal = feature.values if feature else DERIVED[condition.feature]
            if (feature and feature.kind is FeatureKind.NUMBER) or not condition.categories <= legal:
                raise BadMapping(f"rule {owner} asks {condition.feature} for a category it does not have")
        case Compared():
            feature = policy.features.get(condition.feature)
            if feature is None or feature.kind is not FeatureKind.NUMBER:
                raise BadMapping(f"rule {owner} compares {condition.feature}, which is not a number")


def features_read(policy: Policy) -> frozenset[str]:
    """Every feature that some rule, flag or action reads."""
    conditions = [rule.when for rule in (*policy.rules.values(), *policy.flags)]
    conditions += [line.when for action in policy.actions for line in action.lines]
    return frozenset().union(*(features_of(condition) for condition in conditions))
