"""Why one entry of a record cannot be used: the refusal behind every line of the quarantine."""

from __future__ import annotations

import msgspec

from adapter.fhir.elements import BadDate, Modifiable


class Refused(Exception):
    """An entry that cannot be used; never leaves the reading of its record. reason: a stable code; detail: codes."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def as_refused(error: Refused | BadDate | msgspec.MsgspecError) -> Refused:
    """The reason for whatever stops the reading of one resource."""
    match error:
        case Refused():
            return error
        case BadDate():
            return Refused("bad-date", str(error))
    return Refused("malformed")


def require_unmodified(element: Modifiable) -> None:
    """A modifier extension or implicit rules may turn the meaning round, and we know none: FHIR R4 forbids to go on."""
    if element.modifier_extension:
        raise Refused("modifier-extension")
    if element.implicit_rules is not None:
        raise Refused("implicit-rules")
