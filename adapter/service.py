"""The composition root: the only place that builds clients, starts long-lived work, and reads the wall clock."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from adapter.decision.policy import load_policy
from adapter.dicom.ae import Archive
from adapter.dicom.limits import Limits as DicomLimits
from adapter.dicom.pacs import Pacs
from adapter.dicom.storage_scp import Listener
from adapter.domain.ids import AETitle, PatientId, ResourceId
from adapter.domain.outcome import Case, DeadLetter, Settled
from adapter.engine.queue import CaseQueue, QueueOptions
from adapter.engine.steps import RetryPolicy
from adapter.errors import AdjuvantError, BadBundle, BadSettings, Transient
from adapter.features.at_risk import LandmarkPolicy
from adapter.fhir.auth import bearer_from_file
from adapter.fhir.client import FhirClient
from adapter.fhir.cohort import Cohort, GroupCohort, PatientList, SelectCohort
from adapter.fhir.decode import Reading
from adapter.fhir.delivery import OutputMode, load_delivery, unverified_codes
from adapter.fhir.limits import Limits as FhirLimits
from adapter.pipeline.assess import Ports
from adapter.pipeline.practice import Practice
from adapter.pipeline.retention import expire_case_files
from adapter.pipeline.rooms import FhirRooms
from adapter.pipeline.watch import Watcher, enqueue_open_cases
from adapter.pipeline.work import AssessmentWork, Watching
from adapter.settings import CohortSettings, Settings
from adapter.store.database import StoreLock, open_database
from adapter.store.ledger import Ledger
from adapter.store.vault import Vault, create_site_key, read_site_key
from adapter.store.watermark import WatermarkStore
from adapter.store.workers import WorkerRegister
from adapter.terminology import load_terminology
from adapter.web.health import create_health_app
from adapter.web.server import WebServer
from inference.artifact import load_bundle, shipped_bundle
from inference.contract import BundleRefused
from inference.predictor import Predictor

_log = structlog.get_logger()


def free_port() -> int:
    """A loopback TCP port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wall_clock() -> datetime:
    """Now, aware, UTC. Read here and passed in everywhere else."""
    return datetime.now(UTC)


def build_practice(settings: Settings) -> Practice:
    """Every table and switch that shapes an output. Raises BadMapping, BadSettings."""
    site = settings.policy.site_folder
    terminology = load_terminology(site_folder=site)
    policy, delivery = load_policy(site_folder=site), load_delivery(site_folder=site)
    if settings.mode is OutputMode.LIVE:
        unverified = [f"{code.system}|{code.code}" for code in unverified_codes(policy, delivery)]
        unverified += terminology.unverified()
        if unverified:
            raise BadSettings(f"live mode refuses {len(unverified)} unverified codes, the first: {unverified[0]}")
    return Practice(
        reading=Reading(
            terminology=terminology, known_time=settings.fhir.known_time, zone=ZoneInfo(settings.fhir.time_zone)
        ),
        landmarks=LandmarkPolicy(quiet_time=settings.watch.quiet_time),
        policy=policy,
        delivery=delivery,
        mode=settings.mode,
        base_url=settings.fhir.base_url,
        patient_system=settings.fhir.patient_identifier_system,
        pacs_system=settings.pacs.patient_identifier_system if settings.pacs else None,
    )


def build_predictor(settings: Settings) -> Predictor:
    """The model, proven on its golden vectors. Raises BadBundle."""
    try:
        predictor = Predictor(load_bundle(settings.model.folder or shipped_bundle()))
    except BundleRefused as error:
        raise BadBundle(f"model: {error}") from error
    if predictor.identity.training_data == "simulated" and settings.mode is not OutputMode.DEMO:
        raise BadBundle("model: trained on simulated patients, refused outside demo mode")
    return predictor


def build_client(settings: Settings) -> FhirClient:
    """The EHR; nothing is connected yet."""
    token = bearer_from_file(settings.fhir.token_file) if settings.fhir.token_file else None
    return FhirClient(settings.fhir.base_url, token=token, limits=FhirLimits(page_size=settings.fhir.page_size))


def build_cohort(settings: CohortSettings) -> Cohort:
    """Whose records may be read. Raises BadIdentifier or BadSettings for what is no reference."""
    if settings.patients:
        return PatientList(patients=tuple(PatientId(text.removeprefix("Patient/")) for text in settings.patients))
    if settings.group:
        return GroupCohort(group_id=ResourceId(settings.group.removeprefix("Group/")))
    return SelectCohort.parse(settings.select or "")


def build_archive(settings: Settings) -> Pacs | None:
    """The PACS and our Storage SCP, neither open yet; None where the site has no archive."""
    if settings.pacs is None:
        return None
    ours, theirs = AETitle(settings.dicom.ae_title), AETitle(settings.pacs.ae_title)
    return Pacs(
        Archive(
            host=settings.pacs.host,
            port=settings.pacs.port,
            ae_title=theirs,
            calling_ae_title=ours,
            limits=DicomLimits(quiet_seconds=settings.dicom.quiet_seconds),
        ),
        Listener(ae_title=ours, bind=settings.dicom.bind, port=settings.dicom.port, callers=(theirs,)),
        folder=settings.store.folder / "inbox",
        zone=ZoneInfo(settings.fhir.time_zone),
    )


class Rooms:
    """Everything a case needs, opened: a context manager. The service runs cases in it, `assess` a single one."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = wall_clock) -> None:
        """Open nothing yet."""
        self.settings = settings
        self._clock = clock
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open store, tables, model, EHR and PACS. Raises the named Misconfigured error of whatever is not right."""
        settings = self.settings
        with ExitStack() as opening:
            self.database = open_database(settings.store.url)
            opening.callback(self.database.dispose)
            if settings.mode is not OutputMode.LIVE:
                create_site_key(settings.store.key_path)
            self.vault = Vault(settings.store.folder / "vault", read_site_key(settings.store.key_path))
            self.ledger = Ledger(self.database, self._clock)
            self.practice = build_practice(settings)
            self.predictor = build_predictor(settings)
            self.client = opening.enter_context(build_client(settings))
            archive = build_archive(settings)
            if archive is not None:
                opening.enter_context(archive)
            self.ports = Ports(
                source=FhirRooms(self.client),
                archive=archive,
                predictor=self.predictor,
                target=FhirRooms(self.client),
                files=self.vault,
                practice=self.practice,
            )
            self._stack = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Close in reverse order."""
        self._stack.close()


class Service:
    """Watches the EHR and works the queue until it is stopped. A context manager."""

    def __init__(
        self,
        settings: Settings,
        *,
        watching: Watching | None = None,
        clock: Callable[[], datetime] = wall_clock,
    ) -> None:
        """watching: sees each step of each case, for progress."""
        self._settings = settings
        self._watching: Watching = watching or log_progress
        self._clock = clock
        self._complaint: str | None = "starting"
        self._stack = ExitStack()
        self._polling = threading.Lock()

    def __enter__(self) -> Self:
        """Start everything, or raise the named error of the first thing that cannot; then nothing is left running."""
        settings = self._settings
        with ExitStack() as opening:
            lock = StoreLock(settings.store.folder)
            opening.callback(lock.release)
            self.rooms = opening.enter_context(Rooms(settings, self._clock))
            self._look_at_the_ehr()
            work = AssessmentWork(
                self.rooms.ports,
                self.rooms.ledger,
                retries=RetryPolicy(attempts=settings.watch.attempts),
                wait=self._wait,
                watching=self._watching,
            )
            workers = WorkerRegister(self.rooms.database)
            options = QueueOptions(workers=settings.watch.workers, quiet_seconds=settings.watch.quiet_seconds)
            self.queue = opening.enter_context(CaseQueue(self.rooms.database, work, options, workers))
            feed = WatermarkStore(self.rooms.database, settings.fhir.base_url)
            self._watcher = Watcher(self.rooms.client, build_cohort(settings.cohort), feed)
            app = create_health_app(self.rooms.ledger.counts, self.complaints)
            web = WebServer(app, host=settings.web.bind, port=settings.web.port)
            self.web = opening.enter_context(web)
            self._enqueue_open()
            self._stack = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop within ten seconds: no new poll, steps in flight finish or are repeated at the next start."""
        self._stack.close()

    def poll(self) -> int:
        """One look at the EHR; returns how many patients changed. A failing EHR is a complaint, not a crash."""
        with self._polling:
            try:
                cases = self._watcher.poll()
                self._enqueue_open()
            except AdjuvantError as error:
                self._complaint = f"{type(error).__name__}: {error}"
                _log.warning("poll failed", error=type(error).__name__, detail=str(error))
                return 0
            self._complaint = None
            return len(cases)

    def expire(self) -> int:
        """Remove the case files whose retention time is over; returns how many."""
        before = self._clock() - timedelta(days=self._settings.store.retention_days)
        try:
            return expire_case_files(self.rooms.ledger, self.rooms.vault, before)
        except AdjuvantError as error:
            _log.warning("case files were not expired", error=type(error).__name__, detail=str(error))
            return 0

    def run_until(self, stopping: threading.Event) -> None:
        """Poll at the configured pace until asked to stop."""
        scheduler = BackgroundScheduler(timezone=UTC)
        # the tick only asks; all work is enqueued by id, so a missed or doubled tick changes nothing
        scheduler.add_job(
            self.poll,
            "interval",
            seconds=self._settings.watch.poll_seconds,
            max_instances=1,
            coalesce=True,
            next_run_time=self._clock(),
        )
        scheduler.add_job(self.expire, "interval", days=1, coalesce=True, next_run_time=self._clock())
        scheduler.start()
        try:
            stopping.wait()
        finally:
            scheduler.shutdown(wait=True)

    def run_until_settled(self, seconds: float) -> bool:
        """Poll once and wait until no case waits or runs; False when the time is over first."""
        self.poll()
        return self.queue.wait_until_idle(seconds)

    def complaints(self) -> tuple[str, ...]:
        """What keeps the service from its work now."""
        return () if self._complaint is None else (self._complaint,)

    def _wait(self, seconds: float) -> bool:
        return self.queue.pause(seconds)

    def _enqueue_open(self) -> None:
        enqueue_open_cases(self.queue, self.rooms.ledger, self._give_up)

    def _give_up(self, case: Case) -> None:
        """The engine ended the case before it could settle itself: close it, so that the next revision runs."""
        self.rooms.ledger.record(case, DeadLetter(reason="engine-gave-up", detail=case.case_id))

    def _look_at_the_ehr(self) -> None:
        """Say what the EHR lacks. One that is down now is a complaint, not a reason to stay down ourselves."""
        try:
            gaps = self.rooms.client.capabilities().gaps()
        except Transient as error:
            self._complaint = f"{type(error).__name__}: {error}"
            return
        if gaps:
            _log.warning("the EHR lacks what is needed", gaps=list(gaps))


def log_progress(case: Case, step: str, settled: Settled | None) -> None:
    """One structured line per step: ids and codes only."""
    reason = getattr(settled, "reason", "") if settled else ""
    _log.info("case", case=case.case_id, step=step, outcome=type(settled).__name__ if settled else "", reason=reason)
