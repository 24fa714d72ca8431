"""One DICOM instance: what it is and whom it shows, from its first elements, without touching pixels."""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID

from adapter.dicom.part10 import DECODING_ERRORS, open_dataset, open_file
from adapter.domain.ids import InstanceUid, SeriesUid, StudyUid
from adapter.domain.imaging import DicomPatient
from adapter.errors import Unreadable, WrongPatient

_SERIES_INSTANCE_UID = 0x0020000E  # the last element that is looked at
_KEPT = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "SeriesInstanceUID",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientAttributes:
    """Whom a dataset names; empty = absent."""

    patient_id: str = field(repr=False)
    issuer: str = field(repr=False)
    birth_date: str = field(repr=False)
    sex: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceHeader:
    """The unique keys of one instance, and whom it shows."""

    sop_class_uid: str
    instance_uid: InstanceUid
    study_uid: StudyUid
    series_uid: SeriesUid
    patient: PatientAttributes


def decode_header(dataset: bytes, transfer_syntax: str, *, most_bytes: int) -> InstanceHeader:
    """The header of an encoded dataset that came without file meta information.

    most_bytes: cap for a deflated dataset after inflation. Raises Unreadable, BadIdentifier, TooLarge.
    """
    opened = open_dataset(
        BytesIO(dataset), UID(transfer_syntax), tags=_KEPT, last_tag=_SERIES_INSTANCE_UID, most_bytes=most_bytes
    )
    return header_of(opened.elements)


def read_header(path: Path, *, most_bytes: int) -> InstanceHeader:
    """The header of a stored file. Raises Unreadable, BadIdentifier, TooLarge."""
    with path.open("rb") as stream:
        return header_of(open_file(stream, tags=_KEPT, most_bytes=most_bytes).elements)


def header_of(elements: Dataset) -> InstanceHeader:
    """The header among decoded elements. Raises Unreadable for a missing key, BadIdentifier for an illegal one."""
    return InstanceHeader(
        sop_class_uid=_required(elements, "SOPClassUID"),
        instance_uid=InstanceUid(_required(elements, "SOPInstanceUID")),
        study_uid=StudyUid(_required(elements, "StudyInstanceUID")),
        series_uid=SeriesUid(_required(elements, "SeriesInstanceUID")),
        patient=patient_of(elements),
    )


def patient_of(elements: Dataset) -> PatientAttributes:
    """Whom the elements name. Raises Unreadable for text that cannot be decoded."""
    return PatientAttributes(
        patient_id=text_of(elements, "PatientID"),
        issuer=text_of(elements, "IssuerOfPatientID"),
        birth_date=text_of(elements, "PatientBirthDate"),
        sex=text_of(elements, "PatientSex"),
    )


def text_of(elements: Dataset, keyword: str) -> str:
    """A text element without padding; empty when absent. Several values stay joined, so they equal no single one."""
    try:
        value = elements.get(keyword)
    except DECODING_ERRORS as error:
        raise Unreadable(f"{keyword} cannot be decoded: {type(error).__name__}") from error
    if value is None:
        return ""
    joined = "\\".join(map(str, value)) if isinstance(value, MutableSequence) else str(value)
    return joined.strip(" \0")


def _required(elements: Dataset, keyword: str) -> str:
    text = text_of(elements, keyword)
    if not text:
        raise Unreadable(f"an instance without {keyword}")
    return text


def require_patient(patient: DicomPatient, found: PatientAttributes, *, where: str) -> None:
    """Return when a dataset may be the patient's.

    Patient ID must be equal, character by character; issuer, birth date and sex only where both sides have one.
    Raises WrongPatient naming the attribute, never its values. Source: PS3.3 section C.7.1.1.
    """
    if found.patient_id != patient.patient_id:
        raise WrongPatient(f"{where} has another Patient ID")
    pairs: Mapping[str, tuple[str | None, str]] = {
        "Issuer of Patient ID": (patient.issuer, found.issuer),
        "birth date": (patient.birth_date, found.birth_date),
        "sex": (patient.sex, found.sex),
    }
    for name, (expected, present) in pairs.items():
        if expected and present and expected != present:
            raise WrongPatient(f"{where} has the Patient ID but another {name}")
