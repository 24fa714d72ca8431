"""Training and serving see the same patient: every HANCOCK patient through FHIR and a real HAPI, compared by entry.

Writes docs/parity.md. The same comparison, on sixty patients, is a test: tests/acceptance.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from adapter.fhir.client import FhirClient
from adapter.terminology import load_terminology
from benchmarks.both_sides import INPUT_BAR, OUTPUT_BAR, Comparison, as_served, as_trained, compare, load_cohort, spread
from inference.artifact import load_bundle, shipped_bundle
from inference.predictor import Predictor
from tests.peers.hapi import start_hapi
from tests.peers.process import PeerMissing
from training.cohorts.hancock import read_hancock
from training.cohorts.landmarks import landmark_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run as it is reported. resources: PUT into the server; training_rows: of the compared patients."""

    comparison: Comparison
    resources: int
    training_rows: int
    model: str
    store_seconds: float
    serve_seconds: float


def run(data: Path, sample: int | None) -> Run:
    """Start a HAPI of our own, send the cohort through it and compare."""
    terminology, predictor = load_terminology(), Predictor(load_bundle(shipped_bundle()))
    patients = spread(read_hancock(data / "hancock", terminology), sample)
    with TemporaryDirectory(prefix="adjuvant-parity-") as folder:
        print("starting HAPI", file=sys.stderr, flush=True)
        hapi = start_hapi(Path(folder))
        try:
            with FhirClient(hapi.base_url) as client:
                started = time.monotonic()
                resources = load_cohort(client, patients, terminology)
                stored = time.monotonic()
                served = tuple(as_served(client, patients, terminology, predictor))
                ended = time.monotonic()
        finally:
            hapi.stop()
    return Run(
        comparison=compare(as_trained(patients, predictor), served),
        resources=resources,
        training_rows=len(landmark_rows(patients, predictor.contract)),
        model=f"{predictor.identity.name} {predictor.identity.version}",
        store_seconds=stored - started,
        serve_seconds=ended - stored,
    )


def report(result: Run, command: str) -> str:
    """The page `docs/parity.md`."""
    found = result.comparison
    total, at_risk = found.standings.total(), found.compared
    skipped = total - at_risk
    distant = found.standings["distant-metastasis"]
    reasons = ", ".join(f"`{name}` {count}" for name, count in sorted(found.standings.items()))
    verdict = "Both sides agree." if found.holds else "**THE SIDES DIFFER: see the lines marked below.**"
    lines = [
        ("patients sent through FHIR", f"{total}", "", True),
        ("resources stored in HAPI", f"{result.resources:,}", "", True),
        ("standing as served", reasons, "", True),
        ("standing differs", _named(found.standing_differs), "0", not found.standing_differs),
        ("landmark differs (to the microsecond)", _named(found.landmark_differs), "0", not found.landmark_differs),
        ("masks differ", _named(found.masks_differ), "0", not found.masks_differ),
        ("input entries compared", f"{found.entries:,}", "", True),
        ("largest input difference", f"{found.input_distance:.1e}", f"{INPUT_BAR:.0e}",
         found.input_distance <= INPUT_BAR),
        ("largest output difference", f"{found.output_distance:.1e}", f"{OUTPUT_BAR:.0e}",
         found.output_distance <= OUTPUT_BAR),
    ]  # fmt: skip
    table = "\n".join(f"| {what} | {value} | {bar} | {'' if met else 'MISSED'} |" for what, value, bar, met in lines)
    return f"""# Training and serving see the same patient

Written by `{command}` with model {result.model}. {verdict}

Training reads the HANCOCK tables; the service reads a server. Here every patient takes both ways: once straight
from the table, once exported to FHIR R4, stored in HAPI FHIR 8.8 (transactions of PUTs), pulled page by page, decoded,
cut at the landmark and assembled as for a real patient. Times known are effective time plus the reporting delay, as
for any record that was migrated in bulk.

| what | found | at most | |
|---|---|---|---|
{table}

{skipped} patients are skipped on both sides, {distant} of them with distant metastasis at diagnosis: that is no surgery
with curative intent, they trained nothing, and the service says so instead of predicting. The other {at_risk} are
compared entry by entry; {result.training_rows} of these are training rows, the rest relapsed, died or were lost before
their landmark and are compared all the same. Storing took {result.store_seconds:.0f} s; pulling, decoding and
predicting {result.serve_seconds:.0f} s ({1000 * result.serve_seconds / total:.0f} ms a patient, one after the other).
"""


def _named(patients: tuple[str, ...]) -> str:
    return f"{len(patients)}" + (f" ({', '.join(patients[:10])})" if patients else "")


def main() -> None:
    """Run, write the page, exit 1 where the sides differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where to write the page; standard output without it")
    parser.add_argument("--sample", type=int, help="so many patients, spread over the file; all without it")
    arguments = parser.parse_args()
    data = os.environ.get("ADJUVANT_DATA")
    if not data or not (Path(data) / "hancock").is_dir():
        parser.error("ADJUVANT_DATA names no folder that holds hancock/")
    try:
        result = run(Path(data), arguments.sample)
    except PeerMissing as missing:
        parser.error(str(missing))
    sample = f" --sample {arguments.sample}" if arguments.sample else ""
    page = report(result, "make parity" if not sample else f"python -m benchmarks.parity{sample}")
    if arguments.out is None:
        print(page)
    else:
        arguments.out.write_text(page, encoding="utf-8")
    sys.exit(0 if result.comparison.holds else 1)


if __name__ == "__main__":
    main()
