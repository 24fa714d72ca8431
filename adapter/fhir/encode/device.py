"""The Device: the system that asserts, in exactly these versions."""

from __future__ import annotations

from collections.abc import Iterable

from adapter.fhir.encode.assessment import Assessment
from adapter.fhir.encode.writing import without_empty
from adapter.fhir.entries import Json

# Source: HL7 AI Transparency on FHIR (hl7.fhir.uv.aitransparency), AIDevice.fsh at commit 068de452 of its repository.
_GUIDE = "http://hl7.org/fhir/uv/aitransparency/StructureDefinition"
_MODEL_CARD = f"{_GUIDE}/aitransparency.modelCardDescription"
_KIND = f"{_GUIDE}/aitransparency.AIKind"


def device(assessment: Assessment) -> Json:
    """One for each combination of model, tables and policy; a new version of any is a new Device, never an edit."""
    delivery, model = assessment.delivery, assessment.forecast.model
    return without_empty(
        {
            **assessment.head("Device", assessment.device_id, assessment.device_id),
            "extension": [*_card(assessment), _kind(assessment)],
            "identifier": [{"system": delivery.systems["device"], "value": assessment.device_id}],
            "status": "active",
            "type": assessment.concept("Artificial intelligence", delivery.codes["device_type"]),
            "deviceName": [{"name": model.name, "type": "model-name"}],
            "version": [{"type": {"text": words}, "value": value} for words, value in _versions(assessment)],
            "safety": [{"text": delivery.labels[assessment.mode]}],
            "note": [{"text": f"Trained on {model.training_data} data."}, {"text": delivery.texts["limits"]}],
        }
    )


def _card(assessment: Assessment) -> Iterable[Json]:
    if assessment.card_id is not None:
        yield {"url": _MODEL_CARD, "valueReference": {"reference": f"DocumentReference/{assessment.card_id}"}}


def _kind(assessment: Assessment) -> Json:
    return {"url": _KIND, "valueCodeableConcept": assessment.concept(None, assessment.delivery.codes["device_kind"])}


def _versions(assessment: Assessment) -> Iterable[tuple[str, str]]:
    model = assessment.forecast.model
    yield "model", model.version
    yield "manifest SHA-256", model.digest
    if model.opset is not None:
        yield "ONNX operator set", str(model.opset)
    if model.contract_digest is not None:
        yield "model input contract SHA-256", model.contract_digest
    yield "mapping tables SHA-256", assessment.account.mapping_digest
    yield "policy", assessment.proposal.policy_version
