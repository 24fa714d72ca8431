"""Train the shipped model: `python -m training.fit --data FOLDER --out BUNDLE` writes the bundle and its card.

The card quotes docs/evaluation.json, which `python -m training.evaluate` writes; fitting itself measures nothing.

Finished parts are kept under --work: an interrupted training goes on where it stopped, and gives the same bundle.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from adapter.terminology import load_terminology
from inference.artifact import Bundle, load_bundle
from inference.contract import ModelContract
from training.about import About, cohort_of
from training.checkpoints import Checkpoints, mark_of
from training.cohorts import hancock, tcga_hnsc
from training.cohorts.cohort import digest_of
from training.evaluate import NUMBERS, read_data, say
from training.export import export_bundle
from training.likelihood import batch_of
from training.made_up import made_up_inputs
from training.protocol import landmark_study
from training.recipe import QUICK, Effort, fit_model
from training.report import TRAIN_COMMAND, model_card
from training.source_code import source_code
from training.weights import add_weights, model_in

SEED = 20260101
_CITATIONS = {
    "hancock": "Doerrich et al., Nat Commun 2025;16:7163, doi 10.1038/s41467-025-62386-6; CC BY",
    "tcga_hnsc": "TCGA Network, Nature 2015;517:576; TCGA open-access clinical data",
}
_CODE_SYSTEMS = (
    "LOINC, SNOMED CT, UCUM, each row with its source and release; TNM as each cohort published it: HANCOCK without an "
    "edition, TCGA-HNSC AJCC 5th to 7th mixed"
)
_CONTRAINDICATED = (
    "choosing between treatments; autonomous use; metastatic disease; other histologies; before surgery; a patient "
    "whose findings are not typical of the training cohorts"
)
_FILES = {"hancock": hancock.FILES, "tcga_hnsc": tcga_hnsc.FILES}


def main() -> None:
    """Fit on everything, export, write the card."""
    arguments = _arguments()
    data = read_data(arguments.data)
    numbers = _numbers(arguments.docs / NUMBERS)
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)
    study = landmark_study(data.hancock, data.tcga)
    effort = QUICK if arguments.quick else Effort()
    if arguments.weights is None:
        mark = mark_of(study.rows, study.others, contract=study.contract, effort=effort, seed=SEED)
        kept = Checkpoints(arguments.work, mark, study.contract, say)
        model = fit_model(study.rows, study.others, study.contract, effort, seed=SEED, keep=kept.keep)
        further: dict[str, object] = {}
    else:
        before = _trained_on(load_bundle(arguments.weights), data.digest, study.contract)
        model = model_in(before)
        further = {"weights_of": f"{before.identity.name} {before.identity.version}, manifest {before.identity.digest}"}
    counts = {"hancock": len(study.rows), "tcga_hnsc": len(study.others)}
    card = model_card(
        study.contract, numbers, [f"{name}: {counts[name]} patients. {_CITATIONS[name]}." for name in _FILES]
    )
    scales = ", ".join(f"{value:.3f}" for value in model.recalibration.scale.tolist())
    about = About(
        kind="real",
        data_sha256=data.digest,
        cohorts=tuple(
            cohort_of(
                name,
                rows,
                citation=_CITATIONS[name],
                sha256=digest_of(arguments.data / name / file for file in files),
            )
            for (name, files), rows in zip(_FILES.items(), (study.rows, study.others), strict=True)
        ),
        code_systems=f"{_CODE_SYSTEMS}; mapping tables, SHA-256 {load_terminology().digest}",
        calibration=f"scale of h01, h02, h12 by inner folds: {scales}",
        intended_use="research: prognosis after curative surgery of head and neck squamous cell carcinoma",
        contraindicated_use=_CONTRAINDICATED,
        limits="not for autonomous use; no treatment effect; images and adjuvant treatment are not inputs",
        licence="Apache-2.0",
        command=TRAIN_COMMAND,
        effort="quick: to see that it runs, not to be shipped" if arguments.quick else "full",
        source=source_code(),
        further=further,
    )
    say("exporting")
    export_bundle(
        model,
        study.contract,
        arguments.out,
        sample=batch_of(study.rows[:16]),
        golden=made_up_inputs(study.contract),
        about=about,
        card=card,
    )
    add_weights(arguments.out, model)
    arguments.docs.mkdir(parents=True, exist_ok=True)
    (arguments.docs / "model_card.md").write_text(card, encoding="utf-8")
    say(f"wrote {arguments.out} and {arguments.docs}/model_card.md")


def _numbers(path: Path) -> dict[str, float]:
    """What the evaluation measured; empty where it has not run, and the card then says `not measured`."""
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        sys.exit(f"{path} holds no numbers")
    return {str(name): float(value) for name, value in content.items()}


def _trained_on(bundle: Bundle, digest: str, contract: ModelContract) -> Bundle:
    """The bundle, where its weights were fitted on these files for this contract; leaves with one sentence if not."""
    if bundle.about["training_data_sha256"] != digest:
        sys.exit(f"{bundle.folder.name} was trained on other data than --data holds")
    if bundle.contract.schema_sha256 != contract.schema_sha256:
        sys.exit(f"{bundle.folder.name} has another contract")
    return bundle


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds hancock/ and tcga_hnsc/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle to write")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where evaluation.json is and the card goes")
    parser.add_argument("--work", type=Path, default=Path("build/training"), help="where finished parts are kept")
    parser.add_argument(
        "--weights", type=Path, help="a bundle trained on the same data: write it again with its weights, fit nothing"
    )
    parser.add_argument("--quick", action="store_true", help="a small fit in under a minute, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
