"""Prove the image branch on simulated volumes: `python -m training.simulated_images --out BUNDLE`.

Trains on simulated patients whose CT carries a planted signal, calibrates on others, measures on others again, writes
a bundle marked `training_data=simulated` and docs/image_branch.md. Nothing in it was learned from a patient.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from inference.artifact import load_bundle
from inference.contract import DAYS_PER_QUARTER, ModelContract, ModelInput
from inference.predictor import Predictor
from training.about import About, cohort_of
from training.evaluate import say
from training.export import export_multimodal
from training.image_branch_report import Concordance, Measured, card_of, page_of
from training.image_fitting import FittedImageModel, ImageEffort, fit_image_model
from training.image_network import count_parameters
from training.likelihood import batch_of
from training.made_up import made_up_inputs
from training.metrics import Seen, bootstrap_error, harrell
from training.simulated_patients import EFFECT, SimulatedPatients, simulate_patients, simulated_contract
from training.source_code import source_code

SEED = 20260101
COMMAND = "python -m training.simulated_images --out inference/bundles/postoperative-simulated-image-0.1.0"
_YEAR_3 = 11  # index of the quarter that ends three years after the landmark
_SAMPLES = 200
_GOLDEN_CROPS, _COMPARED = 2, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """How many simulated patients train, calibrate and are held out."""

    training: int = 1200
    calibration: int = 300
    testing: int = 600


QUICK = (Numbers(training=64, calibration=32, testing=32), ImageEffort(epochs=1, members=2, steps=20))


def main() -> None:
    """Simulate, fit, export, measure the exported bundle, write the page."""
    arguments = _arguments()
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(arguments.threads)
    numbers, effort = QUICK if arguments.quick else (Numbers(), ImageEffort())
    began = time.monotonic()
    say("simulating patients")
    training = simulate_patients(numbers.training, 0)
    calibration = simulate_patients(numbers.calibration, numbers.training)
    testing = simulate_patients(numbers.testing, numbers.training + numbers.calibration)
    contract = simulated_contract()
    fitted = fit_image_model(training, calibration, contract, effort, seed=SEED, say=say)
    say("exporting")
    write_bundle(fitted, contract, arguments.out, training, testing, quick=arguments.quick)
    say("measuring the exported bundle")
    measured = measure(arguments.out, testing, fitted, numbers.training, time.monotonic() - began)
    arguments.docs.mkdir(parents=True, exist_ok=True)
    (arguments.docs / "image_branch.md").write_text(page_of(measured, COMMAND), encoding="utf-8")
    say(f"wrote {arguments.out} and {arguments.docs}/image_branch.md")


def write_bundle(
    fitted: FittedImageModel,
    contract: ModelContract,
    folder: Path,
    training: SimulatedPatients,
    sample: SimulatedPatients,
    *,
    quick: bool,
) -> None:
    """Both graphs with golden vectors. sample: patients on whom torch and onnxruntime are compared."""
    batch = batch_of(sample.rows[:_COMPARED])
    embeddings = fitted.embeddings(sample.crops[:_COMPARED])
    golden = made_up_inputs(contract)
    # golden crops are simulated patients too, in whole HU: short to write down
    crops = sample.crops[:_GOLDEN_CROPS].round()
    golden_embeddings = fitted.embeddings(crops).repeat(len(golden[0]) // _GOLDEN_CROPS, 1)
    cohort = cohort_of(
        "simulated", training.rows, citation="training/simulated_patients.py: nobody", sha256=digest_of(training)
    )
    about = About(
        kind="simulated",
        data_sha256=cohort.sha256,
        cohorts=(cohort,),
        code_systems="none: simulated inputs in the contract's own units",
        calibration="scale and offset of each transition on other simulated patients",
        intended_use="demonstration of the image branch on simulated patients; never for a patient",
        contraindicated_use="any patient, any decision: research and live mode refuse it",
        limits="SIMULATED: learned from a planted signal; refused outside demo mode",
        licence="Apache-2.0",
        command=COMMAND,
        effort="quick: to see that it runs, not to be shipped" if quick else "full",
        source=source_code(),
    )
    export_multimodal(
        fitted.risk,
        fitted.encoder,
        contract,
        folder,
        sample=(*batch.inputs, embeddings, _present_but_every(3, len(embeddings))),
        crops=sample.crops[:_COMPARED],
        golden=(*golden, golden_embeddings, _present_but_every(4, len(golden_embeddings))),
        golden_crops=crops,
        about=about,
        card=card_of(contract, len(training.rows), EFFECT, COMMAND),
    )


def _present_but_every(step: int, rows: int) -> torch.Tensor:
    """Whether there is an image, (rows, 1): none for the first and every `step`th after it."""
    return (torch.arange(rows) % step > 0).float().unsqueeze(1)


def digest_of(patients: SimulatedPatients) -> str:
    """SHA-256, hexadecimal, over crops, findings and courses."""
    digest = hashlib.sha256(patients.crops.numpy().tobytes())
    for row in patients.rows:
        digest.update(repr((row.patient_id, row.illness_days, row.last_days, row.died)).encode())
        digest.update(row.model_input.static.tobytes() + row.model_input.sequence.tobytes())
    return digest.hexdigest()


# ---- measuring


def measure(
    folder: Path, testing: SimulatedPatients, fitted: FittedImageModel, fitted_on: int, seconds: float
) -> Measured:
    """Ask the bundle as the service does, through onnxruntime, about simulated patients it never saw."""
    predictor = Predictor(load_bundle(folder))
    crops = [crop.squeeze(0).numpy() for crop in testing.crops]
    began = time.perf_counter()
    embeddings = [predictor.embed(crop) for crop in crops]
    encoding = (time.perf_counter() - began) / len(crops)
    inputs = [row.model_input for row in testing.rows]
    order = np.random.default_rng(SEED).permutation(len(inputs))
    asked = {
        "own image": [replace(one, image=image) for one, image in zip(inputs, embeddings, strict=True)],
        "no image": inputs,
        "image of another patient": [replace(one, image=embeddings[i]) for one, i in zip(inputs, order, strict=True)],
    }
    risks = {name: _three_year_risk(predictor, rows) for name, rows in asked.items()}
    seen = _relapses(testing)
    return Measured(
        concordances=(
            *(_concordance(name, risk, seen) for name, risk in risks.items()),
            _concordance("the planted truth itself", testing.burden, seen),
        ),
        tested=len(inputs),
        relapses=int(seen.events.sum()),
        fitted=fitted_on,
        mean_with=float(risks["own image"].mean()),
        mean_without=float(risks["no image"].mean()),
        observed=_observed(testing),
        correlation=float(np.corrcoef(risks["own image"], testing.burden)[0, 1]),
        encoder_parameters=count_parameters(fitted.encoder),
        risk_parameters=count_parameters(fitted.risk),
        bytes_in_all=sum(path.stat().st_size for path in folder.iterdir()),
        encoding_milliseconds=encoding * 1000.0,
        seconds=seconds,
    )


def _three_year_risk(predictor: Predictor, rows: Sequence[ModelInput]) -> NDArray[np.float64]:
    """Recurrence within three years, (N,)."""
    return np.array([output.recurrence[_YEAR_3] for output in predictor.predict_many(rows)], dtype=np.float64)


def _relapses(patients: SimulatedPatients) -> Seen:
    """Recurrence; death without it counts as the end of follow-up, as in a cause-specific analysis."""
    return Seen(
        events=np.array([row.illness_days is not None for row in patients.rows]),
        days=np.array([row.last_days if row.illness_days is None else row.illness_days for row in patients.rows]),
    )


def _observed(patients: SimulatedPatients) -> float:
    """Aalen and Johansen's cumulative incidence of recurrence at three years."""
    horizon = (_YEAR_3 + 1) * DAYS_PER_QUARTER
    free, incidence = 1.0, 0.0
    ends = _relapses(patients)
    first = ends.events | np.array([row.died and row.illness_days is None for row in patients.rows])
    for moment in np.unique(ends.days[first & (ends.days <= horizon)]):
        at_risk = (ends.days >= moment).sum()
        incidence += free * (ends.events & (ends.days == moment)).sum() / at_risk
        free *= 1.0 - (first & (ends.days == moment)).sum() / at_risk
    return float(incidence)


def _concordance(name: str, risk: NDArray[np.float64], seen: Seen) -> Concordance:
    return Concordance(
        name=name, value=harrell(risk, seen), error=bootstrap_error(risk, seen, samples=_SAMPLES, seed=SEED)
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle to write")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where image_branch.md goes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a small fit in some seconds, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
