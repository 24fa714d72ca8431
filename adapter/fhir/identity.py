"""Which Patient resources are one person: merges followed, and nothing joined that the server does not confirm."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from adapter.domain.ids import PatientId
from adapter.domain.record import RawResource
from adapter.errors import AmbiguousPatient, NoSuchPatient
from adapter.fhir.client import FhirClient
from adapter.fhir.replies import Gone
from adapter.fhir.resource import patient_in

_LONGEST_CHAIN = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One person on the server. aliases: merged into `patient_id`, sorted. patients: their resources that exist."""

    patient_id: PatientId
    aliases: tuple[PatientId, ...]
    patients: tuple[RawResource, ...]

    @property
    def ids(self) -> tuple[PatientId, ...]:
        """The surviving id first, then the aliases."""
        return (self.patient_id, *self.aliases)


class _Other(msgspec.Struct):
    reference: str | None = None


class _Link(msgspec.Struct):
    type: str
    other: _Other


class _Patient(msgspec.Struct):
    active: bool | None = None
    link: list[_Link] = []


_PATIENT = msgspec.json.Decoder(_Patient)


def resolve_identity(client: FhirClient, patient_id: PatientId) -> Identity:
    """Follow `replaced-by` to the surviving Patient, and gather those that were merged into it.

    A Patient is an alias when it says itself that it was replaced, or when the survivor says so (`replaces`)
    and the alias is inactive or gone. Raises AmbiguousPatient when the patient is not on the server, when
    links lead in a circle, apart, or elsewhere, or when two active patients claim each other. Source: FHIR R4
    Patient.link and `patient.html` section 8.1.4; checklist FR-07.
    """
    followed = _follow(client, patient_id)
    survivor = followed[-1]
    found = {resource.version.resource_id: resource for resource in followed}
    gone: set[PatientId] = set()
    waiting = [PatientId(resource.version.resource_id) for resource in followed]
    while waiting:
        if len(found) > _LONGEST_CHAIN:
            raise AmbiguousPatient(f"Patient/{patient_id}: more than {_LONGEST_CHAIN} merged patients")
        current = waiting.pop()
        for alias in _merged_into(client, found.get(current), current):
            if alias in found or alias in gone:
                continue
            resource = client.read("Patient", alias)
            if isinstance(resource, RawResource):
                _require_confirmed(client, resource, current)
                found[alias] = resource
            else:
                gone.add(alias)
            waiting.append(alias)
    surviving_id = PatientId(survivor.version.resource_id)
    aliases = sorted((found.keys() | gone) - {surviving_id})
    return Identity(
        patient_id=surviving_id,
        aliases=tuple(PatientId(alias) for alias in aliases),
        patients=tuple(found[name] for name in sorted(found)),
    )


def replaced_by(patient: RawResource, base_url: str) -> tuple[PatientId, ...]:
    """Whom a Patient resource names as its successor; empty when its links cannot be read."""
    try:
        return _linked(base_url, patient, "replaced-by")
    except AmbiguousPatient:
        return ()


def _follow(client: FhirClient, patient_id: PatientId) -> list[RawResource]:
    """The chain of `replaced-by` from this patient to the survivor, both included."""
    chain: list[RawResource] = []
    current: PatientId | None = patient_id
    while current is not None:
        if any(resource.version.resource_id == current for resource in chain) or len(chain) > _LONGEST_CHAIN:
            raise AmbiguousPatient(f"Patient/{patient_id}: replaced-by links lead in a circle")
        resource = client.read("Patient", current)
        if resource is None:
            raise NoSuchPatient(f"Patient/{current} is not on the server")
        if isinstance(resource, Gone):
            raise NoSuchPatient(f"Patient/{current} was deleted")
        chain.append(resource)
        successors = _linked(client.base_url, resource, "replaced-by")
        if len(successors) > 1:
            raise AmbiguousPatient(f"Patient/{current} was replaced by {len(successors)} patients")
        current = successors[0] if successors else None
    return chain


def _merged_into(client: FhirClient, resource: RawResource | None, current: PatientId) -> tuple[PatientId, ...]:
    """Whom this patient replaced: by its own links, and by theirs where the server can search them."""
    claimed = set(_linked(client.base_url, resource, "replaces")) if resource else set()
    if client.capabilities().searches_by("Patient", "link"):
        for match in client.search("Patient", [("link", f"Patient/{current}")]).matches:
            if current in _linked(client.base_url, match.resource, "replaced-by"):
                claimed.add(PatientId(match.resource.version.resource_id))
    return tuple(sorted(claimed - {current}))


def _require_confirmed(client: FhirClient, alias: RawResource, survivor: PatientId) -> None:
    """Two records become one only when the replaced one agrees; a one-sided link could join two people."""
    successors = _linked(client.base_url, alias, "replaced-by")
    if successors == (survivor,) or (not successors and _decoded(alias).active is False):
        return
    name = f"Patient/{alias.version.resource_id}"
    raise AmbiguousPatient(f"Patient/{survivor} claims to replace {name}, which does not confirm it")


def _linked(base_url: str, resource: RawResource, kind: str) -> tuple[PatientId, ...]:
    """The patients that `link` entries of one kind name, sorted, once each."""
    named = set()
    for link in _decoded(resource).link:
        if link.type != kind:
            continue
        other = patient_in(link.other.reference, base_url)
        if other is None:
            raise AmbiguousPatient(
                f"Patient/{resource.version.resource_id} has a {kind} link that names no patient of this server"
            )
        named.add(other)
    return tuple(sorted(named))


def _decoded(resource: RawResource) -> _Patient:
    try:
        return _PATIENT.decode(resource.content)
    except msgspec.ValidationError as error:
        name = f"Patient/{resource.version.resource_id}"
        raise AmbiguousPatient(f"{name} has links or an active flag that cannot be read") from error
