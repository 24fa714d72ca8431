"""How good the model is on patients it never saw: `python -m training.evaluate --data FOLDER`.

Writes docs/evaluation.md, the same page as one HTML file, its figures, and evaluation.json for the model card.

Folds are kept under --work: an interrupted run goes on where it stopped, and a changed model starts again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from adapter.terminology import load_terminology
from training.boosting_baselines import CONTESTS as BOOSTING
from training.cohorts import hancock, tcga_hnsc
from training.cohorts.cohort import CohortPatient, digest_of, read_rows
from training.cohorts.tcga_treatment import read_treatments
from training.crossvalidate import NETWORKS, OURS, Forecasts, Study, cross_validate
from training.figures import draw_figures
from training.html_page import as_html
from training.metrics import YEAR_3, YEAR_5
from training.outcomes import ENDPOINTS
from training.overlap import overlaps
from training.protocol import (
    are_copies,
    landmark_study,
    lookalikes,
    oropharynx_study,
    published_study,
    reverse_study,
    shuffled_study,
    transfer_study,
)
from training.recipe import QUICK, Effort
from training.report import evaluation_page
from training.study_figures import draw_landmarks, draw_overlap, draw_policy
from training.summary import Evaluation, calibrations, scores, spread, subgroups, transfers

NUMBERS = "evaluation.json"
_RARE = 0.05
_THREE_YEARS = 3 * 365.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Both cohorts and the digest of the files they came from."""

    hancock: tuple[CohortPatient, ...]
    tcga: tuple[CohortPatient, ...]
    digest: str
    folder: Path


def main() -> None:
    """Cross-validate, score, draw, write the page and its numbers."""
    arguments = _arguments()
    data = read_data(arguments.data)
    effort, repeats = (QUICK, 1) if arguments.quick else (Effort(), arguments.repeats)
    landmark = replace(landmark_study(data.hancock, data.tcga), repeats=repeats)
    published = replace(published_study(data.hancock, data.tcga), repeats=repeats)
    studies = (
        landmark,
        published,
        transfer_study(landmark),
        reverse_study(landmark),
        oropharynx_study(published),
        shuffled_study(landmark),
    )
    kept = partial(
        cross_validate, folder=arguments.work, data_digest=data.digest, workers=arguments.workers, progress=say
    )
    found = {study.name: kept(study, effort, NETWORKS) for study in studies}
    for contest in BOOSTING:
        found["landmark"] = _joined(found["landmark"], kept(landmark, effort, contest))
    say("scoring")
    evaluation = _evaluate({study.name: study for study in studies}, found, data)
    arguments.docs.mkdir(parents=True, exist_ok=True)
    draw_figures(landmark, found["landmark"], evaluation.subgroups, arguments.docs)
    draw_overlap(evaluation.overlaps, arguments.docs)
    draw_landmarks(arguments.evidence, arguments.docs)
    draw_policy(arguments.evidence, arguments.docs)
    page = evaluation_page(evaluation)
    (arguments.docs / "evaluation.md").write_text(page, encoding="utf-8")
    (arguments.docs / "evaluation.html").write_text(as_html(page, arguments.docs), encoding="utf-8")
    (arguments.docs / NUMBERS).write_text(json.dumps(headline(evaluation), indent=1) + "\n", encoding="utf-8")
    say(f"wrote {arguments.docs}/evaluation.md, evaluation.html, {NUMBERS} and figures")


def _joined(first: Sequence[Forecasts], second: Sequence[Forecasts]) -> list[Forecasts]:
    """Fold by fold, what two contests forecast for the same patients."""
    if any(not np.array_equal(one["test"], other["test"]) for one, other in zip(first, second, strict=True)):
        raise ValueError("two contests tested different patients in one fold")
    return [one | other for one, other in zip(first, second, strict=True)]


def read_data(folder: Path) -> Data:
    """Both cohorts. Leaves with one sentence that names the first folder or file that is missing."""
    paths = []
    for name, files in (("hancock", hancock.FILES), ("tcga_hnsc", tcga_hnsc.FILES)):
        if not (folder / name).is_dir():
            sys.exit(f"{folder} has no folder {name}: --data names the folder of the research data")
        for file in files:
            if not (folder / name / file).is_file():
                sys.exit(f"{folder / name} has no file {file}: --data names the folder of the research data")
            paths.append(folder / name / file)
    terminology = load_terminology()
    return Data(
        hancock=hancock.read_hancock(folder / "hancock", terminology),
        tcga=tcga_hnsc.read_tcga(folder / "tcga_hnsc", terminology),
        digest=digest_of(paths),
        folder=folder,
    )


def _evaluate(studies: Mapping[str, Study], found: Mapping[str, list[Forecasts]], data: Data) -> Evaluation:
    landmark = studies["landmark"]
    first, second = (np.concatenate([part["typicality"] for part in found[name]]) for name in ("landmark", "transfer"))
    widths = [part["high"][:, :, YEAR_5] - part["low"][:, :, YEAR_5] for part in found["landmark"]]
    width = np.median(np.concatenate(widths), axis=0)
    shuffled = scores(studies["shuffled"], found["shuffled"])
    alike = lookalikes([*studies["published"].rows, *studies["published"].others])
    seen = [row.illness_days is not None or row.died for row in landmark.rows]
    return Evaluation(
        counts={
            "hancock": len(landmark.rows),
            "tcga": len(landmark.others),
            "rfs": sum(seen),
            "deaths": sum(row.died for row in landmark.rows),
            "published": len(studies["published"].rows),
            "repeats": landmark.repeats,
        },
        landmark=scores(landmark, found["landmark"]),
        published=scores(studies["published"], found["published"]),
        calibration=tuple(calibrations(landmark, found["landmark"])),
        scales=tuple(float(value) for value in np.mean([part["scale"] for part in found["landmark"]], axis=0)),
        subgroups=tuple(subgroups(landmark, found["landmark"])),
        transfer=tuple(transfers(studies["transfer"], found["transfer"])),
        reverse=tuple(transfers(studies["reverse"], found["reverse"])),
        oropharynx=_oropharynx(studies["oropharynx"], found["oropharynx"][0], data.folder),
        shuffled=(spread(shuffled, OURS, "RFS", "harrell").mean, spread(shuffled, OURS, "OS", "harrell").mean),
        duplicates=(len(alike), sum(are_copies(*pair) for pair in alike)),
        rare=(float((first < _RARE).mean()), float((second < _RARE).mean())),
        widths=(float(width[0]), float(width[2])),
        overlaps=overlaps(landmark, read_treatments(data.folder / "tcga_hnsc")),
    )


def _oropharynx(study: Study, forecast: Forecasts, folder: Path) -> tuple[float, float]:
    """The published tasks' own definitions: recurrence within three years against alive without; death of the tumour.

    Both take whoever was followed, however short, as a negative: so that numbers compare, not because it is right.
    """
    targets = {f"hancock-{row['patient_id']}": row for row in read_rows(folder / "hancock" / "targets.csv")}
    rows = [targets[study.rows[index].patient_id] for index in forecast["test"]]
    relapsed = np.array(
        [row["recurrence"] == "yes" and float(row["days_to_recurrence"]) <= _THREE_YEARS for row in rows]
    )
    well = np.array([row["recurrence"] == "no" and row["survival_status"] == "living" for row in rows])
    died = np.array([row["survival_status"] == "deceased" for row in rows])
    counted = np.array([row["survival_status_with_cause"] != "deceased not tumor specific" for row in rows])
    recurrence = 1.0 - forecast[f"{OURS}/recurrence"][:, YEAR_3]
    death = 1.0 - forecast[f"{OURS}/OS"][:, YEAR_5]
    asked = relapsed | well
    return _auc(recurrence[asked], relapsed[asked]), _auc(death[counted], died[counted])


def _auc(risk: NDArray[np.float32], happened: NDArray[np.bool_]) -> float:
    ranks, yes, no = rankdata(risk), int(happened.sum()), int((~happened).sum())
    return float((ranks[happened].sum() - yes * (yes + 1) / 2) / (yes * no))


def headline(evaluation: Evaluation) -> dict[str, float]:
    """The numbers that the model card quotes."""
    numbers = {
        f"{endpoint} {name}": round(spread(evaluation.landmark, OURS, endpoint, name).mean, 4)
        for endpoint in ENDPOINTS
        for name in ("harrell", "uno", "brier")
    }
    for row in evaluation.calibration:
        if row.model == OURS:
            numbers[f"{row.endpoint} {row.year} years O/E"] = round(row.observed / row.expected, 3)
            numbers[f"{row.endpoint} {row.year} years slope"] = round(row.slope, 3)
    for transfer in evaluation.transfer:
        numbers[f"{transfer.endpoint} external harrell"] = round(transfer.concordance[OURS], 4)
        ratio = transfer.calibration.observed / transfer.calibration.expected
        numbers[f"{transfer.endpoint} external O/E"] = round(ratio, 3)
    for group in evaluation.subgroups:
        if group.concordance is not None:
            numbers[f"{group.endpoint} {group.name}"] = round(group.concordance, 3)
    return numbers


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds hancock/ and tcga_hnsc/")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where the report goes")
    parser.add_argument(
        "--evidence", type=Path, default=Path("docs/evaluation"), help="the studies' pages, which two figures rest on"
    )
    parser.add_argument("--work", type=Path, default=Path("build/evaluation"), help="where finished folds are kept")
    parser.add_argument("--workers", type=int, default=2, help="folds at the same time")
    parser.add_argument("--repeats", type=int, default=5, help="of the five-fold cross-validation")
    parser.add_argument("--quick", action="store_true", help="one repeat of small fits, to see that it runs")
    return parser.parse_args()


def say(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
