"""Model inputs of nobody, drawn from a seed over plausible ranges: golden vectors that can be published."""

from __future__ import annotations

import numpy as np
import torch

from inference.contract import ModelContract
from training.likelihood import Inputs

_ROWS = 8
_SEED = 20260101
_MASKED_STATIC, _MASKED_SEQUENCE = 0.2, 0.3
_NUMBERS = {"age_at_surgery": (38.0, 88.0), "nodes_positive": (0.0, 9.0), "depth_of_invasion": (1.0, 30.0)}
_LABORATORY = {
    "hgb": (9.0, 16.5), "wbc": (3.5, 14.0), "neut": (2.0, 11.0), "lymph": (0.5, 3.5), "mono": (0.2, 1.2),
    "eos": (0.0, 0.6),    "plt": (120.0, 480.0), "rdw": (12.0, 18.0),
}  # fmt: skip


def made_up_inputs(contract: ModelContract, rows: int = _ROWS, seed: int = _SEED) -> Inputs:
    """Rows, float32: some entries masked, one row with nothing known, landmarks up to three years."""
    draw = np.random.default_rng(seed)
    static = np.zeros((rows, len(contract.static)), dtype=np.float32)
    for place, entry in enumerate(contract.static):
        if entry.unit is None:
            static[:, place] = draw.choice([number for _, number in entry.levels], rows)
        else:
            static[:, place] = draw.uniform(*_NUMBERS[entry.name], rows)
    sequence = np.zeros((rows, contract.sequence_length, len(contract.sequence)), dtype=np.float32)
    for place, column in enumerate(contract.sequence):
        sequence[:, -4:, place] = draw.uniform(*_LABORATORY[column.name], (rows, 4))
    static_mask = (draw.random(static.shape) > _MASKED_STATIC).astype(np.float32)
    sequence_mask = (draw.random(sequence.shape) > _MASKED_SEQUENCE).astype(np.float32)
    sequence_mask[:, :-4] = 0.0
    static_mask[-1], sequence_mask[-1] = 0.0, 0.0
    years = draw.uniform(0.0, 3.0, (rows, 1)).astype(np.float32)
    arrays = (static * static_mask, static_mask, sequence * sequence_mask, sequence_mask, years)
    first, second, third, fourth, fifth = (torch.from_numpy(array) for array in arrays)
    return first, second, third, fourth, fifth
