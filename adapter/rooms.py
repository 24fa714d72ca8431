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
from adapter.decider import build_decision, build_vault
from adapter.dicom.ae import Archive
from adapter.dicom.limits import Limits as DicomLimits
from adapter.dicom.pacs import Pacs
from adapter.dicom.storage_scp import Listener
from adapter.dicom.tls import TlsFiles, client_context, server_context
from adapter.domain.ids import AETitle, PatientId, ResourceId
from adapter.errors import BadSettings, BadStore, NoStore, OldStore
from adapter.fhir.auth import bearer_from_file
from adapter.fhir.client import FhirClient
from adapter.fhir.cohort import Cohort, GroupCohort, PatientList, SelectCohort
from adapter.fhir.delivery import OutputMode
from adapter.fhir.limits import Limits as FhirLimits
from adapter.pipeline.ehr import Ehr
from adapter.pipeline.guarded import GuardedArchive
from adapter.pipeline.ports import Ports
from adapter.pipeline.reconcile import Reconciler
from adapter.settings import CohortSettings, Settings, StoreSettings
from adapter.store.backup import require_restored
from adapter.store.cases import anybody_asked_for
from adapter.store.database import Database, open_database, open_existing_database, store_session
from adapter.store.ledger import Ledger
from adapter.store.rounds import RoundBook
from adapter.store.vault import case_file_paths, create_site_key, is_vault, mark_of
from adapter.store.watermark import WatermarkStore


def wall_clock() -> datetime:
    """Now, aware, UTC. Read here and passed in everywhere else."""
    return datetime.now(UTC)


def disk_shortage(folder: Path) -> str | None:
    """What is said while the disk of the data folder is too full to receive an image; None while it is not."""
    shortage = DicomLimits().shortage(folder)
    return f"store.folder {folder}: {shortage}: no image is received" if shortage else None


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
        """Open both. Raises BadStore, also where one of them is not the other's."""
        settings = self._settings.store
        self.database = _open_restored(settings, self._absent)
        try:
            require_vault(settings, self.database)
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


def require_vault(settings: StoreSettings, database: Database) -> None:
    """For a database that names case files: their vault is there. Raises BadStore: no new one begins beside it."""
    folder = settings.vault_folder
    if not is_vault(folder) and Ledger(database, wall_clock).case_files():
        raise BadStore(
            f"the database names case files and {folder} is no vault: is it mounted, is store.shared_vault right? "
            f"Where they are lost for good, make an empty file {mark_of(folder)}"
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
