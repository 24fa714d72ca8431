"""The policy as FHIR R4: one PlanDefinition with its rules, an ActivityDefinition per action, citations on both.

Pure: the same policy gives the same bytes. Source: FHIR R4 4.0.1 PlanDefinition, ActivityDefinition, RelatedArtifact;
clinical.md section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fhir.resources.R4B.activitydefinition import ActivityDefinition
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.plandefinition import PlanDefinition
from pydantic import BaseModel, ValidationError

from adapter.decision.policy import Action, Coding, Policy, Rule, Visit
from adapter.decision.regimen import dose_words, drug_words
from adapter.decision.rules import Condition
from adapter.decision.show import in_words
from adapter.errors import BadMapping, MalformedResource
from adapter.fhir.delivery import Delivery, OutputMode
from adapter.fhir.entries import Json, canonical_json

_PLAN_TYPE = "http://terminology.hl7.org/CodeSystem/plan-definition-type"
# Conditions are written in the words of `policy show`; a mime type of our own says that nobody can execute them.
_LANGUAGE = "text/x-adjuvant-condition"
_MODELS: Mapping[str, type[BaseModel]] = {
    "ActivityDefinition": ActivityDefinition,
    "PlanDefinition": PlanDefinition,
    "Bundle": Bundle,
}


def export_policy(policy: Policy, delivery: Delivery, mode: OutputMode) -> bytes:
    """Write the policy in force as a collection Bundle, canonical JSON: the PlanDefinition first.

    Raises BadMapping for an unverified code in live mode, MalformedResource for a resource that is not R4.
    """
    writer = _Writer(policy, delivery, mode)
    resources = [writer.plan(), *writer.activities()]
    for resource in resources:
        _require_r4(resource)
    bundle: Json = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"fullUrl": str(resource["url"]), "resource": resource} for resource in resources],
    }
    _require_r4(bundle)
    return canonical_json(bundle)


class _Writer:
    """One policy's definitions."""

    def __init__(self, policy: Policy, delivery: Delivery, mode: OutputMode) -> None:
        self._policy = policy
        self._delivery = delivery
        self._mode = mode

    def plan(self) -> Json:
        """The rules first, each a group of its own, then the actions with their verdict lists, then the follow-up."""
        return {
            **self._head("PlanDefinition", "policy", "Rules for adjuvant treatment and follow-up"),
            "type": {"coding": [{"system": _PLAN_TYPE, "code": "eca-rule"}]},
            "purpose": self._delivery.texts["review"],
            "relatedArtifact": [self._citation(code) for code in self._policy.evidence],
            "action": [
                *(self._rule(rule) for rule in self._policy.rules.values()),
                *(self._rule(flag) for flag in self._policy.flags),
                *(self._action(action) for action in self._policy.actions),
                *(self._visit(visit) for visit in self._policy.visits),
            ],
        }

    def activities(self) -> Iterable[Json]:
        """One definition per action and per follow-up activity."""
        yield from (self._treatment(action) for action in self._policy.actions)
        yield from (self._appointment(visit) for visit in self._policy.visits)

    # shared elements

    def _head(self, resource_type: str, name: str, title: str) -> Json:
        """Draft and experimental until a site's clinicians have reviewed it."""
        return {
            "resourceType": resource_type,
            "id": name.lower().replace("_", "-"),
            "url": self._url(name),
            "version": self._policy.version,
            "name": f"Adjuvant_{name.replace('-', '_')}",
            "title": title,
            "status": "draft",
            "experimental": True,
        }

    def _url(self, name: str) -> str:
        return f"{self._delivery.systems['policy']}:{name.lower().replace('_', '-')}"

    def _canonical(self, name: str) -> str:
        return f"{self._url(name)}|{self._policy.version}"

    def _citation(self, code: str) -> Json:
        evidence = self._policy.evidence[code]
        checked = "" if evidence.read else " (not re-checked in the source)"
        citation: Json = {
            "type": "citation",
            "label": code,
            "display": evidence.title,
            "citation": f"{evidence.population}: {evidence.effect}{checked}",
        }
        return citation if evidence.doi is None else {**citation, "url": f"https://doi.org/{evidence.doi}"}

    def _citations(self, codes: Iterable[str]) -> Json:
        """Name each piece of evidence once; leave the element out where there is none."""
        cited = [self._citation(code) for code in dict.fromkeys(codes)]
        return {"documentation": cited} if cited else {}

    def _code(self, title: str, code: str, coding: Coding | None) -> Json:
        own: Json = {"system": self._delivery.systems["action"], "code": code}
        return {"coding": [*self._standard(coding), own], "text": title}

    def _standard(self, coding: Coding | None) -> list[Json]:
        if coding is None:
            return []
        if self._mode is OutputMode.LIVE and not coding.verified:
            raise BadMapping(f"unverified code {coding.system}|{coding.code} in live mode")
        written: Json = {"system": coding.system, "code": coding.code}
        return [written if coding.display is None else {**written, "display": coding.display}]

    # the plan's actions

    def _rule(self, rule: Rule) -> Json:
        return {
            "prefix": rule.code,
            "title": rule.title or rule.code,
            "description": rule.sentence or rule.violated or rule.title or rule.code,
            "textEquivalent": f"Source: {rule.source}",
            **self._citations(rule.evidence),
            "condition": [_applies(rule.when)],
        }

    def _action(self, action: Action) -> Json:
        """The decision list: the first line that holds wins, and the last one stands when none does."""
        lines: list[Json] = [
            {"title": line.verdict.value, "description": line.sentence, "condition": [_applies(line.when)]}
            for line in action.lines
        ]
        otherwise: Json = {"title": action.otherwise.value, "description": action.otherwise_sentence}
        return {
            "prefix": action.code,
            "title": action.title,
            "textEquivalent": f"Source: {action.source}",
            **self._citations(self._cited(action)),
            "definitionCanonical": self._canonical(action.code),
            "action": [*lines, otherwise],
        }

    def _visit(self, visit: Visit) -> Json:
        return {
            "prefix": visit.code,
            "title": visit.activity,
            **self._citations(visit.evidence),
            "timingTiming": _timing(visit),
            "definitionCanonical": self._canonical(visit.code),
        }

    def _cited(self, action: Action) -> Iterable[str]:
        yield from action.evidence
        yield from (self._policy.effects[code].evidence for code in action.effects)

    # the definitions

    def _treatment(self, action: Action) -> Json:
        doses = sorted({dose_words(dose) for dose in action.radiotherapy.values()})
        return {
            **self._head("ActivityDefinition", action.code, action.title),
            "description": " ".join((action.regimen, *(f"Radiotherapy: {dose}." for dose in doses))),
            **self._related(self._cited(action)),
            "kind": action.kind,
            "code": self._code(action.title, action.code, action.coding),
            "intent": "proposal",
            **({"dosage": [{"text": drug_words(drug)} for drug in action.drugs]} if action.drugs else {}),
        }

    def _appointment(self, visit: Visit) -> Json:
        return {
            **self._head("ActivityDefinition", visit.code, visit.activity),
            **self._related(visit.evidence),
            "kind": visit.kind,
            "code": self._code(visit.activity, visit.code, visit.coding),
            "intent": "proposal",
            "timingTiming": _timing(visit),
        }

    def _related(self, codes: Iterable[str]) -> Json:
        cited = [self._citation(code) for code in dict.fromkeys(codes)]
        return {"relatedArtifact": cited} if cited else {}


def _applies(condition: Condition) -> Json:
    return {"kind": "applicability", "expression": {"language": _LANGUAGE, "expression": in_words(condition)}}


def _timing(visit: Visit) -> Json:
    """Months after surgery; the guideline's bounds stand in periodMax where they are a span."""
    months = visit.last_month - visit.first_month
    bounds: Json = {"low": _months(visit.first_month), "high": _months(visit.last_month)}
    if not visit.every_months or not months:
        return {"repeat": {"boundsRange": bounds, "count": 1}}
    span: Json = (
        {"period": visit.least, "periodMax": visit.most} if visit.least < visit.most else {"period": visit.most}
    )
    return {"repeat": {"boundsRange": bounds, "frequency": 1, **span, "periodUnit": "mo"}}


def _months(number: int) -> Json:
    return {"value": number, "unit": "month", "system": "http://unitsofmeasure.org", "code": "mo"}


def _require_r4(resource: Json) -> None:
    """Hold a resource against R4's structure. Raises MalformedResource naming the place."""
    resource_type = str(resource["resourceType"])
    try:
        _MODELS[resource_type].model_validate(resource)
    except ValidationError as error:
        places = sorted({".".join(map(str, entry["loc"])) for entry in error.errors(include_input=False)})
        raise MalformedResource(f"our own {resource_type} is not R4 at {', '.join(places)}") from None
