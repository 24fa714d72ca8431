"""What a case rests on comes back as it was, in bytes that never change, or is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.domain.ids import InstanceUid, PatientId, ResourceVersion, SeriesUid, StudyUid
from adapter.domain.imaging import SeriesRef
from adapter.domain.outcome import TransactionBundle
from adapter.domain.period import Period
from adapter.domain.record import Quarantined, RawRecord, RawResource, SearchTally
from adapter.errors import BadData, BadStore
from adapter.pipeline.case_file import CaseFile, SeriesFile, seal, unseal
from tests.fakes.records import SURGERY

_DIGEST = "ab" * 32
_CASE_FILE = CaseFile(
    record=_DIGEST, series=(_DIGEST,), image_notes=("no-archive",), at=SURGERY, practice=_DIGEST, model=_DIGEST
)
_SERIES = SeriesFile(
    ref=SeriesRef(
        study_uid=StudyUid("1.2.3"),
        series_uid=SeriesUid("1.2.3.4"),
        modality="CT",
        acquired=Period(earliest=SURGERY, latest=datetime(2025, 3, 11, tzinfo=UTC)),
        instance_uids=(InstanceUid("1.2.3.4.1"), InstanceUid("1.2.3.4.2")),
    ),
    files=(_DIGEST, _DIGEST),
)
_BUNDLE = TransactionBundle(assessment_id="a" * 32, content=b'{"resourceType":"Bundle"}', resources=("Device/d",))
_VERSIONS = st.builds(
    ResourceVersion, st.sampled_from(["Observation", "Patient"]), st.sampled_from(["a", "b-1"]), st.just("1")
)
_RECORDS = st.builds(
    RawRecord,
    patient_id=st.just(PatientId("p1")),
    aliases=st.lists(st.just(PatientId("p0")), max_size=1).map(tuple),
    resources=st.lists(st.builds(RawResource, version=_VERSIONS, content=st.binary(max_size=64)), max_size=4).map(
        tuple
    ),
    tallies=st.lists(
        st.builds(
            SearchTally, resource_type=st.just("Observation"), pages=st.integers(1, 9), entries=st.integers(0, 99)
        ),
        max_size=2,
    ).map(tuple),
    quarantined=st.lists(
        st.builds(
            Quarantined,
            source=st.text(max_size=9),
            reason=st.text(max_size=9),
            detail=st.text(max_size=9),
            known=st.none() | st.just(SURGERY),
        ),
        max_size=2,
    ).map(tuple),
)


@given(_RECORDS)
def test_a_raw_record_comes_back_byte_for_byte(record: RawRecord) -> None:
    """Whatever bytes a server sent, valid JSON or not: replay reads exactly those."""
    assert unseal(seal(record), RawRecord) == record


def test_every_kind_comes_back_with_checked_identifiers() -> None:
    """A UID is a UID again, an aware time the same moment."""
    assert unseal(seal(_CASE_FILE), CaseFile) == _CASE_FILE
    assert unseal(seal(_BUNDLE), TransactionBundle) == _BUNDLE
    series = unseal(seal(_SERIES), SeriesFile)
    assert series == _SERIES
    assert type(series.ref.series_uid) is SeriesUid


def test_sealing_twice_gives_the_same_bytes() -> None:
    """The vault finds content by its digest: the same value must never have two."""
    assert seal(unseal(seal(_CASE_FILE), CaseFile)) == seal(_CASE_FILE)
    assert seal(unseal(seal(_SERIES), SeriesFile)) == seal(_SERIES)


@pytest.mark.parametrize("content", [b"", b"null", b"{}", b"[]", b"\xff", seal(_BUNDLE)])
def test_another_kind_is_refused(content: bytes) -> None:
    """A digest that leads to something else is a damaged store, named as one."""
    with pytest.raises(BadStore, match="not a CaseFile"):
        unseal(content, CaseFile)


@pytest.mark.fault("F-34")
def test_an_identifier_that_is_none_is_refused() -> None:
    """Altered content cannot smuggle an unchecked UID past the door."""
    with pytest.raises((BadStore, BadData)):
        unseal(seal(_SERIES).replace(b'"1.2.3.4"', b'"1.02.3"'), SeriesFile)
