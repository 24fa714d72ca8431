"""On a real server: seven synthetic patients of other hands, none of them ours, end skipped with their reason."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from adapter.domain.ids import PatientId
from adapter.domain.risk import SkipReason
from adapter.service import Service
from adapter.settings import Settings, settings_from
from adapter.store.cases import SKIPPED
from adapter.store.ledger import LedgerEntry
from tests.peers.hapi import Hapi

BUNDLES = 7
SETTLE_SECONDS = 120
_WRITTEN_TYPES = ("RiskAssessment", "CarePlan", "Provenance", "Device")


def _load(hapi: Hapi, bundle: Path) -> PatientId:
    """POST one Synthea transaction as it is; give the id of its patient."""
    headers = {"content-type": "application/fhir+json"}
    reply = httpx.post(hapi.base_url, content=bundle.read_bytes(), headers=headers, timeout=120).raise_for_status()
    locations = [entry["response"]["location"] for entry in reply.json()["entry"]]
    (patient,) = (location for location in locations if location.startswith("Patient/"))
    return PatientId(patient.split("/")[1])


@pytest.fixture(scope="module")
def people(hapi: Hapi, data_folder: Path) -> tuple[PatientId, ...]:
    """The seven patients, whole as Synthea wrote them."""
    bundles = sorted((data_folder / "fhir" / "synthea_r4").glob("*.json"))
    assert len(bundles) == BUNDLES
    return tuple(_load(hapi, bundle) for bundle in bundles)


def _settings(hapi: Hapi, people: tuple[PatientId, ...], folder: Path) -> Settings:
    return settings_from(
        {
            "fhir": {"base_url": hapi.base_url},
            "cohort": {"patients": [f"Patient/{person}" for person in people]},
            "store": {"url": f"sqlite:///{folder}/adjuvant.db", "folder": str(folder)},
            "watch": {"quiet_seconds": 0},
            "web": {"port": 0},
        }
    )


def _held(hapi: Hapi) -> Mapping[str, int]:
    """How many resources of the types we write the server holds."""
    return {
        kind: httpx.get(
            f"{hapi.base_url}/{kind}?_summary=count", headers={"cache-control": "no-cache"}, timeout=60
        ).json()["total"]
        for kind in _WRITTEN_TYPES
    }


@pytest.fixture(scope="module")
def held_before(hapi: Hapi, people: tuple[PatientId, ...]) -> Mapping[str, int]:
    return _held(hapi)


@pytest.fixture(scope="module")
def cases(
    hapi: Hapi,
    people: tuple[PatientId, ...],
    held_before: Mapping[str, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[LedgerEntry, ...]:
    """What the service wrote down after one poll, with everything settled."""
    with Service(_settings(hapi, people, tmp_path_factory.mktemp("synthea"))) as service:
        assert service.run_until_settled(SETTLE_SECONDS)
        assert service.complaints() == ()
        return service.rooms.store.ledger.list_cases()


def test_each_patient_is_polled_once_and_skipped_with_a_reason(
    cases: tuple[LedgerEntry, ...], people: tuple[PatientId, ...]
) -> None:
    """Seven cases, seven patients, all skipped because no head and neck squamous cell carcinoma is on record."""
    assert sorted(case.patient_id for case in cases) == sorted(people)
    assert {(case.state, case.reason) for case in cases} == {(SKIPPED, SkipReason.NO_PRIMARY_CANCER.value)}


def test_nothing_was_written(hapi: Hapi, held_before: Mapping[str, int], cases: tuple[LedgerEntry, ...]) -> None:
    """The server holds as many assessments, plans, provenances and devices as before."""
    assert len(cases) == BUNDLES
    assert _held(hapi) == held_before
