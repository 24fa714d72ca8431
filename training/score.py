"""Score the patients of a table: `python -m training.score --dataset hancock --data FOLDER --out FILE.csv`.

The table needs no outcomes, so that anyone can score patients whom the model's makers never saw. It is read, cut at
the decision landmark and assembled by the code that serves. Needs no torch.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from adapter.domain.risk import NotAtRisk
from adapter.errors import UnusableInput
from adapter.features.assemble import assemble
from adapter.features.at_risk import LandmarkPolicy
from adapter.features.timeline import build_timeline
from adapter.terminology import Terminology, load_terminology
from inference.artifact import load_bundle, shipped_bundle
from inference.contract import BundleRefused, ContractBreach, ModelContract, ModelInput
from inference.predictor import ForecastTable, Predictor
from training.cohorts import hancock, radcure, tcga_hnsc
from training.cohorts.cohort import CohortEntry
from training.cohorts.landmarks import decision_standing

YEARS = (1, 2, 3, 5)
_QUARTERS_A_YEAR = 4
_OUTCOMES = {"recurrence": 0, "death": 2}  # row of the band
_NUMBERS = tuple(
    f"risk_{outcome}_{year}y{end}" for outcome in _OUTCOMES for year in YEARS for end in ("", "_low", "_high")
)
COLUMNS = ("patient_id", *_NUMBERS, "typicality", "abstained", "reason")
_YES, _NO = "true", "false"
BATCH = 256
Row: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A way to write a table of patients. files: what the folder must hold."""

    files: tuple[str, ...]
    read: Callable[[Path, Terminology], Iterable[CohortEntry]]


DATASETS: Mapping[str, Dataset] = {
    "hancock": Dataset(files=hancock.RECORD_FILES, read=hancock.read_hancock_entries),
    "tcga_hnsc": Dataset(files=tcga_hnsc.RECORD_FILES, read=tcga_hnsc.read_tcga_entries),
    "radcure": Dataset(files=radcure.RECORD_FILES, read=radcure.read_radcure_entries),
}


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when the file is written, 1 where a file is missing, cannot be read, or the bundle is refused."""
    options = _options(arguments)
    dataset = DATASETS[options.dataset]
    folder = options.data / options.dataset if (options.data / options.dataset).is_dir() else options.data
    missing = [name for name in dataset.files if not (folder / name).is_file()]
    if missing:
        return _refuse(f"{folder} has no file {missing[0]}: tables written as {options.dataset} have one")
    try:
        predictor = Predictor(load_bundle(options.bundle or shipped_bundle()))
        scored, rows = write_scores(options.out, dataset.read(folder, load_terminology()), predictor)
    except BundleRefused as error:
        return _refuse(f"the model bundle is refused: {error}")
    except KeyError as error:
        return _refuse(f"a table in {folder} has no column {error}")
    sys.stderr.write(f"wrote {options.out}: {scored} of {rows} patients scored\n")
    return 0


def write_scores(path: Path, entries: Iterable[CohortEntry], predictor: Predictor) -> tuple[int, int]:
    """One row per entry, in order. Returns how many were scored, of how many. Raises BundleRefused, KeyError."""
    rows = list(score(entries, predictor))
    draft = path.with_name(path.name + ".draft")
    with draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    draft.rename(path)
    return sum(row["abstained"] == _NO for row in rows), len(rows)


def score(entries: Iterable[CohortEntry], predictor: Predictor) -> Iterator[Row]:
    """Fractions with four decimals, or `abstained` with the reason. Raises BundleRefused for too short a horizon."""
    if predictor.contract.horizon_quarters < YEARS[-1] * _QUARTERS_A_YEAR:
        raise BundleRefused(f"the model's horizon ends before {YEARS[-1]} years")
    asked = iter(entries)
    while batch := list(islice(asked, BATCH)):
        inputs = [_input_of(entry, predictor.contract) for entry in batch]
        known = [model_input for model_input in inputs if isinstance(model_input, ModelInput)]
        numbers = iter(_numbers(known, predictor))
        for entry, model_input in zip(batch, inputs, strict=True):
            if isinstance(model_input, ModelInput):
                yield {"patient_id": entry.key, **next(numbers), "abstained": _NO}
            else:
                yield {"patient_id": entry.key, "abstained": _YES, "reason": model_input}


def _input_of(entry: CohortEntry, contract: ModelContract) -> ModelInput | str:
    """What the model is asked, or why it is not."""
    if entry.record is None or entry.excluded is not None:
        return entry.excluded or "no record"
    stands = decision_standing(entry.record, LandmarkPolicy())
    if isinstance(stands, NotAtRisk):
        return stands.reason.value
    try:
        return assemble(build_timeline(entry.record, (), stands), contract)
    except UnusableInput as error:
        return str(error)


def _numbers(inputs: Sequence[ModelInput], predictor: Predictor) -> list[Row]:
    """The numbers of each patient as they stand in the file."""
    if not inputs:
        return []
    try:
        table = predictor.predict_table(inputs)
    except ContractBreach as error:
        raise BundleRefused(str(error)) from error
    return [_row(table, place) for place in range(len(inputs))]


def _row(table: ForecastTable, place: int) -> Row:
    curves = {"recurrence": table.recurrence, "death": table.death}
    row = {}
    for outcome, band in _OUTCOMES.items():
        for year in YEARS:
            quarter = year * _QUARTERS_A_YEAR - 1
            name = f"risk_{outcome}_{year}y"
            row[name] = f"{curves[outcome][place, quarter]:.4f}"
            row[f"{name}_low"] = f"{table.low[place, band, quarter]:.4f}"
            row[f"{name}_high"] = f"{table.high[place, band, quarter]:.4f}"
    return {**row, "typicality": f"{table.typicality[place]:.4f}"}


def _refuse(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 1


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.score", description=__doc__)
    parser.add_argument("--dataset", choices=sorted(DATASETS), required=True, help="how the tables are written")
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables, or one that holds it by name")
    parser.add_argument("--out", type=Path, required=True, help="the CSV file to write")
    parser.add_argument("--bundle", type=Path, help="a bundle; the shipped one by default")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
