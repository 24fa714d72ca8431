"""What decides a case: the site's tables, its model and its case files, and nothing that reaches a peer or a database.

A process of its own that only decides imports this and no more: it starts in half the time that the service takes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

from adapter.decision.policy import load_policy
from adapter.decision.tables import SHIPPED
from adapter.errors import BadBundle, BadMapping, BadSettings, Transient
from adapter.features.at_risk import LandmarkPolicy
from adapter.fhir.decode import Reading
from adapter.fhir.delivery import OutputMode, load_delivery, unverified_codes
from adapter.pipeline.assess import StepResult, conclude_stored
from adapter.pipeline.ports import DecisionPorts
from adapter.pipeline.practice import Practice
from adapter.settings import Settings, StoreSettings
from adapter.store.vault import Vault, read_site_key
from adapter.terminology import load_terminology
from inference.artifact import load_bundle, shipped_bundle
from inference.contract import BundleRefused
from inference.occlusion import ExplainingPredictor, InputGroup
from inference.predictor import Predictor


def build_practice(settings: Settings) -> Practice:
    """Every table and switch that shapes an output. Raises BadMapping, BadSettings."""
    site = settings.policy.site_folder
    if site is not None:
        _require_known_tables(site)
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


def _require_known_tables(site: Path) -> None:
    """Nothing a site has written may be passed over in silence. Raises BadMapping."""
    known = {table.name for table in SHIPPED.glob("*.toml")}
    if not site.is_dir():
        raise BadMapping(f"policy.site_folder {site}: no such folder")
    for table in sorted(site.glob("*.toml")):
        if table.name not in known:
            raise BadMapping(f"policy.site_folder holds {table.name}, which is none of {', '.join(sorted(known))}")


def build_predictor(settings: Settings) -> ExplainingPredictor:
    """The model, proven on its golden vectors, explained by the site's groups. Raises BadBundle, BadMapping."""
    drivers = load_delivery(site_folder=settings.policy.site_folder).drivers
    groups = [InputGroup(name=group.title, features=group.features) for group in drivers]
    folder = settings.model.folder
    try:
        predictor = ExplainingPredictor(Predictor(load_bundle(folder or shipped_bundle())), groups)
    except BundleRefused as error:
        raise BadBundle(f"model.folder {folder}: {error}" if folder else f"model: {error}") from error
    if predictor.identity.training_data == "simulated" and settings.mode is not OutputMode.DEMO:
        raise BadBundle("model: trained on simulated patients, refused outside demo mode")
    return predictor


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
