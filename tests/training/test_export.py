"""A fitted model becomes the same bundle every time, and the bundle holds nothing of the machine that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch: Any = pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from inference.artifact import load_bundle, shipped_bundle  # noqa: E402  # after the skip
from inference.predictor import INPUTS, OUTPUTS, Predictor  # noqa: E402
from training.engineering import Engineering  # noqa: E402
from training.export import export_bundle  # noqa: E402
from training.likelihood import Batch  # noqa: E402
from training.made_up import made_up_inputs  # noqa: E402
from training.network import HazardNetwork, IllnessDeath  # noqa: E402
from training.postoperative_contract import postoperative_contract  # noqa: E402


def _export(folder: Path) -> IllnessDeath:
    contract = postoperative_contract()
    inputs = made_up_inputs(contract)
    engineering = Engineering(contract)
    engineering.fit(*inputs[:4])
    draw = torch.Generator().manual_seed(3)
    ensemble, student = (HazardNetwork(len(engineering.names), members, draw) for members in (4, 1))
    with torch.no_grad():
        ensemble.shared.copy_(torch.randn(ensemble.shared.shape, generator=draw) * 0.1)
    model = IllnessDeath(contract, engineering, ensemble, student=student, resampled=2)
    nothing = torch.zeros(len(inputs[0]), 3, 24)
    sample = Batch(inputs=inputs, exposure=nothing, events=nothing, cohort=nothing[:, 0, 0].long())
    about = {"training_data_kind": "simulated"}
    export_bundle(model, contract, folder, sample=sample, golden=inputs, about=about, card="made up\n")
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[IllnessDeath, Path]:
    """One export of drawn weights; export_bundle itself compares torch and onnxruntime at batch 1, 2 and 7."""
    folder = tmp_path_factory.mktemp("export") / "bundle"
    return _export(folder), folder


def test_exporting_twice_gives_the_same_bytes(exported: tuple[IllnessDeath, Path], tmp_path: Path) -> None:
    """Every file of the bundle, to the last bit, on one machine."""
    _export(tmp_path)
    for path in sorted(exported[1].iterdir()):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_the_service_reads_what_training_wrote(exported: tuple[IllnessDeath, Path]) -> None:
    """Hashes, schema, golden run; and `simulated` stays on its identity."""
    assert Predictor(load_bundle(exported[1])).identity.training_data == "simulated"


def test_torch_and_onnxruntime_agree(exported: tuple[IllnessDeath, Path]) -> None:
    """Within 1e-5 on every curve of the made-up rows, the fully masked one included."""
    model, folder = exported
    golden = load_bundle(folder).golden
    with torch.no_grad():
        curves = model(*(torch.from_numpy(golden.inputs[name]) for name in INPUTS))
    for name, curve in zip(OUTPUTS, curves, strict=True):
        np.testing.assert_allclose(golden.outputs[name], curve.numpy(), atol=1e-5)


def test_the_golden_vectors_of_the_shipped_bundle_are_nobody() -> None:
    """They are the drawn rows of made_up.py, bit for bit: no patient's values are published."""
    golden = load_bundle(shipped_bundle()).golden
    for name, tensor in zip(INPUTS, made_up_inputs(postoperative_contract()), strict=True):
        assert golden.inputs[name].tobytes() == tensor.numpy().tobytes(), name


def test_the_graph_alone_says_what_it_is(exported: tuple[IllnessDeath, Path]) -> None:
    """Opset 20, the order of its inputs, its schema: for whoever holds the graph without the manifest."""
    graph = onnx.load(exported[1] / "risk.onnx")
    assert [entry.version for entry in graph.opset_import if entry.domain == ""] == [20]
    properties = {entry.key: entry.value for entry in graph.metadata_props}
    contract = postoperative_contract()
    assert properties["schema_sha256"] == contract.schema_sha256
    assert properties["static_order"].split() == [entry.name for entry in contract.static]
    assert properties["training_data_kind"] == "simulated"
