"""Run every test that carries a fault's number and write what was seen: docs/reliability.md.

Usage: python -m tests.faults.reliability --out docs/reliability.md

A test says which faults it proves by `@pytest.mark.fault("F-06")`; what cannot happen here has its reason in
faults.toml beside this file.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
ALL_FAULTS = tuple(f"F-{number:02d}" for number in range(1, 51))

_HEAD = """# Reliability: every fault, what happens, and the evidence

Written by `make reliability` from the results of the tests that carry the fault's number. A test that was
skipped says so, with its count: it proves nothing on the machine that skipped it. `tests/faults/faults.toml` holds the
sentences and, for what cannot happen here, the reasons.

"""
_TAIL = """
## The whole service, killed by plan

`make chaos CYCLES=1000 SEED=7` disturbs the real service on the pretend hospital by a seeded plan: SQLite with one
worker and PostgreSQL with two, with and without transactions at the EHR, under our ids and under its own. `JOBS=3` runs
three schedules at a time. `FAULTS=many` adds pauses, orderly stops,
gateway errors, lost replies, half-open and dripping connections, a failing archive, a locked or restarted database, a
full disk and steps of the clock, one to three at a time; `ARGS="--peers real"` is for HAPI FHIR and Orthanc. After
every schedule the servers' own contents are compared with what one undisturbed look would have written: of every type
that we write nothing lost, nothing twice, nothing in part, nobody else's, every older draft revoked, every case ended,
nothing left in plain (`tests/faults/judge.py`, which `test_judge.py` shows each of these). A failed schedule is
printed with the command that repeats it. Twenty cycles run in `make test`.

Long runs are written down by hand in `tests/faults/long_runs.toml`, each with its last line:

RUNS

## Why a worker may die ten times

The list asks for three tries of a patient who crashes whatever looks at them. That is what a decision gets: it runs
native code on what an archive holds, in a process of its own, where it is known who crashed it. What is left in the
worker itself is Python over checked sizes. When a whole worker dies, by the kernel, an administrator, or a power cut,
up to `watch.workers` cases are in a step, and most often none of them is the cause: three unlucky restarts would make
dead letters of patients who did nothing. A case is therefore closed only after ten deaths in the same step of the same
case, without getting further in between.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One row of the list. evidence: whether tests are expected, in contrast to a reason."""

    id: str
    fault: str
    here: str
    evidence: bool


@dataclass(slots=True, eq=False)
class Recorder:
    """A pytest plug-in: what became of each test that carries a fault's number."""

    faults_of: dict[str, tuple[str, ...]] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Remember the numbers."""
        for item in items:
            marked = {str(fault) for mark in item.iter_markers("fault") for fault in mark.args}
            self.faults_of[item.nodeid] = tuple(sorted(marked))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The worst of set-up, call and tear-down counts."""
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.nodeid] = report.outcome


def read_faults() -> tuple[Fault, ...]:
    """The list with its sentences."""
    content = tomllib.loads((_HERE / "faults.toml").read_text(encoding="utf-8"))
    rows = [Fault(id=row["id"], fault=row["fault"], here=row["here"], evidence=True) for row in content["fault"]]
    rows += [Fault(id=row["id"], fault=row["fault"], here=row["reason"], evidence=False) for row in content["cannot"]]
    return tuple(sorted(rows, key=lambda row: row.id))


def marked_faults(folder: Path) -> Iterator[str]:
    """Every number that a test below the folder carries, read from the source: nothing is imported."""
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
                yield from (str(argument.value) for argument in node.args if isinstance(argument, ast.Constant))


def read_long_runs() -> str:
    """The table of what was run by hand."""
    runs = tomllib.loads((_HERE / "long_runs.toml").read_text(encoding="utf-8"))["run"]
    rows = [f"| {run['day']} | `{run['command']}` | {run['result']} |" for run in runs]
    return "\n".join(["| day | command | result |", "|---|---|---|", *rows])


def render(faults: Iterable[Fault], faults_of: Mapping[str, tuple[str, ...]], outcomes: Mapping[str, str]) -> str:
    """The page."""
    lines = ["| fault | | what happens here | evidence |", "|---|---|---|---|"]
    for row in faults:
        evidence = _evidence([test for test, marked in faults_of.items() if row.id in marked], outcomes)
        lines.append(f"| {row.id} | {row.fault} | {row.here} | {evidence if row.evidence else 'cannot happen here'} |")
    return _HEAD + "\n".join(lines) + "\n" + _TAIL.replace("RUNS", read_long_runs())


def _evidence(tests: Iterable[str], outcomes: Mapping[str, str]) -> str:
    counted: dict[str, Counter[str]] = {}
    for test in tests:
        path, _, name = test.partition("::")
        function = f"`{path.removeprefix('tests/')}` {name.partition('[')[0].removeprefix('test_').replace('_', ' ')}"
        counted.setdefault(function, Counter())[outcomes.get(test, "not run")] += 1
    return "<br>".join(f"{name}: {_counts(found)}" for name, found in sorted(counted.items())) or "none"


def _counts(found: Counter[str]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(found.items()))


def main() -> None:
    """Run the marked tests, write the page; exit 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=_ROOT / "docs" / "reliability.md")
    parser.add_argument("pytest", nargs="*", help="further arguments of pytest")
    arguments = parser.parse_args()
    recorder = Recorder()
    code = pytest.main(["-q", "-m", "fault", str(_ROOT / "tests"), *arguments.pytest], plugins=[recorder])
    arguments.out.write_text(render(read_faults(), recorder.faults_of, recorder.outcomes), encoding="utf-8")
    sys.exit(int(code))


if __name__ == "__main__":
    main()
