"""Whether the server has lost a result of ours that it once held, as after a restore from an older backup."""

from __future__ import annotations

from adapter.domain.record import RawResource
from adapter.domain.tristate import TriState
from adapter.errors import BadData, Misconfigured
from adapter.fhir.client import FhirClient
from adapter.fhir.replies import Gone
from adapter.fhir.resource import identifiers_of

_FORECAST = "RiskAssessment"  # no server is written to that does not take it: where it is gone, all of it is looked up


def is_lost(client: FhirClient, resource_id: str, assessment_id: str) -> TriState:
    """Whether the server knows nothing any more of the RiskAssessment of an assessment that was delivered.

    resource_id: how the server called it then. One read; only what that does not find is searched by its name, for a
    server may have been filled again under other ids. False also for what somebody deleted (410) or entered in error:
    that was withdrawn, not lost. Unknown where the server lets us do neither, or answers neither. Raises Transient.
    """
    try:
        return _is_lost(client, resource_id, name=f"ra-{assessment_id}")
    except (BadData, Misconfigured):
        return TriState.UNKNOWN  # what cannot be asked must not make a case for everybody


def _is_lost(client: FhirClient, resource_id: str, *, name: str) -> TriState:
    capabilities = client.capabilities()
    answered = capabilities.can(_FORECAST, "read")
    if answered:
        found = client.read(_FORECAST, resource_id)
        if isinstance(found, Gone) or (found is not None and _is_called(found, name)):
            return TriState.FALSE
    if capabilities.searches_by(_FORECAST, "identifier"):
        searchset = client.search(_FORECAST, [("identifier", name)])
        if any(_is_called(match.resource, name) for match in searchset.matches):
            return TriState.FALSE
        answered = answered or "identifier" not in searchset.tally.ignored
    return TriState.TRUE if answered else TriState.UNKNOWN


def _is_called(resource: RawResource, name: str) -> bool:
    """A server that names ids itself may have given this one to somebody else's resource since."""
    return name == resource.version.resource_id or name in {value for _, value in identifiers_of(resource.content)}
