"""The Device: the system that asserts, in exactly these versions."""

from __future__ import annotations

from collections.abc import Iterable

from adapter.fhir.encode.statement import Statement
from adapter.fhir.encode.writing import without_empty
from adapter.fhir.entries import Json

# Source: HL7 AI Transparency on FHIR (hl7.fhir.uv.aitransparency), AIDevice.fsh at commit 068de452 of its repository.
_GUIDE = "http://hl7.org/fhir/uv/aitransparency/StructureDefinition"
_MODEL_CARD = f"{_GUIDE}/aitransparency.modelCardDescription"
_KIND = f"{_GUIDE}/aitransparency.AIKind"


def device(statement: Statement) -> Json:
    """One for each combination of model, tables and policy; a new version of any is a new Device, never an edit."""
    delivery, model = statement.delivery, statement.model
    return without_empty(
        {
            **statement.head("Device", statement.names.device, statement.names.device),
            "extension": [*_card(statement), _kind(statement)],
            "identifier": [{"system": delivery.systems["device"], "value": statement.names.device}],
            "status": "active",
            "type": statement.concept("Artificial intelligence", delivery.codes["device_type"]),
            "deviceName": [{"name": model.name, "type": "model-name"}],
            "version": [{"type": {"text": words}, "value": value} for words, value in _versions(statement)],
            "safety": [{"text": delivery.labels[statement.mode]}],
            "note": [{"text": f"Trained on {model.training_data} data."}, {"text": delivery.texts["limits"]}],
        }
    )


def _card(statement: Statement) -> Iterable[Json]:
    if statement.names.card is not None:
        yield {"url": _MODEL_CARD, "valueReference": {"reference": f"DocumentReference/{statement.names.card}"}}


def _kind(statement: Statement) -> Json:
    return {"url": _KIND, "valueCodeableConcept": statement.concept(None, statement.delivery.codes["device_kind"])}


def _versions(statement: Statement) -> Iterable[tuple[str, str]]:
    model = statement.model
    yield "model", model.version
    yield "manifest SHA-256", model.digest
    if model.opset is not None:
        yield "ONNX operator set", str(model.opset)
    if model.contract_digest is not None:
        yield "model input contract SHA-256", model.contract_digest
    yield "mapping tables SHA-256", statement.account.mapping_digest
    yield "policy", statement.policy.version
