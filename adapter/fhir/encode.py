"""Forecast and proposal -> one FHIR R4 transaction: Device, RiskAssessment, CarePlan, Provenance.

Pure: the same forecast, proposal and policy give the same bytes, with no clock and nothing random. Every time in the
output derives from the landmark. Source: FHIR R4 4.0.1 and the project's clinical notes, section 3.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

from fhir.resources.R4B.careplan import CarePlan
from fhir.resources.R4B.device import Device
from fhir.resources.R4B.provenance import Provenance
from fhir.resources.R4B.riskassessment import RiskAssessment
from pydantic import BaseModel, ValidationError

from adapter.decision.findings import sources_read
from adapter.decision.policy import Action, Coding, Policy, Visit
from adapter.decision.regimen import MONTHS, dose_words, drug_words, effect_words, effects_of
from adapter.domain.ids import BusinessIdentifier, PatientId, ResourceVersion
from adapter.domain.imaging import ImageDescriptors
from adapter.domain.outcome import TransactionBundle
from adapter.domain.plan import (
    ActionVerdict,
    CarePlanProposal,
    FollowUpVisit,
    GateOutcome,
    GateState,
    RuleReason,
    Timing,
    TreatmentRegimen,
    Verdict,
)
from adapter.domain.record import Diagnosis
from adapter.domain.risk import CumulativeIncidence, Drivers, Outcome, RiskForecast
from adapter.domain.timeline import Timeline
from adapter.domain.tristate import TriState
from adapter.errors import BadMapping, InvalidForecast, MalformedResource
from adapter.fhir.delivery import Delivery, OutputMode
from adapter.fhir.entries import Json, canonical_json, entry_of, transaction_by_id

FORECAST_BAND = "urn:adjuvant:forecast-band"  # extension of a prediction: Range in percent
_ID_LENGTH = 32
_PERCENT_STEP = Decimal("0.1")
_MOST_DRIVERS = 5
_EXPLAINED = frozenset({Outcome.RECURRENCE, Outcome.DEATH})
_REASON_TYPES = frozenset({"Condition", "Observation", "DiagnosticReport", "DocumentReference"})
_PROPOSED = frozenset({Verdict.CONCORDANT, Verdict.OPTION, Verdict.CONTRAINDICATED})
_TIMING_WORDS = {
    Timing.ON_TIME: "Radiotherapy is to start within 6 weeks of surgery.",
    Timing.TARGET_PASSED: "The 6 weeks from surgery to radiotherapy are over.",
    Timing.LATE: "More than 12 weeks have passed since surgery.",
    Timing.UNKNOWN: "The time since surgery is not known.",
}
_MODELS: Mapping[str, type[BaseModel]] = {
    "CarePlan": CarePlan,
    "Device": Device,
    "Provenance": Provenance,
    "RiskAssessment": RiskAssessment,
}
# Required bindings of what we write: fhir.resources does not check codes. Source: FHIR R4 4.0.1 value sets.
_BOUND_CODES = {
    ("RiskAssessment", "status"): frozenset({"preliminary"}),
    ("CarePlan", "status"): frozenset({"draft"}),
    ("CarePlan", "intent"): frozenset({"proposal"}),
    ("Device", "status"): frozenset({"active"}),
}


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
    assembled model input, None when the caller keeps none.
    """

    mapping_digest: str
    rule_inputs: tuple[ResourceVersion, ...] = ()
    images: tuple[ImageDescriptors, ...] = ()
    quarantined: tuple[tuple[str, int], ...] = ()
    input_digest: str | None = None


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
    timeline: Timeline, policy: Policy, *, mapping_digest: str, input_digest: str | None = None
) -> InputAccount:
    """Name what the rules and the images contribute, and count what the timeline could not use."""
    reasons = [entry.reason for entry in timeline.quarantined]
    return InputAccount(
        mapping_digest=mapping_digest,
        rule_inputs=sources_read(timeline, policy),
        images=timeline.images,
        quarantined=tuple((reason, reasons.count(reason)) for reason in sorted(set(reasons))),
        input_digest=input_digest,
    )


def _band(incidence: CumulativeIncidence) -> Json:
    """The extension of a prediction whose model says how sure it is, else nothing."""
    if incidence.low is None or incidence.high is None:
        return {}
    ends = {
        name: {"value": to_percent(end), "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"}
        for name, end in (("low", incidence.low), ("high", incidence.high))
    }
    return {"extension": [{"url": FORECAST_BAND, "valueRange": ends}]}


def to_percent(probability: float) -> Decimal:
    """Express a cumulative incidence the way FHIR R4 does, in percent.

    probability: fraction, 0 to 1. Returns 0.0 to 100.0, one decimal place, halves to even.
    Raises InvalidForecast. Source: FHIR R4, RiskAssessment.prediction.probability[x] (ras-2, max = 100).
    """
    if not 0.0 <= probability <= 1.0:  # also false for NaN
        raise InvalidForecast("a cumulative incidence lies outside 0 to 1")
    return (Decimal(probability) * 100).quantize(_PERCENT_STEP, rounding=ROUND_HALF_EVEN)


def assessment_id_of(forecast: RiskForecast, subject: Subject, account: InputAccount, policy_version: str) -> str:
    """Name the assessment by what it rests on: first 32 hexadecimal digits of SHA-256 over canonical JSON.

    The same patient, model, policy, landmark and inputs give the same name for ever (design law 3).
    """
    model = forecast.model
    named = [
        f"{subject.identifier.system}|{subject.identifier.value}",
        f"{model.name}|{model.version}|{model.digest}",
        policy_version,
        forecast.landmark.time.astimezone(UTC).isoformat(),
        _inputs_digest(forecast, account),
    ]
    return _sha256(json.dumps(named, separators=(",", ":"), ensure_ascii=False))[:_ID_LENGTH]


def encode_transaction(
    forecast: RiskForecast,
    proposal: CarePlanProposal,
    *,
    subject: Subject,
    account: InputAccount,
    policy: Policy,
    delivery: Delivery,
    mode: OutputMode,
) -> TransactionBundle:
    """Write one assessment as a transaction of PUTs under ids of our own.

    Raises BadMapping for an unverified code in live mode, MalformedResource for a resource that is not R4.
    """
    writer = _Writer(
        forecast=forecast,
        proposal=proposal,
        subject=subject,
        account=account,
        policy=policy,
        delivery=delivery,
        mode=mode,
    )
    resources = [writer.device(), writer.risk_assessment(), writer.care_plan(), writer.provenance()]
    entries = tuple(entry_of(canonical_json(_checked(resource))) for resource in resources)
    return TransactionBundle(
        assessment_id=writer.assessment_id,
        content=transaction_by_id(entries, {}),
        resources=tuple(entry.reference for entry in entries),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writer:
    """One assessment's parts, so that each resource can be written by a short method."""

    forecast: RiskForecast
    proposal: CarePlanProposal
    subject: Subject
    account: InputAccount
    policy: Policy
    delivery: Delivery
    mode: OutputMode

    # names

    @property
    def assessment_id(self) -> str:
        return assessment_id_of(self.forecast, self.subject, self.account, self.proposal.policy_version)

    @property
    def device_id(self) -> str:
        """One Device per model bundle and mode; a new model version is a new Device, never an edit."""
        model = self.forecast.model
        return f"dev-{_sha256('|'.join((model.name, model.version, model.digest, self.mode.value)))[:_ID_LENGTH]}"

    # resources

    def device(self) -> Json:
        model = self.forecast.model
        return {
            **self._head("Device", self.device_id, self.device_id),
            "identifier": [{"system": self.delivery.systems["device"], "value": self.device_id}],
            "status": "active",
            "type": self._concept("Artificial intelligence", self.delivery.codes["device_type"]),
            "deviceName": [{"name": model.name, "type": "model-name"}],
            "version": [
                {"type": {"text": "model"}, "value": model.version},
                {"type": {"text": "manifest SHA-256"}, "value": model.digest},
            ],
            "safety": [{"text": self.delivery.labels[self.mode]}],
            "note": [{"text": f"Trained on {model.training_data} data."}, {"text": self.delivery.texts["limits"]}],
        }

    def risk_assessment(self) -> Json:
        model = self.forecast.model
        return _without_empty(
            {
                **self._head("RiskAssessment", f"ra-{self.assessment_id}", self.assessment_id),
                "identifier": [self._identifier("ra")],
                "status": "preliminary",
                "method": {
                    "coding": [{"system": self.delivery.systems["model"], "code": f"{model.name}-{model.version}"}],
                    "text": self.delivery.texts["method"],
                },
                "code": {
                    "coding": [{"system": self.delivery.systems["code"], "code": "prognosis"}],
                    "text": self.delivery.texts["prognosis"],
                },
                "subject": self._patient,
                "occurrenceDateTime": self._landmark,
                "condition": next((_versioned(source) for source in self.subject.conditions), None),
                "performer": self._by_device,
                "basis": [_versioned(source) for source in self.forecast.basis],
                "prediction": [self._prediction(entry) for entry in self.forecast.incidences],
                "note": [{"text": sentence} for sentence in self._account_sentences()],
            }
        )

    def care_plan(self) -> Json:
        return _without_empty(
            {
                **self._head("CarePlan", f"cp-{self.assessment_id}", self.assessment_id),
                "identifier": [self._identifier("cp")],
                "instantiatesUri": [f"{self.delivery.systems['policy']}:{self.proposal.policy_version}"],
                "status": "draft",
                "intent": "proposal",
                "category": [
                    self._concept("Assessment and plan", self.delivery.codes["assess_plan"]),
                    {"coding": [{"system": self.delivery.systems["code"], "code": "postoperative-adjuvant"}]},
                ],
                "title": self.delivery.texts["plan"],
                "description": self._plan_description(),
                "subject": self._patient,
                "created": self._landmark,
                "author": self._by_device,
                "addresses": [_versioned(source) for source in self.subject.conditions],
                "supportingInfo": [{"reference": f"RiskAssessment/ra-{self.assessment_id}"}],
                "activity": [*self._action_activities(), *self._visit_activities()],
                "note": [{"text": sentence} for sentence in self._plan_sentences()],
            }
        )

    def provenance(self) -> Json:
        """Name every input version and every digest; `recorded` is the landmark, for the bytes know no clock."""
        return {
            **self._head("Provenance", f"pv-{self.assessment_id}", self.assessment_id),
            "target": [
                {"reference": f"RiskAssessment/ra-{self.assessment_id}"},
                {"reference": f"CarePlan/cp-{self.assessment_id}"},
            ],
            "occurredDateTime": self._landmark,
            "recorded": self._landmark,
            "reason": [self._concept(None, self.delivery.codes["ai_asserted"])],
            "activity": self._concept(None, self.delivery.codes["create"]),
            "agent": [
                {
                    "type": self._concept(None, self.delivery.codes["author"]),
                    "role": [self._concept("Artificial intelligence", self.delivery.codes["device_type"])],
                    "who": self._by_device,
                }
            ],
            "entity": [*self._input_entities(), *self._image_entities(), *self._digest_entities()],
        }

    # shared elements

    def _head(self, resource_type: str, resource_id: str, tag: str) -> Json:
        """Write what every resource of ours carries: the AI label, and the tags it is found and removed by."""
        systems = self.delivery.systems
        return {
            "resourceType": resource_type,
            "id": resource_id,
            "meta": {
                "security": [self._coding(self.delivery.codes["ai_asserted"])],
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

    def _identifier(self, prefix: str) -> Json:
        return {"system": self.delivery.systems["assessment"], "value": f"{prefix}-{self.assessment_id}"}

    @property
    def _patient(self) -> Json:
        return {"reference": f"Patient/{self.subject.patient_id}"}

    @property
    def _by_device(self) -> Json:
        return {"reference": f"Device/{self.device_id}"}

    @property
    def _landmark(self) -> str:
        return _instant(self.forecast.landmark.time)

    def _concept(self, text: str | None, coding: Coding | None) -> Json:
        """Write a concept; without a verified standard code only the words stand."""
        concept: Json = {} if coding is None else {"coding": [self._coding(coding)]}
        return concept if text is None else {**concept, "text": text}

    def _coding(self, coding: Coding) -> Json:
        if self.mode is OutputMode.LIVE and not coding.verified:
            raise BadMapping(f"unverified code {coding.system}|{coding.code} in live mode")
        written: Json = {"system": coding.system, "code": coding.code}
        return written if coding.display is None else {**written, "display": coding.display}

    # risk assessment

    def _prediction(self, incidence: CumulativeIncidence) -> Json:
        wording = self.delivery.outcomes[incidence.outcome]
        start = self.forecast.landmark.time
        written: Json = {
            **_band(incidence),
            "outcome": self._concept(wording.title, wording.coding),
            "probabilityDecimal": to_percent(incidence.probability),
            "whenPeriod": {"start": _instant(start), "end": _instant(_months_later(start, incidence.horizon))},
        }
        rationale = _rationale(self.forecast.drivers, incidence)
        return written if rationale is None else {**written, "rationale": rationale}

    def _band_in_words(self, incidence: CumulativeIncidence) -> str:
        """One band; only its ends, for the number between them stands in its prediction."""
        title = self.delivery.outcomes[incidence.outcome].title.lower()
        low, high = (to_percent(end or 0.0) for end in (incidence.low, incidence.high))
        return f"{title} at {incidence.horizon} months {low} to {high} %"

    def _account_sentences(self) -> Iterable[str]:
        """Say how far the numbers carry, what was missing, and what was read but not used."""
        yield self.delivery.labels[self.mode]
        yield self.delivery.texts["limits"]
        yield f"Model trained on {self.forecast.model.training_data} data."
        if self.forecast.drivers is not None:
            yield self.delivery.texts["drivers"]
        if self.forecast.typicality is not None:
            unusual = to_percent(self.forecast.typicality)
            yield f"Patients in the training data whose findings are at least as unusual: {unusual} %."
        if banded := [self._band_in_words(one) for one in self.forecast.incidences if one.low is not None]:
            yield f"Range of models refitted on resampled patients, 10 to 90 %: {'; '.join(banded)}."
        missing = ", ".join(self.forecast.missing) or "none"
        yield f"Model inputs not known at the landmark: {missing}."
        unused = ", ".join(f"{reason} {count}" for reason, count in self.account.quarantined) or "none"
        yield f"Entries read and not used, by reason: {unused}."
        yield f"Image series read for this assessment: {len(self.account.images)}."

    # care plan

    def _plan_description(self) -> str:
        concordant = [
            self.policy.action(entry.action).title
            for entry in self.proposal.actions
            if entry.verdict is Verdict.CONCORDANT
        ]
        group = f"Guideline risk group: {self.proposal.risk_group.value}."
        return f"{group} Concordant with the rules: {'; '.join(concordant) or 'nothing'}."

    def _plan_sentences(self) -> Iterable[str]:
        yield self.delivery.labels[self.mode]
        yield self.delivery.texts["review"]
        yield from (_sentence(reason) for reason in self.proposal.reasons)
        yield from (_gate_words(outcome) for outcome in self.proposal.gates)
        yield from self._prediction_sentences()
        for entry in self.proposal.actions:
            if entry.verdict not in _PROPOSED:
                action = self.policy.action(entry.action)
                words = " ".join((*(reason.sentence for reason in entry.reasons), *self._uncertain_effects(entry)))
                yield f"{action.title} ({entry.action}): {entry.verdict.value.replace('_', ' ')}. {words}"
        unverified = self._unverified()
        if unverified:
            yield f"Codes whose meaning still has to be verified: {', '.join(unverified)}."

    def _uncertain_effects(self, entry: ActionVerdict) -> Iterable[str]:
        """Where the rules leave an action open, the trials' averages stand beside it, for the board to weigh."""
        if entry.verdict is Verdict.UNCERTAIN:
            action = self.policy.action(entry.action)
            yield from (effect_words(effect) for effect in effects_of(action, self.proposal.risk_group, self.policy))

    def _prediction_sentences(self) -> Iterable[str]:
        """The model's own numbers, apart from the trials' and never under an action."""
        if MONTHS not in self.forecast.landmark.horizons:
            return
        titles = {outcome: self.delivery.outcomes[outcome].title.lower() for outcome in Outcome}
        named = ", ".join(
            f"{title} {to_percent(self.forecast.probability(outcome, MONTHS))} %" for outcome, title in titles.items()
        )
        yield f"Model prediction at {MONTHS} months, whatever the treatment: {named}. {self.delivery.texts['effects']}"

    def _unverified(self) -> list[str]:
        rows: list[Action | Visit] = [self.policy.action(entry.action) for entry in self.proposal.actions]
        rows += [self.policy.visit(visit.activity) for visit in self.proposal.follow_up]
        return sorted({row.coding.code for row in rows if row.coding and not row.coding.verified})

    def _action_activities(self) -> Iterable[Json]:
        return ({"detail": self._action_detail(entry)} for entry in self.proposal.actions if entry.verdict in _PROPOSED)

    def _action_detail(self, entry: ActionVerdict) -> Json:
        action = self.policy.action(entry.action)
        sources = {source for reason in entry.reasons for source in reason.sources}
        detail: Json = {
            "kind": action.kind,
            "instantiatesUri": [f"{self.delivery.systems['policy']}:{self.proposal.policy_version}#{entry.action}"],
            "code": self._activity_code(action.title, action.code, action.coding),
            "reasonReference": [
                _versioned(source) for source in sorted(sources) if source.resource_type in _REASON_TYPES
            ],
            "status": "not-started",
            "doNotPerform": entry.verdict is Verdict.CONTRAINDICATED,
            **self._start_window(entry.action),
            "description": _verdict_words(entry, action, self._regimen(entry.action)),
        }
        return _without_empty(detail)

    def _regimen(self, action: str) -> TreatmentRegimen | None:
        return next((regimen for regimen in self.proposal.regimens if regimen.action == action), None)

    def _start_window(self, action: str) -> Json:
        """The days in which radiotherapy would start in time; nothing where that time is over or not known."""
        regimen = self._regimen(action)
        if regimen is None or regimen.start_by is None or regimen.timing is not Timing.ON_TIME:
            return {}
        return {"scheduledPeriod": {"start": self._landmark, "end": _instant(regimen.start_by)}}

    def _visit_activities(self) -> Iterable[Json]:
        return ({"detail": self._visit_detail(visit)} for visit in self.proposal.follow_up)

    def _visit_detail(self, visit: FollowUpVisit) -> Json:
        row = self.policy.visit(visit.activity)
        start, end = (
            _instant(_months_later(self.forecast.landmark.time, month))[:10]
            for month in (visit.first_month, visit.last_month)
        )
        period: Json = {"start": start, "end": end}
        repeat: Json = {"boundsPeriod": period, "frequency": 1, "period": visit.every_months, "periodUnit": "mo"}
        when: Json = {"scheduledTiming": {"repeat": repeat}} if visit.every_months else {"scheduledPeriod": period}
        return {
            "kind": row.kind,
            "instantiatesUri": [f"{self.delivery.systems['policy']}:{self.proposal.policy_version}#{row.code}"],
            "code": self._activity_code(row.activity, row.code, row.coding),
            "status": "not-started",
            "doNotPerform": False,
            **when,
            "description": self._visit_words(visit),
        }

    def _visit_words(self, visit: FollowUpVisit) -> str:
        evidence = f"Evidence: {', '.join(visit.evidence)}."
        if not visit.adapted:
            return evidence
        row = self.policy.visit(visit.activity)
        table = f"The table says every {row.every_months} months; the guideline allows {row.least} to {row.most}."
        return f"{evidence} {self.delivery.texts['adapted']} {table}"

    def _activity_code(self, title: str, code: str, coding: Coding | None) -> Json:
        """Write the standard code where there is one, and always our own action id."""
        own: Json = {"system": self.delivery.systems["action"], "code": code}
        standard = [] if coding is None else [self._coding(coding)]
        return {"coding": [*standard, own], "text": title}

    # provenance

    def _input_entities(self) -> Iterable[Json]:
        """Cite each version twice: servers such as HAPI strip versions from references, not from identifiers."""
        for source in _inputs(self.forecast, self.account):
            named = {"system": self.delivery.systems["version"], "value": str(source)}
            yield {"role": "source", "what": {**_versioned(source), "identifier": named}}

    def _image_entities(self) -> Iterable[Json]:
        for image in sorted(self.account.images, key=lambda entry: entry.series_uid):
            uid = {"system": "urn:dicom:uid", "value": f"urn:oid:{image.series_uid}"}
            yield {"role": "source", "what": {"type": "ImagingStudy", "identifier": uid}}
            yield self._digest_entity(f"series {image.series_uid}", image.digest)

    def _digest_entities(self) -> Iterable[Json]:
        model = self.forecast.model
        yield self._digest_entity(f"model {model.name} {model.version}", model.digest)
        yield self._digest_entity(f"policy {self.proposal.policy_version}", self.policy.digest)
        yield self._digest_entity("delivery tables", self.delivery.digest)
        yield self._digest_entity("mapping tables", self.account.mapping_digest)
        if self.account.input_digest is not None:
            yield self._digest_entity("model input", self.account.input_digest)

    def _digest_entity(self, words: str, digest: str) -> Json:
        named = {"system": self.delivery.systems["digest"], "value": digest}
        return {"role": "derivation", "what": {"identifier": named, "display": words}}


def _checked(resource: Json) -> Json:
    """Hold a resource against R4's structure and its required codes. Raises MalformedResource naming the place."""
    resource_type = str(resource["resourceType"])
    for (bound_type, element), codes in _BOUND_CODES.items():
        if bound_type == resource_type and resource[element] not in codes:
            raise MalformedResource(f"our own {resource_type}.{element} is not a code of R4")
    try:
        _MODELS[resource_type].model_validate(resource)
    except ValidationError as error:
        places = sorted({".".join(map(str, entry["loc"])) for entry in error.errors(include_input=False)})
        raise MalformedResource(f"our own {resource_type} is not R4 at {', '.join(places)}") from None
    return resource


def _is_primary(entry: Diagnosis) -> bool:
    return entry.kind == "hnscc" and entry.confirmed is TriState.TRUE and entry.source.resource_type == "Condition"


def _inputs(forecast: RiskForecast, account: InputAccount) -> list[ResourceVersion]:
    return sorted({*forecast.basis, *account.rule_inputs})


def _inputs_digest(forecast: RiskForecast, account: InputAccount) -> str:
    """SHA-256 over every versioned input: resources, image series, what was refused, and the tables that read them."""
    inputs = [
        *(str(source) for source in _inputs(forecast, account)),
        *(f"{reason}|{count}" for reason, count in account.quarantined),
        *(f"{image.series_uid}|{image.digest}" for image in sorted(account.images, key=lambda entry: entry.series_uid)),
        account.mapping_digest,
    ]
    return _sha256(json.dumps(inputs, separators=(",", ":")))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _versioned(source: ResourceVersion) -> Json:
    return {"reference": str(source)}


def _instant(moment: datetime) -> str:
    """Write a time in UTC to the millisecond, the precision every server keeps."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _months_later(moment: datetime, months: int) -> datetime:
    """Count calendar months in UTC; a day the month does not have becomes its last one."""
    start = moment.astimezone(UTC)
    years, month = divmod(start.month - 1 + months, 12)
    for day in range(start.day, start.day - 4, -1):
        try:
            return start.replace(year=start.year + years, month=month + 1, day=day)
        except ValueError:
            continue
    raise AssertionError("unreachable: every month has 28 days")


def _rationale(drivers: Drivers | None, incidence: CumulativeIncidence) -> str | None:
    """Say what drove this prediction: at most five groups, whole percentage points; None where nothing explains it.

    Source: FHIR R4, RiskAssessment.prediction.rationale.
    """
    outcome = incidence.outcome
    if drivers is None or drivers.horizon != incidence.horizon or outcome not in _EXPLAINED:
        return None
    points = [(entry.name, _points(entry.change(outcome))) for entry in drivers.largest(outcome)]
    moving = [(name, change) for name, change in points if change != 0]
    if not moving:
        return "No single group of findings changes this risk by one percentage point."
    named = "; ".join(f"{name} {change:+d}" for name, change in moving[:_MOST_DRIVERS])
    alone, together = (
        _points(total) for total in (sum(entry.change(outcome) for entry in drivers.entries), drivers.together(outcome))
    )
    return (
        f"Change of this risk by what is known, in percentage points: {named}. "
        f"Single changes of all groups add up to {alone:+d}, all findings together change it by {together:+d}."
    )


def _points(change: float) -> int:
    """Whole percentage points, halves to even."""
    return int((Decimal(change) * 100).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def _verdict_words(entry: ActionVerdict, action: Action, regimen: TreatmentRegimen | None) -> str:
    words = " ".join(reason.sentence for reason in entry.reasons)
    evidence = f" Evidence: {', '.join(action.evidence)}." if action.evidence else ""
    spelled = "" if regimen is None else f" {' '.join(_regimen_words(regimen))}"
    return f"{entry.verdict.value}: {words} {action.regimen}{evidence}{spelled}"


def _regimen_words(regimen: TreatmentRegimen) -> Iterable[str]:
    """Dose, schedule, start and alternatives, then the trials' averages, which are named as such."""
    parts = [dose_words(regimen.radiotherapy)] if regimen.radiotherapy else []
    parts += [drug_words(drug) for drug in regimen.drugs]
    if parts:
        yield f"Prescription: {'; '.join(parts)}."
    if regimen.start_by is not None:
        yield f"{_TIMING_WORDS[regimen.timing]} Start by {_instant(regimen.start_by)[:10]} to meet the target."
    if regimen.alternatives:
        yield f"Also proposed by the rules: {', '.join(regimen.alternatives)}."
    for effect in regimen.effects:
        yield effect_words(effect)
    if regimen.radiotherapy is not None or regimen.drugs:
        yield f"Competing mortality: {regimen.competing}"


def _gate_words(outcome: GateOutcome) -> str:
    if outcome.state is not GateState.STOPPED:
        return f"Gate {outcome.gate.value}: {outcome.state.value.replace('-', ' ')}."
    return f"Gate {outcome.gate.value}: stopped, {outcome.code}. {outcome.sentence} To resolve: {outcome.resolve}"


def _sentence(reason: RuleReason) -> str:
    evidence = f" [{', '.join(reason.evidence)}]" if reason.evidence else ""
    return f"{reason.code}: {reason.sentence}{evidence}"


def _without_empty(resource: Json) -> Json:
    """Leave out what is not there: FHIR knows neither null nor empty lists."""
    return {key: value for key, value in resource.items() if value is not None and value != []}
