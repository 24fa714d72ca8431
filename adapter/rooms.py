"""The composition root: what a site's settings open. Store, tables and model first; EHR and PACS where they are needed.

A decision needs no peer, so a stored case is replayed or forgotten without one, also beside a running service.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from enum import Enum, auto
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

from adapter.breaker import CircuitReport
from adapter.decision.policy import load_policy
from adapter.dicom.ae import Archive
from adapter.dicom.limits import Limits as DicomLimits
from adapter.dicom.pacs import Pacs
from adapter.dicom.storage_scp import Listener
from adapter.dicom.tls import TlsFiles, client_context, server_context
from adapter.domain.ids import AETitle, PatientId, ResourceId
from adapter.errors import BadBundle, BadMapping, BadSettings, BadStore, NoStore, OldStore, Transient
from adapter.features.at_risk import LandmarkPolicy
from adapter.fhir.auth import bearer_from_file
from adapter.fhir.client import FhirClient
from adapter.fhir.cohort import Cohort, GroupCohort, PatientList, SelectCohort
from adapter.fhir.decode import Reading
from adapter.fhir.delivery import OutputMode, load_delivery, unverified_codes
from adapter.fhir.limits import Limits as FhirLimits
from adapter.pipeline.assess import StepResult
from adapter.pipeline.ehr import Ehr
from adapter.pipeline.guarded import GuardedArchive
from adapter.pipeline.ports import DecisionPorts, Ports
from adapter.pipeline.practice import Practice
from adapter.pipeline.reconcile import Reconciler
from adapter.pipeline.work import conclude_stored
from adapter.settings import CohortSettings, Settings, StoreSettings
from adapter.store.backup import require_restored
from adapter.store.cases import anybody_asked_for
from adapter.store.database import Database, open_database, open_existing_database, store_session
from adapter.store.ledger import Ledger
from adapter.store.rounds import RoundBook
from adapter.store.vault import Vault, case_file_paths, create_site_key, read_site_key
from adapter.store.watermark import WatermarkStore
from adapter.terminology import load_terminology
from inference.artifact import load_bundle, shipped_bundle
from inference.contract import BundleRefused
from inference.occlusion import ExplainingPredictor, InputGroup
from inference.predictor import Predictor


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


def build_predictor(settings: Settings) -> ExplainingPredictor:
    """The model, proven on its golden vectors, explained by the site's groups. Raises BadBundle, BadMapping."""
    drivers = load_delivery(site_folder=settings.policy.site_folder).drivers
    groups = [InputGroup(name=group.title, features=group.features) for group in drivers]
    try:
        predictor = ExplainingPredictor(Predictor(load_bundle(settings.model.folder or shipped_bundle())), groups)
    except BundleRefused as error:
        raise BadBundle(f"model: {error}") from error
    if predictor.identity.training_data == "simulated" and settings.mode is not OutputMode.DEMO:
        raise BadBundle("model: trained on simulated patients, refused outside demo mode")
    return predictor


def build_client(settings: Settings) -> FhirClient:
    """The EHR; nothing is connected yet."""
    token = bearer_from_file(settings.fhir.token_file) if settings.fhir.token_file else None
    limits = FhirLimits(page_size=settings.fhir.page_size)
    return FhirClient(settings.fhir.base_url, token=token, limits=limits, tls=_trusted(settings.fhir.tls_authorities))


def build_reconciler(settings: Settings, client: FhirClient, store: StoreRoom) -> Reconciler:
    """What compares the EHR's records with the store's ledger."""
    feed = settings.fhir.base_url
    return Reconciler(
        client,
        build_cohort(settings.cohort),
        feed=WatermarkStore(store.database, feed),
        book=RoundBook(store.database, feed),
        ledger=store.ledger,
        files=store.vault,
    )


def _trusted(authorities: Path | None) -> ssl.SSLContext | None:
    """The certificates that the EHR may show; None for the system's."""
    if authorities is None:
        return None
    try:
        return ssl.create_default_context(cafile=authorities)
    except OSError as error:  # ssl.SSLError is one
        raise BadSettings(f"fhir.tls_authorities {authorities} cannot be used: {type(error).__name__}") from error


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
    tls = TlsFiles(*settings.dicom.tls_files) if settings.dicom.tls_files else None
    return Pacs(
        Archive(
            host=settings.pacs.host,
            port=settings.pacs.port,
            ae_title=theirs,
            calling_ae_title=ours,
            limits=DicomLimits(quiet_seconds=settings.dicom.quiet_seconds),
            tls=client_context(tls) if tls else None,
        ),
        Listener(
            ae_title=ours,
            bind=settings.dicom.bind,
            port=settings.dicom.port,
            callers=(theirs,),
            tls=server_context(tls) if tls else None,
        ),
        folder=settings.store.inbox_folder,
        zone=ZoneInfo(settings.fhir.time_zone),
    )


def build_vault(settings: StoreSettings, plain: Path | None = None) -> Vault:
    """The encrypted case files. Raises BadStore where the key is absent, open to others, or not one.

    plain: where plain copies lie while they are read; the site's folder for them by default.
    """
    return Vault(settings.vault_folder, read_site_key(settings.key_path), plain=plain or settings.plain_folder)


def build_decision(settings: Settings, files: Vault) -> DecisionPorts:
    """What decides a case: the site's tables and the model. Raises BadMapping, BadSettings, BadBundle."""
    return DecisionPorts(files=files, predictor=build_predictor(settings), practice=build_practice(settings))


def decide_from_store(
    settings: Settings, plain: Path, *, model: str, practice: str
) -> Callable[[str], StepResult | Transient]:
    """The third step for a process of its own, which gets the digest of a case file and has store, tables and model.

    plain: where this process alone reads in plain; whoever started it removes that folder when it ended. model,
    practice: digests of what the service verified at its start. Raises BadBundle or BadMapping where the disk holds
    another by now: no two processes of one service decide differently.
    """
    ports = build_decision(settings, build_vault(settings.store, plain))
    if ports.predictor.identity.digest != model:
        raise BadBundle("model: not the bundle that the service verified at its start: restart it")
    if ports.practice.digest != practice:
        raise BadMapping("mappings or rules: not those that the service read at its start: restart it")

    def decide(case_file_digest: str) -> StepResult | Transient:
        try:
            return conclude_stored(case_file_digest, ports)
        except Transient as error:
            return error

    return decide


class Absent(Enum):
    """What a door to the store does where there is no store yet."""

    MAKE = auto()  # who works
    REFUSE = auto()  # who looks or asks: a mistyped address must not become an empty service that looks healthy


class StoreRoom:
    """The site's own store: ledger and case files. A context manager; needs no peer, no table and no model."""

    def __init__(
        self, settings: Settings, clock: Callable[[], datetime] = wall_clock, *, absent: Absent = Absent.MAKE
    ) -> None:
        """Open nothing yet."""
        self._settings = settings
        self._clock = clock
        self._absent = absent

    def __enter__(self) -> Self:
        """Open both. Raises BadStore, also for case files of which the database knows nothing."""
        settings = self._settings.store
        self.database = _open_restored(settings, self._absent)
        try:
            if self._absent is Absent.MAKE and makes_key(self._settings):
                create_site_key(settings.key_path)
            self.vault = build_vault(settings)
        except BaseException:
            self.database.dispose()
            raise
        self.ledger = Ledger(self.database, self._clock)
        return self

    def __exit__(self, *_: object) -> None:
        """Let the database go."""
        self.database.dispose()


def makes_key(settings: Settings) -> bool:
    """Whether a start makes the site key where it is absent: never beside case files, which need the one they have."""
    return settings.mode is not OutputMode.LIVE and not any(case_file_paths(settings.store.vault_folder))


def _open_restored(settings: StoreSettings, absent: Absent) -> Database:
    """The one gate to the database: nobody makes tables where a restore is still to load them. Raises BadStore."""
    require_restored(settings.folder)
    sealed = any(case_file_paths(settings.vault_folder))  # first: a worker that begins meanwhile writes its row before
    try:
        database = open_existing_database(settings.url)
    except (NoStore, OldStore) as found:
        if absent is Absent.REFUSE:
            raise
        if isinstance(found, NoStore):
            require_no_case_files(settings)
        database = open_database(settings.url)
    try:
        if sealed and not _knows_a_case(database):
            require_no_case_files(settings)
    except BaseException:
        database.dispose()
        raise
    return database


def require_no_case_files(settings: StoreSettings) -> None:
    """For a database that knows no case: it is not the one of the case files that are there. Raises BadStore."""
    sealed = sum(1 for _ in case_file_paths(settings.vault_folder))
    if sealed:
        raise BadStore(
            f"the vault {settings.vault_folder} holds {sealed} case files and the database knows no case: "
            "is store.url right? Where a new beginning is meant, move the vault away"
        )


def _knows_a_case(database: Database) -> bool:
    with store_session(database) as session:
        return anybody_asked_for(session)


@contextmanager
def opened_database(settings: Settings, *, absent: Absent = Absent.MAKE) -> Iterator[Database]:
    """The database alone. Raises BadStore, also while a restore is begun and not finished."""
    database = _open_restored(settings.store, absent)
    try:
        yield database
    finally:
        database.dispose()


@contextmanager
def opened_ledger(settings: Settings, *, absent: Absent = Absent.MAKE) -> Iterator[Ledger]:
    """The ledger alone, for looking and asking; neither key nor case files are needed. Raises BadStore."""
    with opened_database(settings, absent=absent) as database:
        yield Ledger(database, wall_clock)


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
            self.store = opening.enter_context(StoreRoom(settings, self._clock))
            decision = build_decision(settings, self.store.vault)
            self.client = opening.enter_context(build_client(settings))
            self.archive = build_archive(settings)
            self.guarded_archive: GuardedArchive | None = None
            if self.archive is not None:
                opening.enter_context(self.archive)
                self.guarded_archive = GuardedArchive(self.archive)
            ehr = Ehr(self.client)
            self.ports = Ports(
                source=ehr,
                archive=self.guarded_archive,
                target=ehr,
                files=decision.files,
                predictor=decision.predictor,
                practice=decision.practice,
            )
            self._stack = opening.pop_all()
        return self

    def circuits(self) -> tuple[CircuitReport, ...]:
        """How each peer's circuit stands."""
        pacs = () if self.guarded_archive is None else (self.guarded_archive.circuit(),)
        return (self.client.circuit(), *pacs)

    def __exit__(self, *_: object) -> None:
        """Close in reverse order."""
        self._stack.close()
