"""Serving: one patient, and 10,000 patients in batches, against the bare runtime on ready arrays.

The floor is `onnxruntime.InferenceSession.run` of the same graph on the same batches, which somebody has already
stacked, and looks at nothing. Ours stacks the patients, checks every input and every output. Both in one process, in
turn, on one thread; processor time, which a shared machine disturbs less than the clock; medians. One patient goes
through `Predictor.predict`, 10,000 through `Predictor.predict_table`. The explanation of one patient has its own row,
by the clock.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from adapter.fhir.delivery import load_delivery
from benchmarks.rows import Row, report
from inference.artifact import load_bundle, shipped_bundle
from inference.contract import ModelContract, ModelInput
from inference.occlusion import ExplainingPredictor, InputGroup
from inference.predictor import INPUTS, OUTPUTS, Predictor

PATIENTS, BATCH, ROUNDS = 10_000, 256, 15
_EXPLAINED = 50
_ALONE = 400  # single patients, one after the other
_COMMAND = "python -m benchmarks.score"
_SEED = 20260101


def run() -> list[Row]:
    """Measure; a few seconds."""
    bundle = load_bundle(shipped_bundle())
    predictor = Predictor(bundle)
    patients = _patients(predictor.contract)
    batches = [patients[start : start + BATCH] for start in range(0, PATIENTS, BATCH)]
    feeds = [_feed(batch) for batch in batches]
    singles = [_feed([patient]) for patient in patients[:_ALONE]]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle.graph, options, providers=["CPUExecutionProvider"])

    def bare() -> None:
        for feed in feeds:
            session.run(list(OUTPUTS), feed)

    def ours() -> None:
        for batch in batches:
            predictor.predict_table(batch)

    def bare_alone() -> None:
        for feed in singles:
            session.run(list(OUTPUTS), feed)

    def ours_alone() -> None:
        for patient in patients[:_ALONE]:
            predictor.predict(patient)

    floor, own = _in_turn(bare, ours)
    floor_alone, own_alone = (1e3 * seconds / _ALONE for seconds in _in_turn(bare_alone, ours_alone))
    explained = 1e3 * _explained(predictor, patients)
    return [
        Row(name="Scoring 10,000 patients: time over bare onnxruntime", value=own / floor, unit="x", at_most=1.2,
            command=_COMMAND),
        Row(name="Scoring 10,000 patients: processor seconds", value=own, unit="s", command=_COMMAND),
        Row(name="Forecast of one patient, one thread: processor milliseconds", value=own_alone, unit="ms", at_most=2.0,
            command=_COMMAND),
        Row(name="Forecast of one patient: processor milliseconds of bare onnxruntime", value=floor_alone, unit="ms",
            command=_COMMAND),
        Row(name="Forecast of one patient: time over bare onnxruntime", value=own_alone / floor_alone, unit="x",
            command=_COMMAND),
        Row(name="Forecast of one patient with its explanation: milliseconds", value=explained, unit="ms",
            at_most=300.0, command=_COMMAND),
    ]  # fmt: skip


def _feed(patients: Sequence[ModelInput]) -> dict[str, NDArray[np.float32]]:
    """What the bare runtime is handed, stacked beforehand."""
    stacked = {name: np.stack([getattr(one, name) for one in patients]) for name in INPUTS[:-1]}
    return stacked | {INPUTS[-1]: np.array([[one.years_since_surgery] for one in patients], np.float32)}


def _in_turn(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Median processor seconds of each; one round goes before and is not counted."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS + 1):
        for work, measured in zip((first, second), seconds, strict=True):
            started = time.process_time()
            work()
            measured.append(time.process_time() - started)
    return statistics.median(seconds[0][1:]), statistics.median(seconds[1][1:])


def _explained(predictor: Predictor, patients: Sequence[ModelInput]) -> float:
    """Median seconds of one patient, by the clock."""
    groups = [InputGroup(name=group.title, features=group.features) for group in load_delivery().drivers]
    explaining, seconds = ExplainingPredictor(predictor, groups), []
    for patient in patients[:_EXPLAINED]:
        started = time.perf_counter()
        explaining.predict(patient)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _patients(contract: ModelContract) -> list[ModelInput]:
    """Of nobody, drawn from a seed: everything known, four days of blood."""
    draw = np.random.default_rng(_SEED)
    table = (contract.sequence_length, len(contract.sequence))
    known = np.zeros(table, np.float32)
    known[-4:] = 1.0
    return [
        ModelInput(
            static=draw.uniform(0.0, 3.0, len(contract.static)).astype(np.float32),
            static_mask=np.ones(len(contract.static), np.float32),
            sequence=(draw.uniform(1.0, 15.0, table) * known).astype(np.float32),
            sequence_mask=known,
            sequence_age_days=np.zeros(table[0], np.float32),
            years_since_surgery=float(draw.uniform(0.0, 2.0)),
        )
        for _ in range(PATIENTS)
    ]


def main() -> None:
    """Print the rows as a table, or as JSON with --json; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sys.exit(report(run(), as_json=arguments.json))


if __name__ == "__main__":
    main()
