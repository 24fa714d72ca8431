"""What every test may ask for: the real servers, the public data, and hypothesis kept repeatable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

from tests.peers.dcmtk import Dcmqrscp, start_dcmqrscp
from tests.peers.hapi import Hapi, start_hapi
from tests.peers.orthanc import Orthanc, Secured, start_orthanc
from tests.peers.postgresql import Postgresql, start_postgresql
from tests.peers.process import PeerMissing, require_tool

_PEERS = {"hapi", "orthanc", "dcmqrscp", "postgresql", "own_postgresql", "chromium_path", "own_orthanc"}
_PEERS_REQUIRED = os.environ.get("CI") == "true" or os.environ.get("ADJUVANT_REQUIRE_PEERS") == "1"
_Peer = TypeVar("_Peer")

settings.register_profile("adjuvant", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("adjuvant")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that asks for a real server; put the faults that a test proves on its result."""
    for item in items:
        if _PEERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.real)
        faults = {str(fault) for mark in item.iter_markers("fault") for fault in mark.args}
        item.user_properties += [("fault", fault) for fault in sorted(faults)]


def _started(start: Callable[[Path], _Peer], folder: Path) -> _Peer:
    try:
        return start(folder)
    except PeerMissing as missing:
        if _PEERS_REQUIRED:
            pytest.fail(f"a required peer is missing: {missing}")
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def hapi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hapi]:
    """HAPI FHIR, one for the whole run: use patients of your own."""
    server = _started(start_hapi, tmp_path_factory.mktemp("hapi"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Orthanc, one for the whole run: use patients of your own."""
    server = _started(start_orthanc, tmp_path_factory.mktemp("orthanc"))
    yield server
    server.stop()


@pytest.fixture
def own_orthanc(tmp_path: Path) -> Iterator[Callable[[Secured], Orthanc]]:
    """Starts an Orthanc for one test alone, with DICOM over TLS."""
    with ExitStack() as stack:

        def start(secured: Secured) -> Orthanc:
            server = _started(lambda folder: start_orthanc(folder, secured), tmp_path)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture(scope="session")
def dcmqrscp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dcmqrscp]:
    """DCMTK's archive, one for the whole run."""
    server = _started(start_dcmqrscp, tmp_path_factory.mktemp("dcmqrscp"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgresql]:
    """A PostgreSQL cluster, one for the whole run."""
    server = _started(start_postgresql, tmp_path_factory.mktemp("postgresql"))
    yield server
    server.stop()


@pytest.fixture
def own_postgresql(tmp_path: Path) -> Iterator[Postgresql]:
    """A PostgreSQL cluster for one test alone, which may restart it."""
    server = _started(start_postgresql, tmp_path)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Debian's Chromium."""
    return _started(lambda _: require_tool("chromium"), Path())


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The public research data, where this machine has it."""
    folder = os.environ.get("ADJUVANT_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ADJUVANT_DATA names no folder: the public research data is not on this machine")
    return Path(folder)
