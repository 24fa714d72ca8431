"""The commands, on the pretend hospital: what a person types, what comes out, which exit code."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pypdf import PdfReader

from adapter.demo import SEED, TODAY
from adapter.domain.ids import PatientId
from adapter.domain.outcome import DeadLetter, Settled, Skipped
from adapter.rooms import StoreRoom, opened_database, opened_ledger
from adapter.sandbox.hospital import SandboxHospital, sandbox_policy
from adapter.sandbox.patients import PATIENT_SYSTEM, simulate_courses
from adapter.settings import load_settings
from adapter.store.workers import WorkerRegister
from adapter.terminology import load_terminology
from tests.peers.process import free_port

pytestmark = pytest.mark.real  # each command is a process of its own: too slow for the fast tests


@pytest.fixture(scope="module")
def hospital() -> Iterator[SandboxHospital]:
    """Three simulated patients, everything known."""
    with SandboxHospital(simulate_courses(3, seed=SEED, today=TODAY), load_terminology()) as running:
        running.unfold()
        yield running


@pytest.fixture
def site(hospital: SandboxHospital, tmp_path: Path) -> Path:
    """A site configuration of its own store."""
    port = free_port()
    hospital.archive.allow("ADJUVANT", "127.0.0.1", port)
    path = tmp_path / "site.toml"
    path.write_text(
        f"""
mode = "research"
[fhir]
base_url = "{hospital.ehr.base_url}"
patient_identifier_system = "{PATIENT_SYSTEM}"
[pacs]
host = "127.0.0.1"
port = {hospital.archive.port}
ae_title = "SANDBOX"
[dicom]
port = {port}
quiet_seconds = 0.3
[cohort]
patients = ["Patient/patient-01", "Patient/patient-02"]
[store]
url = "sqlite:///{tmp_path}/adjuvant.db"
folder = "{tmp_path}/data"
[web]
port = {free_port()}
[policy]
site_folder = "{sandbox_policy()}"
"""
    )
    return path


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "adapter", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_one_patient_is_assessed_once_and_replayed(site: Path, hospital: SandboxHospital) -> None:
    """Dry run writes nothing; two real runs leave one resource at version 1; replay gives the same bytes."""
    dry = _run("assess", "Patient/patient-01", "--config", site, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    kinds = [entry["resource"]["resourceType"] for entry in json.loads(dry.stdout)["entry"]]
    assert [kind for kind in kinds if kind != "DetectedIssue"] == [
        "DocumentReference", "Device", "RiskAssessment", "CarePlan", "GuidanceResponse", "Task", "Provenance",
    ]  # fmt: skip
    assert "RiskAssessment" not in hospital.ehr.repository.counts()
    assert {path.name for path in (site.parent / "data").rglob("*") if path.is_file()} <= {"adjuvant.lock"}
    nothing = _run("status", "--config", site, "--json")  # nothing asked for, and a look makes no database
    assert (nothing.returncode, "has the service ever run here?" in nothing.stderr) == (2, True)
    written = [_run("assess", "patient-01", "--config", site, "--json") for _ in range(2)]
    reports = [json.loads(run.stdout.splitlines()[-1]) for run in written]
    assert [report["delivered"] for report in reports] == [1, 1]
    assert reports[0]["cases"][0]["resources"] == reports[1]["cases"][0]["resources"]
    assert all(reference.endswith("/_history/1") for reference in reports[0]["cases"][0]["resources"])
    assessment = next(ref for ref in reports[0]["cases"][0]["resources"] if ref.startswith("RiskAssessment"))
    unknown = _run("replay", "nonsense", "--config", site)
    assert (unknown.returncode, "no assessment nonsense" in unknown.stderr) == (1, True)
    replayed = _run("replay", assessment.split("/_history")[0], "--config", site)
    assert replayed.returncode == 0, replayed.stderr
    assert "identical" in replayed.stdout
    for suffix, start in (("html", b"<!doctype html>"), ("pdf", b"%PDF-")):
        paper = site.with_name(f"page.{suffix}")
        assert _run("page", assessment.split("/_history")[0], "--config", site, "--out", paper).returncode == 0
        assert paper.read_bytes().startswith(start)
        assert paper.stat().st_mode & 0o077 == 0
    nowhere = _run("page", assessment.split("/_history")[0], "--config", site, "--out", "/nope/page.html")
    assert (nowhere.returncode, "--out /nope/page.html cannot be written" in nowhere.stderr) == (2, True)
    assert json.loads(_run("cases", "show", "Patient/patient-01:1", "--json", "--config", site).stdout)["case"]
    readable = [path for path in (site.parent / "data").rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert [path.name for path in readable] == ["adjuvant.lock"]
    _require_same_numbers(hospital, assessment.split("/")[1], dry.stdout, site)
    counted = json.loads(_run("status", "--config", site, "--json").stdout)
    assert counted["delivered"] == 2
    forgotten = _run("cases", "forget", "patient-01", "--config", site)
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


def test_a_look_into_the_past_answers_nothing_that_waits(site: Path) -> None:
    """`assess --landmark` is a case of its own. Breach: it settled what waited, and nobody saw the change."""
    with opened_ledger(load_settings(site)) as ledger:
        ledger.request(PatientId("patient-01"))
    words = "1 unfinished and no service answers: they go on at the next start"
    assert words in _run("status", "--config", site).stdout  # or a killed service would look like one at work
    past = json.loads(
        _run("assess", "patient-01", "--landmark", "2020-01-01T00:00:00+00:00", "--config", site, "--json").stdout
    )
    assert [case["case"] for case in past["cases"]] == ["patient-01:2"]
    waiting = json.loads(_run("cases", "list", "--state", "waiting", "--config", site, "--json").stdout)
    assert [case["case"] for case in waiting["cases"]] == ["patient-01:1"]
    newest = json.loads(_run("assess", "patient-01", "--config", site, "--json").stdout)
    assert [case["case"] for case in newest["cases"]] == ["patient-01:3"]


def test_check_says_what_works(site: Path) -> None:
    """Every line ok, exit 0; with a closed EHR port FAIL names it, the other lines still come, exit 3."""
    good = _run("check", "--config", site)
    assert good.returncode == 0, good.stdout + good.stderr
    assert good.stdout.count("ok  ") == 8
    broken = site.with_name("broken.toml")
    broken.write_text(site.read_text().replace("base_url = ", 'base_url = "http://127.0.0.1:9/fhir" #', 1))
    bad = _run("check", "--config", broken)
    assert bad.returncode == 3
    assert "PeerUnavailable: metadata: connection refused at 127.0.0.1:9" in bad.stdout
    assert "FAIL  EHR" in bad.stdout
    assert "ok    model" in bad.stdout


@pytest.mark.fault("F-34")
@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["status", "--config", "absent.toml"], 2, "cannot read absent.toml"),
        (["assess", "patient-01"], 2, "--config"),
        (["replay", "nonsense", "--config", "SITE"], 2, "has the service ever run here?"),
        (["assess", "../etc", "--config", "SITE"], 1, "not a legal FHIR id"),
        (["assess", "nobody", "--config", "SITE", "--json"], 0, ""),
        (["policy", "try", "absent.json"], 2, "cannot read absent.json: No such file"),
        (["policy", "try", "SITE"], 2, "is no case"),
        (["cases", "show", "Patient/nobody:1", "--json", "--config", "SITE"], 2, "has the service ever run here?"),
        (["page", "nonsense", "--config", "SITE", "--out", "page.docx"], 2, "ends in .html or .pdf"),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_code(site: Path, arguments: list[str], code: int, sentence: str) -> None:
    """0 done (an abstention is an answer), 1 refused, 2 usage or configuration; never a traceback."""
    finished = _run(*(str(site) if argument == "SITE" else argument for argument in arguments))
    assert (finished.returncode, "Traceback" in finished.stderr) == (code, False), finished.stderr
    assert sentence in finished.stderr


@pytest.mark.fault("F-05")
def test_an_unreachable_peer_is_exit_3(site: Path) -> None:
    """The EHR is not there: nothing is half done, the code tells a script to try later."""
    closed = site.with_name("closed.toml")
    closed.write_text(site.read_text().replace("base_url = ", 'base_url = "http://127.0.0.1:9/fhir" #', 1))
    assert _run("assess", "patient-01", "--config", closed).returncode == 3
    with opened_database(load_settings(closed)):
        pass
    assert _run("reconcile", "--config", closed).returncode == 3
    down = site.with_name("down.toml")
    down.write_text(site.read_text().replace('"sqlite:', '"postgresql://adjuvant:s3cret@127.0.0.1:9/cases" # ', 1))
    looked = _run("status", "--config", down)
    assert (looked.returncode, "s3cret" in looked.stderr) == (3, False)
    assert "the database at 127.0.0.1:9/cases: connection refused" in looked.stderr


def test_the_rules_can_be_tried_and_shown(tmp_path: Path) -> None:
    """`policy try` answers named features; `policy show` prints every rule; `model verify` proves the bundle."""
    case = tmp_path / "case.json"
    case.write_text(json.dumps({"features": {"ene_path": "positive"}, "landmark": datetime.now(UTC).isoformat()}))
    verdict = json.loads(_run("policy", "try", case, "--json").stdout)
    assert set(verdict) == {"scope", "risk_group", "actions", "reasons"}
    assert verdict["actions"]["OBS"] != "concordant"
    assert "HIGH" in _run("policy", "show").stdout
    assert "agree" in _run("model", "verify").stdout
    assert "1." in _run("model", "show").stdout
    assert re.fullmatch(r"adjuvant \d+\.\d+\.\d+\n", _run("--version").stdout)
    exported = json.loads(_run("policy", "export", "--sandbox").stdout)
    assert exported["entry"][0]["resource"]["resourceType"] == "PlanDefinition"


@pytest.mark.fault("F-02", "F-37")
def test_the_service_runs_until_it_is_asked_to_stop(site: Path, hospital: SandboxHospital) -> None:
    """F-02: it polls, settles both patients of its cohort, and ends within ten seconds of SIGTERM with exit 0.

    Beside it, though it holds the DICOM port, a case is asked for and one is replayed; forgetting has to wait.
    """
    command = [sys.executable, "-m", "adapter", "run", "--config", str(site)]
    site.write_text(f"{site.read_text()}\n[watch]\npoll_seconds = 1\nquiet_seconds = 0\n")
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 180  # commands take seconds each on a loaded machine
        while _delivered(site) < 2:
            assert time.monotonic() < deadline
            assert service.poll() is None
        (worker,) = json.loads(_run("status", "--config", site, "--json").stdout)["workers"]
        assert worker["place"].endswith(f":{service.pid}")
        asked_for = json.loads(_run("assess", "patient-01", "--config", site, "--json").stdout)
        assert [case["patient"] for case in asked_for["cases"]] == ["patient-01"]
        assert asked_for["delivered"] == 1
        assessment = next(ref for ref in asked_for["cases"][0]["resources"] if ref.startswith("RiskAssessment"))
        assert "identical" in _run("replay", assessment.split("/_history")[0], "--config", site).stdout
        dry = _run("assess", "patient-01", "--config", site, "--dry-run")
        assert (dry.returncode, "a service runs here and holds dicom.port" in dry.stderr) == (2, True)
        forgotten = _run("cases", "forget", "patient-01", "--config", site)
        assert (forgotten.returncode, "is in use by process" in forgotten.stderr) == (2, True)
    finally:
        asked = time.monotonic()
        service.send_signal(signal.SIGTERM)
        _, errors = service.communicate(timeout=40)
    assert service.returncode == 0, errors
    assert time.monotonic() - asked < 10
    assert "Simulated" not in errors  # no name of any patient in a log


def test_nobody_unknown_is_asked_for(site: Path) -> None:
    """Law: a mistyped id is refused with the way out. Breach: its case was skipped, and the patient was not looked at.

    On a list whoever is on it may be asked for; under another cohort only whom the ledger knows.
    """
    with opened_database(load_settings(site)):
        pass
    assert _run("cases", "retry", "patient-01", "--config", site).stdout == "asked for patient-01:1\n"
    mistyped = _run("cases", "retry", "patient-10", "--config", site)
    assert (mistyped.returncode, "is not in cohort.patients" in mistyped.stderr) == (1, True)
    assert "`adjuvant assess patient-10`" in mistyped.stderr
    grouped = site.with_name("grouped.toml")
    grouped.write_text(site.read_text().replace("patients = [", 'group = "Group/1" # [', 1))
    assert _run("cases", "retry", "Patient/patient-01", "--config", grouped).stdout == "asked for patient-01:1\n"
    assert _run("cases", "retry", "patient-02", "--config", grouped).returncode == 1


def test_every_dead_letter_is_asked_for_again(site: Path) -> None:
    """Law: whose newest case is a dead letter, once each; who was asked for since then, or is well, is left alone."""
    with opened_ledger(load_settings(site)) as ledger:
        dead, well = DeadLetter(reason="r", detail=""), Skipped(reason="r", detail="")
        histories: dict[str, list[Settled]] = {"p1": [dead, dead], "p2": [dead, well], "p3": [dead], "p4": [well]}
        for patient, endings in histories.items():
            for ending in endings:
                ledger.record(ledger.request(PatientId(patient)), ending)
    said = _run("cases", "retry", "--state", "dead-letter", "--config", site).stdout
    assert said == "asked for 2 patients whose newest case was a dead letter\n"
    waiting = json.loads(_run("cases", "list", "--state", "waiting", "--config", site, "--json").stdout)
    assert {case["case"] for case in waiting["cases"]} == {"p1:3", "p3:2"}
    assert _run("cases", "retry", "--state", "dead-letter", "--config", site).stdout.startswith("asked for 0 ")
    both = _run("cases", "retry", "p1", "--state", "dead-letter", "--config", site)
    assert (both.returncode, "name one patient, or give" in both.stderr) == (2, True)


def test_nobody_is_forgotten_under_a_living_worker(site: Path) -> None:
    """Law: case files go only where nobody reads them. Breach: a worker of another data folder was at work on them."""
    with StoreRoom(load_settings(site)) as store:
        store.ledger.request(PatientId("patient-01"))
        worker = WorkerRegister(store.database)
        worker.join("of another data folder")
        refused = _run("cases", "forget", "patient-01", "--config", site)
        worker.leave("of another data folder")
    assert (refused.returncode, "stop them first" in refused.stderr) == (2, True)


def _delivered(site: Path) -> int:
    looked = _run("status", "--config", site, "--json")
    return int(json.loads(looked.stdout)["delivered"]) if looked.returncode == 0 else 0  # no database yet


def test_records_are_compared_on_request(site: Path, hospital: SandboxHospital) -> None:
    """Nothing differs after an assessment; a deletion that no feed shows is found, and asked for once."""
    _run("assess", "patient-01", "--config", site, "--json")
    calm = json.loads(_run("reconcile", "--config", site, "--json").stdout)
    assert [found["patient"] for found in calm["found"]] == ["patient-02"]  # nobody ever looked at
    assert [found["what"] for found in calm["found"]] == ["never-assessed"]
    gone = next(
        stored.resource["id"]
        for stored in hospital.ehr.repository.current("Observation")
        if stored.resource["subject"] == {"reference": "Patient/patient-01"}
    )
    hospital.ehr.repository.delete("Observation", str(gone))
    found = json.loads(_run("reconcile", "--config", site, "--json").stdout)
    assert [(one["patient"], one["deleted"], one["case"]) for one in found["found"]] == [
        ("patient-01", 1, "patient-01:2")
    ]
    assert (found["compared"], found["open"], found["interrupted"]) == (1, 1, "")
    again = _run("reconcile", "--config", site)
    assert again.returncode == 0
    assert "0 records compared, 0 differ, 2 have an open case" in again.stdout


def test_a_result_that_the_ehr_lost_is_asked_for_and_written_again(site: Path, hospital: SandboxHospital) -> None:
    """Breach: the EHR was restored from an older backup, and "0 differ" was all that the operator read."""
    written = json.loads(_run("assess", "patient-01", "--config", site, "--json").stdout)
    (name,) = (one.split("/")[1] for one in written["cases"][0]["resources"] if one.startswith("RiskAssessment"))
    del hospital.ehr.repository._versions["RiskAssessment", name]
    report = json.loads(_run("reconcile", "--config", site, "--json").stdout)
    lost = [(one["what"], one["detail"], one["case"]) for one in report["found"] if one["patient"] == "patient-01"]
    assert lost == [("result-missing", f"RiskAssessment/{name}", "patient-01:2")]
    assert report["missing"] == 1
    again = json.loads(_run("assess", "patient-01", "--config", site, "--json").stdout)
    assert [(one["case"], one["state"]) for one in again["cases"]] == [("patient-01:2", "delivered")]
    assert hospital.resource(f"RiskAssessment/{name}") is not None


def test_a_state_that_no_case_has_is_refused(site: Path) -> None:
    """A misspelt state must not look like a quiet night."""
    done = _run("cases", "list", "--state", "deadletter", "--config", site)
    assert done.returncode == 2
    assert "dead-letter" in done.stderr


def test_check_looks_whether_the_first_patient_is_there(site: Path) -> None:
    """A cohort of patients whom the EHR does not have is no cohort; what nobody could try is said."""
    fine = _run("check", "--config", site)
    assert fine.returncode == 0, fine.stdout
    assert "Patient/patient-01, can be read" in fine.stdout
    assert "not tried: whether the archive knows our AE title" in fine.stdout
    site.write_text(site.read_text().replace("Patient/patient-01", "Patient/nobody"))
    wrong = _run("check", "--config", site)
    assert wrong.returncode == 1
    assert "the EHR has no Patient/nobody" in wrong.stdout
