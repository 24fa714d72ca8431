"""How a result looks in the EHR: the codes, labels and sentences of `mappings/delivery.toml`, frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from adapter.decision.gates import STOP_CODES
from adapter.decision.policy import Coding, Policy, coding_of
from adapter.decision.tables import SHIPPED, CodeRow, read_table, typed_table
from adapter.domain.risk import Outcome
from adapter.errors import BadMapping

_SYSTEMS = frozenset(
    {"assessment", "action", "code", "mode", "model", "device", "digest", "version", "policy", "feature"}
)
_CODES = frozenset(
    {
        "ai_asserted",
        "create",
        "author",
        "assess_plan",
        "device_type",
        "device_kind",
        "model_card",
        "model_card_markdown",
        "approve",
    }
)
_TEXTS = frozenset(
    {
        "method",
        "prognosis",
        "plan",
        "limits",
        "review",
        "effects",
        "adapted",
        "adapted_all",
        "drivers",
        "task",
        "board",
        "abstained",
    }
)


class OutputMode(Enum):
    """How much a reader may rely on what we write; every resource carries its label."""

    DEMO = "demo"
    RESEARCH = "research"
    LIVE = "live"


class _OutcomeRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    title: str
    code: CodeRow | None = None


class _NamedCodeRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    code: CodeRow


class _IssueRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["insufficient-data", "out-of-distribution", "out-of-scope", "conflicting-data", "settled"]
    severity: Literal["high", "moderate", "low"] | None = None


class _ReviewTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    days: Annotated[int, msgspec.Meta(ge=1)]


class _DeliveryTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    systems: dict[str, str]
    labels: dict[str, str]
    tags: dict[str, str]
    text: dict[str, str]
    outcomes: dict[str, _OutcomeRow]
    codes: dict[str, _NamedCodeRow]
    issues: dict[str, _IssueRow]
    resource_types: dict[str, str]
    review: _ReviewTable


class _GroupRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    title: str
    features: tuple[str, ...]


class _DriversTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    group: tuple[_GroupRow, ...]


_DELIVERY = msgspec.json.Decoder(_DeliveryTable)
_DRIVERS = msgspec.json.Decoder(_DriversTable)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverGroup:
    """Findings that an explanation names together. title: in clinicians' words; features: of the timeline."""

    title: str
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeWording:
    """How one outcome is named. coding: None where no verified standard code exists."""

    title: str
    coding: Coding | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueWording:
    """What a gate's stop is to a reader. severity: of FHIR R4 DetectedIssue; None where nothing is at issue."""

    kind: str
    severity: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The wording of what we write. systems, texts, codes: by the key of delivery.toml.

    issues: by the code of the gate's stop. resource_types: what a missing feature would be sent as, where that is no
    Observation. review_days: from the landmark until a clinician should have looked. drivers: the rows of drivers.toml,
    in order. digest: SHA-256, hexadecimal, over both tables.
    """

    systems: Mapping[str, str]
    labels: Mapping[OutputMode, str]
    tags: Mapping[OutputMode, str]
    texts: Mapping[str, str]
    outcomes: Mapping[Outcome, OutcomeWording]
    codes: Mapping[str, Coding]
    issues: Mapping[str, IssueWording]
    resource_types: Mapping[str, str]
    review_days: int
    drivers: tuple[DriverGroup, ...]
    digest: str


def load_delivery(mappings_folder: Path | None = None, site_folder: Path | None = None) -> Delivery:
    """Read delivery.toml and drivers.toml, the site's rows merged over them; the shipped ones without a folder.

    Raises BadMapping for a key that is missing or unknown.
    """
    content = {name: read_table(name, mappings_folder or SHIPPED, site_folder) for name in ("delivery", "drivers")}
    table = typed_table("delivery", content["delivery"], _DELIVERY)
    groups = typed_table("drivers", content["drivers"], _DRIVERS).group
    modes = frozenset(mode.value for mode in OutputMode)
    outcomes = frozenset(outcome.value for outcome in Outcome)
    for section, given, wanted in (
        ("systems", table.systems, _SYSTEMS),
        ("labels", table.labels, modes),
        ("tags", table.tags, modes),
        ("text", table.text, _TEXTS),
        ("outcomes", table.outcomes, outcomes),
        ("codes", table.codes, _CODES),
        ("issues", table.issues, STOP_CODES),
    ):
        if given.keys() != wanted:
            named = ", ".join(sorted(given.keys() ^ wanted))
            raise BadMapping(f"delivery.toml [{section}]: missing or unknown: {named}")
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Delivery(
        systems=table.systems,
        labels={mode: table.labels[mode.value] for mode in OutputMode},
        tags={mode: table.tags[mode.value] for mode in OutputMode},
        texts=table.text,
        outcomes={
            outcome: OutcomeWording(
                title=table.outcomes[outcome.value].title, coding=coding_of(table.outcomes[outcome.value].code)
            )
            for outcome in Outcome
        },
        codes={name: coding for name, row in table.codes.items() if (coding := coding_of(row.code)) is not None},
        issues={code: IssueWording(kind=row.kind, severity=row.severity) for code, row in table.issues.items()},
        resource_types=table.resource_types,
        review_days=table.review.days,
        drivers=tuple(DriverGroup(title=row.title, features=row.features) for row in groups),
        digest=hashlib.sha256(canonical.encode()).hexdigest(),
    )


def unverified_codes(policy: Policy, delivery: Delivery) -> tuple[Coding, ...]:
    """List every code that a person still has to confirm; live mode must not start while there is one."""
    codings: list[Coding | None] = [*delivery.codes.values()]
    codings += [wording.coding for wording in delivery.outcomes.values()]
    codings += [action.coding for action in policy.actions]
    codings += [visit.coding for visit in policy.visits]
    unverified = {(coding.system, coding.code): coding for coding in codings if coding and not coding.verified}
    return tuple(unverified[key] for key in sorted(unverified))
