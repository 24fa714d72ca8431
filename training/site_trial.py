"""What a hospital's own cohort adds: `python -m training.site_trial --data FOLDER` writes docs/site_trial.md.

Two sites are played. Patients of HANCOCK held back at random, by a model fitted on the others: nothing differs there,
so recalibration can only do harm. And the centres of TCGA-HNSC, by a model fitted on HANCOCK alone: other hospitals,
another clock. A site's patients are halved; each half is scored by what was learned on the other, so that every one is
scored once per repeat and none by a model it trained.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.checkpoints import Checkpoints, mark_of
from training.cohorts.landmarks import LandmarkRow
from training.evaluate import read_data, say
from training.likelihood import batch_of
from training.local import recalibrate
from training.metrics import YEAR_2, YEAR_3, Curves, calibrate_at, harrell
from training.network import IllnessDeath
from training.outcomes import ENDPOINTS
from training.protocol import landmark_study
from training.recipe import QUICK, Effort, fit_model
from training.summary import seen_of

SEED = 20260101
PAGE = "site_trial.md"
_HELD_BACK, _REPEATS = 0.4, 5
_SMALL = 60  # patients: what a small unit has after a year or two
_SMALLEST_DIFFERENCE = 0.02
_EFFORT = Effort(members=4, trees=100, swapped=1000)  # of the retrained: one per half and repeat
Rows = Sequence[LandmarkRow]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Site:
    """home: what the base model is fitted on; own: the site's patients, none of them among home."""

    name: str
    home: tuple[LandmarkRow, ...]
    beside: tuple[LandmarkRow, ...]
    own: tuple[LandmarkRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One way at one site: means over halves and repeats of C, observed over expected and slope at two years."""

    site: str
    way: str
    endpoint: str
    concordance: float
    ratio: float
    slope: float


def main() -> None:
    """Fit the base models, try every way on every half, write the page."""
    arguments = _arguments()
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)
    data = read_data(arguments.data)
    study = landmark_study(data.hancock, data.tcga)
    effort, small, repeats = (QUICK, QUICK, 1) if arguments.quick else (Effort(), _EFFORT, _REPEATS)
    lines: list[Line] = []
    for site in sites(study.rows, study.others):
        mark = mark_of(site.home, site.beside, contract=study.contract, effort=effort, seed=SEED)
        kept = Checkpoints(arguments.work, mark, study.contract, say)
        base = fit_model(site.home, site.beside, study.contract, effort, seed=SEED, keep=kept.keep)

        def retrained(rows: Rows, site: Site = site) -> IllnessDeath:
            mark = mark_of(rows, site.home, contract=study.contract, effort=small, seed=SEED)
            part = Checkpoints(arguments.work, mark, study.contract, say)
            return fit_model(rows, site.home, study.contract, small, seed=SEED, keep=part.keep)

        lines += lines_of(site, ways(base, retrained), repeats)
    arguments.docs.mkdir(parents=True, exist_ok=True)
    (arguments.docs / PAGE).write_text(page(lines, study.rows, study.others, repeats), encoding="utf-8")
    say(f"wrote {arguments.docs / PAGE}")


def sites(hancock: tuple[LandmarkRow, ...], tcga: tuple[LandmarkRow, ...]) -> tuple[Site, ...]:
    """The two that are played."""
    held = set(np.random.default_rng(SEED).permutation(len(hancock))[: int(_HELD_BACK * len(hancock))].tolist())
    own = tuple(row for place, row in enumerate(hancock) if place in held)
    home = tuple(row for place, row in enumerate(hancock) if place not in held)
    return (
        Site(name="held back from HANCOCK", home=home, beside=tcga, own=own),
        Site(name="TCGA-HNSC", home=hancock, beside=(), own=tcga),
    )


def ways(base: IllnessDeath, retrained: Callable[[Rows], IllnessDeath]) -> Mapping[str, Callable[[Rows], IllnessDeath]]:
    """What a site may do with its rows."""

    def adjusted(rows: Rows) -> IllnessDeath:
        model = copy.deepcopy(base)
        recalibrate(model, rows)
        return model

    return {
        "as shipped": lambda _: base,
        f"recalibrated on {_SMALL}": lambda rows: adjusted(rows[:_SMALL]),
        "recalibrated on half": adjusted,
        "retrained on half": retrained,
    }


def lines_of(site: Site, tried: Mapping[str, Callable[[Rows], IllnessDeath]], repeats: int) -> Iterator[Line]:
    """Every way on the same halves; scored half by half, for what was learned on two halves is two models."""
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for first, second in halves(len(site.own), repeats):
        for name, way in tried.items():
            for learned, tested in ((first, second), (second, first)):
                rows = [site.own[place] for place in tested]
                forecast = survival(way([site.own[place] for place in learned]), rows)
                for endpoint in ENDPOINTS:
                    found.setdefault((endpoint, name), []).append(_scored(forecast[endpoint], rows, endpoint))
            say(f"{site.name}: {name}")
    for (endpoint, name), scores in found.items():
        concordance, ratio, slope = np.mean(scores, axis=0).tolist()
        yield Line(site=site.name, way=name, endpoint=endpoint, concordance=concordance, ratio=ratio, slope=slope)


def _scored(curves: Curves, rows: Rows, endpoint: str) -> tuple[float, float, float]:
    """Concordance at three years; observed over expected and slope at two."""
    seen = seen_of(rows, endpoint)
    at_2 = calibrate_at(curves, seen, YEAR_2)
    return harrell(1.0 - curves[:, YEAR_3], seen), at_2.observed / at_2.expected, at_2.slope


def halves(count: int, repeats: int) -> Iterator[tuple[Indices, Indices]]:
    """Two halves of a site's patients, by chance, for every repeat."""
    draw = np.random.default_rng(SEED)
    for _ in range(repeats):
        order = draw.permutation(count)
        yield order[: count // 2], order[count // 2 :]


def survival(model: IllnessDeath, rows: Rows) -> Mapping[str, Curves]:
    """Event-free and overall survival at the twenty quarters, (n, 20)."""
    with torch.no_grad():
        recurrence, without, death, *_ = model(*batch_of(rows).inputs)
    return {
        "RFS": (1.0 - recurrence - without).numpy().astype(np.float64),
        "OS": (1.0 - death).numpy().astype(np.float64),
    }


def page(lines: Sequence[Line], hancock: Rows, tcga: Rows, repeats: int) -> str:
    """The result as Markdown."""
    counts = {site.name: len(site.own) for site in sites(tuple(hancock), tuple(tcga))}
    text = [
        "# What a site's own cohort adds",
        "",
        f"Written by `python -m training.site_trial`. {repeats} repeats; each half of a site's patients is scored by",
        "what was learned on the other half, so nobody is scored by a model they trained. C: Harrell's concordance",
        "with the risk at three years. O/E and slope: observed over expected, calibration slope, at two years. Means",
        f"over the halves; a half has few events, so that a difference in C below {_SMALLEST_DIFFERENCE} says nothing.",
        "",
        "Held back from HANCOCK: two fifths by chance, the base model fitted on the rest and TCGA-HNSC. Nothing",
        "differs between site and home there. TCGA-HNSC: other hospitals, days counted from diagnosis, no blood",
        f"values; the base model fitted on HANCOCK alone. `Recalibrated on {_SMALL}` uses {_SMALL} patients of a half,",
        "with so few events that intercepts alone are fitted. `Retrained` fits a smaller ensemble (4 members) on the",
        "half, with the home patients beside it under a baseline of their own.",
        "",
        "| site | patients | way | RFS C | RFS O/E | RFS slope | OS C | OS O/E | OS slope |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    by_key = {(line.site, line.way, line.endpoint): line for line in lines}
    for site, way in dict.fromkeys((line.site, line.way) for line in lines):
        cells = [
            f"{number:.{digits}f}"
            for endpoint in ENDPOINTS
            for line in (by_key[site, way, endpoint],)
            for number, digits in ((line.concordance, 3), (line.ratio, 2), (line.slope, 2))
        ]
        text.append(f"| {site} | {counts[site]} | {way} | {' | '.join(cells)} |")
    return "\n".join([*text, ""])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.site_trial", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds hancock/ and tcga_hnsc/")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where the page goes")
    parser.add_argument("--work", type=Path, default=Path("build/site-trial"), help="where finished fits are kept")
    parser.add_argument("--quick", action="store_true", help="one repeat of small fits, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
