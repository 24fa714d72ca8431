"""How every figure of the report is drawn: SVG with text as text, the same bytes on every run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt  # after the backend

mpl.rcParams.update({
    "svg.hashsalt": "adjuvant",
    "svg.fonttype": "none",  # small, selectable, and in the reader's own font
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
})  # fmt: skip


def subplots(rows: int, columns: int, *, width: float, height: float) -> tuple[Any, Any]:
    """A figure and its panels, (rows, columns) always. width, height: inches."""
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
    return figure, axes


def saved(figure: Any, path: Path) -> None:  # noqa: ANN401  # Figure
    """Write and close it; nothing of the day or the program goes in."""
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
