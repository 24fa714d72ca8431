"""The DocumentReference: the model card, word for word, in the record beside what it describes."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache

from adapter.fhir.encode.statement import Statement
from adapter.fhir.entries import Json


def model_card(statement: Statement) -> Json | None:
    """One for each model version and mode; None for a model that came without a card.

    Source: profile AIModelCard of HL7 AI Transparency on FHIR, AIDevice.fsh at commit 068de452 of its repository.
    """
    model, delivery = statement.model, statement.delivery
    if statement.names.card is None:
        return None
    title = f"Model card of {model.name} {model.version}"
    return {
        **statement.head("DocumentReference", statement.names.card, statement.names.card),
        "identifier": [{"system": delivery.systems["model"], "value": statement.names.card}],
        "status": "current",
        "type": statement.concept(None, delivery.codes["model_card"]),
        "category": [statement.concept(None, delivery.codes["model_card_markdown"])],
        "description": title,
        "content": [{"attachment": {"contentType": "text/markdown", "title": title, **_attached(model.card)}}],
    }


@lru_cache(maxsize=8)
def _attached(card: str) -> Json:
    """The text and its SHA-1, as R4 wants both. Source: FHIR R4, Attachment.hash."""
    content = card.encode()
    digest = hashlib.sha1(content, usedforsecurity=False).digest()
    return {"data": base64.b64encode(content).decode(), "hash": base64.b64encode(digest).decode()}
