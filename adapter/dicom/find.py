"""C-FIND, Study Root: every series of one patient with its instances, behind an identity gate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from adapter.dicom.ae import Archive, associated, put_question
from adapter.dicom.instance import patient_of, require_patient, text_of
from adapter.domain.ids import InstanceUid, SeriesUid, StudyUid
from adapter.domain.imaging import DicomPatient, SeriesRef
from adapter.domain.period import Period
from adapter.errors import BadIdentifier, PeerTimeout, PeerUnavailable, TooLarge, UnsupportedPeer

_ASKED_AT_MOST = 5
_LONGEST_LO = 64  # characters; source: PS3.5 section 6.2
# wildcards, the value separator and control characters; source: PS3.4 section C.2.2.2.4
_NO_SINGLE_VALUE = re.compile(r"[*?\\\x00-\x1f\x7f]")
_PENDING = frozenset({0xFF00, 0xFF01})
_SUCCESS = 0x0000
_OUT_OF_RESOURCES = 0xA700
_OFFSET = re.compile(r"([+-])(\d{2})(\d{2})")
_TIME = re.compile(r"(\d{2})(?:(\d{2})(?:(\d{2})(?:\.(\d{1,6}))?)?)?")
_OUT_OF_REACH = frozenset({"OFFLINE", "UNAVAILABLE"})
_LAST_SECOND = 59  # a leap second, written 60, is folded into it


def find_series(archive: Archive, patient: DicomPatient, zone: tzinfo) -> tuple[SeriesRef, ...]:
    """Every series of the patient, sorted by UID; an empty tuple is an answer.

    zone: of the archive's dates and times where a dataset does not carry its own offset. Raises BadIdentifier for a
    Patient ID that would match several patients or a UID that is none, WrongPatient when the archive answers with
    somebody else's study, TooLarge, PeerTimeout, PeerUnavailable, UnsupportedPeer, AccessRefused.
    """
    require_single_value(patient.patient_id)
    seconds = archive.limits.answer_seconds
    sop_class = StudyRootQueryRetrieveInformationModelFind
    with associated(archive, sop_class, answer_seconds=seconds) as association:
        query = Query(archive, association)
        # an archive that holds a study under two Patient IDs lists each of its series twice
        found = {
            (ref.study_uid, ref.series_uid): ref
            for study in query.studies(patient)
            for series in query.series(StudyUid(text_of(study, "StudyInstanceUID")))
            for ref in (_series_ref(query, study, series, zone),)
        }
    return tuple(ref for _, ref in sorted(found.items()))


def require_in_reach(archive: Archive, association: Association, ref: SeriesRef) -> None:
    """Return unless the archive says that it cannot send the series now; saying nothing is legal, and usual.

    Source: PS3.4 section C.4.1.1.3.2, Instance Availability (0008,0056); NEARLINE only takes longer.
    Raises PeerUnavailable, and what `find_series` raises.
    """
    for series in Query(archive, association).series(ref.study_uid, ref.series_uid):
        availability = text_of(series, "InstanceAvailability")
        if availability in _OUT_OF_REACH:
            raise PeerUnavailable(f"series {ref.series_uid} is {availability} in {archive.ae_title}")


def require_single_value(patient_id: str) -> None:
    """Return when matching by this Patient ID can mean one patient only. Raises BadIdentifier without the value."""
    if not patient_id.strip() or len(patient_id) > _LONGEST_LO or _NO_SINGLE_VALUE.search(patient_id):
        raise BadIdentifier("a Patient ID that is empty, too long, or holds a wildcard, separator or control character")


class Query:
    """The three levels on one association; each identifier carries the unique keys above and asks empty keys back."""

    def __init__(self, archive: Archive, association: Association) -> None:
        self._archive, self._association = archive, association
        self._arrived = 0
        association.bind(evt.EVT_DIMSE_RECV, self._count)

    def _count(self, _: evt.Event) -> None:
        self._arrived += 1

    def studies(self, patient: DicomPatient) -> Iterator[Dataset]:
        """Raises WrongPatient for a study of anyone else: the answer of such an archive proves nothing."""
        identifier = _identifier(
            "STUDY", "PatientBirthDate PatientSex StudyInstanceUID StudyDate StudyTime TimezoneOffsetFromUTC"
        )
        identifier.PatientID = patient.patient_id
        identifier.IssuerOfPatientID = patient.issuer or ""
        if not patient.patient_id.isascii():
            identifier.SpecificCharacterSet = "ISO_IR 192"
        for study in self._matches(identifier):
            where = f"study {text_of(study, 'StudyInstanceUID')[:64]!r}"
            require_patient(patient, patient_of(study), where=where)
            yield study

    def series(self, study_uid: StudyUid, series_uid: str = "") -> Iterator[Dataset]:
        """All series of a study, or the one named."""
        identifier = _identifier(
            "SERIES", "Modality SeriesDescription SeriesDate SeriesTime TimezoneOffsetFromUTC InstanceAvailability"
        )
        identifier.StudyInstanceUID = study_uid
        identifier.SeriesInstanceUID = series_uid
        yield from self._matches(identifier)

    def instances(self, study_uid: StudyUid, series_uid: SeriesUid) -> Iterator[Dataset]:
        """All images of a series, by SOP Instance UID only."""
        identifier = _identifier("IMAGE", "SOPInstanceUID")
        identifier.StudyInstanceUID = study_uid
        identifier.SeriesInstanceUID = series_uid
        yield from self._matches(identifier)

    def _matches(self, identifier: Dataset) -> list[Dataset]:
        """All matches. Raises PeerTimeout, PeerUnavailable, UnsupportedPeer or TooLarge; half a list is no answer.

        The thread that pynetdicom keeps for each association now and then takes an answer away before we see it and
        drops it (pynetdicom issue 875): what arrived is counted, and where we were handed less, the question is put
        again.
        """
        for _ in range(_ASKED_AT_MOST):
            arrived_before = self._arrived
            found = self._answers(identifier)
            if self._arrived - arrived_before == len(found) + 1:  # and the final one, which matches nothing
                return found
        raise PeerUnavailable(f"answers to a {identifier.QueryRetrieveLevel} C-FIND were lost {_ASKED_AT_MOST} times")

    def _answers(self, identifier: Dataset) -> list[Dataset]:
        """What we were handed of one C-FIND, to its final status."""
        found: list[Dataset] = []
        answers = put_question(self._association.send_c_find, identifier, StudyRootQueryRetrieveInformationModelFind)
        for status, match in answers:
            code = getattr(status, "Status", None)
            if code in _PENDING and match is not None:
                found.append(match)
                if len(found) > self._archive.limits.most_matches:
                    raise TooLarge(f"{self._archive.ae_title} answered C-FIND with more than {len(found) - 1} matches")
            elif code != _SUCCESS:
                raise self._failure(code, identifier.QueryRetrieveLevel)
        return found

    def _failure(self, code: int | None, level: str) -> Exception:
        """What a final C-FIND status means. Source: PS3.4 section C.4.1.1.4, table C.4-1."""
        if code is None:
            return PeerTimeout(f"{self._archive.ae_title} did not finish a {level} C-FIND")
        sentence = f"{self._archive.ae_title} answered a {level} C-FIND with {code:04X}"
        retriable = code == _OUT_OF_RESOURCES or code >= 0xC000 or code in _PENDING  # noqa: PLR2004 (Cxxx, FE00)
        return PeerUnavailable(sentence) if retriable else UnsupportedPeer(sentence)


def _identifier(level: str, keywords: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword in keywords.split():
        setattr(identifier, keyword, "")
    return identifier


def _series_ref(query: Query, study: Dataset, series: Dataset, zone: tzinfo) -> SeriesRef:
    study_uid = StudyUid(text_of(study, "StudyInstanceUID"))
    series_uid = SeriesUid(text_of(series, "SeriesInstanceUID"))
    instances = query.instances(study_uid, series_uid)
    uids = {InstanceUid(text_of(instance, "SOPInstanceUID")) for instance in instances}
    return SeriesRef(
        study_uid=study_uid,
        series_uid=series_uid,
        modality=text_of(series, "Modality"),
        description=text_of(series, "SeriesDescription"),
        acquired=_acquired(series, "Series", zone) or _acquired(study, "Study", zone),
        instance_uids=tuple(sorted(uids)),
    )


def _acquired(elements: Dataset, level: str, zone: tzinfo) -> Period | None:
    own_zone = _own_zone(text_of(elements, "TimezoneOffsetFromUTC"))
    return acquisition_period(text_of(elements, f"{level}Date"), text_of(elements, f"{level}Time"), own_zone or zone)


def _own_zone(offset: str) -> tzinfo | None:
    """The zone of (0008,0201), `&ZZXX`; None when absent or not an offset."""
    match = _OFFSET.fullmatch(offset)
    if match is None:
        return None
    size = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(size if match[1] == "+" else -size) if size < timedelta(days=1) else None


def acquisition_period(date: str, time: str, zone: tzinfo) -> Period | None:
    """When a DICOM date and time can have been, in UTC: as wide as they are coarse, None when there is no date.

    date: DA `YYYYMMDD`. time: TM, from `HH` to `HHMMSS.FFFFFF`, or empty. An hour that a clock change repeats counts
    from its first to its second passing. Source: PS3.5 section 6.2.
    """
    try:
        day = datetime.strptime(date, "%Y%m%d")  # noqa: DTZ007 (the zone comes below, once for each fold)
    except ValueError:
        return None
    match = _TIME.fullmatch(time)
    if match is None:
        return _in_zone(day, day + timedelta(days=1), zone)
    hour, minute, second, fraction = match.groups()
    width = timedelta(hours=1)
    moment = day + timedelta(hours=int(hour))
    if minute:
        moment, width = moment + timedelta(minutes=int(minute)), timedelta(minutes=1)
    if second:
        moment, width = moment + timedelta(seconds=min(int(second), _LAST_SECOND)), timedelta(seconds=1)
    if fraction:
        micros = int(fraction.ljust(6, "0"))
        moment, width = moment + timedelta(microseconds=micros), timedelta(microseconds=10 ** (6 - len(fraction)))
    return _in_zone(moment, moment + width, zone)


def _in_zone(start: datetime, end: datetime, zone: tzinfo) -> Period:
    last = end - timedelta(microseconds=1)
    moments = [moment.replace(tzinfo=zone, fold=fold).astimezone(UTC) for moment in (start, last) for fold in (0, 1)]
    return Period(earliest=min(moments), latest=max(moments))
