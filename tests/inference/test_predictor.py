"""F-29, F-31: what goes in and what comes out is held to the contract; nothing that is no probability gets through."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from inference.artifact import Bundle, load_bundle, shipped_bundle
from inference.contract import BundleRefused, ContractBreach, ModelInput
from inference.predictor import CURVES, INPUTS, OUTPUTS, Predictor


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """The shipped model."""
    return Predictor(load_bundle(shipped_bundle()))


def _inputs(predictor: Predictor, seed: int = 0, *, known: bool = True) -> ModelInput:
    contract, draw = predictor.contract, np.random.default_rng(seed)
    table = (contract.sequence_length, len(contract.sequence))
    mask = np.float32(known)
    return ModelInput(
        static=draw.uniform(0, 3, len(contract.static)).astype(np.float32) * mask,
        static_mask=np.full(len(contract.static), mask, dtype=np.float32),
        sequence=draw.uniform(1, 15, table).astype(np.float32) * mask,
        sequence_mask=np.full(table, mask, dtype=np.float32),
        sequence_age_days=np.zeros(contract.sequence_length, dtype=np.float32),
        years_since_surgery=0.5,
    )


def test_batches_of_any_size_agree(predictor: Predictor) -> None:
    """One, two or seven patients at once: each gets the curve it gets alone, within float32 rounding."""
    patients = [_inputs(predictor, seed) for seed in range(7)]
    alone = [predictor.predict(patient) for patient in patients]
    for size in (2, 7):
        for left, right in zip(predictor.predict_many(patients[:size]), alone, strict=False):
            np.testing.assert_allclose(left.recurrence, right.recurrence, atol=1e-6)
            np.testing.assert_allclose(left.death, right.death, atol=1e-6)
            assert left.typicality == pytest.approx(right.typicality, abs=1e-5)


def test_a_patient_about_whom_nothing_is_known_gets_a_finite_curve(predictor: Predictor) -> None:
    """A fully masked row is the average patient, never NaN; whether that may be said is the contract's `required`."""
    output = predictor.predict(_inputs(predictor, known=False))
    assert np.isfinite(output.death).all()
    assert (np.diff(output.recurrence) >= 0).all()


def test_the_same_input_gives_the_same_bits_on_any_thread(predictor: Predictor) -> None:
    """Replay rests on it."""
    patient = _inputs(predictor)
    first = predictor.predict(patient).death.tobytes()
    with ThreadPoolExecutor(4) as pool:
        assert {output.death.tobytes() for output in pool.map(predictor.predict, [patient] * 20)} == {first}


def test_more_years_without_disease_lower_what_is_left(predictor: Predictor) -> None:
    """The forecast is conditional on being disease-free at the landmark: later landmarks face lower hazards."""
    patient = _inputs(predictor)
    early = predictor.predict(replace(patient, years_since_surgery=0.1))
    late = predictor.predict(replace(patient, years_since_surgery=4.0))
    assert late.recurrence[11] < early.recurrence[11]


@pytest.mark.fault("F-29")
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"static": np.zeros(3, dtype=np.float32)}, "static is not float32"),
        ({"years_since_surgery": float("nan")}, "not a time after surgery"),
        ({"years_since_surgery": -1.0}, "not a time after surgery"),
    ],
)
def test_an_input_outside_the_contract_is_refused(
    predictor: Predictor, change: dict[str, object], complaint: str
) -> None:
    """Wrong shape, or no time: the model is not asked."""
    with pytest.raises(ContractBreach, match=complaint):
        predictor.predict(replace(_inputs(predictor), **change))  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.fault("F-29")
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["static", "static_mask", "sequence", "sequence_mask", "sequence_age_days"])
def test_a_number_that_is_none_is_refused(predictor: Predictor, name: str, bad: float) -> None:
    """NaN and infinity never reach the graph, in whichever array they come."""
    patient = _inputs(predictor)
    getattr(patient, name).flat[0] = bad
    with pytest.raises(ContractBreach, match=f"{name} is not finite"):
        predictor.predict(patient)


@pytest.mark.parametrize("quarters", [1, 4, 8])
def test_a_later_landmark_without_news_is_the_conditional_curve(predictor: Predictor, quarters: int) -> None:
    """Breach: an update that moves the forecast although nothing was learned but that the patient is still well."""
    patient = replace(_inputs(predictor), years_since_surgery=0.0)
    early = predictor.predict(patient)
    late = predictor.predict(replace(patient, years_since_surgery=quarters / 4))
    free = 1.0 - early.recurrence[quarters - 1] - early.death_without_recurrence[quarters - 1]
    for name in ("recurrence", "death_without_recurrence"):
        curve, expected = getattr(late, name), getattr(early, name)
        gained = (expected[quarters:] - expected[quarters - 1]) / free
        np.testing.assert_allclose(curve[: len(gained)], gained, atol=1e-5)


def test_the_forecast_lies_inside_its_band(predictor: Predictor) -> None:
    """At every quarter, of every outcome; and the band says something."""
    output = predictor.predict(_inputs(predictor))
    assert output.band is not None
    curves = np.stack([getattr(output, name) for name in CURVES])
    assert (output.band.low <= curves + 1e-6).all()
    assert (curves <= output.band.high + 1e-6).all()
    assert (output.band.high - output.band.low).max() > 0.005


_ORDINARY = {
    "age_at_surgery": 62.0, "male": 1.0, "smoking_current": 1.0, "smoking_never": 0.0, "oral_cavity": 1.0,
    "oropharynx": 0.0, "hypopharynx": 0.0, "larynx": 0.0, "unknown_primary": 0.0, "pT": 2.0, "pN": 0.0,
    "nodes_positive": 0.0, "depth_of_invasion": 8.0, "margin": 0.0, "lymphatic_invasion": 0.0,
    "vascular_invasion": 0.0, "pni": 0.0, "grade": 2.0,
}  # fmt: skip
_BLOOD = {"hgb": 14.2, "wbc": 7.5, "neut": 5.0, "lymph": 1.7, "mono": 0.6, "eos": 0.15, "plt": 250.0, "rdw": 13.6}


def _patient(predictor: Predictor, **changes: float) -> ModelInput:
    patient, contract = _inputs(predictor, known=False), predictor.contract
    for name, value in {**_ORDINARY, **_BLOOD, **changes}.items():
        if name in _BLOOD:
            place = [column.name for column in contract.sequence].index(name)
            patient.sequence[-1, place], patient.sequence_mask[-1, place] = value, 1.0
        else:
            place = [entry.name for entry in contract.static].index(name)
            patient.static[place], patient.static_mask[place] = value, 1.0
    return patient


def _typicality(predictor: Predictor, patient: ModelInput) -> float:
    typicality = predictor.predict(patient).typicality
    assert typicality is not None
    return typicality


@pytest.mark.fault("F-31")
def test_findings_no_patient_had_are_not_typical(predictor: Predictor) -> None:
    """An ordinary patient is; one of 110 years with a haemoglobin of 40 is not, and is told so, not refused."""
    assert _typicality(predictor, _patient(predictor)) > 0.3
    assert _typicality(predictor, _patient(predictor, age_at_surgery=110.0, hgb=40.0)) < 0.02


@pytest.mark.fault("F-31")
def test_a_patient_about_whom_nothing_is_known_is_not_typical(predictor: Predictor) -> None:
    """Without T, N and depth the forecast is that of the average, and says that this is unusual."""
    assert _typicality(predictor, _inputs(predictor, known=False)) < 0.05


def test_the_forecast_follows_what_clinicians_know(predictor: Predictor) -> None:
    """More nodes, extranodal extension, a positive margin, anaemia, age, depth: each raises the risk of death."""
    ordinary = predictor.predict(_patient(predictor)).death[11]
    for changes in (
        {"pN": 2.0, "nodes_positive": 4.0, "ene": 1.0},
        {"margin": 1.0},
        {"hgb": 10.0},
        {"age_at_surgery": 82.0},
        {"pT": 4.0, "depth_of_invasion": 25.0},
    ):
        assert predictor.predict(_patient(predictor, **changes)).death[11] > ordinary, changes


def test_double_precision_is_refused(predictor: Predictor) -> None:
    """The contract is float32: a silent cast would change the last bits between machines."""
    patient = _inputs(predictor)
    with pytest.raises(ContractBreach, match="float32"):
        predictor.predict(replace(patient, static=patient.static.astype(np.float64)))


def _graph_that_answers(outputs: Mapping[str, np.ndarray], contract_inputs: onnx.ModelProto) -> bytes:
    """A graph with the contract's inputs whose outputs are given rows, whatever comes in."""
    constants, nodes = [], []
    for name, value in outputs.items():
        row = value.astype(np.float32)
        sizes = helper.make_tensor(f"width_{name}", TensorProto.INT64, [row.ndim], list(row.shape))
        constants += [helper.make_tensor(f"value_{name}", TensorProto.FLOAT, [1, *row.shape], row.ravel()), sizes]
        nodes.append(helper.make_node("Shape", ["years_since_surgery"], [f"shape_{name}"], end=1))
        nodes.append(helper.make_node("Concat", [f"shape_{name}", f"width_{name}"], [f"size_{name}"], axis=0))
        nodes.append(helper.make_node("Expand", [f"value_{name}", f"size_{name}"], [name]))
    told = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in OUTPUTS]
    graph = helper.make_graph(nodes, "answers", list(contract_inputs.graph.input), told, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def _answers(quarters: int = 20) -> dict[str, np.ndarray]:
    rising = np.linspace(0.01, 0.3, quarters)
    band = np.stack([rising, rising, rising])
    curves = {name: rising.copy() for name in CURVES}
    return {**curves, "low": band * 0.9, "high": band * 1.1, "typicality": np.array([0.4])}


def _with(name: str, place: int | tuple[int, int], value: float) -> dict[str, np.ndarray]:
    answers = _answers()
    answers[name][place] = value
    return answers


def _bundle_that_answers(folder: Path, answers: Mapping[str, np.ndarray]) -> Bundle:
    shutil.copytree(shipped_bundle(), folder)
    graph = _graph_that_answers(answers, onnx.load(folder / "risk.onnx"))
    (folder / "risk.onnx").write_bytes(graph)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["risk.onnx"] = hashlib.sha256(graph).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return load_bundle(folder)


@pytest.mark.fault("F-29")
@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        (_with("recurrence", 3, np.nan), "recurrence is not a probability"),
        (_with("death_without_recurrence", 19, 1.5), "death_without_recurrence is not a probability"),
        (_with("death", 10, 0.0), "death falls with the horizon"),
        (_with("low", (0, 10), 0.0), "low falls with the horizon"),
        (_with("high", (2, 19), np.nan), "high is not a probability"),
        (_with("typicality", 0, 1.2), "typicality is not a probability"),
        ({**_answers(), "low": _answers()["high"]}, "outside its band"),
        (
            {**_answers(), **dict.fromkeys(CURVES[:2], np.linspace(0.01, 0.6, 20)), "high": np.ones((3, 20))},
            "certainty",
        ),
        (_answers(19), "recurrence has another shape"),
    ],
)
def test_a_graph_that_answers_nonsense_is_refused_at_load(
    tmp_path: Path, answers: Mapping[str, np.ndarray], complaint: str
) -> None:
    """The golden run already holds every output to its law, so such a model never meets a patient."""
    with pytest.raises(BundleRefused, match="fails on its golden vectors") as refused:
        Predictor(_bundle_that_answers(tmp_path / "bundle", answers))
    assert complaint in str(refused.value.__cause__)


@pytest.mark.fault("F-29")
def test_a_graph_that_answers_something_else_is_refused_at_load(tmp_path: Path) -> None:
    """Lawful curves, and not those of the golden vectors."""
    with pytest.raises(BundleRefused, match="recurrence differs from its golden vector"):
        Predictor(_bundle_that_answers(tmp_path / "bundle", _answers()))


def test_a_graph_with_other_inputs_is_refused(tmp_path: Path) -> None:
    """Names and order of inputs and outputs are part of the contract."""
    assert INPUTS[-1] == "years_since_surgery"
    folder = tmp_path / "bundle"
    shutil.copytree(shipped_bundle(), folder)
    model = onnx.load(folder / "risk.onnx")
    model.graph.output[0].name, model.graph.output[1].name = model.graph.output[1].name, model.graph.output[0].name
    content = model.SerializeToString()
    (folder / "risk.onnx").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["risk.onnx"] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleRefused, match=r"risk\.onnx has other inputs or outputs"):
        Predictor(load_bundle(folder))
