"""Pull speed: 20 patients with 200 Observations each, in five link styles, against a bare httpx and orjson loop.

Both read the same pages from the same stub process in turn; the median of the rounds' ratios is the result. Ours
removes duplicates, checks every resource's owner and every page's JSON, and counts; the bare loop does none of this.
Memory: the peak of a process that reads 1,000 patients over the peak of one that reads 10.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import orjson

from adapter.domain.ids import PatientId
from adapter.fhir.client import FhirClient
from adapter.fhir.identity import Identity
from adapter.fhir.ownership import divide_by_owner
from benchmarks.rows import Row, report
from tests.fakes.fhir_wire import LinkStyle

PATIENTS, PER_PATIENT, PAGE_SIZE, ROUNDS = 20, 200, 50, 15
FEW, MANY = 10, 1_000
_COMMAND = "python -m benchmarks.pull"


def run() -> list[Row]:
    """Measure everything; about a minute."""
    rows = [row for style in LinkStyle for row in _speed(style)]
    return [*rows, _memory()]


def _speed(style: LinkStyle) -> Iterator[Row]:
    with _stub(style) as base_url, httpx.Client() as bare, FhirClient(base_url) as client:
        counts, seconds_bare, seconds_ours = [], [], []
        for _ in range(ROUNDS):
            seconds_bare.append(_timed(lambda: _pull_bare(bare, base_url)))
            seconds_ours.append(_timed(lambda: counts.append(_pull(client, PATIENTS))))
    # each round is compared with its neighbour: what else the machine does weighs on both
    ratio = statistics.median(ours / bare for ours, bare in zip(seconds_ours, seconds_bare, strict=True))
    expected = float(PATIENTS * PER_PATIENT)
    yield Row(name=f"FHIR pull, {style.value}: resources", value=float(min(counts)), unit="of 4,000",
              at_least=expected, at_most=expected, command=_COMMAND)  # fmt: skip
    yield Row(name=f"FHIR pull, {style.value}: time over a bare httpx and orjson loop", value=ratio, unit="x",
              at_most=1.3, command=_COMMAND)  # fmt: skip
    yield Row(name=f"FHIR pull, {style.value}: seconds", value=statistics.median(seconds_ours), unit="s",
              command=_COMMAND)  # fmt: skip


def _pull(client: FhirClient, patients: int) -> int:
    """Read each patient's Observations as fetch_record does; give how many are theirs."""
    count = 0
    for number in range(patients):
        patient_id = PatientId(f"p{number}")
        identity = Identity(patient_id=patient_id, aliases=(), patients=())
        found = client.search("Observation", [("patient", patient_id), ("_count", str(PAGE_SIZE))])
        count += len(divide_by_owner(found.matches, identity, base_url=client.base_url)[0])
    return count


def _pull_bare(client: httpx.Client, base_url: str) -> int:
    """What a script would do: no duplicates, owners, caps or counts are looked at; a 503 is asked again."""
    count = 0
    for number in range(PATIENTS):
        url: str | None = f"{base_url}/Observation?patient=p{number}&_count={PAGE_SIZE}"
        while url is not None:
            response = client.get(url)
            if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                continue
            page = orjson.loads(response.content)
            count += len([entry["resource"] for entry in page["entry"]])
            url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    return count


def _memory() -> Row:
    with _stub(LinkStyle.GETPAGES) as base_url:
        few, many = (_peak_kilobytes(base_url, patients) for patients in (FEW, MANY))
    return Row(name=f"FHIR pull: peak memory at {MANY:,} patients over {FEW}", value=many / few, unit="x",
               at_most=1.1, command=_COMMAND)  # fmt: skip


def _peak_kilobytes(base_url: str, patients: int) -> int:
    """Peak resident memory of a fresh process that reads this many patients one after the other."""
    command = [sys.executable, "-m", "benchmarks.pull", "--peak", base_url, str(patients)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def _stub(style: LinkStyle) -> Iterator[str]:
    """Run the stub in a process of its own, so that its work is not ours; give its base URL."""
    command = [sys.executable, "-m", "tests.fakes.fhir_wire", style.name, str(PER_PATIENT), str(PAGE_SIZE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the stub has no pipes")
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def main() -> None:
    """Print the rows as a table, or as JSON with --json; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peak", nargs=2, metavar=("BASE_URL", "PATIENTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        with FhirClient(arguments.peak[0]) as client:
            _pull(client, int(arguments.peak[1]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    sys.exit(report(run(), as_json=arguments.json))


if __name__ == "__main__":
    main()
