"""What drove a forecast: one batch, nothing counted twice, the same answer each time, what does not add up is said."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from adapter.fhir.delivery import load_delivery
from inference.artifact import load_bundle, shipped_bundle
from inference.contract import BundleRefused, ModelInput
from inference.occlusion import EXPLAINED_QUARTER, ExplainingPredictor, InputGroup
from inference.predictor import Predictor

_GROUPS = tuple(InputGroup(name=group.title, features=group.features) for group in load_delivery().drivers)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """The shipped model."""
    return Predictor(load_bundle(shipped_bundle()))


@pytest.fixture(scope="module")
def explaining(predictor: Predictor) -> ExplainingPredictor:
    """The same, explained by the shipped groups."""
    return ExplainingPredictor(predictor, _GROUPS)


def _patient(predictor: Predictor, seed: int) -> ModelInput:
    """One of nobody: everything known, one day of blood."""
    contract, draw = predictor.contract, np.random.default_rng(seed)
    table = np.zeros((contract.sequence_length, len(contract.sequence)), np.float32)
    known = table.copy()
    table[-1], known[-1] = draw.uniform(1.0, 15.0, len(contract.sequence)), 1.0
    static = [
        draw.uniform(40.0, 80.0) if entry.unit == "a" else draw.uniform(0.0, 2.0) if entry.unit else draw.choice([0, 1])
        for entry in contract.static
    ]
    return ModelInput(
        static=np.array(static, np.float32),
        static_mask=np.ones(len(contract.static), np.float32),
        sequence=table,
        sequence_mask=known,
        sequence_age_days=np.zeros(contract.sequence_length, np.float32),
        years_since_surgery=0.05,
    )


def _masked(predictor: Predictor, patient: ModelInput, features: tuple[str, ...]) -> ModelInput:
    """By hand: entries of these features are not known."""
    contract = predictor.contract
    static = np.array([entry.feature not in features for entry in contract.static], np.float32)
    sequence = np.array([column.feature not in features for column in contract.sequence], np.float32)
    return replace(
        patient,
        static=patient.static * static,
        static_mask=patient.static_mask * static,
        sequence=patient.sequence * sequence,
        sequence_mask=patient.sequence_mask * sequence,
    )


def test_every_input_of_the_shipped_model_is_in_exactly_one_group(predictor: Predictor) -> None:
    """None is explained twice, none is left out; a group holds nothing that the model does not read."""
    contract = predictor.contract
    asked = {entry.feature for entry in contract.static} | {column.feature for column in contract.sequence}
    listed = [feature for group in _GROUPS for feature in group.features]
    assert len(listed) == len(set(listed))
    assert asked == set(listed)


def test_an_input_without_a_group_refuses_the_bundle(predictor: Predictor) -> None:
    """A model that reads what no explanation would name does not start, and the feature is named; so with two names."""
    without = tuple(group for group in _GROUPS if "p16" not in group.features)
    with pytest.raises(BundleRefused, match="p16"):
        ExplainingPredictor(predictor, without)
    with pytest.raises(BundleRefused, match="grade"):
        ExplainingPredictor(predictor, (*_GROUPS, InputGroup(name="grade again", features=("grade",))))


def test_an_effect_is_the_forecast_less_the_forecast_without_the_group(
    predictor: Predictor, explaining: ExplainingPredictor
) -> None:
    """Each effect equals what the bare model answers when the group's mask is 0 by hand; so does the whole."""
    patient, place = _patient(predictor, 1), EXPLAINED_QUARTER - 1
    output = explaining.predict(patient)
    assert output.explanation is not None
    effects = {effect.name: effect for effect in output.explanation.effects}
    assert effects.keys() == {group.name for group in _GROUPS}
    for group in _GROUPS:
        without = predictor.predict(_masked(predictor, patient, group.features))
        effect = effects[group.name]
        assert effect.recurrence == pytest.approx(output.recurrence[place] - without.recurrence[place], abs=1e-6)
        assert effect.death == pytest.approx(output.death[place] - without.death[place], abs=1e-6)
    nothing = predictor.predict(
        _masked(predictor, patient, tuple(feature for group in _GROUPS for feature in group.features))
    )
    whole = float(output.recurrence[place] - nothing.recurrence[place])
    alone = sum(effect.recurrence for effect in effects.values())
    assert output.explanation.recurrence_gap == pytest.approx(alone - whole, abs=1e-6)


def test_the_explained_forecast_is_the_forecast(predictor: Predictor, explaining: ExplainingPredictor) -> None:
    """Asking why changes no number beyond the rounding of another batch size."""
    patient = _patient(predictor, 2)
    bare, explained = predictor.predict(patient), explaining.predict(patient)
    assert bare.explanation is None
    for name in ("recurrence", "death_without_recurrence", "death"):
        np.testing.assert_allclose(getattr(bare, name), getattr(explained, name), atol=1e-6)


def test_what_is_not_known_drives_nothing(predictor: Predictor, explaining: ExplainingPredictor) -> None:
    """A group of which nothing was told is not named; with nothing known at all there is no driver and no gap."""
    patient = _masked(predictor, _patient(predictor, 3), ("smoking_status", "hgb", "rdw"))
    explanation = explaining.predict(patient).explanation
    assert explanation is not None
    assert {"smoking", "haemoglobin and red-cell width"}.isdisjoint(effect.name for effect in explanation.effects)
    everything = tuple(feature for group in _GROUPS for feature in group.features)
    nothing = explaining.predict(_masked(predictor, patient, everything)).explanation
    assert nothing is not None
    assert nothing.effects == ()
    assert nothing.recurrence_gap == pytest.approx(0.0, abs=1e-7)


def test_effects_stand_in_order_and_repeat_to_the_last_bit(
    predictor: Predictor, explaining: ExplainingPredictor
) -> None:
    """Largest on recurrence first; the same patient gives the same explanation, and a case replays byte for byte."""
    patient = _patient(predictor, 4)
    first, second = (explaining.predict(patient).explanation for _ in range(2))
    assert first == second
    assert first is not None
    sizes = [abs(effect.recurrence) for effect in first.effects]
    assert sizes == sorted(sizes, reverse=True)


def test_a_batch_of_patients_is_explained_one_by_one(predictor: Predictor, explaining: ExplainingPredictor) -> None:
    """Patients with different findings known, in one pass: each has the explanation it has alone, within rounding."""
    patients = [_patient(predictor, seed) for seed in (5, 6, 7)]
    patients[1] = _masked(predictor, patients[1], ("p16", "ene_path", "pN", "nodes_positive"))
    for patient, output in zip(patients, explaining.predict_many(patients), strict=True):
        alone, together = explaining.predict(patient).explanation, output.explanation
        assert alone is not None
        assert together is not None
        assert {one.name for one in alone.effects} == {one.name for one in together.effects}
        by_name = {one.name: one for one in together.effects}
        for effect in alone.effects:
            assert by_name[effect.name].recurrence == pytest.approx(effect.recurrence, abs=1e-6)


def test_an_explanation_takes_less_than_a_third_of_a_second(
    predictor: Predictor, explaining: ExplainingPredictor
) -> None:
    """The whole batch, on one thread of whatever machine runs this."""
    patient = _patient(predictor, 8)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        explaining.predict(patient)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) <= 0.3
