"""A model bundle on disk: a folder with a manifest, refused whole when anything is not what the manifest says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.contract import BundleIdentity, BundleRefused, ImageInput, ModelContract, SequenceInput, StaticInput

MANIFEST = "manifest.json"
GRAPH = "risk.onnx"
ENCODER = "image_encoder.onnx"
GOLDEN = "golden.json"
CARD = "model_card.md"
FORMAT = 1
OPSET = 20
_KINDS = frozenset({"real", "simulated"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GoldenVectors:
    """Inputs and the outputs they must give on any machine, within 1e-5. Arrays as the graph takes them, (B, ...)."""

    inputs: Mapping[str, NDArray[np.float32]]
    outputs: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoder:
    """The graph that turns a crop into an embedding, and what it must answer."""

    graph: bytes = field(repr=False)
    golden: GoldenVectors = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bundle:
    """A bundle whose every file has the hash of its manifest. about: the manifest, for people.

    encoder: the graph that reads images, with its golden vectors; None for a contract without an image.
    """

    identity: BundleIdentity
    contract: ModelContract
    graph: bytes = field(repr=False)
    golden: GoldenVectors = field(repr=False)
    encoder: Encoder | None = field(repr=False)
    about: Mapping[str, object] = field(repr=False)
    folder: Path


def shipped_bundle(root: Path | None = None) -> Path:
    """The folder of the newest bundle trained on real patients. Raises BundleRefused when there is none."""
    folders = [folder for folder in list_bundles(root) if not _is_simulated(folder)]
    if not folders:
        raise BundleRefused("no bundle is installed")
    return folders[-1]


def simulated_bundle(root: Path | None = None) -> Path:
    """The folder of the newest bundle trained on simulated patients, for the demo. Raises BundleRefused."""
    folders = [folder for folder in list_bundles(root) if _is_simulated(folder)]
    if not folders:
        raise BundleRefused("no bundle trained on simulated patients is installed")
    return folders[-1]


def list_bundles(root: Path | None = None) -> tuple[Path, ...]:
    """Every bundle folder, `<name>-<version>`, newest version last. root: what comes with adjuvant by default."""
    place = Path(str(files("inference"))) / "bundles" if root is None else root
    return tuple(sorted((path for path in place.iterdir() if (path / MANIFEST).is_file()), key=_release))


def _release(folder: Path) -> tuple[tuple[int, ...], str]:
    """0.10.0 comes after 0.9.0; a folder without a dotted version comes first."""
    name, _, version = folder.name.rpartition("-")
    numbers = version.split(".")
    return (tuple(map(int, numbers)) if all(number.isdecimal() for number in numbers) else ()), name


def _is_simulated(folder: Path) -> bool:
    """By its manifest, not by its name; one that cannot be read is not, and is refused when it is loaded."""
    try:
        manifest = json.loads(_read(folder / MANIFEST))
    except ValueError:
        return False
    return isinstance(manifest, dict) and manifest.get("training_data_kind") == "simulated"


def load_bundle(folder: Path) -> Bundle:
    """Read and check. Raises BundleRefused naming the file or key: missing, altered, of another format or schema."""
    content = _read(folder / MANIFEST)
    try:
        manifest = json.loads(content)
    except ValueError as error:
        raise BundleRefused(f"{MANIFEST} is not JSON") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleRefused(f"{MANIFEST}: format is not {FORMAT}")
    if manifest.get("opset") != OPSET:
        raise BundleRefused(f"{MANIFEST}: opset is not {OPSET}")
    contract = _contract(manifest)
    graphs = (GRAPH,) if contract.image is None else (GRAPH, ENCODER)
    checked = {name: _checked(folder, name, manifest) for name in (*graphs, GOLDEN)}
    for name in _mapping(manifest, "files").keys() - checked.keys():
        _checked(folder, str(name), manifest)
    if contract.schema_sha256 != manifest.get("schema_sha256"):
        raise BundleRefused(f"{MANIFEST}: schema_sha256 is not that of its contract")
    if manifest.get("training_data_kind") not in _KINDS:
        raise BundleRefused(f"{MANIFEST}: training_data_kind is neither real nor simulated")
    return Bundle(
        identity=BundleIdentity(
            name=contract.model_name,
            version=contract.model_version,
            digest=hashlib.sha256(content).hexdigest(),
            training_data=str(manifest["training_data_kind"]),
            opset=OPSET,
            contract_digest=contract.schema_sha256,
            card=_card(folder, manifest),
        ),
        contract=contract,
        graph=checked[GRAPH],
        golden=_golden(checked[GOLDEN]),
        encoder=Encoder(graph=checked[ENCODER], golden=_golden(checked[GOLDEN], "encoder")) if contract.image else None,
        about=manifest,
        folder=folder,
    )


def _card(folder: Path, manifest: Mapping[str, object]) -> str:
    """The model card, where the manifest vouches for one; a card of unknown origin is none."""
    return _checked(folder, CARD, manifest).decode() if CARD in _mapping(manifest, "files") else ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleRefused(f"{path.name} cannot be read") from error


def _mapping(manifest: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = manifest.get(key)
    if not isinstance(value, dict):
        raise BundleRefused(f"{MANIFEST}: {key} is missing")
    return value


def _checked(folder: Path, name: str, manifest: Mapping[str, object]) -> bytes:
    wanted = _mapping(manifest, "files").get(name)
    if Path(name).name != name:
        raise BundleRefused(f"{MANIFEST}: a file outside the bundle is named")
    content = _read(folder / name)
    if hashlib.sha256(content).hexdigest() != wanted:
        raise BundleRefused(f"{name} does not have the hash of the manifest")
    return content


def _contract(manifest: Mapping[str, object]) -> ModelContract:
    stated = _mapping(manifest, "contract")
    try:
        return ModelContract(
            model_name=str(stated["model_name"]),
            model_version=str(stated["model_version"]),
            static=tuple(
                StaticInput(
                    name=entry["name"],
                    feature=entry["feature"],
                    unit=entry["unit"],
                    levels=tuple((str(category), float(number)) for category, number in entry["levels"]),
                    required=entry["required"],
                )
                for entry in stated["static"]  # type: ignore[attr-defined]  # any other shape ends below
            ),
            sequence=tuple(SequenceInput(**entry) for entry in stated["sequence"]),  # type: ignore[attr-defined]
            sequence_length=int(stated["sequence_length"]),  # type: ignore[call-overload]
            horizon_quarters=int(stated["horizon_quarters"]),  # type: ignore[call-overload]
            image=_image(stated["image"]) if "image" in stated else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleRefused(f"{MANIFEST}: contract is not one") from error


def _image(stated: object) -> ImageInput:
    """Raises KeyError, TypeError or ValueError for what is none."""
    if not isinstance(stated, dict):
        raise TypeError
    depth, rows, columns = (int(count) for count in stated["shape"])
    between_slices, between_rows, between_columns = (float(length) for length in stated["spacing_mm"])
    low, high = (float(value) for value in stated["window_hu"])
    return ImageInput(
        shape=(depth, rows, columns),
        spacing_mm=(between_slices, between_rows, between_columns),
        window_hu=(low, high),
        embedding=int(stated["embedding"]),
    )


def _golden(content: bytes, part: str | None = None) -> GoldenVectors:
    """part: the graph they belong to; None for the risk graph, whose vectors stand at the top."""
    try:
        whole = json.loads(content)
        stated = whole if part is None else whole[part]
        sides = [
            {name: np.asarray(values, dtype=np.float32) for name, values in stated[side].items()}
            for side in ("inputs", "outputs")
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleRefused(f"{GOLDEN} holds no vectors") from error
    return GoldenVectors(inputs=sides[0], outputs=sides[1])
