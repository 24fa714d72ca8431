"""A bundle of two graphs: an image counts, its absence is one however it comes, and nothing can be swapped.

The bundle is the simulated one of the demo, trained on simulated patients only.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.artifact import list_bundles, load_bundle, shipped_bundle, simulated_bundle
from inference.contract import BundleRefused, ContractBreach, ImageInput, ModelContract, ModelInput
from inference.predictor import IMAGE_INPUTS, INPUTS, OUTPUTS, Predictor

_MOST_BYTES = 5 * 2**20


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """The simulated model."""
    return Predictor(load_bundle(simulated_bundle()))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The simulated bundle, free to be spoiled."""
    folder = tmp_path / "bundle"
    shutil.copytree(simulated_bundle(), folder)
    return folder


def _manifest(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _rehash(folder: Path) -> None:
    """A manifest that agrees with whatever lies there."""

    def state(content: dict[str, object]) -> None:
        files = content["files"]
        assert isinstance(files, dict)
        for name in files:
            files[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()

    _manifest(folder, state)


def _image(contract: ModelContract) -> ImageInput:
    assert contract.image is not None
    return contract.image


def _patient(predictor: Predictor, seed: int, image: NDArray[np.float32] | None = None) -> ModelInput:
    contract, draw = predictor.contract, np.random.default_rng(seed)
    table = (contract.sequence_length, len(contract.sequence))
    return ModelInput(
        static=draw.uniform(0, 3, len(contract.static)).astype(np.float32),
        static_mask=np.ones(len(contract.static), dtype=np.float32),
        sequence=draw.uniform(1, 15, table).astype(np.float32),
        sequence_mask=np.ones(table, dtype=np.float32),
        sequence_age_days=np.zeros(contract.sequence_length, dtype=np.float32),
        years_since_surgery=0.2,
        image=image,
    )


def test_the_simulated_bundle_is_small_and_says_what_it_is() -> None:
    """Under 5 MB, marked in manifest and card; its name says it too."""
    folder = simulated_bundle()
    assert sum(path.stat().st_size for path in folder.iterdir()) < _MOST_BYTES
    bundle = load_bundle(folder)
    assert (bundle.identity.training_data, bundle.encoder is not None) == ("simulated", True)
    assert "simulated" in bundle.identity.name
    headings = [line for line in (folder / "model_card.md").read_text().splitlines() if line.startswith("#")]
    assert all("simulated" in line.casefold() for line in headings)


def test_what_is_shipped_for_patients_is_never_the_simulated_one() -> None:
    """It is installed beside the real one, and chosen by nobody who did not ask for it by name."""
    assert simulated_bundle() in list_bundles()
    assert load_bundle(shipped_bundle()).identity.training_data == "real"


def test_without_a_simulated_bundle_none_is_given(tmp_path: Path) -> None:
    """The demo does not fall back on the real model: it says what is missing."""
    shutil.copytree(shipped_bundle(), tmp_path / shipped_bundle().name)
    with pytest.raises(BundleRefused, match="simulated patients is installed"):
        simulated_bundle(tmp_path)


def test_an_image_counts(predictor: Predictor) -> None:
    """The law of absence below is not kept by a graph that is blind."""
    draw = np.random.default_rng(4)
    images = [draw.normal(size=_image(predictor.contract).embedding).astype(np.float32) for _ in range(6)]
    risks = {float(predictor.predict(_patient(predictor, 1, image)).recurrence[11]) for image in images}
    assert max(risks) - min(risks) > 0.05


@given(st.lists(st.floats(-6.0, 6.0, width=32), min_size=8, max_size=8), st.integers(0, 50))
@settings(max_examples=50, deadline=None)
def test_a_missing_image_falls_back_without_a_jump(held: list[float], seed: int) -> None:
    """Mask 0 is absence to the last bit, whatever the embedding holds. Breach: a stale image that leaks through."""
    predictor = _SHARED
    patient = _patient(predictor, seed)
    feed = {name: np.stack([getattr(patient, name)]) for name in INPUTS[:-1]}
    feed[INPUTS[-1]] = np.array([[patient.years_since_surgery]], dtype=np.float32)
    masked = {IMAGE_INPUTS[0]: np.array([held], dtype=np.float32), IMAGE_INPUTS[1]: np.zeros((1, 1), np.float32)}
    curves = dict(zip(OUTPUTS, _GRAPH.run(list(OUTPUTS), feed | masked), strict=True))
    output = predictor.predict(patient)
    assert curves["recurrence"][0].tobytes() == output.recurrence.tobytes()
    assert curves["death"][0].tobytes() == output.death.tobytes()
    assert output.band is not None
    assert curves["low"][0].tobytes() == output.band.low.tobytes()


_SHARED = Predictor(load_bundle(simulated_bundle()))
_GRAPH = onnxruntime.InferenceSession(load_bundle(simulated_bundle()).graph, providers=["CPUExecutionProvider"])


def test_patients_with_and_without_images_share_a_batch(predictor: Predictor) -> None:
    """Each gets the curve it gets alone."""
    length = _image(predictor.contract).embedding
    draw = np.random.default_rng(2)
    images = [draw.normal(size=length).astype(np.float32) if place % 2 else None for place in range(7)]
    patients = [_patient(predictor, seed, image) for seed, image in enumerate(images)]
    for patient, together in zip(patients, predictor.predict_many(patients), strict=True):
        np.testing.assert_allclose(predictor.predict(patient).recurrence, together.recurrence, atol=1e-6)


@pytest.mark.parametrize(
    ("crop", "complaint"),
    [
        (lambda shape: np.zeros(shape[::-1], np.float32), "shape"),
        (lambda shape: np.zeros(shape, np.float64), "float32"),
        (lambda shape: np.full(shape, np.nan, np.float32), "not finite"),
    ],
)
def test_a_crop_outside_the_contract_is_refused(
    predictor: Predictor, crop: Callable[[tuple[int, ...]], NDArray[np.float32]], complaint: str
) -> None:
    """The encoder is not asked."""
    with pytest.raises(ContractBreach, match=complaint):
        predictor.embed(crop(_image(predictor.contract).shape))


@pytest.mark.parametrize(
    ("image", "complaint"),
    [(np.zeros(3, np.float32), "shape"), (np.full(8, np.inf, np.float32), "not finite")],
)
def test_an_embedding_outside_the_contract_is_refused(
    predictor: Predictor, image: NDArray[np.float32], complaint: str
) -> None:
    """Another model's embedding is none of ours."""
    with pytest.raises(ContractBreach, match=complaint):
        predictor.predict(_patient(predictor, 0, image))


def test_a_model_without_images_takes_none() -> None:
    """The shipped model is asked for no embedding and refuses one."""
    shipped = Predictor(load_bundle(shipped_bundle()))
    with pytest.raises(ContractBreach, match="reads no images"):
        shipped.embed(np.zeros((2, 2, 2), np.float32))
    with pytest.raises(ContractBreach, match="reads none"):
        shipped.predict(_patient(shipped, 0, np.zeros(8, np.float32)))


def test_swapped_graphs_are_refused_by_their_hash(copy: Path) -> None:
    """Each under the other's name."""
    _swap(copy)
    with pytest.raises(BundleRefused, match="does not have the hash"):
        load_bundle(copy)


def test_swapped_graphs_are_refused_even_where_the_hashes_were_made_to_fit(copy: Path) -> None:
    """What a graph takes and gives is held to the contract."""
    _swap(copy)
    _rehash(copy)
    with pytest.raises(BundleRefused, match=r"risk\.onnx has other inputs or outputs"):
        Predictor(load_bundle(copy))


def _swap(folder: Path) -> None:
    first, second = folder / "risk.onnx", folder / "image_encoder.onnx"
    left, right = first.read_bytes(), second.read_bytes()
    first.write_bytes(right)
    second.write_bytes(left)


def test_an_encoder_that_answers_otherwise_is_refused(copy: Path) -> None:
    """An encoder of another training beside this risk graph: only the golden vectors can tell."""
    golden = json.loads((copy / "golden.json").read_text())
    golden["encoder"]["outputs"]["image_embedding"][0][0] += 1e-3
    (copy / "golden.json").write_text(json.dumps(golden))
    _rehash(copy)
    with pytest.raises(BundleRefused, match="image_embedding differs from its golden vector"):
        Predictor(load_bundle(copy))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda content: content["files"].pop("image_encoder.onnx"), r"image_encoder\.onnx does not have the hash"),
        (lambda content: content["contract"]["image"].update(spacing_mm=[3.0, 6.0, 6.0]), "schema_sha256"),
        (lambda content: content["contract"]["image"].update(shape=[3, 6]), "contract is not one"),
        (lambda content: content["contract"].update(image=None), "contract is not one"),
        (lambda content: content["contract"].pop("image"), "schema_sha256"),
    ],
)
def test_a_manifest_that_does_not_hold_together_is_refused(
    copy: Path, change: Callable[[dict[str, object]], object], complaint: str
) -> None:
    """Another grid, or no encoder where one is promised."""
    _manifest(copy, change)
    with pytest.raises(BundleRefused, match=complaint):
        load_bundle(copy)


def test_a_missing_encoder_is_named(copy: Path) -> None:
    """Nothing is loaded half."""
    (copy / "image_encoder.onnx").unlink()
    with pytest.raises(BundleRefused, match=r"image_encoder\.onnx cannot be read"):
        load_bundle(copy)


def test_golden_vectors_cover_both_graphs(copy: Path) -> None:
    """Without those of the encoder there is no proof of it."""
    golden = json.loads((copy / "golden.json").read_text())
    present = np.asarray(golden["inputs"]["image_present"])
    assert {0.0, 1.0} == set(present.ravel().tolist())
    golden.pop("encoder")
    (copy / "golden.json").write_text(json.dumps(golden))
    _rehash(copy)
    with pytest.raises(BundleRefused, match=r"golden\.json holds no vectors"):
        load_bundle(copy)


def test_the_same_crop_gives_the_same_bits(predictor: Predictor) -> None:
    """Replay rests on it."""
    crop = np.random.default_rng(0).uniform(-200, 300, _image(predictor.contract).shape).astype(np.float32)
    assert predictor.embed(crop).tobytes() == predictor.embed(crop).tobytes()
    assert replace(_patient(predictor, 0), image=predictor.embed(crop)).image is not None
