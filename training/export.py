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
from training.about import About, digest_of
from training.likelihood import Batch, Inputs
from training.network import IllnessDeath

OPSET = 20
_PARITY = 1e-5
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

    def golden_hashes(self) -> dict[str, str]:
        """SHA-256 of the golden rows and of the model's answers, float32 in the graph's order."""
        return {
            "golden_input_sha256": digest_of(*self.golden),
            "golden_output_sha256": digest_of(*_answers(self.model, self.golden)),
        }


def export_bundle(
    model: IllnessDeath,
    contract: ModelContract,
    folder: Path,
    *,
    sample: Batch,
    golden: Inputs,
    about: About,
    card: str,
) -> None:
    """Write the bundle. sample: rows to compare on; golden: made-up rows that are published with the bundle.

    Raises ValueError when torch and onnxruntime differ by more than 1e-5 at batch 1, 2 or 7, or the graph is beyond
    25 MB.
    """
    risk = Graph(name=GRAPH, model=model, inputs=INPUTS, outputs=OUTPUTS, sample=sample.inputs, golden=golden)
    properties = about.properties(contract, model.recalibration, model.typicality)
    write_bundle((risk,), contract, folder, properties=properties, about=about.stated(contract), card=card)


def export_multimodal(
    risk: IllnessDeath,
    encoder: torch.nn.Module,
    contract: ModelContract,
    folder: Path,
    *,
    sample: tuple[torch.Tensor, ...],
    crops: torch.Tensor,
    golden: tuple[torch.Tensor, ...],
    golden_crops: torch.Tensor,
    about: About,
    card: str,
) -> None:
    """As `export_bundle`, with the graph that reads images. crops, golden_crops: (B, 1, slices, rows, columns), HU.

    sample, golden: the inputs of the risk graph, ending with the embedding and whether there is one.
    """
    names = (*INPUTS, *IMAGE_INPUTS)
    graphs = (
        Graph(name=GRAPH, model=risk, inputs=names, outputs=OUTPUTS, sample=sample, golden=golden),
        Graph(
            name=ENCODER,
            model=encoder,
            inputs=(ENCODER_INPUT,),
            outputs=(ENCODER_OUTPUT,),
            sample=(crops,),
            golden=(golden_crops,),
        ),
    )
    properties = about.properties(contract, risk.recalibration, risk.typicality)
    write_bundle(graphs, contract, folder, properties=properties, about=about.stated(contract), card=card)


def write_bundle(
    graphs: tuple[Graph, ...],
    contract: ModelContract,
    folder: Path,
    *,
    properties: Mapping[str, str],
    about: Mapping[str, object],
    card: str,
) -> None:
    """Graphs, golden vectors, card and manifest. Raises ValueError as `export_bundle`.

    graphs: that of the risks, and that of the image where there is one. properties: what each says of itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for graph in graphs:
        _write_graph(graph, folder, properties)
    risk, *encoders = graphs
    vectors: dict[str, object] = dict(risk.vectors())
    for encoder in encoders:
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
    content = _onnx(graph, tuple(tensor[:2] for tensor in inputs), {**properties, **graph.golden_hashes()})
    if len(content) > _LARGEST_BYTES:
        raise ValueError("the graph is larger than 25 MB")
    (folder / graph.name).write_bytes(content)
    require_parity(graph, content, inputs)


def _answers(model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        answers = model(*inputs)
    return answers if isinstance(answers, tuple) else (answers,)


def _onnx(graph: Graph, example: tuple[torch.Tensor, ...], properties: Mapping[str, str]) -> bytes:
    """The graph, opset 20, of any batch size, with properties as its metadata and no path of this machine."""
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
