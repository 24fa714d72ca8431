"""F-30: a bundle that is not what its manifest says is refused whole, and the message names what is wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.artifact import list_bundles, load_bundle, shipped_bundle
from inference.contract import BundleRefused
from inference.predictor import Predictor


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The shipped bundle, free to be spoiled."""
    folder = tmp_path / "bundle"
    shutil.copytree(shipped_bundle(), folder)
    return folder


def _manifest(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_the_shipped_bundle_is_what_its_manifest_says() -> None:
    """Hashes, schema and golden vectors agree, and it says that real patients trained it."""
    identity = Predictor(load_bundle(shipped_bundle())).identity
    assert identity.training_data == "real"
    assert len(identity.digest) == 64


@pytest.mark.fault("F-30")
@pytest.mark.parametrize("name", ["risk.onnx", "golden.json", "model_card.md"])
def test_an_altered_file_is_refused(copy: Path, name: str) -> None:
    """One byte more, and the hash of the manifest does not hold."""
    (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    with pytest.raises(BundleRefused, match=f"{name} does not have the hash"):
        load_bundle(copy)


@pytest.mark.fault("F-30")
@pytest.mark.parametrize("name", ["manifest.json", "risk.onnx", "golden.json", "model_card.md"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    """Nothing is loaded half."""
    (copy / name).unlink()
    with pytest.raises(BundleRefused, match=name):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda content: content.update(format=2), "format is not 1"),
        (lambda content: content.update(opset=21), "opset is not 20"),
        (lambda content: content.update(schema_sha256="0" * 64), "schema_sha256"),
        (lambda content: content["contract"]["static"].reverse(), "schema_sha256"),
        (lambda content: content["contract"]["static"][0].update(unit="mo"), "schema_sha256"),
        (lambda content: content["contract"].pop("sequence"), "contract is not one"),
        (lambda content: content.update(training_data_kind="unknown"), "neither real nor simulated"),
        (lambda content: content.pop("files"), "files is missing"),
        (lambda content: content["files"].update({"../outside": "0"}), "outside the bundle"),
    ],
)
def test_a_manifest_that_does_not_hold_together_is_refused(
    copy: Path, change: Callable[[dict[str, object]], object], complaint: str
) -> None:
    """Another feature order or unit is another schema; a path outside is not followed."""
    _manifest(copy, change)
    with pytest.raises(BundleRefused, match=complaint):
        load_bundle(copy)


def test_a_manifest_that_is_no_json_is_refused(copy: Path) -> None:
    """Not a traceback of a parser."""
    (copy / "manifest.json").write_text("{")
    with pytest.raises(BundleRefused, match="not JSON"):
        load_bundle(copy)


def test_the_manifest_says_who_what_and_for_whom() -> None:
    """A site can judge it without us: data with counts, hash and citation, licence, intended use, limits, command."""
    about = load_bundle(shipped_bundle()).about
    for key in ("command", "horizons", "intended_use", "licence", "limits", "opset", "schema_sha256", "training_data"):
        assert about[key], key
    data = about["training_data"]
    assert isinstance(data, dict)
    for name, source in data.items():
        assert source["patients"] > 0, name
        assert len(source["sha256"]) == 64, name
        assert source["citation"], name


def test_every_input_of_the_contract_has_a_unit_or_levels() -> None:
    """Neither a number without unit nor a category without a number, and no name twice."""
    contract = load_bundle(shipped_bundle()).contract
    assert all((entry.unit is None) == bool(entry.levels) for entry in contract.static)
    assert all(column.unit for column in contract.sequence)
    names = [entry.name for entry in contract.static] + [column.name for column in contract.sequence]
    assert len(set(names)) == len(names)


def test_no_file_of_the_bundle_tells_where_it_was_made() -> None:
    """No path, no source file, no traceback: the exporter writes all three into a graph unless they are removed."""
    for path in sorted(shipped_bundle().iterdir()):
        content = path.read_bytes()
        for trace in (
            b"/home/",
            f"{Path.home()}/".encode(),
            f"{Path(__file__).parents[2]}/".encode(),
            b"/tmp/",
            b"site-packages",
            b".py",
            b"Traceback",
            b"stack_trace",
        ):
            assert trace not in content.replace(b"training/made_up.py", b""), (path.name, trace)


def test_a_bundle_lies_in_a_folder_of_its_name() -> None:
    """The folder is named for model and version, which is how sites pin one."""
    for folder in list_bundles():
        identity = load_bundle(folder).identity
        assert folder.name == f"{identity.name}-{identity.version}"


def test_golden_vectors_that_are_none_are_refused(copy: Path) -> None:
    """A file with the right hash and the wrong content is refused as well."""
    content = b'{"inputs": []}'
    (copy / "golden.json").write_bytes(content)
    _manifest(copy, lambda manifest: manifest["files"].update({"golden.json": hashlib.sha256(content).hexdigest()}))  # type: ignore[attr-defined]
    with pytest.raises(BundleRefused, match=r"golden\.json holds no vectors"):
        load_bundle(copy)


@pytest.mark.fault("F-30")
def test_a_file_of_an_older_bundle_is_refused(copy: Path) -> None:
    """The graph of one training beside the manifest of another: half an update is no update."""
    graph = copy / "risk.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(BundleRefused, match=r"risk\.onnx does not have the hash"):
        load_bundle(copy)


def test_the_newest_version_is_shipped(tmp_path: Path) -> None:
    """0.10.0 comes after 0.9.0; a folder without a manifest, as a half-copied bundle, is none."""
    for name in ("linear-0.9.0", "linear-0.10.0", "draft", "linear-9.0.0"):
        (tmp_path / name).mkdir()
    for name in ("linear-0.9.0", "linear-0.10.0", "draft"):
        (tmp_path / name / "manifest.json").touch()
    assert [folder.name for folder in list_bundles(tmp_path)] == ["draft", "linear-0.9.0", "linear-0.10.0"]
    assert shipped_bundle(tmp_path).name == "linear-0.10.0"


def test_no_bundle_at_all_is_refused(tmp_path: Path) -> None:
    """An installation without a model says so."""
    with pytest.raises(BundleRefused, match="no bundle is installed"):
        shipped_bundle(tmp_path)


@pytest.mark.fault("F-30")
@pytest.mark.parametrize("name", ["recurrence", "death_without_recurrence", "death", "low", "high", "typicality"])
@pytest.mark.parametrize("difference", [2e-5, float("nan")])
def test_a_model_that_has_drifted_from_its_golden_vectors_is_refused(copy: Path, name: str, difference: float) -> None:
    """Hashes in order, but a number of this machine is off by more than 1e-5: no patient is asked of it."""
    golden = json.loads((copy / "golden.json").read_text())
    row = golden["outputs"][name][2]
    while isinstance(row[-1], list):
        row = row[-1]
    row[-1] += difference
    (copy / "golden.json").write_text(json.dumps(golden))
    digest = hashlib.sha256((copy / "golden.json").read_bytes()).hexdigest()
    _manifest(copy, lambda manifest: manifest["files"].update({"golden.json": digest}))  # type: ignore[attr-defined]
    with pytest.raises(BundleRefused, match=f"{name} differs from its golden vector"):
        Predictor(load_bundle(copy))


@pytest.mark.fault("F-30")
def test_files_swapped_after_loading_change_nothing(copy: Path) -> None:
    """What was checked is what runs: the graph is taken from the bytes that were hashed, not from the disk again."""
    bundle = load_bundle(copy)
    (copy / "risk.onnx").write_bytes(b"another model")
    assert Predictor(bundle).identity == bundle.identity


def test_the_card_that_is_read_is_the_card_that_is_shipped() -> None:
    """docs/model_card.md is the bundle's, to the last byte, and quotes what docs/evaluation.json measured."""
    docs, card = Path(__file__).parents[2] / "docs", shipped_bundle() / "model_card.md"
    assert (docs / "model_card.md").read_bytes() == card.read_bytes()
    measured = json.loads((docs / "evaluation.json").read_text())
    assert f"RFS C {measured['RFS harrell']:.3f}" in card.read_text()
    assert f"OS C {measured['OS harrell']:.3f}" in card.read_text()
    assert "not measured" not in card.read_text()
