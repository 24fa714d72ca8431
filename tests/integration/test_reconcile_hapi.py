"""What no poll of a real HAPI FHIR shows is found by comparing whole records: deleted, late, or wrongly stamped."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Skipped, Watermark
from adapter.fhir.changes import Remembered, fetch_changes
from adapter.fhir.client import FhirClient
from adapter.fhir.cohort import PatientList
from adapter.fhir.fetch import fetch_record
from adapter.pipeline.case_file import CaseFile, seal
from adapter.pipeline.reconcile import Reconciler
from adapter.pipeline.watch import Watcher
from adapter.store.database import open_database
from adapter.store.ledger import Ledger
from adapter.store.rounds import RoundBook
from adapter.store.vault import Vault
from adapter.store.watermark import WatermarkStore
from tests.peers.hapi import Hapi


class Site:
    """Two patients of our own on HAPI, each looked at once."""

    def __init__(self, hapi: Hapi, folder: Path) -> None:
        """Write them and settle their first cases."""
        self._url = hapi.base_url
        self.names = [f"rec-{uuid4().hex[:10]}-{letter}" for letter in "ab"]
        for name in self.names:
            self.put("Patient", name)
            self.put("Observation", f"{name}-1", name)
        self.engine = open_database(f"sqlite:///{folder / 'adjuvant.db'}")
        self.client = FhirClient(hapi.base_url)
        self.cohort = PatientList(patients=tuple(map(PatientId, self.names)))
        self.ledger = Ledger(self.engine, lambda: datetime.now(UTC))
        self.vault = Vault(folder / "vault", bytes(32))
        self.feed, self.book = WatermarkStore(self.engine, "hapi"), RoundBook(self.engine, "hapi")
        assert self.poll() == 2
        self.poll()  # what lies in the overlap is reported once more after the first look
        self.settle()

    def put(self, kind: str, name: str, patient: str | None = None, value: float = 12.5) -> None:
        """Store one resource, as the hospital does."""
        resource: dict[str, object] = {"resourceType": kind, "id": name}
        if patient:
            resource |= {
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
                "subject": {"reference": f"Patient/{patient}"},
                "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": "g/dL"},
            }
        headers = {"content-type": "application/fhir+json"}
        httpx.put(f"{self._url}/{kind}/{name}", content=json.dumps(resource), headers=headers).raise_for_status()

    def delete(self, kind: str, name: str) -> None:
        """Remove one, as the hospital does."""
        httpx.delete(f"{self._url}/{kind}/{name}").raise_for_status()

    def poll(self) -> int:
        """How many patients the feed reports."""
        return len(Watcher(self.client, self.cohort, self.feed).poll())

    def settle(self) -> None:
        """Every open case, on the record as it is now."""
        for case in self.ledger.unsettled_cases():
            record = self.vault.keep(seal(fetch_record(self.client, case.patient_id)))
            file = CaseFile(record=record, series=(), image_notes=(), at=None, practice="p", model="m")
            self.ledger.record(case, Skipped(reason="test", detail=""), self.vault.keep(seal(file)))

    def night(self, name: str) -> list[tuple[str, int | None, int | None, int | None]]:
        """Patient and how many resources are new, changed, gone."""
        reconciler = Reconciler(
            self.client, self.cohort, feed=self.feed, book=self.book, ledger=self.ledger, files=self.vault
        )
        result = reconciler.reconcile(name, lambda: datetime.now(UTC))
        assert result is not None
        assert result.interrupted == ""
        return [(found.patient_id, found.new, found.changed, found.deleted) for found in result.found]


@pytest.fixture
def site(hapi: Hapi, tmp_path: Path) -> Iterator[Site]:
    """Settled, nothing open."""
    running = Site(hapi, tmp_path)
    yield running
    running.client.close()
    running.engine.dispose()


def test_a_deletion_that_no_search_shows(site: Site) -> None:
    """The poll is silent, the night asks for one more look, the next night is quiet."""
    first, _ = site.names
    assert site.night("n0") == []
    site.delete("Observation", f"{first}-1")
    assert site.poll() == 0
    assert site.night("n1") == [(first, 0, 0, 1)]
    site.settle()
    assert site.night("n2") == []


def test_a_resource_that_appears_behind_the_watermark(site: Site) -> None:
    """As after a late commit: its stamp lies before the window of every poll to come."""
    _, second = site.names
    site.put("Observation", f"{second}-2", second)
    time.sleep(2.1)
    site.client.reload_capabilities()
    now = site.client.server_time()
    assert now is not None
    known = Remembered(people=dict.fromkeys(site.cohort.patients, site.cohort.patients[0]))
    page = fetch_changes(site.client, Watermark(time=now), site.cohort, remembered=known, overlap=timedelta(seconds=1))
    assert page.changes == ()
    assert site.night("n1") == [(second, 1, 0, 0)]


def test_a_clock_that_was_ahead(site: Site) -> None:
    """A watermark from the future: the very next poll sees what is new, and the night whatever came before it."""
    first, second = site.names
    people, hashes = site.feed.remembered()
    site.feed.advance(Watermark(time=datetime.now(UTC) + timedelta(days=30)), (), people=people, hashes=hashes)
    site.put("Observation", f"{first}-2", first)
    assert site.poll() >= 1
    read = site.feed.read()
    assert read is not None
    assert read.time < datetime.now(UTC) + timedelta(minutes=1)
    site.settle()
    site.delete("Observation", f"{second}-1")
    assert site.night("n1") == [(second, 0, 0, 1)]
