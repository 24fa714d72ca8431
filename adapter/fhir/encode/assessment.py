"""One assessment about to be written: what it rests on, what every resource of it is called, and their shared head."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC

from adapter.decision.findings import sources_read
from adapter.decision.policy import Coding, Policy
from adapter.domain.ids import BusinessIdentifier, PatientId, ResourceVersion
from adapter.domain.imaging import ImageDescriptors
from adapter.domain.plan import ActionVerdict, CarePlanProposal, GateOutcome, GateState, Verdict
from adapter.domain.record import Diagnosis
from adapter.domain.risk import RiskForecast
from adapter.domain.timeline import Timeline
from adapter.domain.tristate import TriState
from adapter.errors import BadMapping, MalformedResource
from adapter.fhir.delivery import Delivery, OutputMode
from adapter.fhir.encode.writing import instant
from adapter.fhir.entries import Json
from adapter.terminology import Feature

_ID_LENGTH = 32
_TUMOUR_BOARD = "MDT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom the result is about. identifier: enters the assessment id, so it must outlive a change of server id.

    conditions: the primary cancer's Condition resources, as they were read.
    """

    patient_id: PatientId
    identifier: BusinessIdentifier = field(repr=False)
    conditions: tuple[ResourceVersion, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InputAccount:
    """What the result rests on beside the forecast's basis. Digests are SHA-256, hexadecimal.

    mapping_digest: of the terminology tables. rule_inputs: every version the rules looked at. images: the series
    read for it. quarantined: how many entries were read and not used, by reason, sorted. input_digest: of the
    assembled model input, None when the caller keeps none. vocabulary: how the site codes each feature, so that what
    is missing can be asked for in its codes.
    """

    mapping_digest: str
    rule_inputs: tuple[ResourceVersion, ...] = ()
    images: tuple[ImageDescriptors, ...] = ()
    quarantined: tuple[tuple[str, int], ...] = ()
    input_digest: str | None = None
    vocabulary: Mapping[str, Feature] = field(default_factory=dict, repr=False)


def subject_of(timeline: Timeline, *, base_url: str, preferred_system: str | None = None) -> Subject:
    """Choose the identifier an assessment is named by: of the preferred system, else the first in order.

    A patient without any identifier is named by the server's base URL and the Patient's id: unique there, and the
    only thing known. Raises MalformedResource when the preferred system holds several values.
    """
    person = timeline.person
    held = sorted({entry for entry in person.identifiers if entry.system and entry.value})
    preferred = [entry for entry in held if entry.system == preferred_system]
    if len(preferred) > 1:
        raise MalformedResource(f"Patient/{person.patient_id} has several identifiers of the preferred system")
    fallback = BusinessIdentifier(system=f"{base_url}/Patient", value=str(person.patient_id))
    return Subject(
        patient_id=person.patient_id,
        identifier=(preferred or held or [fallback])[0],
        conditions=tuple(sorted(entry.source for entry in timeline.diagnoses if _is_primary(entry))),
    )


def account_of(
    timeline: Timeline,
    policy: Policy,
    *,
    mapping_digest: str,
    input_digest: str | None = None,
    vocabulary: Mapping[str, Feature] | None = None,
) -> InputAccount:
    """Name what the rules and the images contribute, and count what the timeline could not use."""
    reasons = [entry.reason for entry in timeline.quarantined]
    return InputAccount(
        mapping_digest=mapping_digest,
        rule_inputs=sources_read(timeline, policy),
        images=timeline.images,
        quarantined=tuple((reason, reasons.count(reason)) for reason in sorted(set(reasons))),
        input_digest=input_digest,
        vocabulary=vocabulary or {},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """Everything the resources of one assessment are written from, with its names computed once.

    inputs: every version that the model or the rules read, sorted. device_id, card_id: of the system and its model
    card, shared by every assessment of the same versions; card_id is None for a model that came without a card.
    """

    forecast: RiskForecast
    proposal: CarePlanProposal
    subject: Subject
    account: InputAccount
    policy: Policy
    delivery: Delivery
    mode: OutputMode
    inputs: tuple[ResourceVersion, ...]
    assessment_id: str
    device_id: str
    card_id: str | None
    landmark: str

    # names

    @property
    def risk_assessment(self) -> Json:
        """Refers to the forecast."""
        return {"reference": f"RiskAssessment/ra-{self.assessment_id}"}

    @property
    def care_plan(self) -> Json:
        """Refers to the proposal."""
        return {"reference": f"CarePlan/cp-{self.assessment_id}"}

    @property
    def patient(self) -> Json:
        """Refers to the patient."""
        return {"reference": f"Patient/{self.subject.patient_id}"}

    @property
    def by_device(self) -> Json:
        """Refers to the system that asserts all this."""
        return {"reference": f"Device/{self.device_id}"}

    @property
    def policy_uri(self) -> str:
        """The policy in this version; a row of it is a fragment."""
        return f"{self.delivery.systems['policy']}:{self.proposal.policy_version}"

    def canonical(self, name: str) -> str:
        """The definition of the same name in what `policy export` writes."""
        return f"{self.delivery.systems['policy']}:{name.lower().replace('_', '-')}|{self.proposal.policy_version}"

    # what it came to

    @property
    def stop(self) -> GateOutcome | None:
        """The gate that stopped; None where all passed."""
        return next((outcome for outcome in self.proposal.gates if outcome.state is GateState.STOPPED), None)

    @property
    def board(self) -> ActionVerdict | None:
        """The tumour board, where the rules ask for it because they could not decide."""
        return next(
            (
                entry
                for entry in self.proposal.actions
                if entry.action == _TUMOUR_BOARD and entry.verdict is Verdict.CONCORDANT
            ),
            None,
        )

    # shared elements

    def head(self, resource_type: str, resource_id: str, tag: str) -> Json:
        """Write what every resource of ours carries: the AI label, and the tags it is found and removed by."""
        systems = self.delivery.systems
        return {
            "resourceType": resource_type,
            "id": resource_id,
            "meta": {
                "security": [self.coding(self.delivery.codes["ai_asserted"])],
                "tag": [
                    {"system": systems["assessment"], "code": tag},
                    {
                        "system": systems["mode"],
                        "code": self.delivery.tags[self.mode],
                        "display": self.delivery.labels[self.mode],
                    },
                ],
            },
        }

    def named_head(self, resource_type: str, prefix: str) -> Json:
        """The head and the identifier of a resource that belongs to this assessment alone."""
        resource_id = f"{prefix}-{self.assessment_id}"
        return {
            **self.head(resource_type, resource_id, self.assessment_id),
            "identifier": [{"system": self.delivery.systems["assessment"], "value": resource_id}],
        }

    def concept(self, text: str | None, coding: Coding | None) -> Json:
        """Write a concept; without a verified standard code only the words stand."""
        concept: Json = {} if coding is None else {"coding": [self.coding(coding)]}
        return concept if text is None else {**concept, "text": text}

    def coding(self, coding: Coding) -> Json:
        """Write a code. Raises BadMapping for an unverified one in live mode."""
        if self.mode is OutputMode.LIVE and not coding.verified:
            raise BadMapping(f"unverified code {coding.system}|{coding.code} in live mode")
        written: Json = {"system": coding.system, "code": coding.code}
        return written if coding.display is None else {**written, "display": coding.display}

    def own_coding(self, code: str) -> Json:
        """A code of our own system."""
        return {"system": self.delivery.systems["code"], "code": code}


def assessment_of(
    forecast: RiskForecast,
    proposal: CarePlanProposal,
    *,
    subject: Subject,
    account: InputAccount,
    policy: Policy,
    delivery: Delivery,
    mode: OutputMode,
) -> Assessment:
    """Name the assessment by what it rests on: first 32 hexadecimal digits of SHA-256 over canonical JSON.

    The same patient, model, policy, landmark and inputs give the same name for ever (design law 3).
    """
    inputs = tuple(sorted({*forecast.basis, *account.rule_inputs}))
    model = forecast.model
    named = [
        f"{subject.identifier.system}|{subject.identifier.value}",
        f"{model.name}|{model.version}|{model.digest}",
        proposal.policy_version,
        forecast.landmark.time.astimezone(UTC).isoformat(),
        _inputs_digest(inputs, account),
    ]
    about_model = (model.name, model.version, model.digest, mode.value)
    versions = (*about_model, account.mapping_digest, proposal.policy_version)
    return Assessment(
        forecast=forecast,
        proposal=proposal,
        subject=subject,
        account=account,
        policy=policy,
        delivery=delivery,
        mode=mode,
        inputs=inputs,
        assessment_id=_sha256(json.dumps(named, separators=(",", ":"), ensure_ascii=False))[:_ID_LENGTH],
        device_id=f"dev-{_sha256('|'.join(versions))[:_ID_LENGTH]}",
        card_id=f"mc-{_sha256('|'.join(about_model))[:_ID_LENGTH]}" if model.card else None,
        landmark=instant(forecast.landmark.time),
    )


def _is_primary(entry: Diagnosis) -> bool:
    return entry.kind == "hnscc" and entry.confirmed is TriState.TRUE and entry.source.resource_type == "Condition"


def _inputs_digest(inputs: tuple[ResourceVersion, ...], account: InputAccount) -> str:
    """SHA-256 over every versioned input: resources, image series, what was refused, and the tables that read them."""
    named = [
        *(str(source) for source in inputs),
        *(f"{reason}|{count}" for reason, count in account.quarantined),
        *(f"{image.series_uid}|{image.digest}" for image in sorted(account.images, key=lambda entry: entry.series_uid)),
        account.mapping_digest,
    ]
    return _sha256(json.dumps(named, separators=(",", ":")))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
