"""The illness-death model holds to its laws whatever its weights are: rising, coherent, conditional on the landmark."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch: Any = pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from training.engineering import Engineering, last_values  # noqa: E402
from training.made_up import made_up_inputs  # noqa: E402
from training.network import (  # noqa: E402
    BASELINE_QUARTERS,
    FIT_QUARTERS,
    HazardNetwork,
    IllnessDeath,
    Typicality,
    incidences,
)
from training.postoperative_contract import postoperative_contract  # noqa: E402  # after the skip

_HORIZON = 20
_FLOOR = 2e-7  # 1.0e-7 was measured, network._SMALLEST; the predictor refuses above 1e-6


@pytest.fixture
def model() -> IllnessDeath:
    """Weights drawn from a seed, float64: no training data is needed."""
    contract = postoperative_contract()
    inputs = made_up_inputs(contract)
    engineering = Engineering(contract)
    engineering.fit(*inputs[:4])
    draw = torch.Generator().manual_seed(3)
    ensemble, student = (HazardNetwork(len(engineering.names), members, draw) for members in (4, 1))
    with torch.no_grad():
        for network in (ensemble, student):
            for name, weight in network.named_parameters():
                weight.copy_(torch.randn(weight.shape, generator=draw) * (0.5 if name == "baseline" else 0.05))
            network.baseline.sub_(3.5)
    model = IllnessDeath(contract, engineering, ensemble, student=student, resampled=2)
    model.recalibration.centre = ensemble.baseline.detach().mean(0)
    model.recalibration.scale = torch.tensor([1.1, 1.2, 0.9])
    model.double().eval()
    return model


def _curves(model: IllnessDeath, years: float) -> tuple[NDArray[np.float64], ...]:
    inputs = [tensor.double() for tensor in made_up_inputs(postoperative_contract())]
    inputs[4] = torch.full_like(inputs[4], years)
    with torch.no_grad():
        return tuple(curve.numpy() for curve in model(*inputs)[:3])


@pytest.mark.parametrize("scale", [0.1, 3.0, 12.0])
def test_curves_rise_and_stay_probabilities_under_any_logits(scale: float) -> None:
    """Hazards near zero and near one: no curve falls or leaves 0 to 1.

    Exclusive outcomes exceed certainty by no more than the floor below which a quarter's survival is not followed.
    """
    torch.manual_seed(0)
    recurrence, without, death = incidences(torch.randn(64, 3, _HORIZON, dtype=torch.float64) * scale)
    for curve in (recurrence, without, death):
        assert (torch.diff(curve, dim=1) >= 0).all()
        assert ((curve >= 0) & (curve <= 1)).all()
    assert (recurrence + without <= 1 + _FLOOR).all()


def test_death_counts_both_ways_to_die() -> None:
    """Never below death without recurrence, never above everything that ends the disease-free state."""
    torch.manual_seed(1)
    recurrence, without, death = incidences(torch.randn(64, 3, _HORIZON, dtype=torch.float64) * 2)
    assert (death >= without - 1e-9).all()
    assert (death <= recurrence + without + 1e-9).all()


def test_two_quarters_agree_with_the_states_followed_by_hand() -> None:
    """Hazards 1/4, 1/4 and 1/2: after two quarters 3/8 have relapsed, 3/8 died without, 1/2 died at all."""
    logits = torch.zeros(1, 3, 2, dtype=torch.float64)
    logits[:, :2] = float(np.log(0.5))
    recurrence, without, death = incidences(logits)
    np.testing.assert_allclose(recurrence[0], [0.25, 0.375])
    np.testing.assert_allclose(without[0], [0.25, 0.375])
    np.testing.assert_allclose(death[0], [0.25, 0.5])


@pytest.mark.parametrize("quarters", [1, 4, 7])
def test_a_later_landmark_without_news_is_the_conditional_curve(model: IllnessDeath, quarters: int) -> None:
    """Breach: an update that moves a forecast although nothing was learned but that the patient is still well."""
    early, late = _curves(model, 0.0), _curves(model, quarters / 4)
    free = 1.0 - early[0][:, quarters - 1] - early[1][:, quarters - 1]
    for outcome in (0, 1):
        gained = early[outcome][:, quarters:] - early[outcome][:, quarters - 1 : quarters]
        np.testing.assert_allclose(late[outcome][:, : _HORIZON - quarters], gained / free[:, None], atol=1e-9)


def test_between_two_quarters_the_curve_lies_between_theirs(model: IllnessDeath) -> None:
    """The postoperative clock is continuous: half a quarter later is no jump."""
    for network in (model.ensemble, model.student):
        network.deviation.data.zero_()
        network.time.data.zero_()
        network.outer.data.zero_()
    before, between, after = (_curves(model, years)[0][:, 0] for years in (0.5, 0.625, 0.75))
    assert (between >= np.minimum(before, after) - 1e-12).all()
    assert (between <= np.maximum(before, after) + 1e-12).all()


def test_beyond_the_baseline_the_last_hazard_is_kept(model: IllnessDeath) -> None:
    """Ten years and thirty years after surgery are asked without an index beyond the table."""
    last = BASELINE_QUARTERS / 4
    for ours, theirs in zip(_curves(model, last), _curves(model, 3 * last), strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_the_newest_known_value_of_each_column_is_taken() -> None:
    """A masked newer row hides nothing older; a column never measured is unknown."""
    sequence = torch.tensor([[[1.0, 5.0, 0.0], [2.0, 0.0, 0.0]]])
    mask = torch.tensor([[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]])
    values, known = last_values(sequence, mask)
    assert values.tolist() == [[2.0, 5.0, 0.0]]
    assert known.tolist() == [[1.0, 1.0, 0.0]]


def test_what_is_masked_changes_nothing(model: IllnessDeath) -> None:
    """A number under a mask of 0 is not seen, whatever it is."""
    inputs = [tensor.double() for tensor in made_up_inputs(postoperative_contract())]
    spoiled = [*inputs]
    spoiled[0] = torch.where(inputs[1] > 0, inputs[0], torch.full_like(inputs[0], 7.0))
    spoiled[2] = torch.where(inputs[3] > 0, inputs[2], torch.full_like(inputs[2], 7.0))
    with torch.no_grad():
        left, right = model.engineering(*inputs[:4]), model.engineering(*spoiled[:4])
    torch.testing.assert_close(left, right, rtol=0.0, atol=0.0)


def test_beyond_the_fitted_quarters_the_last_hazard_is_kept() -> None:
    """Six years of data say nothing of the seventh: neither baseline nor the term in time run on."""
    network = HazardNetwork(2, 1, torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.baseline.normal_(-3.0, 1.0)
        network.time.fill_(0.3)
    network.extend_baseline()
    with torch.no_grad():
        logits = network(torch.ones(1, 2), torch.tensor([[FIT_QUARTERS - 1.0, FIT_QUARTERS, BASELINE_QUARTERS - 1.0]]))
    torch.testing.assert_close(logits[..., 1:], logits[..., :1].expand(-1, -1, -1, 2))


def test_the_graph_and_the_fit_see_the_same_hazards() -> None:
    """Whole quarters from surgery: what training minimised is what is served."""
    network = HazardNetwork(3, 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0.0, 0.2)
        rows = torch.randn(5, 3)
        place = torch.arange(FIT_QUARTERS, dtype=torch.float32).expand(5, -1)
        torch.testing.assert_close(network.training_logits(rows), network(rows, place).transpose(0, 1))


def test_typicality_falls_with_the_distance_from_one_to_nothing() -> None:
    """At the centre everyone is farther out; beyond the last knot nobody is."""
    typicality = Typicality(2, 5)
    typicality.knots = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.5], [9.0, 0.0]])
    torch.testing.assert_close(typicality(rows), torch.tensor([1.0, 0.75, 0.375, 0.0]), atol=1e-3, rtol=0.0)
