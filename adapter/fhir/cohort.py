"""Who is watched: a written list, a Group on the server, or the subjects of a search."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl

import msgspec

from adapter.domain.ids import PatientId, ResourceId
from adapter.domain.record import RawResource
from adapter.errors import BadSettings, MalformedResource, PullIncomplete
from adapter.fhir.client import FhirClient
from adapter.fhir.resource import patient_in


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientList:
    """A cohort written down in the configuration."""

    patients: tuple[PatientId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCohort:
    """A cohort kept on the server as a Group; its inactive members do not belong."""

    group_id: ResourceId


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectCohort:
    """The subjects of a search, such as `Condition?code=…`."""

    resource_type: str
    parameters: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> SelectCohort:
        """Read `Type?name=value&…`. Raises BadSettings for a search without a type or a filter."""
        resource_type, _, query = text.partition("?")
        parameters = tuple(parse_qsl(query, keep_blank_values=True))
        if not resource_type.isalpha() or not parameters:
            raise BadSettings("cohort.select is no search with a filter, such as Condition?code=...")
        return cls(resource_type=resource_type, parameters=parameters)


Cohort = PatientList | GroupCohort | SelectCohort


class _Entity(msgspec.Struct):
    reference: str | None = None


class _Member(msgspec.Struct):
    entity: _Entity
    inactive: bool = False


class _Group(msgspec.Struct):
    member: list[_Member] = []


_GROUP = msgspec.json.Decoder(_Group)


def find_members(client: FhirClient, cohort: Cohort, *, changed_since: datetime | None) -> frozenset[PatientId]:
    """Read who belongs to the cohort.

    changed_since: for a search where the server filters by time, only whom it selects by resources changed
    since then; lists and groups are always read whole. Raises BadSettings for a Group that is not there,
    PullIncomplete when the server dropped a filter: that would enrol the whole hospital.
    """
    match cohort:
        case PatientList():
            return frozenset(cohort.patients)
        case GroupCohort():
            return _group_members(client, cohort.group_id)
        case SelectCohort():
            return _selected(client, cohort, changed_since)


def since_parameter(moment: datetime) -> tuple[str, str]:
    """Write the search parameter for what changed at or after a moment. Source: FHIR R4 `search.html`, `date`."""
    return ("_lastUpdated", f"ge{moment.astimezone(UTC).isoformat(timespec='milliseconds').replace('+00:00', 'Z')}")


def _group_members(client: FhirClient, group_id: ResourceId) -> frozenset[PatientId]:
    group = client.read("Group", group_id)
    if not isinstance(group, RawResource):
        raise BadSettings(f"cohort.group: Group/{group_id} is not on the server")
    try:
        members = _GROUP.decode(group.content).member
    except msgspec.ValidationError as error:
        raise MalformedResource(f"Group/{group_id} has members that cannot be read") from error
    named = (patient_in(member.entity.reference, client.base_url) for member in members if not member.inactive)
    return frozenset(patient for patient in named if patient is not None)


def _selected(client: FhirClient, cohort: SelectCohort, changed_since: datetime | None) -> frozenset[PatientId]:
    asked = list(cohort.parameters)
    by_time = client.capabilities().searches_by(cohort.resource_type, "_lastUpdated")
    if changed_since is not None and by_time:
        asked.append(since_parameter(changed_since))
    found = client.search(cohort.resource_type, asked)
    dropped = set(found.tally.ignored) - {"_lastUpdated"}
    if dropped:
        raise PullIncomplete(f"cohort.select: the server dropped {', '.join(sorted(dropped))}")
    if cohort.resource_type == "Patient":
        return frozenset(PatientId(match.resource.version.resource_id) for match in found.matches)
    named = (patient_in(match.subject, client.base_url) for match in found.matches)
    return frozenset(patient for patient in named if patient is not None)
