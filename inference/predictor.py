"""The ONNX session: one forward pass, checked on the way in and on the way out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from inference.artifact import ENCODER, GRAPH, Bundle, GoldenVectors
from inference.contract import (
    BundleIdentity,
    BundleRefused,
    ContractBreach,
    ForecastBand,
    ImageInput,
    ModelContract,
    ModelInput,
    ModelOutput,
)

INPUTS = ("static", "static_mask", "sequence", "sequence_mask", "years_since_surgery")
IMAGE_INPUTS = ("image_embedding", "image_present")  # after the others, in a model that reads images
ENCODER_INPUT, ENCODER_OUTPUT = "image", "image_embedding"
CURVES = ("recurrence", "death_without_recurrence", "death")
OUTPUTS = (*CURVES, "low", "high", "typicality")
_TOLERANCE = 1e-5  # one model gives the same numbers on any processor within this
_ROUNDING = 1e-6
_SHAPE, _DTYPE, _FLOAT32 = attrgetter("shape"), attrgetter("dtype"), np.dtype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForecastTable:
    """Forecasts of B patients, float32: `ModelOutput` and its band, stacked. typicality: (B,)."""

    recurrence: NDArray[np.float32]
    death_without_recurrence: NDArray[np.float32]
    death: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    typicality: NDArray[np.float32]


class Predictor:
    """A verified bundle, ready to predict. Safe to share between threads."""

    def __init__(self, bundle: Bundle) -> None:
        """Build the session and prove it on the golden vectors. Raises BundleRefused naming what does not agree."""
        self._inputs = INPUTS if bundle.contract.image is None else (*INPUTS, *IMAGE_INPUTS)
        stated = {
            "schema_sha256": bundle.contract.schema_sha256,
            "model_version": bundle.identity.version,
            "training_data_kind": bundle.identity.training_data,
        }
        self._session = _session(bundle.graph, GRAPH, self._inputs, OUTPUTS, stated)
        self._encoder = (
            None
            if bundle.encoder is None
            else _session(bundle.encoder.graph, ENCODER, (ENCODER_INPUT,), (ENCODER_OUTPUT,), stated)
        )
        self._bundle = bundle
        self._prove()

    @property
    def contract(self) -> ModelContract:
        """Order, units and shapes of the input."""
        return self._bundle.contract

    @property
    def identity(self) -> BundleIdentity:
        """Name, version and digest that every output carries."""
        return self._bundle.identity

    def predict(self, model_input: ModelInput) -> ModelOutput:
        """One patient. Raises ContractBreach for an input or output outside the contract."""
        return self.predict_many([model_input])[0]

    def predict_many(self, model_inputs: Sequence[ModelInput]) -> list[ModelOutput]:
        """Several patients in one pass, in order. Raises ContractBreach."""
        table = self.predict_table(model_inputs)
        columns = (
            table.recurrence, table.death_without_recurrence, table.death, table.low, table.high, table.typicality,
        )  # fmt: skip
        return [
            ModelOutput(
                recurrence=recurrence,
                death_without_recurrence=without,
                death=death,
                band=ForecastBand(low=low, high=high),
                typicality=float(typicality),
            )
            for recurrence, without, death, low, high, typicality in zip(*columns, strict=True)
        ]

    def embed(self, crop: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the encoder makes of one crop: (E,), for `ModelInput.image`.

        crop: float32 HU on the grid of the contract's image. Raises ContractBreach for another shape, for numbers
        that are none, and for a model that reads no images.
        """
        image = self.contract.image
        if image is None:
            raise ContractBreach("this model reads no images")
        if crop.shape != image.shape or crop.dtype != np.float32:
            raise ContractBreach("image is not float32 of the contract's shape")
        if not np.isfinite(crop).all():
            raise ContractBreach("image is not finite")
        embedding: NDArray[np.float32] = self._encode(crop[np.newaxis, np.newaxis])[0]
        return embedding

    def _encode(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        """crops: (B, 1, slices, rows, columns). Returns (B, E)."""
        if self._encoder is None or self.contract.image is None:
            raise ContractBreach("this model reads no images")
        embedding: NDArray[np.float32] = self._encoder.run([ENCODER_OUTPUT], {ENCODER_INPUT: crops})[0]
        if embedding.shape != (len(crops), self.contract.image.embedding):
            raise ContractBreach(f"{ENCODER_OUTPUT} has another shape than the contract")
        if not np.isfinite(embedding).all():
            raise ContractBreach(f"{ENCODER_OUTPUT} is not finite")
        return embedding

    def predict_table(self, model_inputs: Sequence[ModelInput]) -> ForecastTable:
        """As `predict_many`, left as arrays: an object per patient costs as much as a tenth of the forecast."""
        *curves, low, high, typicality = self._run(self._feed(model_inputs))
        recurrence, without, death = curves
        return ForecastTable(
            recurrence=recurrence,
            death_without_recurrence=without,
            death=death,
            low=low,
            high=high,
            typicality=typicality[:, 0],
        )

    def _run(self, feed: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        outputs: list[NDArray[np.float32]] = self._session.run(list(OUTPUTS), feed)
        rows, quarters = next(iter(feed.values())).shape[0], self.contract.horizon_quarters
        banded = (rows, len(CURVES), quarters)
        shapes = (*((rows, quarters) for _ in CURVES), banded, banded, (rows, 1))
        for name, output, shape in zip(OUTPUTS, outputs, shapes, strict=True):
            if output.shape != shape:
                raise ContractBreach(f"{name} has another shape than the contract")
            if not np.isfinite(output).all() or output.min() < 0.0 or output.max() > 1.0:
                raise ContractBreach(f"{name} is not a probability")
            if name != OUTPUTS[-1] and (np.diff(output, axis=-1) < -_ROUNDING).any():
                raise ContractBreach(f"{name} falls with the horizon")
        curves, low, high = np.stack(outputs[: len(CURVES)], axis=1), *outputs[len(CURVES) : -1]
        if (curves[:, 0] + curves[:, 1] > 1.0 + _ROUNDING).any():
            raise ContractBreach("exclusive outcomes exceed certainty")
        if (low > curves + _ROUNDING).any() or (high < curves - _ROUNDING).any():
            raise ContractBreach("the forecast lies outside its band")
        return outputs

    def _feed(self, model_inputs: Sequence[ModelInput]) -> dict[str, NDArray[np.float32]]:
        """The inputs stacked, (B, ...), each checked; numbers are checked on the stack, which costs once per batch."""
        contract = self.contract
        table = (contract.sequence_length, len(contract.sequence))
        shapes = {
            "static": (len(contract.static),),
            "static_mask": (len(contract.static),),
            "sequence": table,
            "sequence_mask": table,
            "sequence_age_days": table[:1],
        }
        stacked = {}
        for name, shape in shapes.items():
            arrays = list(map(attrgetter(name), model_inputs))
            if {*map(_SHAPE, arrays)} != {shape} or {*map(_DTYPE, arrays)} != {_FLOAT32}:
                raise ContractBreach(f"{name} is not float32 of the contract's shape")
            stacked[name] = np.concatenate(arrays).reshape(len(arrays), *shape)  # np.stack costs three times as much
            if not np.isfinite(stacked[name]).all():
                raise ContractBreach(f"{name} is not finite")
        years = np.array([[model_input.years_since_surgery] for model_input in model_inputs], dtype=np.float32)
        if not np.isfinite(years).all() or years.min() < 0:
            raise ContractBreach("years_since_surgery is not a time after surgery")
        stacked[INPUTS[-1]] = years
        images = [model_input.image for model_input in model_inputs]
        return {name: stacked[name] for name in INPUTS} | _image_feed(images, contract.image)

    def _prove(self) -> None:
        golden = self._bundle.golden
        if tuple(golden.inputs) != self._inputs or tuple(golden.outputs) != OUTPUTS:
            raise BundleRefused("golden.json names other inputs or outputs than the contract")
        try:
            curves = self._run(dict(golden.inputs))
        except Exception as error:  # onnxruntime raises plain classes for a wrong shape
            raise BundleRefused(f"{GRAPH} fails on its golden vectors") from error
        _require_golden(curves, golden)
        if self._bundle.encoder is not None:
            self._prove_encoder(self._bundle.encoder.golden)

    def _prove_encoder(self, golden: GoldenVectors) -> None:
        if tuple(golden.inputs) != (ENCODER_INPUT,) or tuple(golden.outputs) != (ENCODER_OUTPUT,):
            raise BundleRefused("golden.json names other inputs or outputs of the encoder than the contract")
        try:
            embedding = self._encode(golden.inputs[ENCODER_INPUT])
        except Exception as error:  # onnxruntime raises plain classes for a wrong shape
            raise BundleRefused(f"{ENCODER} fails on its golden vectors") from error
        _require_golden([embedding], golden)


def _session(
    graph: bytes, name: str, inputs: tuple[str, ...], outputs: tuple[str, ...], stated: Mapping[str, str]
) -> onnxruntime.InferenceSession:
    """A session on one thread. Raises BundleRefused for what is no graph, or one with other inputs or outputs.

    stated: what the manifest says, and the graph's own properties must say too: a graph of another schema, or one
    trained on simulated data under a manifest that calls it real, is refused whatever its hash.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # graphs this small gain nothing from more, and one thread is repeatable
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises plain classes of its extension module
        raise BundleRefused(f"{name} is no graph this runtime can load") from error
    names = (
        tuple(entry.name for entry in session.get_inputs()),
        tuple(entry.name for entry in session.get_outputs()),
    )
    if names != (inputs, outputs):
        raise BundleRefused(f"{name} has other inputs or outputs than the contract")
    told = session.get_modelmeta().custom_metadata_map
    for key, value in stated.items():
        if told.get(key) != value:
            raise BundleRefused(f"{name}: {key} is not that of the manifest")
    return session


def _image_feed(
    images: Sequence[NDArray[np.float32] | None], image: ImageInput | None
) -> dict[str, NDArray[np.float32]]:
    """Embeddings, (B, E), zero where there is none, and whether there is one, (B, 1). Raises ContractBreach."""
    given = [embedding for embedding in images if embedding is not None]
    if image is None:
        if given:
            raise ContractBreach("an image for a model that reads none")
        return {}
    if any(embedding.shape != (image.embedding,) or embedding.dtype != np.float32 for embedding in given):
        raise ContractBreach("image is not float32 of the contract's shape")
    if not all(np.isfinite(embedding).all() for embedding in given):
        raise ContractBreach("image is not finite")
    absent = np.zeros(image.embedding, dtype=np.float32)
    embeddings = np.stack([absent if embedding is None else embedding for embedding in images])
    present = np.asarray([[embedding is not None] for embedding in images], dtype=np.float32)
    return dict(zip(IMAGE_INPUTS, (embeddings, present), strict=True))


def _require_golden(outputs: Sequence[NDArray[np.float32]], golden: GoldenVectors) -> None:
    """Raises BundleRefused naming the first output that differs."""
    for (name, wanted), output in zip(golden.outputs.items(), outputs, strict=True):
        # asked this way round, a golden value that is no number is a difference too
        if output.shape != wanted.shape or not np.abs(output - wanted).max() <= _TOLERANCE:
            raise BundleRefused(f"{name} differs from its golden vector")
