"""Figures of the report that rest on the studies' own pages and on treated patients, not on held-out forecasts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.drawing import saved, subplots
from training.overlap import LEAST, Overlap

_DASH = {"Cox, entry only": ":", "Cox, last observation": "--", "engineered Cox, last observation": "-."}
_GOAL_GAIN, _GOAL_SILENCE = 70, 40  # per cent, of the issue


def draw_landmarks(pages: Path, folder: Path) -> None:
    """evaluation-landmarks.svg from the landmark study: C above, AUC below, a column for each data set."""
    tables = json.loads((pages / "landmarks.json").read_text(encoding="utf-8"))["tables"]
    figure, axes = subplots(2, len(tables), width=11.0, height=6.2)
    for column, table in enumerate(tables):
        names = list(dict.fromkeys(row[2] for row in table["rows"]))
        for row, (measure, place) in enumerate((("C", 3), ("AUC", 4))):
            panel = axes[row][column]
            for name in names:
                points = [(float(cells[0]), cells[place]) for cells in table["rows"] if cells[2] == name]
                panel.plot(*zip(*points, strict=True), _DASH.get(name, "-"), marker="o", markersize=3, label=name)
            panel.set(xlabel="years to the landmark", ylabel=measure if column == 0 else "")
        axes[0][column].set_title(table["caption"].split(":")[0])
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0.0, 0.09, 1.0, 1.0))
    saved(figure, folder / "evaluation-landmarks.svg")


def draw_policy(pages: Path, folder: Path) -> None:
    """evaluation-policy.svg from the treatment study: gain over what was done against abstention, simulated."""
    tables = json.loads((pages / "treatment.json").read_text(encoding="utf-8"))["tables"]
    table = next(table for table in tables if "by policy" in table["caption"])
    place = {name: number for number, name in enumerate(table["header"])}
    figure, axes = subplots(1, 1, width=7.0, height=4.2)
    panel = axes[0][0]
    worlds = list(dict.fromkeys(row[0] for row in table["rows"]))
    for number, world in enumerate(worlds):
        rows = [row for row in table["rows"] if row[0] == world]
        silent = [float(row[place["abstains"]].rstrip("%")) for row in rows]
        gain = [100.0 * (row[place["advised"]] - row[place["as observed"]]) for row in rows]
        panel.plot(silent, gain, marker="o", markersize=4, label=world, color=f"C{number}")
        first = rows[0]
        most = 100.0 * (first[place["oracle"]] - first[place["as observed"]])
        if most > 0.0:
            panel.axhline(most, linestyle=":", color=f"C{number}", linewidth=1.0)
            panel.axhline(most * _GOAL_GAIN / 100, linestyle="--", color=f"C{number}", linewidth=0.8)
    panel.axvline(_GOAL_SILENCE, color="grey", linewidth=0.8)
    panel.set(
        xlabel="patients without advice, %",
        ylabel="gain in five-year survival, points",
        title="simulated patients; dotted: oracle, dashed: 70 % of it",
        xlim=(0, 100),
    )
    panel.legend(title="world (simulated)")
    figure.tight_layout()
    saved(figure, folder / "evaluation-policy.svg")


def draw_overlap(overlaps: Sequence[Overlap], folder: Path) -> None:
    """evaluation-overlap.svg: propensity of the treated and of the others."""
    figure, axes = subplots(1, len(overlaps), width=9.0, height=3.6)
    for panel, overlap in zip(axes[0], overlaps, strict=True):
        _propensity(panel, overlap)
    figure.tight_layout()
    saved(figure, folder / "evaluation-overlap.svg")


def _propensity(panel: Any, overlap: Overlap) -> None:  # noqa: ANN401  # Axes
    edges = np.linspace(0.0, 1.0, 21)
    for name, chosen in (("given", overlap.treated), ("not given", ~overlap.treated)):
        panel.hist(overlap.propensity[chosen], edges, alpha=0.55, label=f"{name}: {int(chosen.sum())}")
    for edge in (LEAST, 1.0 - LEAST):
        panel.axvline(edge, color="grey", linewidth=0.8, linestyle="--")
    panel.set(
        title=overlap.name,
        xlabel=f"propensity, held out; {overlap.inside:.0%} between the lines",
        ylabel="patients",
        xlim=(0, 1),
    )
    panel.legend()
