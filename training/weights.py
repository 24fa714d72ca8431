"""The fitted network as an array file beside its graph: what a hospital recalibrates, and what a stopped fit resumes.

The graph holds the same numbers under names of the exporter's own. Only arrays are stored: nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from inference.artifact import MANIFEST, Bundle
from inference.contract import BundleRefused, ModelContract
from training.engineering import Engineering
from training.network import HazardNetwork, IllnessDeath

WEIGHTS = "weights.npz"
_RESAMPLED = "resampled members"
Arrays = Mapping[str, NDArray[np.generic]]


def arrays_of(model: IllnessDeath) -> dict[str, NDArray[np.generic]]:
    """Every parameter and buffer by its name, and how many members saw bootstrap weights."""
    state = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    return {**state, _RESAMPLED: np.array(model.resampled)}


def model_of(contract: ModelContract, arrays: Arrays) -> IllnessDeath:
    """The model again, float32, ready to forecast. Raises BundleRefused where the arrays are not its own."""
    generator = torch.Generator().manual_seed(0)  # what it draws is overwritten
    try:
        engineering = Engineering(contract)
        width = len(engineering.names)
        ensemble, student = (
            HazardNetwork(width, len(arrays[f"{part}.baseline"]), generator) for part in ("ensemble", "student")
        )
        model = IllnessDeath(
            contract,
            engineering,
            ensemble,
            student=student,
            resampled=int(arrays[_RESAMPLED]),
            knots=len(arrays["typicality.knots"]),
        )
        state = {name: torch.from_numpy(array.copy()) for name, array in arrays.items() if name != _RESAMPLED}
        model.load_state_dict(state)
        model.eval()
    except (KeyError, RuntimeError, TypeError) as error:
        raise BundleRefused(f"{WEIGHTS} is not of this model") from error
    return model


def model_in(bundle: Bundle) -> IllnessDeath:
    """The network of a bundle. Raises BundleRefused for a bundle without its weights."""
    if not (bundle.folder / WEIGHTS).is_file():
        raise BundleRefused(f"it holds no {WEIGHTS}: only a bundle trained by this version can be used again")
    return model_of(bundle.contract, read_arrays(bundle.folder / WEIGHTS))


def write_arrays(path: Path, arrays: Arrays) -> None:
    """One file, whole or not at all, the same bytes for the same arrays."""
    draft = path.with_name(path.name + ".draft")
    with draft.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's own annotation
    draft.rename(path)


def read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """What `write_arrays` wrote. Raises BundleRefused for a file that is none."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError) as error:
        raise BundleRefused(f"{path.name} cannot be read") from error


def add_weights(folder: Path, model: IllnessDeath) -> None:
    """Put the weights into an exported bundle, and their hash into its manifest."""
    write_arrays(folder / WEIGHTS, arrays_of(model))
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["files"][WEIGHTS] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
