"""Write what the last `make test` saw of every fault: docs/reliability.md.

Usage: python -m tests.faults.reliability --results .results --out docs/reliability.md

A test says which faults it proves by `@pytest.mark.fault("F-06")`, which stands as a property on its result; what
cannot happen here has its reason in faults.toml beside this file.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

_HERE = Path(__file__).parent
ALL_FAULTS = tuple(f"F-{number:02d}" for number in range(1, 51))

_HEAD = """# Reliability: every fault, what happens, and the evidence

Written by `make reliability` from what `make test` saw of the tests that carry the fault's number: SEEN. A test that
was skipped says so, with its count: it proves nothing on the machine that skipped it. `tests/faults/faults.toml` holds
the sentences and, for what cannot happen here, the reasons.

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
the newest case of each patient as that look ends, nothing left in plain (`tests/faults/judge.py`, which `test_judge.py`
shows each of these). A look reads the whole record, so a lost change can be seen of each patient's last event only: of
six patients in a schedule, one of whom is asked for by hand besides. A failed schedule is printed with the command that
repeats it, and leaves its logs in `.results/chaos`, with every thread of a service that did not settle. Twenty cycles
run in `make test`.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one test. file: below tests/. outcome: `passed`, `failed` or `skipped`."""

    file: str
    name: str
    faults: tuple[str, ...]
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One file of results. day: when it began."""

    day: str
    results: tuple[Result, ...]


def read_run(path: Path) -> Run:
    """A file that pytest wrote with `--junitxml`."""
    (suite,) = ElementTree.parse(path).getroot().iter("testsuite")  # noqa: S314 (our own pytest wrote it)
    return Run(day=suite.attrib["timestamp"][:10], results=tuple(_result(case) for case in suite.iter("testcase")))


def _result(case: ElementTree.Element) -> Result:
    outcomes = {"failure": "failed", "error": "failed", "skipped": "skipped"}
    seen = {outcomes[child.tag] for child in case if child.tag in outcomes}
    marked = [entry.attrib["value"] for entry in case.iter("property") if entry.attrib["name"] == "fault"]
    return Result(
        file=case.attrib["classname"].removeprefix("tests.").replace(".", "/") + ".py",
        name=case.attrib["name"],
        faults=tuple(marked),
        outcome=min(seen, default="passed"),  # a test that failed in its tear-down too has failed
    )


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


def render(faults: Iterable[Fault], runs: Sequence[Run]) -> str:
    """The page."""
    results = [result for run in runs for result in run.results]
    lines = ["| fault | | what happens here | evidence |", "|---|---|---|---|"]
    for row in faults:
        evidence = _evidence(result for result in results if row.id in result.faults)
        lines.append(f"| {row.id} | {row.fault} | {row.here} | {evidence if row.evidence else 'cannot happen here'} |")
    days = " and ".join(sorted({run.day for run in runs}))
    seen = f"{_counts(Counter(result.outcome for result in results))} on {days}"
    return _HEAD.replace("SEEN", seen) + "\n".join(lines) + "\n" + _TAIL.replace("RUNS", read_long_runs())


def _evidence(results: Iterable[Result]) -> str:
    counted: dict[str, Counter[str]] = {}
    for result in results:
        name = result.name.partition("[")[0].removeprefix("test_").replace("_", " ")
        counted.setdefault(f"`{result.file}` {name}", Counter())[result.outcome] += 1
    return "<br>".join(f"{name}: {_counts(found)}" for name, found in sorted(counted.items())) or "none"


def _counts(found: Counter[str]) -> str:
    return ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(found.items()))


def main() -> None:
    """Write the page; exit 1 where a test had failed, or no result proves anything of a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="The folder of what pytest wrote.")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    files = sorted(arguments.results.glob("*.xml"))
    if not files:
        sys.exit(f"no results in {arguments.results}: `make test` writes them")
    runs = [read_run(path) for path in files]
    arguments.out.write_text(render(read_faults(), runs), encoding="utf-8")
    results = [result for run in runs for result in run.results]
    proven = {fault for result in results for fault in result.faults if result.outcome == "passed"}
    unproven = [row.id for row in read_faults() if row.evidence and row.id not in proven]
    if unproven:
        sys.exit(f"no test passed for {', '.join(unproven)}")
    sys.exit(any(result.outcome == "failed" for result in results))


if __name__ == "__main__":
    main()
