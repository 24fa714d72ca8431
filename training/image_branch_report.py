"""The page and the card of the simulated image model: every heading says that it is simulated."""

from __future__ import annotations

from dataclasses import dataclass

from inference.contract import ImageInput, ModelContract


@dataclass(frozen=True, slots=True, kw_only=True)
class Concordance:
    """Harrell's concordance for recurrence under one name, and its bootstrap standard error."""

    name: str
    value: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the exported bundle showed on held-out simulated patients.

    mean_with, mean_without, observed: recurrence within three years, fractions. correlation: of that risk with the
    planted burden.
    """

    concordances: tuple[Concordance, ...]
    tested: int
    relapses: int
    fitted: int
    mean_with: float
    mean_without: float
    observed: float
    correlation: float
    encoder_parameters: int
    risk_parameters: int
    bytes_in_all: int
    encoding_milliseconds: float
    seconds: float


def page_of(measured: Measured, command: str) -> str:
    """docs/image_branch.md."""
    rows = "\n".join(f"| {one.name} | {one.value:.3f} ± {one.error:.3f} |" for one in measured.concordances)
    return f"""# The image branch, proven on simulated volumes

Everything on this page is **simulated**. The shipped model reads no images: no public volumes with outcomes may train
shipped weights. What is shown here is that the way is whole: the training code finds a signal that was planted in
volumes, ONNX answers as torch does, the service runs it on a series that came by C-MOVE, and without an image the
forecast is the one that was learned for its absence. It says nothing about what a real CT would add. What real images
of head and neck patients added by the same engine stands in docs/evaluation.

## Simulated signal, and what was found of it on {measured.tested} held-out simulated patients

Each simulated CT holds a ball; the logarithm of the hazard of recurrence rises with its radius, and with nothing else.
The findings of the record are drawn without any bearing on the course. {measured.relapses} of the {measured.tested} held-out
patients recurred. Harrell's concordance for recurrence, ± bootstrap standard error, of the exported bundle:

| simulated patients, the forecast given | concordance |
|---|---|
{rows}

Gate: at least 0.75 with the own image, about 0.5 without: **{_verdict(measured)}**.
The correlation of the three-year risk with the planted burden is {measured.correlation:.2f}.

## Simulated patients without an image: no jump

With the mask at 0 the learned absent vector stands in the embedding's place, so whatever the embedding holds changes no
bit (a property under test). The forecast falls back to the mean of all: recurrence within three years is forecast at
{100 * measured.mean_with:.1f} % on average with images, {100 * measured.mean_without:.1f} % without, and {100 * measured.observed:.1f} % were seen (Aalen and Johansen).

## Simulated bundle: size and speed

| simulated bundle | |
|---|---|
| trained on | {measured.fitted} simulated patients, {measured.seconds:.0f} s in all |
| parameters | encoder {measured.encoder_parameters:,}, risk graph {measured.risk_parameters:,} |
| size | {measured.bytes_in_all / 2**20:.1f} MB with golden vectors |
| encoder | {measured.encoding_milliseconds:.1f} ms for one crop, one thread |
| torch against onnxruntime | within 1e-5 for both graphs at batch 1, 2 and 7, or no bundle is written |

Made again by `{command}`.

## Simulated here, real at a site

A site with volumes and outcomes trains the same branch through `training/image_fitting.py`: crops come from
`adapter/features/crop.py`, the code that serves. The crop lies along the patient's own axes around the middle of the
series; a site whose scans are not centred on the neck would first have to find it. The bundle here is marked
`training_data=simulated` and refused outside demo mode.
"""


def _verdict(measured: Measured) -> str:
    values = {one.name: one.value for one in measured.concordances}
    met = values["own image"] >= 0.75 and abs(values["no image"] - 0.5) <= 0.05  # noqa: PLR2004  # the gate itself
    return "met" if met else "not met"


def card_of(contract: ModelContract, patients: int, effect: float, command: str) -> str:
    """The bundle's own card. Raises ValueError for a contract without an image."""
    image = contract.image
    if image is None:
        raise ValueError("the contract asks for no image")
    return f"""# Simulated model card: {contract.model_name} {contract.model_version}

**SIMULATED. Never for a patient.** The service refuses this bundle outside demo mode.

## Simulated training data

{patients} simulated patients, each with a simulated CT in which a ball is planted. The logarithm of the hazard of
recurrence rises by {2 * effect:.1f} from the smallest ball to the largest; no other finding has any bearing on the course.

## What the simulated model reads

The contract of the shipped model, and one CT, where there is one: {_grid(image)}.

## What the simulated model is for

To show that training, export, serving and the fall-back without an image work as one. Its forecasts mean nothing.

## Simulated results

docs/image_branch.md, written by `{command}`.
"""


def _grid(image: ImageInput) -> str:
    shape = " x ".join(str(count) for count in image.shape)
    spacing = " x ".join(f"{length:g}" for length in image.spacing_mm)
    low, high = image.window_hu
    return f"{shape} cells of {spacing} mm along (superior, posterior, left), {low:g} to {high:g} HU"
