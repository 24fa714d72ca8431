"""What every feed missed is found by comparing whole records: once a night, one patient at a time, cut or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
from sqlalchemy import Engine

from adapter.domain.ids import PatientId, ResourceVersion
from adapter.domain.outcome import Case, DeadLetter, Delivered, Skipped, Watermark, WriteReceipt
from adapter.fhir.changes import Remembered, fetch_changes
from adapter.fhir.client import FhirClient
from adapter.fhir.cohort import Cohort, PatientList, SelectCohort
from adapter.fhir.fetch import fetch_record
from adapter.fhir.limits import Limits
from adapter.pipeline.case_file import CaseFile, seal
from adapter.pipeline.reconcile import Found, Reconciler, Reconciliation, night_of
from adapter.pipeline.watch import Watcher
from adapter.sandbox.faults import FhirFaults
from adapter.sandbox.fhir_server import FhirServer
from adapter.store.database import open_database
from adapter.store.ledger import Ledger
from adapter.store.rounds import RoundBook
from adapter.store.vault import Vault
from adapter.store.watermark import WatermarkStore

_START = datetime(2026, 3, 1, 12, tzinfo=UTC)
_P1, _P2, _P3 = (PatientId(f"p{number}") for number in (1, 2, 3))
_COHORT = PatientList(patients=(_P1, _P2, _P3))


class Site:
    """A hospital of three patients and what adjuvant remembers of it, its clock moved by the test."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        """Nobody has been looked at yet."""
        self.now = _START
        self.server = FhirServer(lambda: self.now)
        self.ledger = Ledger(engine, lambda: self.now)
        self.case_files = folder / "vault"
        self.vault = Vault(self.case_files, bytes(32))
        self.feed, self.book = WatermarkStore(engine, "x"), RoundBook(engine, "x")

    def open(self) -> None:
        """Connect to the running server."""
        self.client = FhirClient(self.server.base_url, sleep=lambda _: None, limits=Limits(attempts=1))

    def put(self, kind: str, name: str, patient: str | None = None, **more: object) -> None:
        """Store one resource."""
        subject = {"subject": {"reference": f"Patient/{patient}"}} if patient else {}
        self.server.repository.update(kind, name, {"resourceType": kind, "id": name, **subject, **more}, None)

    def look(self) -> None:
        """One poll, and every case settled on the record as it is then."""
        Watcher(self.client, _COHORT, self.feed).poll()
        self.settle_all()

    def settle_all(self) -> None:
        """As the queue does."""
        for case in self.ledger.unsettled_cases():
            self.ledger.record(case, Skipped(reason="test", detail=""), self.gathered(case))

    def gathered(self, case: Case) -> str:
        """The case file of a case that has read the record."""
        record = self.vault.keep(seal(fetch_record(self.client, case.patient_id)))
        file = CaseFile(record=record, series=(), image_notes=(), at=None, practice="p", model="m")
        return self.vault.keep(seal(file))

    def reconciler(self, cohort: Cohort = _COHORT) -> Reconciler:
        """A fresh one, as after a restart."""
        return Reconciler(self.client, cohort, feed=self.feed, book=self.book, ledger=self.ledger, files=self.vault)

    def night(self, cohort: Cohort = _COHORT) -> Reconciliation:
        """The round of the next night, whole."""
        self.now += timedelta(days=1)
        result = self.reconciler(cohort).reconcile(self.now.date().isoformat(), lambda: self.now)
        assert result is not None
        return result

    def missed(self) -> int:
        """How many changes the polls still see."""
        return len(Watcher(self.client, _COHORT, self.feed).poll())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Everybody was looked at, a day passed, nothing changed."""
    engine = open_database(f"sqlite:///{tmp_path / 'adjuvant.db'}")
    running = Site(engine, tmp_path)
    with running.server:
        running.open()
        for name in ("p1", "p2", "p3"):
            running.put("Patient", name)
            running.put("Observation", f"o-{name}", name)
        running.now += timedelta(hours=1)
        running.look()
        yield running
        running.client.close()
    engine.dispose()


def test_a_record_that_is_what_it_was_makes_no_case(site: Site) -> None:
    """Also when the server stamped everything anew: what a record says counts, not its bookkeeping."""
    site.put("Observation", "o-p1", "p1")
    site.look()
    assert site.night() == Reconciliation(name="2026-03-02", compared=3)
    assert site.ledger.unsettled_cases() == ()


def test_a_deletion_is_found(site: Site) -> None:
    """No search by time shows it; the new look finds the record without it, and the next night is quiet."""
    site.server.repository.delete("Observation", "o-p2")
    assert site.missed() == 0
    assert site.night().found == [Found(patient_id=_P2, what="differs", case_id="p2:2", new=0, changed=0, deleted=1)]
    assert site.missed() == 0
    site.settle_all()
    assert site.night().found == []


def test_a_late_commit_behind_the_overlap_is_found(site: Site) -> None:
    """Stamped an hour before the watermark and committed now: no poll sees it."""
    site.put("Observation", "o-new", "p1")
    site.look()
    _backdate(site, "Observation", "o-late", "p3", site.now - timedelta(hours=1))
    assert site.missed() == 0
    assert site.night().found == [Found(patient_id=_P3, what="differs", case_id="p3:2", new=1, changed=0, deleted=0)]


def test_what_a_wrong_clock_stamped_is_found(site: Site) -> None:
    """F-26: the server's clock was a year ahead, was put back, and a change came before the next poll could see it."""
    site.now += timedelta(days=365)
    site.put("Observation", "o-p1", "p1", note=[{"text": "1"}])
    site.look()
    site.now -= timedelta(days=365)
    _backdate(site, "Observation", "o-new", "p2", site.now)  # the pretend server's own stamps only rise
    site.now += timedelta(hours=1)  # we were down
    assert site.missed() == 0
    assert [found.patient_id for found in site.night().found] == [_P2]
    site.settle_all()
    _backdate(site, "Observation", "o-newer", "p3", site.now)
    assert site.missed() == 1  # the watermark went back with the clock


def test_a_deleted_patient_gets_one_look(site: Site) -> None:
    """The record cannot be read any more: one case that says so, and none the night after."""
    site.server.repository.delete("Patient", "p1")
    assert [(found.what, found.detail) for found in site.night().found] == [("unreadable", "NoSuchPatient")]
    for case in site.ledger.unsettled_cases():
        site.ledger.record(case, DeadLetter(reason="no-such-patient", detail=""))
    assert site.night().found == []


def test_who_left_the_cohort_is_followed_no_more(site: Site) -> None:
    """A search that only adds never tells of a leaver; the night does, and later changes are nobody's business."""
    cohort = SelectCohort.parse("Condition?code=urn:x|1")
    code = {"code": {"coding": [{"system": "urn:x", "code": "1"}]}}
    for name in ("p1", "p2"):
        site.put("Condition", f"c-{name}", name, **code)
    watcher = Watcher(site.client, cohort, site.feed)
    watcher.poll()
    site.server.repository.delete("Condition", "c-p2")
    assert site.night(cohort).left == [_P2, _P3]
    site.settle_all()
    site.put("Observation", "o-p2", "p2", note=[{"text": "2"}])
    assert watcher.poll() == ()
    assert site.night(cohort).left == []


def test_a_patient_nobody_ever_looked_at_is_found_and_a_forgotten_one_is_not(site: Site) -> None:
    """A member without a case is asked for; one whose cases were removed on purpose is not."""
    site.put("Patient", "p9")
    site.ledger.forget(_P1)
    found = site.night(PatientList(patients=(_P1, _P2, PatientId("p9")))).found
    assert found == [Found(patient_id=PatientId("p9"), what="never-assessed", case_id="p9:1")]


def test_an_open_case_will_look_anyway(site: Site) -> None:
    """No second case beside one that waits."""
    site.put("Observation", "o-p1", "p1", note=[{"text": "1"}])
    site.ledger.request(_P1)
    result = site.night()
    assert (result.open, result.compared, result.found) == (1, 2, [])


def test_an_expired_case_file_is_no_reason_to_look_again(site: Site) -> None:
    """Where the record of the last case is gone, the digest of the last night is compared."""
    site.night()
    site.ledger.release_case_files(site.now + timedelta(days=1))
    assert site.night().found == []
    site.server.repository.delete("Observation", "o-p1")
    assert site.night().found == [Found(patient_id=_P1, what="differs", case_id="p1:2")]


def test_a_damaged_case_file_is_said_and_looked_at_again(site: Site) -> None:
    """What does not open has not expired: the new look seals it again, and the next night is quiet."""
    entry = site.ledger.newest_case(_P2)
    assert entry is not None
    assert entry.case_file is not None
    whole = set(site.case_files.glob("*/*"))
    site.vault.remove([entry.case_file])
    (path,) = whole - set(site.case_files.glob("*/*"))
    path.write_bytes(bytes(100))
    assert site.night().found == [Found(patient_id=_P2, what="damaged", case_id="p2:2")]
    site.settle_all()
    assert site.night().found == []


def test_a_night_happens_once(site: Site) -> None:
    """However often the tick comes, and from whichever process: the round's name is its identity."""
    site.night()
    name = site.now.date().isoformat()
    assert site.reconciler().reconcile(name, lambda: site.now) is None
    assert site.book.ended() == site.now


def test_a_round_that_was_cut_goes_on_where_it_was(site: Site) -> None:
    """Stopped after the first patient, or the EHR gone: the next one begins with the second, the next night too."""
    asked = iter([False, True])
    cut = site.reconciler().reconcile("2026-03-02", lambda: site.now, lambda: next(asked))
    assert cut is not None
    assert (cut.compared, cut.interrupted) == (1, "stopped")
    site.server.faults = FhirFaults(down=True)
    gone = site.reconciler().reconcile("2026-03-02", lambda: site.now)
    assert gone is not None
    assert gone.interrupted.startswith("PeerUnavailable")
    site.server.faults = FhirFaults()
    rest = site.reconciler().reconcile("2026-03-03", lambda: site.now)
    assert rest is not None
    assert (rest.name, rest.compared, rest.interrupted) == ("2026-03-02", 2, "")
    assert site.reconciler().reconcile("2026-03-02", lambda: site.now) is None


def test_a_lost_permission_makes_no_case_for_anybody(site: Site) -> None:
    """403 for every record is the administrator's affair, not a thousand dead letters."""
    site.server.faults = FhirFaults(forbidden=True)
    result = site.night()
    assert (result.refused, result.compared, result.found) == (3, 0, [])


class ResultsClosed(httpx.HTTPTransport):
    """A gateway that lets our account read records and no results."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """403 for every RiskAssessment."""
        if "/RiskAssessment" in request.url.path:
            return httpx.Response(403)
        return super().handle_request(request)


def test_results_that_we_may_not_ask_for_are_counted_and_make_no_case(site: Site) -> None:
    """Breach: every result of the hospital called missing because a permission was."""
    receipt = WriteReceipt(assessment_id="1", versions=(ResourceVersion("RiskAssessment", "ra-1", "1"),), written=True)
    case = site.ledger.request(_P1)
    site.ledger.record(case, Delivered(receipt=receipt), site.gathered(case))
    site.client.close()
    site.client = FhirClient(site.server.base_url, transport=ResultsClosed(), limits=Limits(attempts=1))
    assert site.night() == Reconciliation(name="2026-03-02", compared=3, unasked=1)
    site.client.close()
    site.open()
    assert [found.what for found in site.night().found] == ["result-missing"]


def test_who_waits_for_a_person_is_counted(site: Site) -> None:
    """A record that is what it was and whose case ended as a dead letter is nobody's quiet night."""
    case = site.ledger.request(_P2)
    site.ledger.record(case, DeadLetter(reason="unsupported-peer", detail=""), site.gathered(case))
    assert site.night() == Reconciliation(name="2026-03-02", compared=3, dead_letters=1)
    site.put("Observation", "o-p2", "p2", note=[{"text": "1"}])
    result = site.night()
    assert (len(result.found), result.dead_letters) == (1, 0)  # a new look is asked for, and nobody has to act yet


@pytest.mark.parametrize(
    ("now", "night"),
    [
        ("2026-03-02T01:59:00+01:00", "2026-03-01"),
        ("2026-03-02T02:00:00+01:00", "2026-03-02"),
        ("2026-03-02T14:00:00+01:00", "2026-03-02"),
        ("2026-03-29T03:30:00+02:00", "2026-03-29"),  # the hour from two to three did not happen
    ],
)
def test_the_night_has_one_name(now: str, night: str) -> None:
    """It begins at the site's hour by the site's clock, and a service that was down catches up by day."""
    assert night_of(datetime.fromisoformat(now), time(2), ZoneInfo("Europe/Berlin")) == night


def test_a_poll_goes_back_with_the_servers_clock(site: Site) -> None:
    """F-26: what is stamped after the clock was put right is reported by the very next poll, once."""
    site.feed.advance(Watermark(time=site.now + timedelta(days=365)), (), people={_P1: _P1}, hashes={})
    site.put("Observation", "o-p1", "p1", note=[{"text": "1"}])
    watched = PatientList(patients=(_P1,))
    page = fetch_changes(site.client, site.feed.read(), watched, remembered=Remembered(people={_P1: _P1}))
    assert [change.version.resource_id for change in page.changes] == ["o-p1"]
    assert page.next_watermark.time <= site.now
    again = fetch_changes(site.client, page.next_watermark, watched, remembered=page.remembered)
    assert again.changes == ()


def _backdate(site: Site, kind: str, name: str, patient: str, moment: datetime) -> None:
    """Store a resource as if it had been stamped at another moment."""
    site.put(kind, name, patient)
    versions = site.server.repository._versions[kind, name]
    meta = {"versionId": "1", "lastUpdated": moment.isoformat().replace("+00:00", "Z")}
    versions[-1] = replace(versions[-1], resource={**versions[-1].resource, "meta": meta}, last_updated=moment)


def test_two_workers_do_not_compare_the_same_night_twice(site: Site) -> None:
    """Both begin; the one that finds the other ahead leaves the round to it, and every record is compared once."""
    site.look()
    site.now += timedelta(days=1)
    others: list[Reconciliation | None] = []

    def other_goes_first() -> bool:
        if not others:
            others.append(None)
            others[0] = site.reconciler().reconcile("night", lambda: site.now, lambda: False)
        return False

    ours = site.reconciler().reconcile("night", lambda: site.now, other_goes_first)
    theirs = others[0]
    assert ours is not None
    assert theirs is not None
    assert (ours.compared, theirs.compared) == (0, 3)
    assert ours.interrupted == "Overtaken: another process goes on with this comparison"
    assert site.reconciler().reconcile("night", lambda: site.now) is None
