"""What a server says it can do, and what the work needs of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from adapter.domain.tristate import TriState
from adapter.errors import UnsupportedPeer

_R4 = re.compile(r"4\.0(\.[0-9]+)?(-[A-Za-z0-9.]+)?")
NEEDED_TYPES = ("Patient", "Observation", "Procedure")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceCapability:
    """One resource type. interactions: `read`, `search-type`, `create`, `update`, …"""

    interactions: frozenset[str]
    search_parameters: frozenset[str]
    update_create: bool | None = None
    conditional_create: bool = False
    versioning: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCapabilities:
    """The server half of a CapabilityStatement.

    interactions: system level, such as `transaction`. search_parameters: those declared for every type.
    """

    fhir_version: str
    software: str
    interactions: frozenset[str]
    search_parameters: frozenset[str]
    resources: Mapping[str, ResourceCapability]

    def can(self, resource_type: str, interaction: str) -> bool:
        """Whether the type declares the interaction."""
        resource = self.resources.get(resource_type)
        return resource is not None and interaction in resource.interactions

    def searches_by(self, resource_type: str, parameter: str) -> bool:
        """Whether a search of the type may use the parameter."""
        if not self.can(resource_type, "search-type"):
            return False
        return parameter in self.search_parameters | self.resources[resource_type].search_parameters

    def patient_parameter(self, resource_type: str) -> str | None:
        """Choose `patient`, else `subject`, as declared; None when the type cannot be searched by patient."""
        return next((name for name in ("patient", "subject") if self.searches_by(resource_type, name)), None)

    @property
    def transaction(self) -> bool:
        """Whether the server commits transaction Bundles."""
        return "transaction" in self.interactions

    def update_create(self, resource_type: str) -> bool:
        """Whether the server promises that clients may choose ids: PUT to a new id creates it."""
        return self.client_ids(resource_type) is TriState.TRUE

    def client_ids(self, resource_type: str) -> TriState:
        """Whether PUT to a new id creates it; unknown where `updateCreate` is not declared.

        HAPI 8.8 leaves it out of its CapabilityStatement and creates all the same: only a try can tell.
        """
        if not self.can(resource_type, "update"):
            return TriState.FALSE
        return TriState.of(self.resources[resource_type].update_create)

    def conditional_create(self, resource_type: str) -> bool:
        """Whether `If-None-Exist` is honoured."""
        return self.can(resource_type, "create") and self.resources[resource_type].conditional_create

    def gaps(self) -> tuple[str, ...]:
        """List what reading a patient needs and this server does not declare; empty when it will do."""
        missing = [] if self.can("Patient", "read") else ["Patient read"]
        missing += [
            f"{resource_type} search by patient"
            for resource_type in NEEDED_TYPES[1:]
            if self.patient_parameter(resource_type) is None
        ]
        return tuple(missing)


class _Code(msgspec.Struct):
    code: str = ""


class _Name(msgspec.Struct):
    name: str = ""


class _Resource(msgspec.Struct, rename="camel"):
    type: str
    interaction: list[_Code] = []
    search_param: list[_Name] = []
    update_create: bool | None = None
    conditional_create: bool = False
    versioning: str | None = None


class _Rest(msgspec.Struct, rename="camel"):
    mode: str
    resource: list[_Resource] = []
    interaction: list[_Code] = []
    search_param: list[_Name] = []


class _Statement(msgspec.Struct, rename="camel"):
    resource_type: str
    fhir_version: str
    software: _Name | None = None
    rest: list[_Rest] = []


_STATEMENT = msgspec.json.Decoder(_Statement)


def read_capabilities(content: bytes) -> ServerCapabilities:
    """Read a CapabilityStatement. Raises UnsupportedPeer unless it describes an R4 (4.0.x) server. FR-01."""
    try:
        statement = _STATEMENT.decode(content)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise UnsupportedPeer("metadata is not a CapabilityStatement") from error
    if statement.resource_type != "CapabilityStatement":
        raise UnsupportedPeer("metadata is not a CapabilityStatement")
    if not _R4.fullmatch(statement.fhir_version):
        raise UnsupportedPeer(f"the server speaks FHIR {statement.fhir_version[:16]!r}, the work needs 4.0.x")
    server = next((rest for rest in statement.rest if rest.mode == "server"), None)
    if server is None:
        raise UnsupportedPeer("metadata describes no server")
    return ServerCapabilities(
        fhir_version=statement.fhir_version,
        software=statement.software.name if statement.software else "",
        interactions=_codes(server.interaction),
        search_parameters=_names(server.search_param),
        resources=MappingProxyType({resource.type: _capability(resource) for resource in server.resource}),
    )


def _capability(resource: _Resource) -> ResourceCapability:
    return ResourceCapability(
        interactions=_codes(resource.interaction),
        search_parameters=_names(resource.search_param),
        update_create=resource.update_create,
        conditional_create=resource.conditional_create,
        versioning=resource.versioning,
    )


def _codes(written: list[_Code]) -> frozenset[str]:
    return frozenset(entry.code for entry in written)


def _names(written: list[_Name]) -> frozenset[str]:
    return frozenset(entry.name for entry in written)
