"""Every speed bar in one run: `python -m benchmarks [--only throughput poison] [--out docs/benchmarks.md]`.

With `--only` the page's other rows stay as they were measured. What a reader has to know beside the rows stands in
notes.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterable
from pathlib import Path

from benchmarks import idle, outputs, poison, pull, retrieve, score, throughput, volume, waiting
from benchmarks.rows import Row

_SUITES = {
    suite.__name__.rpartition(".")[2]: suite
    for suite in (pull, retrieve, volume, score, outputs, idle, waiting, throughput, poison)
}


def main() -> None:
    """Run the suites one after the other, print each row, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=_SUITES, help="these suites; all without it")
    parser.add_argument("--out", type=Path, help="the page to write")
    arguments = parser.parse_args()
    table: list[str] = []
    for name, suite in _SUITES.items():
        if arguments.only and name not in arguments.only:
            table += _standing(arguments.out, name)
            continue
        for row in suite.run():
            print(f"{row.name}: {row.value:.4g} {row.unit} ({row.bar})", flush=True)
            table.append(_line(row))
    if arguments.out:
        arguments.out.write_text(_page(table), encoding="utf-8")


def _standing(page: Path | None, suite: str) -> list[str]:
    """The suite's rows as they stand on the page."""
    lines = page.read_text(encoding="utf-8").splitlines() if page else []
    return [line for line in lines if line.startswith("| ") and f"`python -m benchmarks.{suite}" in line]


def _line(row: Row) -> str:
    met = {True: "yes", False: "**no**"}[row.met] if row.bar else ""
    return f"| {row.name} | {row.value:.4g} {row.unit} | {row.bar} | {met} | `{row.command}` |"


def _page(table: Iterable[str]) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Ratios to a floor or a peer measured in the same run; absolute times say little on a",
        f"shared machine ({os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}).",
        "",
        "| measure | value | bar | met | command |",
        "|---|---|---|---|---|",
    ]
    notes = (Path(__file__).parent / "notes.md").read_text(encoding="utf-8")
    return "\n".join([*lines, *table, "", notes])


if __name__ == "__main__":
    main()
