"""Why the model says so: what the forecast becomes when it is not told one group of findings, all in one batch.

A masked entry is a state the model was trained in (findings are dropped at random in the fit), so a hidden group asks
it nothing it has not seen. The effects describe the forecast, not causes: findings overlap, and what two of them share
is in the effect of neither or of both. How far the effects miss the whole is reported beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inference.contract import (
    BundleIdentity,
    BundleRefused,
    Explanation,
    InputEffect,
    ModelContract,
    ModelInput,
    ModelOutput,
)
from inference.predictor import Predictor

EXPLAINED_QUARTER = 12  # three years
IMAGE = "CT of the head and neck"
_PREFIX = ":"  # `preoperative:hgb` is a value of hgb


@dataclass(frozen=True, slots=True, kw_only=True)
class InputGroup:
    """Findings that are hidden together. name: in clinicians' words; features: of the contract's entries."""

    name: str
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Places:
    """Where a group stands in the contract. static: (S,), sequence: (F,), image: whether the entry belongs to it."""

    name: str
    static: NDArray[np.bool_]
    sequence: NDArray[np.bool_]
    image: bool = False

    def known(self, model_input: ModelInput) -> bool:
        """Whether anything of the group was told to the model."""
        static = (model_input.static_mask[self.static] != 0.0).any()
        sequence = (model_input.sequence_mask[:, self.sequence] != 0.0).any()
        return bool(static or sequence or (self.image and model_input.image is not None))

    def hidden(self, model_input: ModelInput) -> ModelInput:
        """The same patient, nothing of the group known."""
        nothing = np.float32(0.0)
        return replace(
            model_input,
            static=np.where(self.static, nothing, model_input.static),
            static_mask=np.where(self.static, nothing, model_input.static_mask),
            sequence=np.where(self.sequence, nothing, model_input.sequence),
            sequence_mask=np.where(self.sequence, nothing, model_input.sequence_mask),
            image=None if self.image else model_input.image,
        )


class ExplainingPredictor:
    """A predictor whose every output says what drove it. Safe to share between threads."""

    def __init__(self, predictor: Predictor, groups: Iterable[InputGroup]) -> None:
        """Raises BundleRefused naming every feature of the contract that is not in exactly one group."""
        self._predictor = predictor
        self._groups = _places(predictor.contract, tuple(groups))
        contract = predictor.contract
        everything = np.ones(len(contract.static), bool), np.ones(len(contract.sequence), bool)
        self._everything = _Places(name="everything", static=everything[0], sequence=everything[1], image=True)

    @property
    def contract(self) -> ModelContract:
        """Order, units and shapes of the input."""
        return self._predictor.contract

    @property
    def identity(self) -> BundleIdentity:
        """Name, version and digest that every output carries."""
        return self._predictor.identity

    def embed(self, crop: NDArray[np.float32]) -> NDArray[np.float32]:
        """As the predictor's own. Raises ContractBreach."""
        return self._predictor.embed(crop)

    def predict(self, model_input: ModelInput) -> ModelOutput:
        """One patient. Raises ContractBreach for an input or output outside the contract."""
        return self.predict_many([model_input])[0]

    def predict_many(self, model_inputs: Sequence[ModelInput]) -> list[ModelOutput]:
        """Several patients in one pass, in order: as they are, with each known group hidden, with all hidden."""
        asked = [[group for group in self._groups if group.known(model_input)] for model_input in model_inputs]
        rows = [
            row
            for model_input, groups in zip(model_inputs, asked, strict=True)
            for row in (
                model_input,
                *(group.hidden(model_input) for group in groups),
                self._everything.hidden(model_input),
            )
        ]
        outputs = iter(self._predictor.predict_many(rows))
        explained = []
        for groups in asked:
            own = next(outputs)
            without = [next(outputs) for _ in groups]
            explained.append(replace(own, explanation=_explanation(groups, own, without, next(outputs))))
        return explained


def _explanation(
    groups: Sequence[_Places], own: ModelOutput, without: Sequence[ModelOutput], nothing: ModelOutput
) -> Explanation:
    """Effects, largest on recurrence first, and how far their sums lie beyond what all findings change together."""
    effects = [
        InputEffect(name=group.name, recurrence=change[0], death=change[1])
        for group, hidden in zip(groups, without, strict=True)
        for change in (_change(own, hidden),)
    ]
    whole = _change(own, nothing)
    return Explanation(
        quarter=EXPLAINED_QUARTER,
        effects=tuple(sorted(effects, key=lambda effect: (-abs(effect.recurrence), effect.name))),
        recurrence_gap=sum(effect.recurrence for effect in effects) - whole[0],
        death_gap=sum(effect.death for effect in effects) - whole[1],
    )


def _change(own: ModelOutput, hidden: ModelOutput) -> tuple[float, float]:
    """How much higher the risks of recurrence and death are than without the hidden findings, fractions."""
    place = EXPLAINED_QUARTER - 1
    return (
        float(own.recurrence[place]) - float(hidden.recurrence[place]),
        float(own.death[place]) - float(hidden.death[place]),
    )


def _places(contract: ModelContract, groups: tuple[InputGroup, ...]) -> tuple[_Places, ...]:
    """The groups that the contract knows, in order."""
    if contract.horizon_quarters < EXPLAINED_QUARTER:
        raise BundleRefused("the model's horizon ends before the quarter that is explained")
    static = [entry.feature.rpartition(_PREFIX)[2] for entry in contract.static]
    sequence = [entry.feature.rpartition(_PREFIX)[2] for entry in contract.sequence]
    listed = Counter(feature for group in groups for feature in group.features)
    astray = sorted({feature for feature in (*static, *sequence) if listed[feature] != 1})
    if astray:
        raise BundleRefused(f"not in exactly one group of an explanation: {', '.join(astray)}")
    places = [
        _Places(
            name=group.name,
            static=np.array([feature in group.features for feature in static], bool),
            sequence=np.array([feature in group.features for feature in sequence], bool),
        )
        for group in groups
    ]
    if contract.image is not None:
        places.append(
            _Places(name=IMAGE, static=np.zeros(len(static), bool), sequence=np.zeros(len(sequence), bool), image=True)
        )
    return tuple(group for group in places if group.static.any() or group.sequence.any() or group.image)
