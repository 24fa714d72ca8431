"""F-30: a bundle that is not what its manifest says is refused whole, and the message names what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from inference.artifact import load_bundle, shipped_bundle
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


@pytest.mark.parametrize("name", ["risk.onnx", "golden.json", "model_card.md"])
def test_an_altered_file_is_refused(copy: Path, name: str) -> None:
    """One byte more, and the hash of the manifest does not hold."""
    (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    with pytest.raises(BundleRefused, match=f"{name} does not have the hash"):
        load_bundle(copy)


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


def test_the_schema_hash_covers_everything_but_the_version() -> None:
    """A new version of the same schema keeps the hash; any other change does not."""
    contract = load_bundle(shipped_bundle()).contract
    assert replace(contract, model_version="9").schema_sha256 == contract.schema_sha256
    for other in (
        replace(contract, horizon_quarters=8),
        replace(contract, sequence_length=3),
        replace(contract, static=contract.static[1:]),
        replace(contract, sequence=contract.sequence[::-1]),
        replace(contract, model_name="other"),
    ):
        assert other.schema_sha256 != contract.schema_sha256
