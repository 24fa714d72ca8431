"""The DocumentReference: the model card, word for word, in the record beside what it describes."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache

from adapter.fhir.encode.assessment import Assessment
from adapter.fhir.entries import Json


def model_card(assessment: Assessment) -> Json | None:
    """One for each model version and mode; None for a model that came without a card.

    Source: profile AIModelCard of HL7 AI Transparency on FHIR, AIDevice.fsh at commit 068de452 of its repository.
    """
    model, delivery = assessment.forecast.model, assessment.delivery
    if assessment.card_id is None:
        return None
    title = f"Model card of {model.name} {model.version}"
    return {
        **assessment.head("DocumentReference", assessment.card_id, assessment.card_id),
        "identifier": [{"system": delivery.systems["model"], "value": assessment.card_id}],
        "status": "current",
        "type": assessment.concept(None, delivery.codes["model_card"]),
        "category": [assessment.concept(None, delivery.codes["model_card_markdown"])],
        "description": title,
        "content": [{"attachment": {"contentType": "text/markdown", "title": title, **_attached(model.card)}}],
    }


@lru_cache(maxsize=8)
def _attached(card: str) -> Json:
    """The text and its SHA-1, as R4 wants both. Source: FHIR R4, Attachment.hash."""
    content = card.encode()
    digest = hashlib.sha1(content, usedforsecurity=False).digest()
    return {"data": base64.b64encode(content).decode(), "hash": base64.b64encode(digest).decode()}
