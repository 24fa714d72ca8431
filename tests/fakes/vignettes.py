"""The hand-written cases of `tests/golden/policy`, and how far they reach into the rule tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from adapter.decision.findings import findings_given
from adapter.decision.policy import Policy, load_policy
from adapter.decision.rules import Condition, Findings, judge
from adapter.domain.tristate import TriState

FOLDER = Path(__file__).parents[1] / "golden" / "policy"
REPORT = Path(__file__).parents[2] / "docs" / "rule_coverage.md"
_ANSWERS = (TriState.TRUE, TriState.FALSE, TriState.UNKNOWN)
_HEAD = """# Rule coverage

Written by `python -m tests.fakes.vignettes`, held to the tables by a test. Each row of `mappings/rules.toml`, of every
cisplatin panel and of the verdict lists in `mappings/regimens.toml`, with the number of hand-written cases under
`tests/golden/policy` in which it comes out true, false and unknown. A row counts as covered when all three occur.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vignette:
    """One case. policy: the shipped tables with the case's own `rules.toml`, as a site would override them."""

    name: str
    features: Mapping[str, object]
    landmark: datetime
    expected: Mapping[str, object]
    policy: Policy

    @property
    def findings(self) -> Findings:
        """What the rules see of the case."""
        return findings_given(self.features, self.landmark, self.policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCoverage:
    """How often one row came out true, false and unknown."""

    row: str
    true: int
    false: int
    unknown: int

    @property
    def whole(self) -> bool:
        """Whether all three answers occur."""
        return min(self.true, self.false, self.unknown) > 0


def vignettes() -> tuple[Vignette, ...]:
    """Every case, by name."""
    shipped = load_policy()
    return tuple(_read(folder, shipped) for folder in sorted(FOLDER.iterdir()) if folder.is_dir())


def rule_coverage(cases: Iterable[Vignette]) -> tuple[RowCoverage, ...]:
    """Count the answers of every row over the cases; a panel's rows only where its case chose the panel."""
    counts: dict[str, dict[TriState, int]] = {}
    for case in cases:
        findings = case.findings
        for row, condition in _rows(case.policy):
            answers = counts.setdefault(row, dict.fromkeys(_ANSWERS, 0))
            answers[judge(condition, findings).truth] += 1
    return tuple(
        RowCoverage(
            row=row,
            true=answers[TriState.TRUE],
            false=answers[TriState.FALSE],
            unknown=answers[TriState.UNKNOWN],
        )
        for row, answers in sorted(counts.items())
    )


def report(coverage: Iterable[RowCoverage], cases: int) -> str:
    """Write the coverage as Markdown."""
    rows = list(coverage)
    whole = sum(row.whole for row in rows)
    lines = [f"| `{row.row}` | {row.true} | {row.false} | {row.unknown} |" for row in rows]
    summary = f"\n{cases} cases; {whole} of {len(rows)} rows covered, {100 * whole / len(rows):.0f} %.\n"
    return "\n".join((_HEAD + summary, "| row | true | false | unknown |", "|---|---|---|---|", *lines, ""))


def _rows(policy: Policy) -> Iterator[tuple[str, Condition]]:
    panel = policy.panel.partition(",")[0]
    for rule in policy.rules.values():
        yield (f"{rule.code} ({panel})" if rule.code.startswith("CIS") else rule.code), rule.when
    for flag in policy.flags:
        yield f"flag {flag.code}", flag.when
    for action in policy.actions:
        for number, line in enumerate(action.lines, start=1):
            yield f"{action.code}, line {number}: {line.verdict.value}", line.when


def _read(folder: Path, shipped: Policy) -> Vignette:
    given = json.loads((folder / "given.json").read_text())
    return Vignette(
        name=folder.name,
        features=given["features"],
        landmark=datetime.fromisoformat(given["landmark"]),
        expected=json.loads((folder / "expected.json").read_text()),
        policy=load_policy(site_folder=folder) if (folder / "rules.toml").is_file() else shipped,
    )


if __name__ == "__main__":
    everything = vignettes()
    REPORT.write_text(report(rule_coverage(everything), len(everything)))
