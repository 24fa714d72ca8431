"""Train the shipped model: `python -m training.fit --data FOLDER --out BUNDLE` writes the bundle and its card.

The card quotes docs/evaluation.json, which `python -m training.evaluate` writes; fitting itself measures nothing.

Finished parts are kept under --work: an interrupted training goes on where it stopped, and gives the same bundle.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from training.checkpoints import Checkpoints, mark_of
from training.cohorts import hancock, tcga_hnsc
from training.cohorts.cohort import digest_of
from training.cohorts.landmarks import LandmarkRow
from training.evaluate import NUMBERS, read_data, say
from training.export import export_bundle
from training.likelihood import batch_of
from training.made_up import made_up_inputs
from training.protocol import landmark_study
from training.recipe import QUICK, Effort, fit_model
from training.report import TRAIN_COMMAND, model_card
from training.weights import add_weights

SEED = 20260101
_CITATIONS = {
    "hancock": "Doerrich et al., Nat Commun 2025;16:7163, doi 10.1038/s41467-025-62386-6; CC BY",
    "tcga_hnsc": "TCGA Network, Nature 2015;517:576; TCGA open-access clinical data",
}
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
    mark = mark_of(study.rows, study.others, contract=study.contract, effort=effort, seed=SEED)
    kept = Checkpoints(arguments.work, mark, study.contract, say)
    model = fit_model(study.rows, study.others, study.contract, effort, seed=SEED, keep=kept.keep)
    counts = {"hancock": len(study.rows), "tcga_hnsc": len(study.others)}
    card = model_card(
        study.contract, numbers, [f"{name}: {counts[name]} patients. {_CITATIONS[name]}." for name in _FILES]
    )
    scales = ", ".join(f"{value:.3f}" for value in model.recalibration.scale.tolist())
    about = {
        "training_data_kind": "real",
        "training_data_sha256": data.digest,
        "training_data": {
            name: {"patients": counts[name], "citation": _CITATIONS[name], "events": _events(part),
                   "sha256": digest_of(arguments.data / name / file for file in files)}
            for (name, files), part in zip(_FILES.items(), (study.rows, study.others), strict=True)
        },
        "calibration": f"scale of h01, h02, h12 by inner folds: {scales}",
        "intended_use": "research: prognosis after curative surgery of head and neck squamous cell carcinoma",
        "limits": "not for autonomous use; no treatment effect; images and adjuvant treatment are not inputs",
        "licence": "Apache-2.0",
        "command": TRAIN_COMMAND,
        "horizons": "quarters 1 to 20 after the landmark",
        "effort": "quick: to see that it runs, not to be shipped" if arguments.quick else "full",
    }  # fmt: skip
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


def _events(rows: Sequence[LandmarkRow]) -> dict[str, int]:
    return {
        "recurrence_or_death": sum(row.illness_days is not None or row.died for row in rows),
        "deaths": sum(row.died for row in rows),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds hancock/ and tcga_hnsc/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle to write")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where evaluation.json is and the card goes")
    parser.add_argument("--work", type=Path, default=Path("build/training"), help="where finished parts are kept")
    parser.add_argument("--quick", action="store_true", help="a small fit in under a minute, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
