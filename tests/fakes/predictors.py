"""A model without a model: its curves depend on every bit of its input, so that no change can hide."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from inference.contract import BundleIdentity, ContractBreach, ImageInput, ModelContract, ModelInput, ModelOutput
from tests.fakes.records import CONTRACT


class SensitivePredictor:
    """The Predictor port over the tests' small contract."""

    contract: ModelContract = CONTRACT
    identity = BundleIdentity(name="test", version="1", digest="ab" * 32, training_data="simulated")

    def embed(self, crop: NDArray[np.float32]) -> NDArray[np.float32]:
        """It reads no images."""
        raise ContractBreach(f"this model reads no images, and got one of {crop.ndim} axes")

    def predict(self, model_input: ModelInput) -> ModelOutput:
        """Straight curves whose heights are drawn from a hash of the input."""
        arrays = (
            model_input.static,
            model_input.static_mask,
            model_input.sequence,
            model_input.sequence_mask,
            model_input.sequence_age_days,
        )
        content = b"".join(array.tobytes() for array in arrays) + repr(model_input.years_since_surgery).encode()
        content += b"" if model_input.image is None else model_input.image.tobytes()
        digest = hashlib.sha256(content).digest()
        quarters = np.arange(1, 21, dtype=np.float32) / np.float32(20)
        recurrence = (quarters * np.float32(digest[0] / 512)).astype(np.float32)
        without = (quarters * np.float32(digest[1] / 512)).astype(np.float32)
        return ModelOutput(
            recurrence=recurrence,
            death_without_recurrence=without,
            death=(without + np.float32(0.5) * recurrence).astype(np.float32),
        )


class SeeingPredictor(SensitivePredictor):
    """The same, for a contract that asks for an image."""

    contract = replace(
        CONTRACT,
        image=ImageInput(shape=(2, 2, 2), spacing_mm=(6.0, 6.0, 6.0), window_hu=(-200.0, 300.0), embedding=2),
    )
