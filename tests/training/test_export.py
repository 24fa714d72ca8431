"""A fitted model becomes the same bundle every time, and the bundle holds nothing of the machine that made it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch: Any = pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from inference.artifact import load_bundle, shipped_bundle, simulated_bundle  # noqa: E402  # after the skip
from inference.predictor import INPUTS, OUTPUTS, Predictor  # noqa: E402
from training.about import About, TrainingCohort, digest_of  # noqa: E402
from training.engineering import Engineering  # noqa: E402
from training.export import export_bundle  # noqa: E402
from training.likelihood import Batch  # noqa: E402
from training.made_up import made_up_inputs  # noqa: E402
from training.network import HazardNetwork, IllnessDeath  # noqa: E402
from training.postoperative_contract import postoperative_contract  # noqa: E402
from training.source_code import SourceCode  # noqa: E402

_ABOUT = About(
    kind="simulated",
    data_sha256="ab" * 32,
    cohorts=(
        TrainingCohort(
            name="nobody", patients=8, recurrence_or_death=3, deaths=2, citation="made_up.py", sha256="cd" * 32
        ),
    ),
    code_systems="none",
    calibration="none",
    intended_use="tests",
    contraindicated_use="everything else",
    limits="drawn weights",
    licence="Apache-2.0",
    command="pytest",
    effort="quick",
    source=SourceCode(commit="ef" * 20, committed="2026-01-01T00:00:00Z", lock_sha256="01" * 32),
    further={"base": "none"},
)
# the list of the design's last section on the model, each under the name it has there
_REQUIRED = frozenset({
    "model_version", "git_commit", "schema_sha256", "feature_order", "code_systems", "train_data_sha256",
    "cohort_name", "patients", "events", "time_origin", "horizons", "arms", "calibration_id", "thresholds",
    "conformal_quantiles", "intended_use", "contraindicated_use", "limitations", "license", "created_utc",
    "sbom_sha256", "golden_input_sha256", "golden_output_sha256", "training_data_kind",
})  # fmt: skip


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
    export_bundle(model, contract, folder, sample=sample, golden=inputs, about=_ABOUT, card="made up\n")
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


def _properties(graph: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(graph).metadata_props}


@pytest.mark.parametrize("bundle", [shipped_bundle, simulated_bundle])
def test_every_graph_that_is_shipped_carries_every_property(bundle: Callable[[], Path]) -> None:
    """None is missing and none is empty, in the graph of the risks and in that of the image."""
    for graph in sorted(bundle().glob("*.onnx")):
        properties = _properties(graph)
        assert properties.keys() >= _REQUIRED, graph.name
        assert all(properties.values()), graph.name


@pytest.mark.parametrize("bundle", [shipped_bundle, simulated_bundle])
def test_what_a_graph_says_is_what_its_bundle_holds(bundle: Callable[[], Path]) -> None:
    """Version, schema, order, data and golden vectors; exported from a commit, its files unchanged."""
    loaded, properties = load_bundle(bundle()), _properties(bundle() / "risk.onnx")
    contract = loaded.contract
    assert properties["model_version"] == contract.model_version
    assert properties["schema_sha256"] == contract.schema_sha256
    named = [*(entry.name for entry in contract.static), *(f"{one.name}[{one.unit}]" for one in contract.sequence)]
    assert properties["feature_order"].split() == named
    assert properties["train_data_sha256"] == loaded.about["training_data_sha256"]
    assert properties["training_data_kind"] == loaded.identity.training_data
    for key, vectors in (("input", loaded.golden.inputs), ("output", loaded.golden.outputs)):
        digest = digest_of(*(torch.from_numpy(values) for values in vectors.values()))
        assert properties[f"golden_{key}_sha256"] == digest
    assert re.fullmatch("[0-9a-f]{40}", properties["git_commit"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", properties["created_utc"])
    assert properties["arms"].startswith("none: prognostic")


def test_a_calibration_has_an_id_of_its_own(exported: tuple[IllnessDeath, Path]) -> None:
    """Another calibration is another id."""
    model, folder = exported
    recalibration = model.recalibration
    told = _properties(folder / "risk.onnx")["calibration_id"]
    assert told == digest_of(recalibration.centre, recalibration.scale, recalibration.offset)
    assert told != digest_of(recalibration.centre, recalibration.scale * 1.1, recalibration.offset)
