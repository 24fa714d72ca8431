"""A hospital's own cohort: `python -m training.local --cohort site.parquet --out BUNDLE [--recalibrate]`.

Retrained by the recipe of the shipped model, or only recalibrated: each transition's hazard gets a slope around the
bundle's own baseline and an intercept, a transition with few events the intercept alone (recalibration in the large).
On the logit of a quarterly hazard: below a hazard of a tenth it is the complementary log-log within a twentieth.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from adapter.errors import UnusableInput
from adapter.terminology import load_terminology
from inference.artifact import Bundle, load_bundle, shipped_bundle
from inference.contract import BundleRefused, ModelContract
from training.about import About, cohort_of
from training.checkpoints import Checkpoints, mark_of
from training.cohorts import hancock
from training.cohorts.landmarks import LandmarkRow, landmark_rows
from training.cohorts.site import read_site
from training.evaluate import say
from training.export import export_bundle
from training.likelihood import Batch, batch_of
from training.made_up import made_up_inputs
from training.network import FIT_QUARTERS, TRANSITIONS, IllnessDeath
from training.postoperative_contract import postoperative_contract
from training.recipe import QUICK, Effort, fit_model, scale_and_offset
from training.source_code import UNKNOWN, source_code
from training.weights import add_weights, model_in

SEED = 20260101
FEWEST_FOR_SLOPE, FEWEST_TO_RETRAIN = 50, 100  # events of a transition; recurrences and deaths together
_NAMES = ("recurrence", "death without recurrence", "death after recurrence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibrated:
    """What was fitted on the site's patients, by transition. slope: one where there were too few events."""

    events: tuple[int, ...]
    slope: tuple[float, ...]
    intercept: tuple[float, ...]

    @property
    def sentence(self) -> str:
        """In one line, as it stands in the manifest."""
        parts = (
            f"{name}: {events} events, slope {slope:.3f}{' (fixed)' if events < FEWEST_FOR_SLOPE else ''}, "
            f"intercept {intercept:+.3f}"
            for name, events, slope, intercept in zip(_NAMES, self.events, self.slope, self.intercept, strict=True)
        )
        return "; ".join(parts)


def main() -> None:
    """Read, retrain or recalibrate, export. Leaves with one sentence where the table or the bundle is refused."""
    arguments = _arguments()
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)
    try:
        rows = landmark_rows(read_site(arguments.cohort, load_terminology()), postoperative_contract())
        if not rows:
            sys.exit("no patient of the table was event-free at the decision landmark")
        digest = hashlib.sha256(arguments.cohort.read_bytes()).hexdigest()
        write_local(arguments, rows, digest)
    except FileNotFoundError as error:
        sys.exit(f"{error.filename} is missing")
    except UnusableInput as error:
        sys.exit(f"{arguments.cohort.name}: {error}")
    except BundleRefused as error:
        sys.exit(f"the model bundle is refused: {error}")
    say(f"wrote {arguments.out}: {len(rows)} patients at the decision landmark")


def write_local(arguments: argparse.Namespace, rows: Sequence[LandmarkRow], digest: str) -> None:
    """Fit as asked and write the bundle. Raises BundleRefused, UnusableInput."""
    bundle = load_bundle(arguments.bundle or shipped_bundle())
    if bundle.contract.schema_sha256 != postoperative_contract().schema_sha256:
        raise BundleRefused("its inputs are not those of the site's table")
    contract = replace(bundle.contract, model_version=f"{bundle.contract.model_version}+site.{digest[:8]}")
    if arguments.recalibrate:
        model = model_in(bundle)
        how: Mapping[str, object] = {"recalibrated": recalibrate(model, rows).sentence}
    else:
        model = _retrained(arguments, rows, contract)
        how = {"retrained": "on the site's patients" + (", HANCOCK beside them" if arguments.data else "")}
    cohort = cohort_of("site", rows, citation="the site's own table", sha256=digest)
    about = About(
        kind=bundle.identity.training_data,
        data_sha256=digest,
        cohorts=(cohort,),
        code_systems=str(bundle.about.get("code_systems", UNKNOWN)),
        calibration="; ".join(f"{key}: {value}" for key, value in how.items()),
        intended_use=str(bundle.about["intended_use"]),
        contraindicated_use=str(bundle.about.get("contraindicated_use", UNKNOWN)),
        limits=str(bundle.about["limits"]),
        licence=str(bundle.about["licence"]),
        command="python -m training.local",
        effort="quick: to see that it runs, not to be used" if arguments.quick else "full",
        source=source_code(),
        further={
            **how,
            "base": f"{bundle.identity.name} {bundle.identity.version}, manifest {bundle.identity.digest}",
            "site_patients": len(rows),
        },
    )
    export_bundle(
        model,
        contract,
        arguments.out,
        sample=batch_of(rows[:16]),
        golden=made_up_inputs(contract),
        about=about,
        card=_card(bundle, contract, rows, how),
    )
    add_weights(arguments.out, model)


def recalibrate(model: IllnessDeath, rows: Sequence[LandmarkRow]) -> Recalibrated:
    """Change the model's recalibration so that it fits the rows, none of which may have trained it."""
    batch, own = batch_of(rows), model.recalibration
    events = batch.events.sum(dim=(0, 2))
    centre = own.centre[:, :FIT_QUARTERS].expand(len(batch), -1, -1)
    with torch.no_grad():
        around = calibrated_logits(model, batch) - centre
    slope, intercept = scale_and_offset(around, centre, batch, scaled=events >= FEWEST_FOR_SLOPE)
    slope = torch.where(events >= FEWEST_FOR_SLOPE, slope, torch.ones(TRANSITIONS))
    own.scale, own.offset = slope * own.scale, slope * own.offset + intercept
    return Recalibrated(
        events=tuple(int(count) for count in events.tolist()),
        slope=tuple(slope.tolist()),
        intercept=tuple(intercept.tolist()),
    )


def calibrated_logits(model: IllnessDeath, batch: Batch) -> torch.Tensor:
    """Logits of the fitted quarters counted from surgery, as the model is calibrated, (N, 3, Q)."""
    place = torch.arange(FIT_QUARTERS, dtype=torch.float32).expand(len(batch), -1)
    logits = model.combined(model.engineering(*batch.inputs[:4]), place)[0]
    calibrated: torch.Tensor = model.recalibration(logits, place)
    return calibrated


def _retrained(arguments: argparse.Namespace, rows: Sequence[LandmarkRow], contract: ModelContract) -> IllnessDeath:
    """By the recipe, from nothing. Raises UnusableInput for fewer events than a model can be fitted on."""
    events = sum(row.illness_days is not None or row.died for row in rows)
    if events < FEWEST_TO_RETRAIN:
        raise UnusableInput(
            f"{events} events are too few to retrain, {FEWEST_TO_RETRAIN} are needed: use --recalibrate"
        )
    others = _public_rows(arguments.data, contract) if arguments.data else ()
    effort = QUICK if arguments.quick else Effort()
    mark = mark_of(rows, others, contract=contract, effort=effort, seed=SEED)
    kept = Checkpoints(arguments.work, mark, contract, say)
    return fit_model(rows, others, contract, effort, seed=SEED, keep=kept.keep)


def _public_rows(folder: Path, contract: ModelContract) -> tuple[LandmarkRow, ...]:
    return landmark_rows(hancock.read_hancock(folder / "hancock", load_terminology()), contract)


def _card(bundle: Bundle, contract: ModelContract, rows: Sequence[LandmarkRow], how: Mapping[str, object]) -> str:
    """What was done, and that nobody has measured it yet; the card of the bundle it comes from follows."""
    done = "; ".join(f"{key}: {value}" for key, value in how.items())
    events = sum(row.illness_days is not None or row.died for row in rows)
    base = (bundle.folder / "model_card.md").read_text(encoding="utf-8")
    return (
        f"# Local model: {contract.model_name} {contract.model_version}\n\n"
        f"Made from a site's own cohort: {len(rows)} patients at the decision landmark, {events} with recurrence or "
        f"death. {done[:1].upper()}{done[1:]}. How good it is at the site was not measured here: hold patients back, "
        "score them with `adjuvant model score`, and compare.\n\n"
        f"Below is the card of the bundle it was made from, {bundle.identity.version}; its numbers are not of this "
        f"model.\n\n{base}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.local", description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True, help="the site's table, .parquet or .csv")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle to write")
    parser.add_argument("--recalibrate", action="store_true", help="keep the network, fit intercepts and slopes")
    parser.add_argument("--bundle", type=Path, help="the bundle to start from; the shipped one by default")
    parser.add_argument("--data", type=Path, help="to retrain beside HANCOCK: the folder that holds hancock/")
    parser.add_argument("--work", type=Path, default=Path("build/training"), help="where finished parts are kept")
    parser.add_argument("--quick", action="store_true", help="a small fit, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
