"""C-FIND: when a series can have been acquired."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from queue import Queue
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from adapter.dicom.ae import Archive, associated
from adapter.dicom.find import Query, acquisition_period
from adapter.domain.ids import AETitle
from adapter.errors import PeerUnavailable
from adapter.sandbox.ct import CtOptions, simulated_ct
from tests.adapter.dicom.conftest import HURRIED, OURS, PATIENT, Hospital
from tests.adapter.dicom.test_pacs import Build

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.fault("F-25")
@pytest.mark.parametrize(
    ("date", "time", "earliest", "latest"),
    [
        ("20240105", "", "2024-01-04T23:00:00", "2024-01-05T22:59:59.999999"),
        ("20240105", "08", "2024-01-05T07:00:00", "2024-01-05T07:59:59.999999"),
        ("20240105", "0815", "2024-01-05T07:15:00", "2024-01-05T07:15:59.999999"),
        ("20240105", "081530", "2024-01-05T07:15:30", "2024-01-05T07:15:30.999999"),
        ("20240105", "081530.25", "2024-01-05T07:15:30.250000", "2024-01-05T07:15:30.259999"),
        ("20161231", "235960", "2016-12-31T22:59:59", "2016-12-31T22:59:59.999999"),
        ("20240331", "", "2024-03-30T23:00:00", "2024-03-31T21:59:59.999999"),
        ("20241027", "0230", "2024-10-27T00:30:00", "2024-10-27T01:30:59.999999"),
        ("20240105", "nonsense", "2024-01-04T23:00:00", "2024-01-05T22:59:59.999999"),
    ],
    ids=["day", "hour", "minute", "second", "fraction", "leap second", "short day", "hour passed twice", "no time"],
)
def test_a_dicom_time_is_as_wide_as_it_is_coarse(date: str, time: str, earliest: str, latest: str) -> None:
    """A date without time is the whole local day; an hour that the clocks repeat is both."""
    period = acquisition_period(date, time, BERLIN)
    assert period is not None
    assert period.earliest == datetime.fromisoformat(earliest).replace(tzinfo=UTC)
    assert period.latest == datetime.fromisoformat(latest).replace(tzinfo=UTC)


@pytest.mark.parametrize("date", ["", "2024", "20241301", "20230229", "2024-01-05", "yesterday"])
def test_without_a_date_there_is_no_acquisition_time(date: str) -> None:
    """No date, or none of the calendar: None, never a guess."""
    assert acquisition_period(date, "0815", UTC) is None


@given(
    moment=st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1)),
    length=st.sampled_from([0, 2, 4, 6]),
)
def test_a_period_holds_the_moment_it_was_cut_from(moment: datetime, length: int) -> None:
    """Whatever is cut off a time, the period still holds it."""
    period = acquisition_period(moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")[:length], BERLIN)
    assert period is not None
    assert period.earliest <= moment.replace(tzinfo=BERLIN).astimezone(UTC) <= period.latest


def test_a_series_tells_its_own_offset(hospital: Build) -> None:
    """Timezone Offset From UTC in the answer counts more than the site's zone."""
    instances = simulated_ct(CtOptions(patient_id="SIM-1", slices=2, rows=8, columns=8))
    for instance in instances:
        instance.TimezoneOffsetFromUTC = "-0500"
    (ref,) = hospital(instances=instances).pacs.find_series(PATIENT)
    assert ref.acquired is not None
    assert ref.acquired.earliest == datetime(2024, 1, 5, 8, 15, tzinfo=timezone(timedelta(hours=-5)))


def test_a_series_without_time_has_its_studys(hospital: Build) -> None:
    """Where a series has no date, its study's date and time are its acquisition."""
    instances = simulated_ct(CtOptions(patient_id="SIM-1", slices=2, rows=8, columns=8))
    for instance in instances:
        instance.SeriesDate = instance.SeriesTime = ""
    (ref,) = hospital(instances=instances).pacs.find_series(PATIENT)
    assert ref.acquired is not None
    assert ref.acquired.earliest == datetime(2024, 1, 5, 8, 15, tzinfo=UTC)
    assert ref.description == "SIMULATED axial"
    assert ref.modality == "CT"


class _Robbed(Queue[object]):
    """The answers of an association, of which the first to so many requests is lost before we see it."""

    def __init__(self, association: Association, times: int) -> None:
        super().__init__()
        self._left, self._armed = times, False
        association.bind(evt.EVT_DIMSE_SENT, self._arm)
        association.dimse.msg_queue = self

    def _arm(self, _: evt.Event) -> None:
        self._armed, self._left = self._left > 0, self._left - 1

    def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        if self._armed:
            self._armed = False
        else:
            super().put(item, block, timeout)


@pytest.mark.parametrize("times", [1, 3])
def test_an_answer_lost_on_our_side_is_asked_for_again(hospital: Build, times: int) -> None:
    """A list that lost an answer between wire and caller (pynetdicom issue 875) is never taken for the whole."""
    there = hospital()
    (ref,) = there.pacs.find_series(PATIENT)
    with _asking(there) as (query, association):
        _Robbed(association, times)
        found = {str(instance.SOPInstanceUID) for instance in query.instances(ref.study_uid, ref.series_uid)}
    assert found == set(ref.instance_uids)


def test_answers_that_are_always_lost_are_no_empty_list(hospital: Build) -> None:
    """Where every attempt loses one, the archive counts as unavailable: tried again later, never "no images"."""
    there = hospital()
    (ref,) = there.pacs.find_series(PATIENT)
    with _asking(there) as (query, association):
        _Robbed(association, times=100)
        with pytest.raises(PeerUnavailable, match="lost"):
            list(query.series(ref.study_uid))


@contextmanager
def _asking(there: Hospital) -> Iterator[tuple[Query, Association]]:
    archive = Archive(
        host="127.0.0.1",
        port=there.archive.port,
        ae_title=AETitle(there.archive.ae_title),
        calling_ae_title=OURS,
        limits=HURRIED,
    )
    with associated(archive, StudyRootQueryRetrieveInformationModelFind, answer_seconds=3) as association:
        yield Query(archive, association), association
