"""The Provenance: what was written, by which system, from which input versions, tables, model and evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from adapter.fhir.encode.assessment import Assessment
from adapter.fhir.encode.care_plan import PROPOSED
from adapter.fhir.encode.writing import versioned
from adapter.fhir.entries import Json

_URI = "urn:ietf:rfc:3986"


def provenance(assessment: Assessment, targets: Sequence[str]) -> Json:
    """Name every input version and every digest; `recorded` is the landmark, for the bytes know no clock.

    targets: references of what this assessment writes about the patient.
    """
    codes = assessment.delivery.codes
    return {
        **assessment.head("Provenance", f"pv-{assessment.assessment_id}", assessment.assessment_id),
        "target": [{"reference": reference} for reference in targets],
        "occurredDateTime": assessment.landmark,
        "recorded": assessment.landmark,
        "reason": [assessment.concept(None, codes["ai_asserted"])],
        "activity": assessment.concept(None, codes["create"]),
        "agent": [
            {
                "type": assessment.concept(None, codes["author"]),
                "role": [assessment.concept("Artificial intelligence", codes["device_type"])],
                "who": assessment.by_device,
            }
        ],
        "entity": [*_inputs(assessment), *_images(assessment), *_derived_from(assessment), *_evidence(assessment)],
    }


def _inputs(assessment: Assessment) -> Iterable[Json]:
    """Cite each version twice: servers such as HAPI strip versions from references, not from identifiers."""
    system = assessment.delivery.systems["version"]
    for source in assessment.inputs:
        named = {"system": system, "value": str(source)}
        yield {"role": "source", "what": {**versioned(source), "identifier": named}}


def _images(assessment: Assessment) -> Iterable[Json]:
    for image in sorted(assessment.account.images, key=lambda entry: entry.series_uid):
        uid = {"system": "urn:dicom:uid", "value": f"urn:oid:{image.series_uid}"}
        yield {"role": "source", "what": {"type": "ImagingStudy", "identifier": uid}}
        yield _digest(f"series {image.series_uid}", image.digest, assessment)


def _derived_from(assessment: Assessment) -> Iterable[Json]:
    """Model with its card, and every table that shaped the result."""
    model, account = assessment.forecast.model, assessment.account
    if assessment.card_id is not None:
        reference = f"DocumentReference/{assessment.card_id}"
        yield {"role": "derivation", "what": {"reference": reference, "display": "model card"}}
    yield _digest(f"model {model.name} {model.version}", model.digest, assessment)
    yield _digest(f"policy {assessment.proposal.policy_version}", assessment.policy.digest, assessment)
    yield _digest("delivery tables", assessment.delivery.digest, assessment)
    yield _digest("mapping tables", account.mapping_digest, assessment)
    if account.input_digest is not None:
        yield _digest("model input", account.input_digest, assessment)


def _evidence(assessment: Assessment) -> Iterable[Json]:
    """The publications behind what is proposed, each under the id by which the plan cites it."""
    proposal, policy = assessment.proposal, assessment.policy
    cited = {code for reason in proposal.reasons for code in reason.evidence}
    cited |= {code for visit in proposal.follow_up for code in visit.evidence}
    for entry in proposal.actions:
        if entry.verdict in PROPOSED:
            cited |= {*policy.action(entry.action).evidence, *(code for one in entry.reasons for code in one.evidence)}
    for code in sorted(cited):
        doi = policy.evidence[code].doi
        if doi is not None:
            published = {"system": _URI, "value": f"https://doi.org/{doi}"}
            yield {"role": "quotation", "what": {"identifier": published, "display": code}}


def _digest(words: str, digest: str, assessment: Assessment) -> Json:
    named = {"system": assessment.delivery.systems["digest"], "value": digest}
    return {"role": "derivation", "what": {"identifier": named, "display": words}}
