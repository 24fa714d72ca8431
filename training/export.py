"""A fitted model becomes a bundle: one ONNX graph, its manifest, its golden vectors."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from inference.artifact import FORMAT, GOLDEN, GRAPH, MANIFEST
from inference.contract import ModelContract
from inference.predictor import INPUTS, OUTPUTS
from training.likelihood import Batch, Inputs
from training.network import IllnessDeath

OPSET = 20
_PARITY = 1e-5
_PUBLISHED = ("training_data_kind", "training_data_sha256", "intended_use", "limits", "licence", "calibration")
_LARGEST_BYTES = 25 * 2**20


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
    folder.mkdir(parents=True, exist_ok=True)
    model.float().eval()
    inputs = tuple(tensor.float() for tensor in sample.inputs)
    properties = {**_properties(contract), **{name: str(about[name]) for name in _PUBLISHED if name in about}}
    graph = _graph(model, tuple(tensor[:2] for tensor in inputs), properties)
    if len(graph) > _LARGEST_BYTES:
        raise ValueError("the graph is larger than 25 MB")
    (folder / GRAPH).write_bytes(graph)
    _require_parity(model, graph, inputs)
    with torch.no_grad():
        curves = model(*golden)
    vectors = {
        "inputs": {name: tensor.tolist() for name, tensor in zip(INPUTS, golden, strict=True)},
        "outputs": {name: tensor.tolist() for name, tensor in zip(OUTPUTS, curves, strict=True)},
    }
    (folder / GOLDEN).write_text(json.dumps(vectors, separators=(",", ":")))
    (folder / "model_card.md").write_text(card)
    manifest = {
        "format": FORMAT,
        "contract": asdict(contract),
        "schema_sha256": contract.schema_sha256,
        "opset": OPSET,
        **about,
        "files": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (GRAPH, GOLDEN, "model_card.md")
        },
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


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


def _graph(model: IllnessDeath, example: tuple[torch.Tensor, ...], properties: Mapping[str, str]) -> bytes:
    """The graph, opset 20, of any batch size, with properties as its metadata and nothing of this machine."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program = torch.onnx.export(
            model,
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_shapes=tuple({0: batch} for _ in example),
            external_data=False,
            verbose=False,
        )
    graph = program.model_proto
    for node in graph.graph.node:
        del node.metadata_props[:]  # paths and stack traces of the machine that exported
        node.doc_string = ""
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, dict(sorted(properties.items())))
    onnx.checker.check_model(graph)
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def _require_parity(model: IllnessDeath, graph: bytes, inputs: tuple[torch.Tensor, ...]) -> None:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for rows in (1, 2, 7):
        part = tuple(tensor[:rows] for tensor in inputs)
        with torch.no_grad():
            wanted = model(*part)
        got = session.run(list(OUTPUTS), {name: tensor.numpy() for name, tensor in zip(INPUTS, part, strict=True)})
        for name, left, right in zip(OUTPUTS, wanted, got, strict=True):
            if np.abs(left.numpy() - right).max() > _PARITY:
                raise ValueError(f"{name} differs between torch and onnxruntime at batch {rows}")
