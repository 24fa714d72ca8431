"""`adjuvant cases`: listed by state, asked for again, forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapter.domain.ids import PatientId
from adapter.domain.outcome import DeadLetter, Settled, Skipped
from adapter.rooms import StoreRoom, opened_database, opened_ledger
from adapter.settings import load_settings
from adapter.store.workers import WorkerRegister
from tests.fakes.command import run

pytestmark = pytest.mark.real  # each command is a process of its own: too slow for the fast tests


def test_nobody_unknown_is_asked_for(site: Path) -> None:
    """Law: a mistyped id is refused with the way out. Breach: its case was skipped, and the patient was not looked at.

    On a list whoever is on it may be asked for; under another cohort only whom the ledger knows.
    """
    with opened_database(load_settings(site)):
        pass
    assert run("cases", "retry", "patient-01", "--config", site).stdout == "asked for patient-01:1\n"
    mistyped = run("cases", "retry", "patient-10", "--config", site)
    assert (mistyped.returncode, "is not in cohort.patients" in mistyped.stderr) == (1, True)
    assert "`adjuvant assess patient-10`" in mistyped.stderr
    grouped = site.with_name("grouped.toml")
    grouped.write_text(site.read_text().replace("patients = [", 'group = "Group/1" # [', 1))
    assert run("cases", "retry", "Patient/patient-01", "--config", grouped).stdout == "asked for patient-01:1\n"
    assert run("cases", "retry", "patient-02", "--config", grouped).returncode == 1


def test_every_dead_letter_is_asked_for_again(site: Path) -> None:
    """Law: whose newest case is a dead letter, once each; who was asked for since then, or is well, is left alone."""
    with opened_ledger(load_settings(site)) as ledger:
        dead, well = DeadLetter(reason="r", detail=""), Skipped(reason="r", detail="")
        histories: dict[str, list[Settled]] = {"p1": [dead, dead], "p2": [dead, well], "p3": [dead], "p4": [well]}
        for patient, endings in histories.items():
            for ending in endings:
                ledger.record(ledger.request(PatientId(patient)), ending)
    said = run("cases", "retry", "--state", "dead-letter", "--config", site).stdout
    assert said == "asked for 2 patients whose newest case was a dead letter\n"
    waiting = json.loads(run("cases", "list", "--state", "waiting", "--config", site, "--json").stdout)
    assert {case["case"] for case in waiting["cases"]} == {"p1:3", "p3:2"}
    assert run("cases", "retry", "--state", "dead-letter", "--config", site).stdout.startswith("asked for 0 ")
    both = run("cases", "retry", "p1", "--state", "dead-letter", "--config", site)
    assert (both.returncode, "name one patient, or give" in both.stderr) == (2, True)


def test_nobody_is_forgotten_under_a_living_worker(site: Path) -> None:
    """Law: case files go only where nobody reads them. Breach: a worker of another data folder was at work on them."""
    with StoreRoom(load_settings(site)) as store:
        store.ledger.request(PatientId("patient-01"))
        worker = WorkerRegister(store.database)
        worker.join("of another data folder")
        refused = run("cases", "forget", "patient-01", "--config", site)
        worker.leave("of another data folder")
    assert (refused.returncode, "stop them first" in refused.stderr) == (2, True)


def test_a_state_that_no_case_has_is_refused(site: Path) -> None:
    """A misspelt state must not look like a quiet night."""
    done = run("cases", "list", "--state", "deadletter", "--config", site)
    assert done.returncode == 2
    assert "dead-letter" in done.stderr


def test_a_list_may_be_limited_to_the_newest(site: Path) -> None:
    """`--limit 2` of three revisions: the last two; where nothing is found it says so."""
    ended = Skipped(reason="deceased", detail="")
    with opened_ledger(load_settings(site)) as ledger:
        for _ in range(3):
            ledger.record(ledger.request(PatientId("p1")), ended)
    newest = json.loads(run("cases", "list", "--limit", "2", "--config", site, "--json").stdout)
    assert [case["case"] for case in newest["cases"]] == ["p1:3", "p1:2"]
    assert run("cases", "list", "--state", "waiting", "--config", site).stdout == "no case\n"
