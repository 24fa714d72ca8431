"""What a server says it can do, and what the work needs of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceCapability:
    """One resource type of a CapabilityStatement. interactions: `read`, `search-type`, `create`, `update`, …"""

    interactions: frozenset[str]
    search_parameters: frozenset[str]
    update_create: bool = False
    conditional_create: bool = False
    versioning: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCapabilities:
    """The server half of a CapabilityStatement. interactions: system level, such as `transaction`."""

    fhir_version: str
    software: str
    interactions: frozenset[str]
    resources: Mapping[str, ResourceCapability]

    def can(self, resource_type: str, interaction: str) -> bool:
        """Whether the type declares the interaction."""
        raise NotImplementedError

    def searches_by(self, resource_type: str, parameter: str) -> bool:
        """Whether a search of the type may use the parameter."""
        raise NotImplementedError

    def patient_parameter(self, resource_type: str) -> str | None:
        """`patient`, else `subject`, whichever is declared; None when the type cannot be searched by patient."""
        raise NotImplementedError

    @property
    def transaction(self) -> bool:
        """Whether the server commits transaction Bundles."""
        return "transaction" in self.interactions

    def update_create(self, resource_type: str) -> bool:
        """Whether clients may choose ids: PUT to a new id creates it."""
        raise NotImplementedError

    def conditional_create(self, resource_type: str) -> bool:
        """Whether `If-None-Exist` is honoured."""
        raise NotImplementedError
