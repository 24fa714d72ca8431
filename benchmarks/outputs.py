"""Rules, regimen and encoding of one patient, and its sheet, against plain JSON encoding of the same resources.

Ours goes from timeline and model output to the bytes of the transaction: findings, rules, gates, regimens, follow-up,
eight resources, each held against R4. The floor is `json.dumps` of the finished transaction, which somebody has already
decided and built. Over the hand-written cases of tests/golden/policy in turn, in one process on one thread. Processor
time is what the work takes; the clock says what a patient waits on this machine, whatever else runs on it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from adapter.decision.policy import Policy
from adapter.decision.propose import propose
from adapter.domain.outcome import TransactionBundle
from adapter.domain.risk import RiskForecast
from adapter.domain.timeline import Timeline
from adapter.fhir.delivery import Delivery, OutputMode, load_delivery
from adapter.fhir.encode import account_of, encode_transaction, subject_of
from adapter.page.html import as_html
from adapter.page.pdf import as_pdf
from adapter.page.view import page_of
from adapter.terminology import Terminology, load_terminology
from benchmarks.rows import Row, report
from tests.fakes.assessments import BASE_URL
from tests.fakes.postoperative import banded_curves, forecast
from tests.fakes.vignettes import timeline_of, vignettes

ROUNDS, SHEETS = 5, 10
_COMMAND = "python -m benchmarks.outputs"
_Case = tuple[Timeline, Policy, RiskForecast]


def run() -> list[Row]:
    """Measure; a quarter of a minute."""
    delivery, terminology = load_delivery(), load_terminology()
    timelines = [(timeline_of(case), case.policy) for case in vignettes()]
    cases: list[_Case] = [(patient, policy, forecast(patient, output=banded_curves())) for patient, policy in timelines]
    bundles = [_ours(case, delivery, terminology) for case in cases]  # also the first, which learns every form
    decoded = [json.loads(bundle.content) for bundle in bundles]
    ours = _spent([partial(_ours, case, delivery, terminology) for case in cases])
    floor = _spent([partial(json.dumps, content) for content in decoded])
    pages = [page_of(bundle.content, systems=delivery.systems) for bundle in bundles[:SHEETS]]
    sheets = _spent([partial(as_pdf, page) for page in pages])
    html = _spent([partial(as_html, page) for page in pages])
    return [
        Row(name="Rules, regimen and encoding of one patient: processor milliseconds", value=1e3 * ours[0], unit="ms",
            at_most=5.0, command=_COMMAND),
        Row(name="Rules, regimen and encoding of one patient: milliseconds by the clock",
            value=1e3 * ours[1], unit="ms", command=_COMMAND),
        Row(name="Rules, regimen and encoding: time over json.dumps of the transaction", value=ours[0] / floor[0],
            unit="x", command=_COMMAND),
        Row(name="Sheet of one assessment, PDF: processor seconds", value=sheets[0], unit="s", at_most=0.5,
            command=_COMMAND),
        Row(name="Sheet of one assessment, PDF: seconds by the clock", value=sheets[1], unit="s", command=_COMMAND),
        Row(name="Page of one assessment, HTML: processor milliseconds", value=1e3 * html[0], unit="ms",
            command=_COMMAND),
    ]  # fmt: skip


def _ours(case: _Case, delivery: Delivery, terminology: Terminology) -> TransactionBundle:
    patient, policy, risk = case
    return encode_transaction(
        risk,
        propose(risk, patient, policy),
        subject=subject_of(patient, base_url=BASE_URL),
        account=account_of(patient, policy, mapping_digest=terminology.digest, vocabulary=terminology.features),
        policy=policy,
        delivery=delivery,
        mode=OutputMode.RESEARCH,
    )


def _spent(works: Sequence[Callable[[], object]]) -> tuple[float, float]:
    """Median seconds of one piece of work, of the processor and by the clock; every piece ROUNDS times."""
    spent: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        for work in works:
            started, began = time.process_time(), time.perf_counter()
            work()
            spent.append((time.process_time() - started, time.perf_counter() - began))
    processor, clock = zip(*spent, strict=True)
    return statistics.median(processor), statistics.median(clock)


def main() -> None:
    """Print the rows as a table, or as JSON with --json; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sys.exit(report(run(), as_json=arguments.json))


if __name__ == "__main__":
    main()
