"""One statement about a patient, about to be written: what it rests on, what its resources are called, their head."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from adapter.decision.findings import sources_read
from adapter.decision.policy import Coding, Policy
from adapter.domain.ids import BusinessIdentifier, PatientId, ResourceVersion
from adapter.domain.imaging import ImageDescriptors
from adapter.domain.record import Diagnosis
from adapter.domain.risk import ModelIdentity
from adapter.domain.timeline import Timeline
from adapter.domain.tristate import TriState
from adapter.errors import BadMapping, MalformedResource
from adapter.fhir.delivery import Delivery, OutputMode
from adapter.fhir.encode.basis import basis_words
from adapter.fhir.encode.writing import instant
from adapter.fhir.entries import Json
from adapter.terminology import Feature

_ID_LENGTH = 32


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
    is missing can be asked for in its codes. basis: the findings by which a clinician knows the case again, in words.
    """

    mapping_digest: str
    rule_inputs: tuple[ResourceVersion, ...] = ()
    images: tuple[ImageDescriptors, ...] = ()
    quarantined: tuple[tuple[str, int], ...] = ()
    input_digest: str | None = None
    vocabulary: Mapping[str, Feature] = field(default_factory=dict, repr=False)
    basis: str = field(default="", repr=False)


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
        basis=basis_words(timeline, policy),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the resources of one statement are called, and the inputs the names rest on.

    inputs: every version that the model or the rules read, sorted. device, card: of the system and its model card,
    shared by every statement of the same versions; card is None for a model that came without one.
    """

    statement: str
    device: str
    card: str | None
    inputs: tuple[ResourceVersion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What every resource of one transaction shares. moment: the landmark."""

    model: ModelIdentity
    moment: datetime
    subject: Subject
    account: InputAccount
    policy: Policy
    delivery: Delivery
    mode: OutputMode
    names: Names

    @property
    def landmark(self) -> str:
        """The landmark as FHIR writes it."""
        return instant(self.moment)

    @property
    def patient(self) -> Json:
        """Refers to the patient."""
        return {"reference": f"Patient/{self.subject.patient_id}"}

    @property
    def by_device(self) -> Json:
        """Refers to the system that asserts all this."""
        return {"reference": f"Device/{self.names.device}"}

    @property
    def policy_uri(self) -> str:
        """The policy in this version; a row of it is a fragment."""
        return f"{self.delivery.systems['policy']}:{self.policy.version}"

    def canonical(self, name: str) -> str:
        """The definition of the same name in what `policy export` writes."""
        return f"{self.delivery.systems['policy']}:{name.lower().replace('_', '-')}|{self.policy.version}"

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
        """The head and the identifier of a resource that belongs to this statement alone."""
        resource_id = f"{prefix}-{self.names.statement}"
        return {
            **self.head(resource_type, resource_id, self.names.statement),
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


def names_of(
    model: ModelIdentity,
    moment: datetime,
    *,
    subject: Subject,
    account: InputAccount,
    policy: Policy,
    delivery: Delivery,
    mode: OutputMode,
    basis: tuple[ResourceVersion, ...],
    ending: tuple[str, ...] = (),
) -> Names:
    """Name a statement by what it rests on: first 32 hexadecimal digits of SHA-256 over canonical JSON.

    The same patient, model, policy, landmark, inputs, wording and mode give the same name for ever, and the same bytes
    under it (design law 3). ending: what sets a statement that is no assessment apart from one.
    """
    inputs = tuple(sorted({*basis, *account.rule_inputs}))
    named = [
        f"{subject.identifier.system}|{subject.identifier.value}",
        f"{model.name}|{model.version}|{model.digest}",
        policy.version,
        moment.astimezone(UTC).isoformat(),
        _inputs_digest(inputs, account),
        mode.value,
        delivery.digest,
        *map(str, subject.conditions),
        *ending,
    ]
    about_model = (model.name, model.version, model.digest, mode.value, delivery.digest)
    versions = (*about_model, account.mapping_digest, policy.version)
    return Names(
        statement=_sha256(json.dumps(named, separators=(",", ":"), ensure_ascii=False))[:_ID_LENGTH],
        device=f"dev-{_sha256('|'.join(versions))[:_ID_LENGTH]}",
        card=f"mc-{_sha256('|'.join(about_model))[:_ID_LENGTH]}" if model.card else None,
        inputs=inputs,
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
