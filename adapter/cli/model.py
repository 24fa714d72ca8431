"""`adjuvant model`: the bundles; training and scoring in processes of their own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from adapter.cli.arguments import INCOMPLETE, AsJson
from adapter.errors import BadSettings
from adapter.printing import out, print_json
from adapter.studio import start_scoring, start_training
from inference.artifact import MANIFEST, list_bundles, load_bundle, shipped_bundle
from inference.predictor import Predictor

app = typer.Typer(no_args_is_help=True, help="The model registry.")
_Data = Annotated[Path, typer.Option("--data", help="The folder of the research data: hancock/ and tcga_hnsc/.")]
_Python = Annotated[Path | None, typer.Option("--python", help="Interpreter of the training environment.")]
_Quick = Annotated[bool, typer.Option("--quick", help="Small fits, to see that it runs.")]


class Dataset(StrEnum):
    """The ways to write a table that `training.score` reads; nobody imports training, so a test compares them."""

    HANCOCK = "hancock"
    TCGA_HNSC = "tcga_hnsc"
    RADCURE = "radcure"


@app.command("list")
def model_list(as_json: AsJson = False) -> None:
    """Every bundle that comes with adjuvant."""
    rows = []
    for folder in list_bundles():
        identity = load_bundle(folder).identity
        current = folder == shipped_bundle()
        rows.append(
            {"name": identity.name, "version": identity.version, "data": identity.training_data, "current": current}
        )
    if as_json:
        print_json({"models": rows})
        return
    for row in rows:
        out.print(f"{'*' if row['current'] else ' '} {row['name']} {row['version']} ({row['data']} data)")


@app.command("show")
def model_show(
    folder: Annotated[Path | None, typer.Argument(help="A bundle; the shipped one by default.")] = None,
) -> None:
    """The model card."""
    bundle = load_bundle(folder or shipped_bundle())
    out.print((bundle.folder / "model_card.md").read_text(encoding="utf-8"), markup=False)


@app.command("verify")
def model_verify(
    folder: Annotated[Path | None, typer.Argument(help="A bundle; the shipped one by default.")] = None,
) -> None:
    """Check every hash, the schema and the golden vectors."""
    bundle = load_bundle(folder or shipped_bundle())
    identity = Predictor(bundle).identity
    out.print(
        f"{identity.name} {identity.version}: files, schema and golden vectors agree; {MANIFEST} {identity.digest}"
    )


@app.command("train")
def model_train(
    *,
    out_folder: Annotated[Path, typer.Option("--out", help="The folder of the bundle to write.")],
    data: Annotated[Path | None, typer.Option(help="The folder of the research data.")] = None,
    cohort: Annotated[
        Path | None, typer.Option(help="The site's own table, .csv or .parquet (columns: training/cohorts/site.py).")
    ] = None,
    recalibrate: Annotated[bool, typer.Option("--recalibrate", help="With --cohort: keep the network.")] = False,
    bundle: Annotated[Path | None, typer.Option(help="With --cohort: the bundle to start from.")] = None,
    docs: Annotated[Path | None, typer.Option(help="Without --cohort: where evaluation.json is.")] = None,
    work: Annotated[Path | None, typer.Option(help="Where finished parts are kept, to go on after a stop.")] = None,
    quick: _Quick = False,
    python: _Python = None,
) -> None:
    """Train the shipped model from the research data, or a site's own from its cohort; stopped, it goes on."""
    if cohort is None and data is None:
        raise BadSettings("give --data to train the shipped model, or --cohort for a site's own")
    local = {"--recalibrate": recalibrate, "--bundle": bundle is not None}
    if cohort is None and any(local.values()):
        raise BadSettings(f"{', '.join(name for name, given in local.items() if given)}: only with --cohort")
    if cohort is not None and docs is not None:
        raise BadSettings("--docs: only without --cohort")
    paths = {"--cohort": cohort, "--data": data, "--bundle": bundle, "--docs": docs, "--work": work}
    switches = {"--recalibrate": recalibrate, "--quick": quick}
    module = "training.fit" if cohort is None else "training.local"
    _end_as(start_training(module, ["--out", str(out_folder), *_spelled(paths, switches)], python))


@app.command("evaluate")
def model_evaluate(
    data: _Data,
    docs: Annotated[Path | None, typer.Option(help="Where the report goes.")] = None,
    work: Annotated[Path | None, typer.Option(help="Where finished folds are kept, to go on after a stop.")] = None,
    quick: _Quick = False,
    python: _Python = None,
) -> None:
    """Cross-validate the recipe against every baseline and write the report; stopped, it goes on."""
    paths = {"--data": data, "--docs": docs, "--work": work}
    _end_as(start_training("training.evaluate", _spelled(paths, {"--quick": quick}), python))


@app.command("score")
def model_score(
    dataset: Annotated[Dataset, typer.Option(help="How the tables are written.")],
    data: Annotated[Path, typer.Option(help="The folder of the tables.")],
    out_file: Annotated[Path, typer.Option("--out", help="The CSV file to write, one row per patient.")],
    bundle: Annotated[Path | None, typer.Option(help="A bundle; the shipped one by default.")] = None,
) -> None:
    """Forecast every patient of a table, or say why not; outcomes are not needed, nor is torch."""
    paths = {"--data": data, "--out": out_file, "--bundle": bundle}
    _end_as(start_scoring(["--dataset", dataset, *_spelled(paths, {})]))


def _spelled(paths: Mapping[str, Path | None], switches: Mapping[str, bool]) -> list[str]:
    """The options of another command, those that were given."""
    spelled = [word for name, path in paths.items() if path is not None for word in (name, str(path))]
    return [*spelled, *(name for name, given in switches.items() if given)]


def _end_as(status: int) -> None:
    """With the exit status of the process that did the work; one that was killed was incomplete."""
    if status:
        sys.exit(status if status > 0 else INCOMPLETE)
