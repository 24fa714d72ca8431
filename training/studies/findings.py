"""What a study found: tables, gates and sentences, as Markdown for people and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from training.cohorts.cohort import digest_of

Cell = str | float | int | None  # a float is printed with three decimals, None as a dash


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A caption above, a header, rows as long as the header."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What was wanted beforehand and what was measured. A gate that fails is published like one that holds."""

    name: str
    wanted: str
    measured: Cell
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One question of a study: what it wanted and what it found."""

    gates: tuple[Gate, ...]
    tables: tuple[Table, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """One study. slug: the name of its two files. data: SHA-256 of the files it read."""

    slug: str
    title: str
    data: str
    paragraphs: tuple[str, ...]
    gates: tuple[Gate, ...]
    tables: tuple[Table, ...]


def within(name: str, measured: float, limits: tuple[float, float]) -> Gate:
    """A gate that holds between two limits, both included."""
    low, high = limits
    return Gate(name=name, wanted=f"{low:g}-{high:g}", measured=measured, passed=low <= measured <= high)


def write_findings(folder: Path, findings: Findings) -> None:
    """Write slug.md and slug.json; two runs on the same data write the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{findings.slug}.md").write_text(as_markdown(findings), encoding="utf-8")
    text = json.dumps(asdict(findings), indent=1, ensure_ascii=False)
    (folder / f"{findings.slug}.json").write_text(f"{text}\n", encoding="utf-8")


def write_overview(folder: Path, slugs: Iterable[str]) -> None:
    """README.md: every gate of every study whose page is there, the failed ones too."""
    rows: list[tuple[Cell, ...]] = []
    for slug in slugs:
        if (folder / f"{slug}.json").exists():
            page = json.loads((folder / f"{slug}.json").read_text(encoding="utf-8"))
            rows += [(f"[{page['title']}]({slug}.md)", *_gate_row(Gate(**gate))) for gate in page["gates"]]
    table = Table(caption="", header=("study", "gate", "wanted", "measured", "result"), rows=tuple(rows))
    lines = ["# Evidence beside the shipped model", "", f"Written by `{COMMAND}`.", "", *_lines(table)]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


COMMAND = 'python -m training.studies --data "$ADJUVANT_DATA" --out docs/evaluation'


def as_markdown(findings: Findings) -> str:
    """The page of one study."""
    gates = Table(
        caption="Gates",
        header=("gate", "wanted", "measured", "result"),
        rows=tuple(_gate_row(gate) for gate in findings.gates),
    )
    lines = [f"# {findings.title}", "", f"Written by `{COMMAND}`; data SHA-256 `{findings.data[:16]}`.", ""]
    for paragraph in findings.paragraphs:
        lines += [paragraph, ""]
    for table in (gates, *findings.tables):
        if table.rows:
            lines += [f"## {table.caption}", "", *_lines(table), ""]
    return "\n".join(lines).rstrip() + "\n"


def digest_of_data(folder: Path, names: Sequence[str]) -> str:
    """SHA-256 over the named files below a folder."""
    return digest_of([folder / name for name in names])


def _gate_row(gate: Gate) -> tuple[Cell, ...]:
    return gate.name, gate.wanted, gate.measured, "holds" if gate.passed else "**fails**"


def _lines(table: Table) -> list[str]:
    rule = "|".join("---" for _ in table.header)
    return [
        "| " + " | ".join(table.header) + " |",
        f"|{rule}|",
        *("| " + " | ".join(_shown(cell) for cell in row) + " |" for row in table.rows),
    ]


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)
