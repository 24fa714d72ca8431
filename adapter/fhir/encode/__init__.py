"""Forecast and proposal -> one FHIR R4 transaction, each resource in a module of its own.

Pure: the same forecast, proposal and policy give the same bytes, with no clock and nothing random. Every time in the
output derives from the landmark. Source: FHIR R4 4.0.1 and the project's clinical notes, section 3.
"""

from __future__ import annotations

from adapter.fhir.encode.openings import BASIS, FOLLOW_UP, RANGE, UNUSUAL
from adapter.fhir.encode.risk_assessment import AI_CONFIDENCE
from adapter.fhir.encode.statement import InputAccount, Subject, account_of, subject_of
from adapter.fhir.encode.transaction import encode_abstention, encode_transaction
from adapter.fhir.encode.writing import day_in_words, to_percent

__all__ = [
    "AI_CONFIDENCE",
    "BASIS",
    "FOLLOW_UP",
    "RANGE",
    "UNUSUAL",
    "InputAccount",
    "Subject",
    "account_of",
    "day_in_words",
    "encode_abstention",
    "encode_transaction",
    "subject_of",
    "to_percent",
]
