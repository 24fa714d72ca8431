"""Train the shipped model: `python -m training.fit --data FOLDER --out BUNDLE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from adapter.terminology import load_terminology
from training.cohorts import hancock, tcga_hnsc
from training.cohorts.cohort import digest_of
from training.cohorts.landmarks import LandmarkRow, landmark_rows
from training.evaluate import evaluate
from training.export import export_bundle
from training.likelihood import Penalty, batch_of, fit_model, joined
from training.linear_contract import linear_contract
from training.made_up import made_up_inputs
from training.network import IllnessDeath
from training.protocol import compare_protocols
from training.report import COMMAND, evaluation_page, model_card

_CITATIONS = {
    "hancock": "Doerrich et al., Nat Commun 2025;16:7163, doi 10.1038/s41467-025-62386-6; CC BY",
    "tcga_hnsc": "TCGA Network, Nature 2015;517:576; TCGA open-access clinical data",
}


def main() -> None:
    """Evaluate, fit on everything, export, write card and report."""
    arguments = _arguments()
    _require_data(arguments.data)
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)
    terminology, contract = load_terminology(), linear_contract()
    _say("reading the cohorts")
    patients = hancock.read_hancock(arguments.data / "hancock", terminology)
    rows = landmark_rows(patients, contract)
    others = landmark_rows(tcga_hnsc.read_tcga(arguments.data / "tcga_hnsc", terminology), contract)
    evaluation = evaluate(rows, others, contract, _say)
    _say("comparing protocols")
    protocols = compare_protocols(patients, contract)
    _say("fitting on everything")
    batch = joined([batch_of(rows), batch_of(others, cohort=1)])
    model = fit_model(IllnessDeath(contract), batch, Penalty())
    counts = _counts(rows, others)
    about = {
        "inclusion": (
            "adults after surgery, no distant metastasis, no neoadjuvant treatment, event-free at the decision landmark"
        ),
        "data": "\n".join(f"- {name}: {counts[short]} patients. {_CITATIONS[name]}." for name, short in
                          (("hancock", "hancock"), ("tcga_hnsc", "tcga"))),
    }  # fmt: skip
    card = model_card(contract, evaluation, about)
    manifest = {
        "training_data_kind": "real",
        "training_data": {
            name: {"patients": counts[short], "sha256": digest_of(arguments.data / name / file for file in files),
                   "citation": _CITATIONS[name]}
            for name, short, files in (("hancock", "hancock", hancock.FILES), ("tcga_hnsc", "tcga", tcga_hnsc.FILES))
        },
        "intended_use": "research: prognosis after curative surgery of head and neck squamous cell carcinoma",
        "limits": "not for autonomous use; no treatment effect; images and adjuvant treatment are not inputs",
        "licence": "Apache-2.0",
        "command": COMMAND,
        "horizons": "quarters 1 to 20 after the landmark",
    }  # fmt: skip
    _say("exporting")
    export_bundle(
        model,
        contract,
        arguments.out,
        sample=batch_of(rows[:16]),
        golden=made_up_inputs(contract),
        about=manifest,
        card=card,
    )
    arguments.docs.mkdir(parents=True, exist_ok=True)
    (arguments.docs / "evaluation.md").write_text(evaluation_page(evaluation, protocols, counts), encoding="utf-8")
    (arguments.docs / "model_card.md").write_text(card, encoding="utf-8")
    _say(f"wrote {arguments.out} and {arguments.docs}/evaluation.md, model_card.md")


def _counts(rows: Sequence[LandmarkRow], others: Sequence[LandmarkRow]) -> dict[str, int]:
    return {
        "hancock": len(rows),
        "tcga": len(others),
        "rfs": sum(row.illness_days is not None or row.died for row in rows),
        "deaths": sum(row.died for row in rows),
    }


def _require_data(folder: Path) -> None:
    """Leave with one sentence that names the first folder or file that is missing."""
    for name, files in (("hancock", hancock.FILES), ("tcga_hnsc", tcga_hnsc.FILES)):
        if not (folder / name).is_dir():
            sys.exit(f"{folder} has no folder {name}: --data names the folder of the research data")
        for file in files:
            if not (folder / name / file).is_file():
                sys.exit(f"{folder / name} has no file {file}: --data names the folder of the research data")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds hancock/ and tcga_hnsc/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle to write")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where the report goes")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
