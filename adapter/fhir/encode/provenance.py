"""The Provenance: what was written, by which system, from which input versions, tables, model and evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from adapter.fhir.encode.statement import Statement
from adapter.fhir.encode.writing import versioned
from adapter.fhir.entries import Json

_URI = "urn:ietf:rfc:3986"


def provenance(statement: Statement, targets: Sequence[str], evidence: Iterable[str]) -> Json:
    """Name every input version and every digest; `recorded` is the landmark, for the bytes know no clock.

    targets: references of what this statement writes about the patient. evidence: ids of what stands behind it.
    """
    codes = statement.delivery.codes
    return {
        **statement.head("Provenance", f"pv-{statement.names.statement}", statement.names.statement),
        "target": [{"reference": reference} for reference in targets],
        "occurredDateTime": statement.landmark,
        "recorded": statement.landmark,
        "reason": [statement.concept(None, codes["ai_asserted"])],
        "activity": statement.concept(None, codes["create"]),
        "agent": [
            {
                "type": statement.concept(None, codes["author"]),
                "role": [statement.concept("Artificial intelligence", codes["device_type"])],
                "who": statement.by_device,
            }
        ],
        "entity": [*_inputs(statement), *_images(statement), *_derived_from(statement), *_quoted(evidence, statement)],
    }


def _inputs(statement: Statement) -> Iterable[Json]:
    """Cite each version twice: servers such as HAPI strip versions from references, not from identifiers."""
    system = statement.delivery.systems["version"]
    for source in statement.names.inputs:
        named = {"system": system, "value": str(source)}
        yield {"role": "source", "what": {**versioned(source), "identifier": named}}


def _images(statement: Statement) -> Iterable[Json]:
    for image in sorted(statement.account.images, key=lambda entry: entry.series_uid):
        uid = {"system": "urn:dicom:uid", "value": f"urn:oid:{image.series_uid}"}
        yield {"role": "source", "what": {"type": "ImagingStudy", "identifier": uid}}
        yield _digest(f"series {image.series_uid}", image.digest, statement)


def _derived_from(statement: Statement) -> Iterable[Json]:
    """Model with its card, and every table that shaped the result."""
    model, account = statement.model, statement.account
    if statement.names.card is not None:
        reference = f"DocumentReference/{statement.names.card}"
        yield {"role": "derivation", "what": {"reference": reference, "display": "model card"}}
    yield _digest(f"model {model.name} {model.version}", model.digest, statement)
    yield _digest(f"policy {statement.policy.version}", statement.policy.digest, statement)
    yield _digest("delivery tables", statement.delivery.digest, statement)
    yield _digest("mapping tables", account.mapping_digest, statement)
    if account.input_digest is not None:
        yield _digest("model input", account.input_digest, statement)


def _quoted(evidence: Iterable[str], statement: Statement) -> Iterable[Json]:
    """Each publication under the id by which the plan cites it."""
    for code in sorted(set(evidence)):
        doi = statement.policy.evidence[code].doi
        if doi is not None:
            published = {"system": _URI, "value": f"https://doi.org/{doi}"}
            yield {"role": "quotation", "what": {"identifier": published, "display": code}}


def _digest(words: str, digest: str, statement: Statement) -> Json:
    named = {"system": statement.delivery.systems["digest"], "value": digest}
    return {"role": "derivation", "what": {"identifier": named, "display": words}}
