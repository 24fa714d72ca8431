"""Preflight: everything the service needs, tried once, one line each."""

from __future__ import annotations

import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from errno import EADDRINUSE
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

from adapter.decider import build_practice, build_predictor, build_vault
from adapter.domain.record import RawResource
from adapter.errors import UNREACHABLE_PEER, AdjuvantError, BadSettings, NoStore, OldStore, StoreInUse, StoreUnavailable
from adapter.fhir.cohort import find_members
from adapter.fhir.delivery import OutputMode, unverified_codes
from adapter.pipeline.practice import Practice
from adapter.rooms import (
    Absent,
    build_archive,
    build_client,
    build_cohort,
    disk_shortage,
    makes_key,
    opened_database,
    require_no_case_files,
    require_vault,
)
from adapter.settings import PacsSettings, Settings
from adapter.store.backup import require_restored
from adapter.store.database import StoreLock
from adapter.store.vault import Vault
from adapter.web.ask import ask_readiness

# only a C-MOVE of a patient's images would tell
_NOT_TRIED = "not tried: whether the archive knows our AE title and port as a move destination"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: what was tried, whether the service could do its job with it, and what was found.

    unreachable: it failed because a peer cannot be reached or our disk is full, so it may pass later as it stands.
    """

    what: str
    passed: bool
    detail: str
    unreachable: bool = False


def check_site(settings: Settings) -> Iterator[Finding]:
    """Try mappings, model and what is ours, then EHR and PACS; a failure of one does not hide the next."""
    yield from _tried("mappings and rules", lambda: _mappings(settings))
    yield from _tried("model", lambda: _model(settings))
    yield from _tried("store", lambda: _store(settings))
    yield from _tried("disk", lambda: _disk(settings))
    yield from _tried("web", lambda: _web(settings))
    if (pacs := settings.pacs) is not None:
        yield from _tried("move destination", lambda: _move_destination(settings, pacs))
    yield from _tried("EHR", lambda: _ehr(settings))
    yield from _tried("cohort", lambda: _cohort(settings))
    yield from _tried("PACS", lambda: _pacs(settings))


def _tried(what: str, attempt: Callable[[], str]) -> Iterator[Finding]:
    try:
        yield Finding(what=what, passed=True, detail=attempt())
    except AdjuvantError as error:
        unreachable = isinstance(error, (*UNREACHABLE_PEER, StoreUnavailable))
        yield Finding(what=what, passed=False, detail=f"{type(error).__name__}: {error}", unreachable=unreachable)


def _mappings(settings: Settings) -> str:
    practice = build_practice(settings)
    unverified = _unverified(practice)
    note = f"{unverified} codes nobody verified yet" if unverified else "every code verified"
    marked = "" if settings.mode is OutputMode.LIVE or not unverified else " (live mode would refuse)"
    return f"policy {practice.policy.version}, {note}{marked}"


def _unverified(practice: Practice) -> int:
    return len(practice.reading.terminology.unverified()) + len(unverified_codes(practice.policy, practice.delivery))


def _model(settings: Settings) -> str:
    identity = build_predictor(settings).identity
    return f"{identity.name} {identity.version}, trained on {identity.training_data} data, golden vectors agree"


def _store(settings: Settings) -> str:
    require_restored(settings.store.folder)  # first: a restore that runs holds the lock as a service does
    try:
        lock = StoreLock(settings.store.folder)
    except StoreInUse:
        return "in use by the running service"
    with lock:
        return f"{_database(settings)}; {_vault(settings)}"


def _database(settings: Settings) -> str:
    """As it is found: a look makes and upgrades nothing, or no backup could be restored here afterwards."""
    try:
        with opened_database(settings, absent=Absent.REFUSE) as database:
            require_vault(settings.store, database)
            return "database whole"
    except NoStore:
        require_no_case_files(settings.store)
        return "no database yet, the first start makes it"
    except OldStore:
        return "database whole and of an older adjuvant, the next start upgrades it"


def _disk(settings: Settings) -> str:
    folder = settings.store.folder.absolute()
    there = next(place for place in (folder, *folder.parents) if place.exists())  # the first start makes the rest
    if shortage := disk_shortage(there):
        raise StoreUnavailable(shortage)
    return f"{shutil.disk_usage(there).free >> 30} GiB free"


def _vault(settings: Settings) -> str:
    if makes_key(settings) and not settings.store.key_path.exists():
        with TemporaryDirectory(dir=settings.store.folder) as trial:
            _seal_and_read_back(Vault(Path(trial), secrets.token_bytes(32)))
        return f"case files could be sealed and read back, the first start makes the site key {settings.store.key_path}"
    _seal_and_read_back(build_vault(settings.store))
    return "case files can be sealed and read back"


def _seal_and_read_back(vault: Vault) -> None:
    """A content of its own: workers that share the vault may check it at the same time."""
    digest = vault.keep(f"adjuvant check {secrets.token_hex(16)}".encode())
    try:
        vault.recall(digest)
    finally:
        vault.remove([digest])


def _ehr(settings: Settings) -> str:
    with build_client(settings) as client:
        capabilities = client.capabilities()
        gaps = capabilities.gaps()
    return "CapabilityStatement read; " + ("missing: " + "; ".join(gaps) if gaps else "nothing missing")


def _cohort(settings: Settings) -> str:
    with build_client(settings) as client:
        members = sorted(find_members(client, build_cohort(settings.cohort), changed_since=None))
        if not members:
            raise BadSettings("cohort: nobody is in it, so nobody would be assessed")
        first = members[0]
        if not isinstance(client.read("Patient", first), RawResource):
            raise BadSettings(f"cohort: the EHR has no Patient/{first}, the first of {len(members)}")
    return f"{len(members)} patients; the first, Patient/{first}, can be read"


def _pacs(settings: Settings) -> str:
    archive = build_archive(settings)
    if archive is None:
        return "not configured: the service works without images"
    try:
        lock = StoreLock(settings.store.folder)
    except StoreInUse:
        archive.check()
        return "C-ECHO, C-FIND and C-MOVE offered; the running service listens"
    with lock, archive:
        archive.check()
        return f"C-ECHO, C-FIND and C-MOVE offered; our Storage SCP listens on port {archive.port}"


def _move_destination(settings: Settings, pacs: PacsSettings) -> str:
    """Whether the archive could connect to us; whether it would, only it knows."""
    bind = settings.dicom.bind
    if _is_loopback(bind) and not _is_loopback(pacs.host):
        raise BadSettings(f"the archive at {pacs.host} cannot reach {bind}: set dicom.bind")
    return f"{settings.dicom.ae_title} at {bind}; {_NOT_TRIED}"


def _is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own; one that nobody can resolve is not."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return all(ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


def _web(settings: Settings) -> str:
    """Whether our port can be had. One that another process holds is not: only the service of this data folder may."""
    bind, port = settings.web.bind, settings.web.port
    try:
        lock = StoreLock(settings.store.folder)
    except StoreInUse:
        return f"{bind}:{port} is the running service's"
    with lock:
        try:
            family = socket.getaddrinfo(bind, port)[0][0]
            socket.create_server((bind, port), family=family).close()
        except OSError as error:
            if error.errno != EADDRINUSE:
                raise BadSettings(f"web.bind, web.port: cannot listen on {bind}:{port}") from error
            holder = "by another adjuvant" if ask_readiness(bind, port) else "by another program"
            raise BadSettings(f"web.port {port} is taken at {bind}, {holder}") from error
    return f"health and metrics at {bind}:{port}" if port else "health and metrics at any free port"
