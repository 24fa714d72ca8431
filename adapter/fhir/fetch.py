"""Everything one patient's searches return: complete, theirs alone, or an error."""

from __future__ import annotations

from collections.abc import Iterator

from adapter.domain.ids import PatientId
from adapter.domain.record import Quarantined, RawRecord, SearchTally
from adapter.errors import UnsupportedPeer
from adapter.fhir.client import FhirClient
from adapter.fhir.identity import resolve_identity
from adapter.fhir.ownership import divide_by_owner, search_of_patient
from adapter.fhir.replies import Issue

NEEDED_TYPES = ("Observation", "Procedure")
WELCOME_TYPES = ("Condition", "MedicationAdministration", "ImagingStudy", "DiagnosticReport")


def fetch_record(client: FhirClient, patient_id: PatientId) -> RawRecord:
    """Read a patient whole: the Patient, those merged into it, and every page of each clinical type.

    A merged patient is read under the surviving id; the Patient resources of its aliases come with it. A type
    that the server does not offer is noted in `quarantined` (`type-not-offered`), unless it is Observation or
    Procedure. Same answers, same record: resources are sorted by type, id and version. Raises
    UnsupportedPeer, PullIncomplete, WrongPatient, AmbiguousPatient, MalformedResource, ForeignLink,
    Transient.
    """
    identity = resolve_identity(client, patient_id)
    resources = list(identity.patients)
    tallies: list[SearchTally] = []
    notes: list[Quarantined] = []
    for resource_type in (*NEEDED_TYPES, *WELCOME_TYPES):
        parameter = client.capabilities().patient_parameter(resource_type)
        if parameter is None:
            notes.append(_not_offered(resource_type))
            continue
        for asked in identity.ids:
            found = search_of_patient(client, resource_type, asked)
            theirs, unclear = divide_by_owner(found.matches, identity, base_url=client.base_url)
            resources.extend(theirs)
            tallies.append(found.tally)
            notes.extend((*found.quarantined, *unclear, *_remarks(resource_type, found.issues)))
    unique = {str(resource.version): resource for resource in resources}
    return RawRecord(
        patient_id=identity.patient_id,
        aliases=identity.aliases,
        resources=tuple(sorted(unique.values(), key=lambda resource: resource.version)),
        tallies=tuple(tallies),
        quarantined=tuple(sorted(set(notes), key=lambda note: (note.source, note.reason, note.detail))),
    )


def _not_offered(resource_type: str) -> Quarantined:
    if resource_type in NEEDED_TYPES:
        raise UnsupportedPeer(f"the server offers no search of {resource_type} by patient")
    detail = "the CapabilityStatement declares no search by patient"
    return Quarantined(source=resource_type, reason="type-not-offered", detail=detail)


def _remarks(resource_type: str, issues: tuple[Issue, ...]) -> Iterator[Quarantined]:
    """What the server remarked on its own searchset, such as data withheld by a privacy rule."""
    for issue in issues:
        if issue.severity == "warning":
            yield Quarantined(source=resource_type, reason="server-remark", detail=issue.code)
