"""Identifiers, each checked once on construction so that no other code has to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from adapter.errors import BadIdentifier

_FHIR_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_DICOM_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")


class _CheckedText(str):
    """A string that matched its pattern; the message shows a bounded repr, so a hostile value stays inert."""

    __slots__ = ()
    _pattern: re.Pattern[str]
    _longest: int
    _standard: str

    def __new__(cls, text: str) -> Self:
        """Raise BadIdentifier for anything the standard does not allow."""
        if len(text) > cls._longest or not cls._pattern.fullmatch(text):
            raise BadIdentifier(f"not a legal {cls._standard}: {text[:24]!r}")
        return super().__new__(cls, text)


class ResourceId(_CheckedText):
    """A FHIR logical id. Source: FHIR R4 datatypes, `id`."""

    __slots__ = ()
    _pattern, _longest, _standard = _FHIR_ID, 64, "FHIR id"


class PatientId(ResourceId):
    """The logical id of a Patient on the server that is being read."""

    __slots__ = ()


class DicomUid(_CheckedText):
    """A DICOM unique identifier. Source: PS3.5 section 9.1 (64 characters, no leading zeros)."""

    __slots__ = ()
    _pattern, _longest, _standard = _DICOM_UID, 64, "DICOM UID"


class StudyUid(DicomUid):
    """A Study Instance UID (0020,000D)."""

    __slots__ = ()


class SeriesUid(DicomUid):
    """A Series Instance UID (0020,000E)."""

    __slots__ = ()


class InstanceUid(DicomUid):
    """A SOP Instance UID (0008,0018)."""

    __slots__ = ()


class AETitle(_CheckedText):
    """An application entity title. Source: PS3.5 section 6.2, value representation AE."""

    __slots__ = ()
    _pattern, _longest, _standard = _AE_TITLE, 16, "AE title"

    def __new__(cls, text: str) -> Self:
        """Leading and trailing spaces are not significant; sixteen spaces are no title."""
        return super().__new__(cls, text.strip(" "))


@dataclass(frozen=True, slots=True, order=True)
class BusinessIdentifier:
    """An identifier that means something outside one server: never a value without its system."""

    system: str
    value: str


@dataclass(frozen=True, slots=True, order=True)
class ResourceVersion:
    """One version of one FHIR resource: what an output may cite as its input."""

    resource_type: str
    resource_id: str
    version: str

    def __str__(self) -> str:
        """The versioned reference, for example `Observation/hb-1/_history/2`."""
        return f"{self.resource_type}/{self.resource_id}/_history/{self.version}"
