"""The site's one configuration file, read once, frozen, every key checked.

Only this module reads the environment: `ADJUVANT_<SECTION>__<KEY>` overrides a key of the file. Secrets are named by
file path, never written inline. Source of the keys: `adjuvant check --write-example`.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapter.domain.ids import AETitle
from adapter.errors import BadIdentifier, BadSettings
from adapter.fhir.delivery import OutputMode
from adapter.fhir.known_time import KnownTime

ENVIRONMENT_PREFIX = "ADJUVANT_"


def _ae_title(text: str) -> str:
    try:
        return AETitle(text)
    except BadIdentifier as error:
        raise ValueError(str(error)) from error


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError("not a time zone of the IANA database") from error
    return name


def _base_url(written: str) -> str:
    if re.fullmatch(r"https?://[^\s?#@]+[^/\s?#@]", written) is None:
        raise ValueError(
            "begins with http:// or https://, has no user and no final slash, as https://ehr.example.org/fhir"
        )
    return written


_AeTitle = Annotated[str, AfterValidator(_ae_title)]
_TimeZone = Annotated[str, AfterValidator(_time_zone)]
_Port = Annotated[int, Field(ge=1, le=65535)]
_OwnPort = Annotated[int, Field(ge=0, le=65535)]  # 0: any free one


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FhirSettings(_Section):
    """`[fhir]`: the EHR."""

    base_url: Annotated[str, AfterValidator(_base_url)]
    token_file: Path | None = None
    tls_authorities: Path | None = None
    page_size: Annotated[int, Field(ge=1, le=1000)] = 200
    known_time: KnownTime = KnownTime.REPORTED
    time_zone: _TimeZone = "UTC"
    patient_identifier_system: str | None = None


class PacsSettings(_Section):
    """`[pacs]`: the archive we ask. Leave the section out and no image is retrieved."""

    host: str
    port: _Port
    ae_title: _AeTitle
    patient_identifier_system: str | None = None


class DicomSettings(_Section):
    """`[dicom]`: our own application entity, the move destination.

    quiet_seconds: no byte for so long after a C-MOVE has ended means that nothing more will come. tls_certificate,
    tls_key, tls_authorities: PEM files, all three or none; with them both associations, ours to the archive and the
    archive's to us, run over TLS, and each side shows a certificate.
    """

    ae_title: _AeTitle = "ADJUVANT"
    bind: str = "127.0.0.1"
    port: _OwnPort = 11112
    quiet_seconds: Annotated[float, Field(gt=0)] = 5.0
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_authorities: Path | None = None

    @property
    def tls_files(self) -> tuple[Path, Path, Path] | None:
        """Certificate, key and authorities; None for plain TCP."""
        certificate, key, authorities = self.tls_certificate, self.tls_key, self.tls_authorities
        return (certificate, key, authorities) if certificate and key and authorities else None

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        given = [file is not None for file in (self.tls_certificate, self.tls_key, self.tls_authorities)]
        if any(given) and not all(given):
            raise ValueError("give tls_certificate, tls_key and tls_authorities, or none of them")
        return self


class CohortSettings(_Section):
    """`[cohort]`: whose records may be read at all; exactly one of the three."""

    patients: tuple[str, ...] = ()
    group: str | None = None
    select: str | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(map(bool, (self.patients, self.group, self.select))) != 1:
            raise ValueError("give exactly one of patients, group, select")
        return self


class ModelSettings(_Section):
    """`[model]`: which bundle; the shipped one where no folder is named."""

    folder: Path | None = None


class StoreSettings(_Section):
    """`[store]`: ledger, queue and encrypted case files, and for how many days a settled case keeps its files.

    folder: of one process alone. shared_vault: where several workers on one PostgreSQL keep the case files, all with
    the same key_file; a case that one of them began is then continued by another.
    """

    url: str = "sqlite:///data/adjuvant.db"
    folder: Path = Path("data")
    shared_vault: Path | None = None
    key_file: Path | None = None
    retention_days: Annotated[int, Field(ge=1)] = 3650

    @model_validator(mode="after")
    def _one_key_for_all(self) -> Self:
        if self.shared_vault is not None and self.key_file is None:
            raise ValueError("shared_vault needs key_file: all who share it seal with one key")
        return self

    @property
    def vault_folder(self) -> Path:
        """Where the encrypted case files lie."""
        return self.shared_vault or self.folder / "vault"

    @property
    def plain_folder(self) -> Path:
        """Where the case files that are being read lie in plain; empty whenever nothing is read."""
        return self.folder / "plain"

    @property
    def inbox_folder(self) -> Path:
        """Where images arrive before they are sealed."""
        return self.folder / "inbox"

    @property
    def key_path(self) -> Path:
        """Where the site key lies; inside the data folder unless the site names a place."""
        return self.key_file or self.folder / "site.key"


class WatchSettings(_Section):
    """`[watch]`: how often the EHR is asked, how long a patient must be quiet, how often a step is tried.

    reconcile_at: when, in fhir.time_zone, every record is compared with what its last case was decided on, each night.
    decide_seconds, decide_memory_gib: what one decision may take before its process is ended; three such ends and the
    case is a dead letter.
    """

    poll_seconds: Annotated[float, Field(gt=0)] = 60.0
    quiet_seconds: Annotated[float, Field(ge=0)] = 900.0
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    attempts: Annotated[int, Field(ge=1, le=20)] = 6
    reconcile_at: time = time(hour=2)
    decide_seconds: Annotated[float, Field(gt=0)] = 300.0
    decide_memory_gib: Annotated[float, Field(ge=1)] = 8.0

    @property
    def quiet_time(self) -> timedelta:
        """Changes closer together than this are one landmark."""
        return timedelta(seconds=self.quiet_seconds)


class WebSettings(_Section):
    """`[web]`: where health, readiness and metrics are served."""

    bind: str = "127.0.0.1"
    port: _OwnPort = 8600


class PolicySettings(_Section):
    """`[policy]`: the site's own mapping and rule rows, merged over the shipped ones."""

    site_folder: Path | None = None


class Settings(_Section):
    """Everything a site decides."""

    mode: OutputMode = OutputMode.RESEARCH
    fhir: FhirSettings
    pacs: PacsSettings | None = None
    dicom: DicomSettings = DicomSettings()
    cohort: CohortSettings
    model: ModelSettings = ModelSettings()
    store: StoreSettings = StoreSettings()
    watch: WatchSettings = WatchSettings()
    web: WebSettings = WebSettings()
    policy: PolicySettings = PolicySettings()

    @model_validator(mode="after")
    def _live_is_guarded(self) -> Self:
        if self.mode is OutputMode.LIVE:
            if self.fhir.base_url.startswith("http://"):
                raise ValueError("live mode refuses plain http in fhir.base_url")
            if self.store.key_file is None:
                raise ValueError("live mode needs store.key_file")
        return self


def load_settings(path: Path) -> Settings:
    """Read the configuration file and the overriding environment.

    Raises BadSettings naming the file or the key; a value never appears in the message, it may be a secret.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettings(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path} is not TOML: {error}") from error
    return settings_from(_overridden(content, os.environ))


def settings_from(content: Mapping[str, object]) -> Settings:
    """Check a configuration that is already parsed. Raises BadSettings naming the keys."""
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(_named(fault["loc"], fault["msg"]) for fault in error.errors(include_input=False))
        raise BadSettings(faults) from None


def _named(location: tuple[int | str, ...], message: str) -> str:
    key = ".".join(map(str, location)) or "configuration"
    known = {"Extra inputs are not permitted": "unknown key", "Field required": "missing"}
    return f"{key}: {known.get(message, message.removeprefix('Value error, '))}"


def _overridden(content: dict[str, object], environment: Mapping[str, str]) -> dict[str, object]:
    """Raises BadSettings for a variable that names a section and no key of it: it would be ignored in silence."""
    merged = dict(content)
    for name, value in sorted(environment.items()):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        section, separator, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if separator:
            present = merged.get(section, {})
            merged[section] = {**(present if isinstance(present, dict) else {}), key: _written(name, value)}
        elif section in Settings.model_fields:
            merged[section] = _written(name, value)
        elif section.partition("_")[0] in Settings.model_fields:
            raise BadSettings(f"{name}: two underscores stand between section and key")
    return merged


def _written(name: str, value: str) -> object:
    """A list is written as JSON; everything else as it is."""
    if not value.startswith("["):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise BadSettings(f"{name} begins as a list and is not JSON: {error}") from error


EXAMPLE = """\
# adjuvant: the smallest configuration that works. Every key: docs/configuration.md
mode = "research"                      # demo | research | live

[fhir]                                 # the EHR
base_url = "http://127.0.0.1:8080/fhir"
# token_file = "/etc/adjuvant/fhir.token"   # a bearer token; secrets are named by path, never written here
# known_time = "reported"              # or "effective-plus-delay" where records were migrated in bulk
# tls_authorities = "/etc/adjuvant/ca.pem"  # whose certificates the EHR may show, where not the system's
# time_zone = "UTC"                    # of dates, which carry none, and of the PACS's times

[pacs]                                 # the archive we ask; leave out to work without images
host = "127.0.0.1"
port = 4242
ae_title = "ORTHANC"
# patient_identifier_system = "urn:oid:..."  # which FHIR identifier is the DICOM Patient ID

[dicom]                                # our own application entity, the move destination
ae_title = "ADJUVANT"
bind = "127.0.0.1"
port = 11112
# tls_certificate = "/etc/adjuvant/dicom.pem"  # with tls_key and tls_authorities: DICOM over TLS, both ways

[cohort]                               # exactly one of the three
patients = ["Patient/p1"]
# group = "Group/1"
# select = "Condition?code=..."

[store]
url = "sqlite:///data/adjuvant.db"
folder = "data"
# key_file = "/etc/adjuvant/site.key"  # required in live mode
# retention_days = 3650                # how long a settled case can be replayed

[watch]
poll_seconds = 60
quiet_seconds = 900
# reconcile_at = "02:00:00"            # from when on every record is compared, each night, in fhir.time_zone

[web]                                  # health, readiness and metrics
bind = "127.0.0.1"
port = 8600
"""
