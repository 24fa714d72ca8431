"""Forecast and proposal -> one FHIR R4 transaction, each resource in a module of its own.

Pure: the same forecast, proposal and policy give the same bytes, with no clock and nothing random. Every time in the
output derives from the landmark. Source: FHIR R4 4.0.1 and the project's clinical notes, section 3.
"""

from __future__ import annotations

from adapter.fhir.encode.assessment import InputAccount, Subject, account_of, subject_of
from adapter.fhir.encode.risk_assessment import AI_CONFIDENCE
from adapter.fhir.encode.transaction import encode_transaction
from adapter.fhir.encode.writing import to_percent

__all__ = [
    "AI_CONFIDENCE",
    "InputAccount",
    "Subject",
    "account_of",
    "encode_transaction",
    "subject_of",
    "to_percent",
]
