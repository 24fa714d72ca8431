"""Every speed bar in one run: `python -m benchmarks [--out docs/benchmarks.md]`."""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

from benchmarks import idle, outputs, pull, retrieve, score, throughput, volume, waiting
from benchmarks.rows import Row

_SUITES = (pull, retrieve, volume, score, outputs, idle, waiting, throughput)


def main() -> None:
    """Run the suites one after the other, print each row, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="the page to write")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for suite in _SUITES:
        for row in suite.run():
            print(f"{row.name}: {row.value:.4g} {row.unit} ({row.bar})", flush=True)
            rows.append(row)
    if arguments.out:
        arguments.out.write_text(_page(rows), encoding="utf-8")


def _page(rows: list[Row]) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Ratios to a floor or a peer measured in the same run; absolute times say little on a",
        f"shared machine ({os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}).",
        "",
        "| measure | value | bar | met | command |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        met = {True: "yes", False: "**no**"}.get(row.met, "")
        lines.append(f"| {row.name} | {row.value:.4g} {row.unit} | {row.bar} | {met} | `{row.command}` |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
