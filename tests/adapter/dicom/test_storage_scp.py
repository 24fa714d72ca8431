"""Our Storage SCP against peers that are strange, wrong or hostile."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import EncapsulatedPDFStorage, RTPlanStorage, Verification

from adapter.dicom.ae import Sockets
from adapter.dicom.inbox import Delivery, Inbox
from adapter.dicom.limits import Limits
from adapter.dicom.quiet import quiet_libraries
from adapter.dicom.storage_scp import (
    CANNOT_UNDERSTAND,
    DUPLICATE_INSTANCE,
    NOT_AUTHORISED,
    NOT_WHAT_IT_SAYS,
    STORED,
    Listener,
    StorageScp,
)
from adapter.domain.ids import AETitle, InstanceUid, SeriesUid, StudyUid
from adapter.domain.imaging import DicomPatient, SeriesRef
from adapter.errors import BadSettings, ConflictingInstance
from adapter.sandbox.ct import CtOptions, simulated_ct
from tests.fakes.transcoded import EVERY_SYNTAX, transcoded
from tests.fakes.waiting import wait_until

CALLER = "SANDBOX"
LIMITS = Limits(association_seconds=5, network_silence_seconds=5, free_bytes=0)
SHORT = Limits(association_seconds=0.5, network_silence_seconds=1, free_bytes=0)


def _ref(instances: tuple[Dataset, ...]) -> SeriesRef:
    return SeriesRef(
        study_uid=StudyUid(instances[0].StudyInstanceUID),
        series_uid=SeriesUid(instances[0].SeriesInstanceUID),
        modality="CT",
        acquired=None,
        instance_uids=tuple(sorted(InstanceUid(one.SOPInstanceUID) for one in instances)),
    )


@pytest.fixture
def instances() -> tuple[Dataset, ...]:
    """Three slices of one series."""
    return simulated_ct(CtOptions(patient_id="SIM-1", slices=3, rows=40, columns=40))


@contextmanager
def _receiving(folder: Path, instances: tuple[Dataset, ...], limits: Limits = LIMITS) -> Iterator[tuple[int, Delivery]]:
    """An SCP that expects the series; its port and the delivery."""
    quiet_libraries()
    inbox = Inbox(folder, limits)
    listener = Listener(ae_title=AETitle("ADJUVANT"), bind="127.0.0.1", port=0, callers=(AETitle(CALLER),))
    patient = DicomPatient(patient_id="SIM-1")
    with StorageScp(listener, inbox, limits) as scp, inbox.expecting(patient, _ref(instances), folder) as delivery:
        yield scp.port, delivery


@contextmanager
def _sending(port: int, *, caller: str = CALLER, called: str = "ADJUVANT", sop_class: str = CTImageStorage,
             syntax: str = ExplicitVRLittleEndian) -> Iterator[Association]:  # fmt: skip
    entity = AE(ae_title=caller)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 5
    entity.add_requested_context(sop_class, syntax)
    sockets = Sockets(LIMITS)
    association = entity.associate("127.0.0.1", port, ae_title=called, evt_handlers=sockets.handlers())
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        sockets.close()


def _status(association: Association, instance: Dataset) -> int:
    return int(association.send_c_store(instance).Status)


def test_only_listed_callers_for_our_title_are_served(tmp_path: Path, instances: tuple[Dataset, ...]) -> None:
    """A calling AE title outside the list, or another called one, is rejected."""
    with _receiving(tmp_path, instances) as (port, _):
        for caller, called in (("STRANGER", "ADJUVANT"), (CALLER, "OTHER")):
            with _sending(port, caller=caller, called=called) as association:
                assert association.is_rejected
        with _sending(port, sop_class=Verification) as association:
            assert association.send_c_echo().Status == 0


@pytest.mark.fault("F-50")
@pytest.mark.parametrize("sop_class", [RTPlanStorage, EncapsulatedPDFStorage, "1.2.3.4"])
def test_only_image_storage_is_accepted(tmp_path: Path, instances: tuple[Dataset, ...], sop_class: str) -> None:
    """What is no image of a series is not negotiated, an unknown abstract syntax neither."""
    with _receiving(tmp_path, instances) as (port, _), _sending(port, sop_class=sop_class) as association:
        assert not association.accepted_contexts


def test_stored_means_on_disk(tmp_path: Path, instances: tuple[Dataset, ...]) -> None:
    """0000 is answered when the file lies under its final name; no name shows a header value."""
    with _receiving(tmp_path, instances) as (port, delivery), _sending(port) as association:
        assert _status(association, instances[0]) == STORED
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files == [delivery.path_of(instances[0].SOPInstanceUID)]
    assert "SIM-1" not in str(files[0])
    assert str(instances[0].SOPInstanceUID) not in str(files[0])


@pytest.mark.parametrize("name", ["RLE", "JPEG-LS", "JPEG 2000", "JPEG lossless"])
def test_a_duplicate_with_the_same_pixels_is_no_conflict(
    tmp_path: Path, instances: tuple[Dataset, ...], name: str
) -> None:
    """The same image again, in whatever transfer syntax, is stored once; the first stays."""
    again = dcmread(BytesIO(transcoded(instances[0], EVERY_SYNTAX[name])))
    with _receiving(tmp_path, instances) as (port, delivery):
        with _sending(port) as association:
            assert _status(association, instances[0]) == STORED
        first = delivery.path_of(instances[0].SOPInstanceUID).read_bytes()
        with _sending(port, syntax=EVERY_SYNTAX[name]) as association:
            assert _status(association, again) == STORED
        assert delivery.path_of(instances[0].SOPInstanceUID).read_bytes() == first
        delivery.raise_breach()


@pytest.mark.fault("F-12")
def test_a_duplicate_with_other_pixels_keeps_the_first(tmp_path: Path, instances: tuple[Dataset, ...]) -> None:
    """Other pixels under a stored UID are refused, the first file stays, and the delivery knows."""
    with _receiving(tmp_path, instances) as (port, delivery), _sending(port) as association:
        assert _status(association, instances[0]) == STORED
        first = delivery.path_of(instances[0].SOPInstanceUID).read_bytes()
        instances[0].PixelData = bytes(len(instances[0].PixelData))
        assert _status(association, instances[0]) == DUPLICATE_INSTANCE
        assert delivery.path_of(instances[0].SOPInstanceUID).read_bytes() == first
        with pytest.raises(ConflictingInstance):
            delivery.raise_breach()


def test_what_is_not_expected_is_not_kept(tmp_path: Path, instances: tuple[Dataset, ...]) -> None:
    """An image nobody asked for is refused (0124) and leaves nothing."""
    with _receiving(tmp_path, instances[:2]) as (port, _), _sending(port) as association:
        assert _status(association, instances[2]) == NOT_AUTHORISED
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.fault("F-11")
@pytest.mark.parametrize(
    ("keyword", "value", "status"),
    [
        ("PatientID", "SIM-2", NOT_AUTHORISED),
        ("PatientID", None, NOT_AUTHORISED),
        ("SeriesInstanceUID", None, CANNOT_UNDERSTAND),
        ("SeriesInstanceUID", "../../etc/passwd", CANNOT_UNDERSTAND),
        ("StudyInstanceUID", "1" * 300, CANNOT_UNDERSTAND),
        ("SeriesInstanceUID", "2.25.1", DUPLICATE_INSTANCE),
    ],
)
def test_a_wrong_header_has_its_status(
    tmp_path: Path, instances: tuple[Dataset, ...], keyword: str, value: str | None, status: int
) -> None:
    """Another patient, missing or illegal keys, another series: each refused, nothing outside the folder, no file."""
    if value is None:
        delattr(instances[0], keyword)
    else:
        setattr(instances[0], keyword, value)
    with _receiving(tmp_path, _twins(instances)) as (port, _), _sending(port) as association:
        assert _status(association, instances[0]) == status
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def _twins(instances: tuple[Dataset, ...]) -> tuple[Dataset, ...]:
    """The same series with legal keys, to be expected."""
    return simulated_ct(CtOptions(patient_id="SIM-1", slices=len(instances), rows=40, columns=40))


@pytest.mark.fault("F-11")
def test_a_dataset_that_is_not_what_its_command_says(tmp_path: Path, instances: tuple[Dataset, ...]) -> None:
    """A C-STORE for one instance that carries another is A900."""
    quiet_libraries()
    with _receiving(tmp_path, instances) as (port, _), _sending(port) as association:
        # send_c_store takes the command's UID from the dataset, so the dataset is changed behind its back
        lying = _Lying(instances[0])
        assert int(association.send_c_store(lying).Status) == NOT_WHAT_IT_SAYS


class _Lying(Dataset):
    """Says one SOP Instance UID when asked by name, and encodes another."""

    def __init__(self, instance: Dataset) -> None:
        super().__init__(instance)
        self.file_meta = instance.file_meta
        self._said = str(instance.SOPInstanceUID)
        self["SOPInstanceUID"].value = "2.25.99"

    def __getattribute__(self, name: str) -> object:
        if name == "SOPInstanceUID":
            return super().__getattribute__("_said")
        return super().__getattribute__(name)


def _closed_within(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.fault("F-50")
@pytest.mark.parametrize(
    "opening",
    [b"", b"\x01\0\0\0", struct.pack(">BBL", 1, 0, 0xFFFFFFFF), struct.pack(">BBL", 1, 0, 5000) + b"\0" * 100,
     b"GET / HTTP/1.1\r\n\r\n", struct.pack(">BBL", 9, 0, 4) + b"\0" * 4],
    ids=["silent", "half a header", "4 GB", "stops inside", "HTTP", "unknown PDU"],
)  # fmt: skip
def test_a_hostile_peer_is_let_go(tmp_path: Path, instances: tuple[Dataset, ...], opening: bytes) -> None:
    """Silence, lies about length and other protocols end within the timeouts; others are served meanwhile."""
    with _receiving(tmp_path, instances, SHORT) as (port, _), socket.create_connection(("127.0.0.1", port)) as hostile:
        hostile.sendall(opening)
        with _sending(port) as association:
            assert _status(association, instances[0]) == STORED
        assert _closed_within(hostile, 3.0)


@pytest.mark.fault("F-50")
def test_connections_are_counted(tmp_path: Path, instances: tuple[Dataset, ...]) -> None:
    """More connections than allowed are closed at once; when the idle ones have timed out, others are served."""
    limits = Limits(association_seconds=0.7, network_silence_seconds=3, connections=4, free_bytes=0)
    with _receiving(tmp_path, instances, limits) as (port, _), ExitStack() as crowd:
        idle = [crowd.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(20)]
        wait_until(lambda: sum(_closed_within(one, 0.001) for one in idle) >= 20 - limits.connections, 10)
        wait_until(lambda: _is_served(port), 10)


def _is_served(port: int) -> bool:
    with _sending(port) as association:
        return bool(association.is_established)


@pytest.mark.fault("F-50")
def test_a_message_over_its_cap_ends_the_association(tmp_path: Path, instances: tuple[Dataset, ...]) -> None:
    """An instance larger than allowed is not gathered in memory: the association ends, nothing is stored."""
    limits = Limits(instance_bytes=2000, free_bytes=0, network_silence_seconds=1, association_seconds=1)
    with _receiving(tmp_path, instances, limits) as (port, delivery), _sending(port) as association:
        assert "Status" not in association.send_c_store(instances[0])
        assert len(delivery.missing) == 3


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """An address somebody else listens on is BadSettings at the start, not a failure at night."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listener = Listener(
            ae_title=AETitle("ADJUVANT"), bind="127.0.0.1", port=taken.getsockname()[1], callers=(AETitle(CALLER),)
        )
        with pytest.raises(BadSettings, match="cannot listen"):
            StorageScp(listener, Inbox(tmp_path, LIMITS), LIMITS).__enter__()


@pytest.mark.fault("F-01", "F-09")
def test_a_cut_delivery_is_tidied_and_taken_up(tmp_path: Path, instances: tuple[Dataset, ...]) -> None:
    """What a crash left: whole files count, partial ones and altered ones go."""
    with _receiving(tmp_path, instances) as (port, delivery), _sending(port) as association:
        for instance in instances[:2]:
            assert _status(association, instance) == STORED
        altered = delivery.path_of(instances[1].SOPInstanceUID)
        altered.write_bytes(altered.read_bytes()[:200])
        (delivery.folder / "left.1.partial").write_bytes(b"half")
    with _receiving(tmp_path, instances) as (_, delivery):
        assert set(delivery.missing) == {str(one.SOPInstanceUID) for one in instances[1:]}
        assert not list(tmp_path.rglob("*.partial"))
