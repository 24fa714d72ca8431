"""`python -m training.studies --data FOLDER --out docs/evaluation`: every study, its pages and an overview."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from training.studies import images, landmarks, radcure, treatment
from training.studies.effort import Effort
from training.studies.findings import Findings, write_findings, write_overview

STUDIES: Mapping[str, Callable[[Path, Effort], Findings]] = {
    "radcure": radcure.study,
    "landmarks": landmarks.study,
    "images": images.study,
    "treatment": treatment.study,
}
PREDICTIONS = "radcure_predictions.csv"  # beside the pages' folder


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when every study ran, whether its gates hold or not; 1 where the data is not there."""
    parser = argparse.ArgumentParser(prog="python -m training.studies", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public research data")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pages")
    parser.add_argument("--only", choices=sorted(STUDIES), action="append", help="one study; may be repeated")
    parser.add_argument("--quick", action="store_true", help="same code, few repeats: for tests, not to be read")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the same sums in the same order on any machine
    effort = Effort.QUICK if options.quick else Effort.FULL
    chosen = options.only or list(STUDIES)
    for name in STUDIES:
        if name not in chosen:
            continue
        sys.stderr.write(f"{name}\n")
        try:
            findings = STUDIES[name](options.data, effort)
            if name == "radcure":
                radcure.write_predictions(options.data, options.out.parent / PREDICTIONS, effort)
        except FileNotFoundError as missing:
            sys.stderr.write(f"{missing.filename} is missing: --data names the folder of the research data\n")
            return 1
        write_findings(options.out, findings)
    write_overview(options.out, STUDIES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
