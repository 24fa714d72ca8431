"""A fitted model becomes a bundle: its ONNX graphs, their manifest, their golden vectors."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from inference.artifact import ENCODER, FORMAT, GOLDEN, GRAPH, MANIFEST
from inference.contract import ModelContract
from inference.predictor import ENCODER_INPUT, ENCODER_OUTPUT, IMAGE_INPUTS, INPUTS, OUTPUTS
from training.likelihood import Batch, Inputs
from training.network import IllnessDeath

OPSET = 20
_PARITY = 1e-5
_PUBLISHED = ("training_data_kind", "training_data_sha256", "intended_use", "limits", "licence", "calibration")
_LARGEST_BYTES = 25 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Graph:
    """One graph to write, and what its golden vectors are made of. golden: made-up rows, published with the bundle."""

    name: str
    model: torch.nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sample: tuple[torch.Tensor, ...]
    golden: tuple[torch.Tensor, ...]

    def vectors(self) -> dict[str, dict[str, object]]:
        """The golden rows and what the model answers, as lists."""
        answers = _answers(self.model, self.golden)
        return {
            "inputs": {name: tensor.tolist() for name, tensor in zip(self.inputs, self.golden, strict=True)},
            "outputs": {name: tensor.tolist() for name, tensor in zip(self.outputs, answers, strict=True)},
        }


def export_bundle(
    model: IllnessDeath,
    contract: ModelContract,
    folder: Path,
    *,
    sample: Batch,
    golden: Inputs,
    about: Mapping[str, object],
    card: str,
) -> None:
    """Write the bundle. sample: rows to compare on; golden: made-up rows that are published with the bundle.

    Raises ValueError when torch and onnxruntime differ by more than 1e-5 at batch 1, 2 or 7, or the graph is beyond
    25 MB.
    """
    risk = Graph(name=GRAPH, model=model, inputs=INPUTS, outputs=OUTPUTS, sample=sample.inputs, golden=golden)
    write_bundle(risk, None, contract, folder, about=about, card=card)


def export_multimodal(
    risk: torch.nn.Module,
    encoder: torch.nn.Module,
    contract: ModelContract,
    folder: Path,
    *,
    sample: tuple[torch.Tensor, ...],
    crops: torch.Tensor,
    golden: tuple[torch.Tensor, ...],
    golden_crops: torch.Tensor,
    about: Mapping[str, object],
    card: str,
) -> None:
    """As `export_bundle`, with the graph that reads images. crops, golden_crops: (B, 1, slices, rows, columns), HU.

    sample, golden: the inputs of the risk graph, ending with the embedding and whether there is one.
    """
    names = (*INPUTS, *IMAGE_INPUTS)
    write_bundle(
        Graph(name=GRAPH, model=risk, inputs=names, outputs=OUTPUTS, sample=sample, golden=golden),
        Graph(
            name=ENCODER,
            model=encoder,
            inputs=(ENCODER_INPUT,),
            outputs=(ENCODER_OUTPUT,),
            sample=(crops,),
            golden=(golden_crops,),
        ),
        contract,
        folder,
        about=about,
        card=card,
    )


def write_bundle(
    risk: Graph, encoder: Graph | None, contract: ModelContract, folder: Path, *, about: Mapping[str, object], card: str
) -> None:
    """Graphs, golden vectors, card and manifest. Raises ValueError as `export_bundle`."""
    folder.mkdir(parents=True, exist_ok=True)
    properties = {**_properties(contract), **{name: str(about[name]) for name in _PUBLISHED if name in about}}
    graphs = (risk,) if encoder is None else (risk, encoder)
    for graph in graphs:
        _write_graph(graph, folder, properties)
    vectors: dict[str, object] = dict(risk.vectors())
    if encoder is not None:
        vectors["encoder"] = encoder.vectors()
    (folder / GOLDEN).write_text(json.dumps(vectors, separators=(",", ":")))
    (folder / "model_card.md").write_text(card)
    names = (*(graph.name for graph in graphs), GOLDEN, "model_card.md")
    manifest = {
        "format": FORMAT,
        "contract": contract.stated,
        "schema_sha256": contract.schema_sha256,
        "opset": OPSET,
        **about,
        "files": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def _write_graph(graph: Graph, folder: Path, properties: Mapping[str, str]) -> None:
    graph.model.float().eval()
    inputs = tuple(tensor.float() for tensor in graph.sample)
    content = _onnx(graph, tuple(tensor[:2] for tensor in inputs), properties)
    if len(content) > _LARGEST_BYTES:
        raise ValueError("the graph is larger than 25 MB")
    (folder / graph.name).write_bytes(content)
    require_parity(graph, content, inputs)


def _answers(model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        answers = model(*inputs)
    return answers if isinstance(answers, tuple) else (answers,)


def _properties(contract: ModelContract) -> dict[str, str]:
    """What a reader of the graph alone, without the manifest, must know of the order of its inputs."""
    return {
        "model_name": contract.model_name,
        "model_version": contract.model_version,
        "schema_sha256": contract.schema_sha256,
        "static_order": " ".join(entry.name for entry in contract.static),
        "sequence_order": " ".join(f"{column.name}[{column.unit}]" for column in contract.sequence),
        "horizon_quarters": str(contract.horizon_quarters),
        "time_origin": "the landmark; years_since_surgery is the postoperative clock there",
    }


def _onnx(graph: Graph, example: tuple[torch.Tensor, ...], properties: Mapping[str, str]) -> bytes:
    """The graph, opset 20, of any batch size, with properties as its metadata and nothing of this machine."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program = torch.onnx.export(
            graph.model,
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=tuple({0: batch} for _ in example),
            external_data=False,
            verbose=False,
        )
    proto = program.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]  # paths and stack traces of the machine that exported
        node.doc_string = ""
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, dict(sorted(properties.items())))
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def require_parity(graph: Graph, content: bytes, inputs: tuple[torch.Tensor, ...]) -> float:
    """The largest difference of torch and onnxruntime at batch 1, 2 and 7; ValueError beyond 1e-5."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    largest = 0.0
    for rows in (1, 2, 7):
        part = tuple(tensor[:rows] for tensor in inputs)
        feed = {name: tensor.numpy() for name, tensor in zip(graph.inputs, part, strict=True)}
        got = session.run(list(graph.outputs), feed)
        for name, left, right in zip(graph.outputs, _answers(graph.model, part), got, strict=True):
            difference = float(np.abs(left.numpy() - right).max())
            if not difference <= _PARITY:
                raise ValueError(f"{name} differs between torch and onnxruntime at batch {rows}")
            largest = max(largest, difference)
    return largest
