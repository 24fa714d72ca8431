"""`adjuvant assess`, `replay` and `page`: one patient, what comes out, the same numbers everywhere."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pypdf import PdfReader

from adapter.domain.ids import PatientId
from adapter.rooms import opened_ledger
from adapter.sandbox.faults import FhirFaults
from adapter.sandbox.hospital import SandboxHospital
from adapter.settings import load_settings
from adapter.store.cases import DELIVERED, RUNNING, SKIPPED, WAITING
from adapter.store.ledger import Ledger
from tests.fakes.command import run

pytestmark = pytest.mark.real  # each command is a process of its own: too slow for the fast tests


def test_one_patient_is_assessed_once_and_replayed(site: Path, hospital: SandboxHospital) -> None:
    """Dry run writes nothing; two real runs leave one resource at version 1; replay gives the same bytes."""
    dry = run("assess", "Patient/patient-01", "--config", site, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    kinds = [entry["resource"]["resourceType"] for entry in json.loads(dry.stdout)["entry"]]
    assert [kind for kind in kinds if kind != "DetectedIssue"] == [
        "DocumentReference", "Device", "RiskAssessment", "CarePlan", "GuidanceResponse", "Task", "Provenance",
    ]  # fmt: skip
    assert "RiskAssessment" not in hospital.ehr.repository.counts()
    assert {path.name for path in (site.parent / "data").rglob("*") if path.is_file()} <= {"adjuvant.lock"}
    nothing = run("status", "--config", site, "--json")  # nothing asked for, and a look makes no database
    assert (nothing.returncode, "has the service ever run here?" in nothing.stderr) == (2, True)
    written = [run("assess", "patient-01", "--config", site, "--json") for _ in range(2)]
    reports = [json.loads(run.stdout.splitlines()[-1]) for run in written]
    assert [report["delivered"] for report in reports] == [1, 1]
    assert reports[0]["cases"][0]["resources"] == reports[1]["cases"][0]["resources"]
    assert all(reference.endswith("/_history/1") for reference in reports[0]["cases"][0]["resources"])
    assessment = next(ref for ref in reports[0]["cases"][0]["resources"] if ref.startswith("RiskAssessment"))
    unknown = run("replay", "nonsense", "--config", site)
    assert (unknown.returncode, "no assessment nonsense" in unknown.stderr) == (1, True)
    replayed = run("replay", assessment.split("/_history")[0], "--config", site)
    assert replayed.returncode == 0, replayed.stderr
    assert "identical" in replayed.stdout
    for suffix, start in (("html", b"<!doctype html>"), ("pdf", b"%PDF-")):
        paper = site.with_name(f"page.{suffix}")
        assert run("page", assessment.split("/_history")[0], "--config", site, "--out", paper).returncode == 0
        assert paper.read_bytes().startswith(start)
        assert paper.stat().st_mode & 0o077 == 0
    nowhere = run("page", assessment.split("/_history")[0], "--config", site, "--out", "/nope/page.html")
    assert (nowhere.returncode, "--out /nope/page.html cannot be written" in nowhere.stderr) == (2, True)
    assert json.loads(run("cases", "show", "Patient/patient-01:1", "--json", "--config", site).stdout)["case"]
    readable = [path for path in (site.parent / "data").rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert [path.name for path in readable] == ["adjuvant.lock"]
    _require_same_numbers(hospital, assessment.split("/")[1], dry.stdout, site)
    counted = json.loads(run("status", "--config", site, "--json").stdout)
    assert counted["delivered"] == 2
    forgotten = run("cases", "forget", "patient-01", "--config", site)
    assert "forgot 2 cases" in forgotten.stdout
    assert [path for path in (site.parent / "data" / "vault").glob("*/*") if path.is_file()] == []


def _require_same_numbers(hospital: SandboxHospital, name: str, dry: str, site: Path) -> None:
    """I8: what the EHR holds, what the dry run printed, plan, page and sheet agree digit for digit."""
    identity = name.removeprefix("ra-")
    held = hospital.resource(f"RiskAssessment/{name}") or {}
    predictions: list[dict[str, object]] = held["prediction"]  # type: ignore[assignment]
    percents = [f"{prediction['probabilityDecimal']} %" for prediction in predictions]
    (printed,) = [
        entry["resource"]["prediction"]
        for entry in json.loads(dry)["entry"]
        if entry["resource"]["resourceType"] == "RiskAssessment"
    ]
    assert [f"{prediction['probabilityDecimal']} %" for prediction in printed] == percents
    html = site.with_name("page.html").read_text()
    sheet = " ".join(page.extract_text() for page in PdfReader(site.with_name("page.pdf")).pages)
    assert all(percent in html and percent in sheet for percent in percents)
    plan = hospital.resource(f"CarePlan/cp-{identity}") or {}
    notes: list[dict[str, str]] = plan["note"]  # type: ignore[assignment]
    (said,) = [note["text"] for note in notes if note["text"].startswith("Model prediction at 36 months")]
    assert set(re.findall(r"[\d.]+ %", said)) == {percents[index] for index in (2, 6, 10)}  # 3 years of each outcome
    for reference in (f"GuidanceResponse/gr-{identity}", f"DetectedIssue/di-{identity}"):
        words = json.dumps(hospital.resource(reference) or {})
        assert set(re.findall(r"[\d.]+ %", words)) <= set(percents)


@pytest.fixture
def reading(site: Path, hospital: SandboxHospital) -> Iterator[tuple[subprocess.Popen[bytes], Ledger]]:
    """An `assess` that is in the middle of reading from a slow EHR, and the ledger it writes."""
    hospital.ehr.faults = FhirFaults(delay_seconds=0.5)
    command = [sys.executable, "-m", "adapter", "assess", "patient-01", "--config", str(site)]
    # whoever is started in the background ignores Ctrl-C, and so would what it starts
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with opened_ledger(load_settings(site)) as ledger, subprocess.Popen(command) as process:
            while not any(entry.state == RUNNING for entry in ledger.list_cases(patient_id=PatientId("patient-01"))):
                assert process.poll() is None
                time.sleep(0.05)
            yield process, ledger
    finally:
        signal.signal(signal.SIGINT, before)
        hospital.ehr.faults = FhirFaults()


def _states(ledger: Ledger) -> list[str]:
    return [entry.state for entry in ledger.list_cases(patient_id=PatientId("patient-01"))]


def test_a_change_while_it_reads_is_another_case(reading: tuple[subprocess.Popen[bytes], Ledger]) -> None:
    """What is asked for meanwhile is looked at once more. Breach: `assess` settled it with what it had read before."""
    process, ledger = reading
    assert ledger.request(PatientId("patient-01")).case_id == "patient-01:2"
    assert process.wait(60) == 0
    assert _states(ledger) == [WAITING, DELIVERED]


def test_what_it_was_about_to_answer_waits_on_when_it_is_cut(reading: tuple[subprocess.Popen[bytes], Ledger]) -> None:
    """Ctrl-C. Breach: the case stood there as running, with nobody who ran it."""
    process, ledger = reading
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert _states(ledger) == [WAITING, SKIPPED]


def test_a_look_into_the_past_answers_nothing_that_waits(site: Path) -> None:
    """`assess --landmark` is a case of its own. Breach: it settled what waited, and nobody saw the change."""
    with opened_ledger(load_settings(site)) as ledger:
        ledger.request(PatientId("patient-01"))
    words = "1 unfinished and no service answers: they go on at the next start"
    assert words in run("status", "--config", site).stdout  # or a killed service would look like one at work
    past = json.loads(
        run("assess", "patient-01", "--landmark", "2020-01-01T00:00:00+00:00", "--config", site, "--json").stdout
    )
    assert [case["case"] for case in past["cases"]] == ["patient-01:2"]
    waiting = json.loads(run("cases", "list", "--state", "waiting", "--config", site, "--json").stdout)
    assert [case["case"] for case in waiting["cases"]] == ["patient-01:1"]
    newest = json.loads(run("assess", "patient-01", "--config", site, "--json").stdout)
    assert [case["case"] for case in newest["cases"]] == ["patient-01:3"]
