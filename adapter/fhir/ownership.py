"""One patient's search, and whose the resources are that it found: nobody else's record is read or changed."""

from __future__ import annotations

from adapter.domain.ids import PatientId
from adapter.domain.record import Quarantined, RawResource
from adapter.errors import PullIncomplete, UnsupportedPeer, WrongPatient
from adapter.fhir.client import FhirClient
from adapter.fhir.identity import Identity
from adapter.fhir.replies import Match
from adapter.fhir.resource import patient_in
from adapter.fhir.search import Searchset


def search_of_patient(client: FhirClient, resource_type: str, patient_id: PatientId) -> Searchset:
    """Search one type of one patient, by the parameter the server declares.

    Raises PullIncomplete when the self link shows that the server did not filter by patient: such a searchset
    mixes patients. Raises UnsupportedPeer when the type cannot be searched by patient.
    """
    parameter = client.capabilities().patient_parameter(resource_type)
    if parameter is None:
        raise UnsupportedPeer(f"{resource_type} cannot be searched by patient")
    value = patient_id if parameter == "patient" else f"Patient/{patient_id}"
    found = client.search(resource_type, [(parameter, value)])
    if found.tally.ignored:
        dropped = ", ".join(found.tally.ignored)
        raise PullIncomplete(f"{resource_type} of Patient/{patient_id}: the server dropped {dropped}")
    return found


def divide_by_owner(
    matches: tuple[Match, ...], identity: Identity, *, base_url: str
) -> tuple[tuple[RawResource, ...], tuple[Quarantined, ...]]:
    """Keep what names this person as its subject; set aside what names nobody we can check.

    Raises WrongPatient when a single resource names another patient: then nothing of the searchset is
    trusted.
    """
    theirs: list[RawResource] = []
    unclear: list[Quarantined] = []
    owners = {reference: patient_in(reference, base_url) for reference in {match.subject for match in matches}}
    ids = frozenset(identity.ids)
    for match in matches:
        owner = owners[match.subject]
        if owner in ids:
            theirs.append(match.resource)
            continue
        name = f"{match.resource.version.resource_type}/{match.resource.version.resource_id}"
        if owner is not None:
            raise WrongPatient(f"{name} came back for Patient/{identity.patient_id} and names another patient")
        detail = "no subject reference" if match.subject is None else "the subject is no Patient of this server"
        unclear.append(Quarantined(source=name, reason="subject-not-verifiable", detail=detail))
    return tuple(theirs), tuple(unclear)
