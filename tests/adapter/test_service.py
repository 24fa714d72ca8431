"""The service's own look at itself: what it complains of, and that nothing it says names a patient."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import make_url

from adapter.errors import BadSettings
from adapter.pipeline.reconcile import asked_at
from adapter.rooms import build_reconciler
from adapter.sandbox.faults import FhirFaults
from adapter.sandbox.hospital import SandboxHospital
from adapter.sandbox.patients import PATIENT_SYSTEM, simulate_courses
from adapter.service import Role, Service
from adapter.settings import Settings, settings_from
from adapter.terminology import load_terminology
from tests.faults.proxy import Manner, TcpProxy
from tests.peers.postgresql import Postgresql

_START = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    """A wall clock that stands until it is moved, and beside it the seconds that have passed."""

    def __init__(self) -> None:
        """Begin at the start."""
        self.now = _START
        self.passed = 0.0

    def __call__(self) -> datetime:
        """What it shows."""
        return self.now

    def monotonic(self) -> float:
        """What has passed, whatever it shows."""
        return self.passed

    def wait(self, minutes: float) -> None:
        """Time passes, as both show."""
        self.now += timedelta(minutes=minutes)
        self.passed += minutes * 60


@pytest.fixture
def clock() -> Clock:
    """One at the start."""
    return Clock()


@pytest.fixture
def hospital() -> Iterator[SandboxHospital]:
    """One simulated patient, of whom nothing is known yet."""
    with SandboxHospital(simulate_courses(1, seed=7, today=_START), load_terminology()) as running:
        yield running


@pytest.fixture
def service(hospital: SandboxHospital, clock: Clock, tmp_path: Path) -> Iterator[Service]:
    """Running on it, without an archive."""
    with Service(_settings(hospital, tmp_path), clock=clock, monotonic=clock.monotonic) as running:
        yield running


def _settings(hospital: SandboxHospital, folder: Path) -> Settings:
    return settings_from(
        {
            "fhir": {"base_url": hospital.ehr.base_url, "patient_identifier_system": PATIENT_SYSTEM},
            "cohort": {"patients": [f"Patient/{patient}" for patient in hospital.patients]},
            "store": {"url": f"sqlite:///{folder}/adjuvant.db", "folder": str(folder)},
            "watch": {"poll_seconds": 60},
            "web": {"port": 0},
        }
    )


def _ready(service: Service) -> tuple[int, list[str]]:
    reply = httpx.get(f"{service.web.url}/health/ready")
    return reply.status_code, reply.json()["complaints"]


def test_ready_needs_a_look_at_the_ehr_that_ended_well(service: Service) -> None:
    """Not ready before the first poll, ready after it."""
    assert _ready(service) == (503, ["starting"])
    service.poll()
    assert _ready(service) == (200, [])


@pytest.mark.fault("F-37")
def test_an_error_nobody_foresaw_is_a_complaint_without_its_message(service: Service, tmp_path: Path) -> None:
    """A poll that breaks on a bug leaves the service not ready and running; only class and place are told."""
    service.poll()
    with sqlite3.connect(tmp_path / "adjuvant.db") as database:
        database.execute("update adjuvant_watermark set time = 'Erika Musterfrau'")
    database.close()
    assert service.poll() == 0
    code, complaints = _ready(service)
    assert code == 503
    assert "ValueError at " in complaints[0]
    assert "Muster" not in complaints[0]


def test_silence_is_a_complaint(service: Service, clock: Clock) -> None:
    """Where polls stop without any error, as when their thread is gone, the service does not stay ready for ever."""
    service.poll()
    clock.wait(minutes=4)
    assert _ready(service) == (200, [])
    clock.wait(minutes=2)
    assert _ready(service) == (503, ["no look at the EHR ended well for 360 s"])


@pytest.mark.fault("F-26")
@pytest.mark.parametrize("step", [timedelta(hours=-1), timedelta(days=-365)])
def test_a_clock_put_back_hides_no_silence(service: Service, clock: Clock, step: timedelta) -> None:
    """F-26: measured by the wall clock the silence would be negative, and nobody would hear of it for the step."""
    service.poll()
    clock.now += step
    clock.wait(minutes=6)
    assert _ready(service) == (503, ["no look at the EHR ended well for 360 s"])


@pytest.mark.fault("F-26")
def test_a_clock_put_ahead_is_no_silence(service: Service, clock: Clock) -> None:
    """F-26: nobody is called for a step of the clock."""
    service.poll()
    clock.now += timedelta(hours=1)
    assert _ready(service) == (200, [])


def test_records_are_compared_once_a_night(service: Service, hospital: SandboxHospital, clock: Clock) -> None:
    """The tick may come as often as it likes: one round a night, none before the first look, and monitors see when."""
    assert service.reconcile() is None
    service.poll()
    clock.now += timedelta(hours=3)
    first = service.reconcile()
    assert first is not None
    assert (first.name, first.interrupted) == ("2026-03-01", "")
    assert service.reconcile() is None
    assert "adjuvant_last_reconciliation_timestamp_seconds" in httpx.get(f"{service.web.url}/metrics").text
    clock.now += timedelta(days=1)
    hospital.ehr.faults = FhirFaults(html_page=True)
    second = service.reconcile()
    assert second is not None
    assert second.name == "2026-03-02"


def test_a_comparison_by_hand_does_not_repeat_the_night_s(
    service: Service, hospital: SandboxHospital, clock: Clock, tmp_path: Path
) -> None:
    """`adjuvant reconcile` in the morning: the next tick reads nobody's record again, the next night reads them all."""
    service.poll()
    clock.wait(minutes=180)
    assert service.reconcile() is not None
    by_hand = build_reconciler(_settings(hospital, tmp_path), service.rooms.client, service.rooms.store)
    assert by_hand.reconcile(asked_at(clock()), clock) is not None
    seen = hospital.ehr.requests
    assert service.reconcile() is None
    assert hospital.ehr.requests == seen
    clock.wait(minutes=24 * 60)
    assert service.reconcile() is not None


def test_a_comparison_that_breaks_is_no_crash(service: Service, clock: Clock, tmp_path: Path) -> None:
    """A bug in the night's round is said in the log and tried again at the next tick; polls go on."""
    service.poll()
    clock.now += timedelta(hours=3)
    with sqlite3.connect(tmp_path / "adjuvant.db") as database:
        database.execute("alter table adjuvant_remembered rename to hidden")
    database.close()
    assert service.reconcile() is None
    with sqlite3.connect(tmp_path / "adjuvant.db") as database:
        database.execute("alter table hidden rename to adjuvant_remembered")
    database.close()
    assert service.reconcile() is not None


@pytest.mark.parametrize("role", [Role.WATCH, Role.WORK])
def test_roles_apart_need_postgresql(hospital: SandboxHospital, tmp_path: Path, role: Role) -> None:
    """On SQLite one process works on the file: the start is refused, and says what is needed."""
    with pytest.raises(BadSettings, match="PostgreSQL"):
        Service(_settings(hospital, tmp_path), role=role)


def test_the_web_role_needs_neither_ehr_nor_model(hospital: SandboxHospital, tmp_path: Path) -> None:
    """It tells how many cases there are, beside the process that works on them."""
    with (
        Service(_settings(hospital, tmp_path)) as working,
        Service(_settings(hospital, tmp_path), role=Role.WEB) as showing,
    ):
        assert working.poll() == 1
        assert _ready(showing) == (200, [])
        metrics = httpx.get(f"{showing.web.url}/metrics").text
        assert 'adjuvant_cases{state="waiting"} 1.0' in metrics
        assert "adjuvant_workers 1.0" in metrics
        assert showing.unfinished == ()


_NOBODY = "no process has looked at the EHR {}: does one run with --role watch or all?"


@pytest.fixture
def showing(hospital: SandboxHospital, clock: Clock, tmp_path: Path) -> Iterator[Service]:
    """One that does not look at the EHR itself, on the same store."""
    settings = _settings(hospital, tmp_path)
    with Service(settings, role=Role.WEB, clock=clock, monotonic=clock.monotonic) as running:
        yield running


def _polled(folder: Path, at: str) -> None:
    with closing(sqlite3.connect(folder / "adjuvant.db")) as database, database:
        database.execute("update adjuvant_watermark set polled = ?", [at])


def test_where_nobody_looks_at_the_ehr_every_process_says_so(showing: Service, clock: Clock) -> None:
    """Law: with `--role work` or `web` alone nothing stays ready. Breach: all said ready, and the metric was absent."""
    assert _ready(showing) == (200, [])
    clock.wait(minutes=6)
    assert _ready(showing) == (503, [_NOBODY.format("yet")])
    assert "adjuvant_last_good_poll" not in httpx.get(f"{showing.web.url}/metrics").text


@pytest.mark.fault("F-26")
def test_the_last_look_of_another_process_is_known(
    service: Service, showing: Service, clock: Clock, tmp_path: Path
) -> None:
    """One that watched and is gone is missed after five intervals, by the others and after their restart.

    F-26: also where the database's clock was put back, and the last look seems to be still to come.
    """
    service.poll()
    assert _ready(showing) == (200, [])
    assert "adjuvant_last_good_poll_timestamp_seconds 1." in httpx.get(f"{showing.web.url}/metrics").text
    _polled(tmp_path, "2026-01-01 12:00:00")
    assert _ready(showing) == (503, [_NOBODY.format("since 2026-01-01T12:00:00+00:00")])
    service.poll()
    assert _ready(showing) == (200, [])
    _polled(tmp_path, "2999-01-01 12:00:00")
    assert _ready(showing) == (200, [])
    clock.wait(minutes=6)
    assert _ready(showing) == (503, [_NOBODY.format("since 2999-01-01T12:00:00+00:00")])


@pytest.mark.fault("F-27")
@pytest.mark.parametrize("role", [Role.ALL, Role.WEB])
def test_a_database_that_cannot_be_used_is_a_complaint(
    hospital: SandboxHospital, tmp_path: Path, clock: Clock, role: Role
) -> None:
    """Law: ready says 503 with the reason, metrics answer, and all is well again by itself. Breach: 500 to both."""
    settings = _settings(hospital, tmp_path)
    with Service(settings, role=role, clock=clock, monotonic=clock.monotonic) as running:
        if role.watches:
            running.poll()
        with closing(sqlite3.connect(tmp_path / "adjuvant.db")) as database, database:
            database.execute("alter table adjuvant_watermark rename to hidden")
        assert _ready(running) == (503, ["the database cannot be used now: locked, full, or away"])
        assert "adjuvant_store_up 0.0" in httpx.get(f"{running.web.url}/metrics").text
        with closing(sqlite3.connect(tmp_path / "adjuvant.db")) as database, database:
            database.execute("alter table hidden rename to adjuvant_watermark")
        assert _ready(running) == (200, [])
        assert "adjuvant_store_up 1.0" in httpx.get(f"{running.web.url}/metrics").text


@pytest.mark.fault("F-27")
def test_postgresql_that_is_away_is_a_complaint(
    hospital: SandboxHospital, tmp_path: Path, postgresql: Postgresql
) -> None:
    """Law: as above, where connections are reset, those that were open and new ones."""
    address = make_url(postgresql.create_database("away"))
    with TcpProxy(str(address.host), address.port or 0) as proxy:
        url = address.set(drivername="postgresql", port=proxy.port).render_as_string(hide_password=False)
        given = _settings(hospital, tmp_path)
        settings = given.model_copy(update={"store": given.store.model_copy(update={"url": url})})
        with Service(settings, role=Role.WEB) as showing:
            assert _ready(showing) == (200, [])
            proxy.behave(Manner.RESET)
            proxy.cut()
            assert _ready(showing) == (503, ["the database cannot be used now: locked, full, or away"])
            assert "adjuvant_store_up 0.0" in httpx.get(f"{showing.web.url}/metrics").text
            proxy.behave(Manner.PASS)
            assert _ready(showing) == (200, [])


@pytest.mark.fault("F-16")
def test_a_full_disk_is_a_complaint_until_there_is_room(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not ready while our Storage SCP would refuse every image, ready again by itself."""
    service.poll()
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    code, complaints = _ready(service)
    assert (code, [one for one in complaints if "disk" in one]) == (503, complaints)
    monkeypatch.undo()
    assert _ready(service) == (200, [])


@pytest.mark.real
@pytest.mark.fault("F-27")
def test_a_worker_without_a_sign_of_life_says_so(service: Service, tmp_path: Path) -> None:
    """Others take it for dead after 15 s: it is not ready as long as it cannot beat, and ready again by itself."""
    service.poll()
    with closing(sqlite3.connect(tmp_path / "adjuvant.db")) as database, database:
        database.execute("alter table adjuvant_worker rename to hidden")
    deadline = time.monotonic() + 60
    while _ready(service)[0] == 200:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    (complaint,) = _ready(service)[1]
    assert complaint.startswith("no sign of life was given for 1")
    with closing(sqlite3.connect(tmp_path / "adjuvant.db")) as database, database:
        database.execute("alter table hidden rename to adjuvant_worker")
    while _ready(service)[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.5)
