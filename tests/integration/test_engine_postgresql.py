"""The engine on PostgreSQL: workers share the cases, and the living finish what the dead, paused or cut off had.

What nobody can run any more is asked for again; whoever wakes too late writes nothing.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from adapter.errors import StoreUnavailable
from adapter.store.database import open_database, store_session
from adapter.store.workers import WorkerRegister
from tests.fakes.waiting import wait_until
from tests.faults.proxy import Manner, TcpProxy
from tests.peers.postgresql import Postgresql

pytestmark = pytest.mark.timeout(600)  # workers are waited for until they are silent, on a machine that may be loaded
_LONGEST_SECONDS = 180
_ROOT = Path(__file__).parents[2]
_PATIENTS = 6
_WHOLE = ("skipped", "gather retrieve decide deliver")
_TAKEOVER_SECONDS = 30


def test_a_transaction_that_stood_still_is_the_stores_trouble(postgresql: Postgresql) -> None:
    """F-10: PostgreSQL ends who waits in a transaction, and the step is tried again.

    Breach: psycopg has a class of its own for it, so that a worker frozen for ten seconds made a dead letter.
    """
    engine = create_engine(postgresql.create_database("stood_still"))
    with pytest.raises(StoreUnavailable):
        _stand_still(engine)
    engine.dispose()


def _stand_still(engine: Engine) -> None:
    with store_session(engine) as session:
        session.execute(text("SET idle_in_transaction_session_timeout = 200"))
        time.sleep(1)
        session.execute(text("SELECT 1"))


class Site:
    """A database of its own, and the workers that share it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.engine = create_engine(url, pool_pre_ping=True)
        self.trace = folder / "trace"
        self._folder = folder
        self._workers: list[subprocess.Popen[str]] = []

    def start(self, trouble: str = "", *, url: str = "", seconds: float = 1.0) -> subprocess.Popen[str]:
        """One more worker; the first asks for the patients."""
        command = [sys.executable, "-m", "tests.fakes.slow_cases", str(self._folder), str(_PATIENTS), str(seconds)]
        child = subprocess.Popen([*command, trouble, url or self.url], cwd=_ROOT, stdout=subprocess.PIPE, text=True)
        self._workers.append(child)
        return child

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """What the database holds."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def states(self) -> dict[object, object]:
        """State and detail of each case."""
        return {
            case: (state, detail)
            for case, state, detail in self.rows("select case_id, state, detail from adjuvant_case")
        }

    def ends(self) -> Counter[str]:
        """How often each step of each case was done."""
        return Counter(line for line in self.trace.read_text().splitlines() if line.endswith("end"))

    def close(self) -> None:
        """End what runs."""
        for child in self._workers:
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()
        self.engine.dispose()


@pytest.fixture
def site(tmp_path: Path, postgresql: Postgresql) -> Iterator[Site]:
    """An empty database."""
    opened = Site(postgresql.create_database(f"engine_{abs(hash(str(tmp_path))):x}"), tmp_path)
    yield opened
    opened.close()


def _two_at_work(site: Site, trouble: str = "") -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """The second joins when the first has asked for the patients: else it would ask for revisions of its own."""
    first = site.start(trouble)
    wait_until(site.trace.exists, _LONGEST_SECONDS)
    second = site.start()
    wait_until(lambda: len(site.rows("select executor_id from adjuvant_worker")) == 2, _LONGEST_SECONDS)
    return first, second


def _finished(worker: subprocess.Popen[str]) -> float:
    """Seconds until nothing was left to do."""
    began = time.monotonic()
    output, _ = worker.communicate(timeout=300)
    assert output.endswith("idle\n")
    return time.monotonic() - began


@pytest.mark.fault("F-01")
def test_a_living_worker_takes_over_from_a_dead_one(site: Site) -> None:
    """Kill -9 one of two: within thirty seconds every case is settled, once, only steps in flight repeated."""
    first, second = _two_at_work(site)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert _finished(second) < _TAKEOVER_SECONDS
    assert site.states() == {f"p{n}:1": _WHOLE for n in range(_PATIENTS)}
    ends = site.ends()
    assert len(ends) == 4 * _PATIENTS
    assert ends.total() <= 4 * _PATIENTS + 2  # two workers a process: at most two steps were in flight


@pytest.mark.fault("F-01")
def test_a_paused_worker_that_wakes_commits_nothing(site: Site) -> None:
    """SIGSTOP one of two in a step: within thirty seconds the other has settled all; what wakes changes no row."""
    first, second = _two_at_work(site)
    first.send_signal(signal.SIGSTOP)
    assert _finished(second) < _TAKEOVER_SECONDS
    everything = "select * from adjuvant_case order by case_id", "select * from dbos.operation_outputs order by 1, 2"
    before = [site.rows(query) for query in everything]
    assert site.states() == {f"p{n}:1": _WHOLE for n in range(_PATIENTS)}
    first.send_signal(signal.SIGCONT)
    _finished(first)
    assert [site.rows(query) for query in everything] == before
    assert site.ends().total() <= 4 * _PATIENTS + 2


@pytest.mark.fault("F-01")
def test_a_worker_paused_after_the_checkpoint_was_inserted_holds_nobody(site: Site) -> None:
    """PostgreSQL ends its transaction after ten seconds, the other worker settles the case, and the woken does not."""
    first, second = _two_at_work(site, "pause-in-commit")
    assert _finished(second) < _TAKEOVER_SECONDS + _PATIENTS
    settled = site.rows("select case_id, state, detail, settled from adjuvant_case order by case_id")
    assert site.states() == {f"p{n}:1": _WHOLE for n in range(_PATIENTS)}
    first.send_signal(signal.SIGCONT)
    _finished(first)
    assert site.rows("select case_id, state, detail, settled from adjuvant_case order by case_id") == settled


@pytest.mark.fault("F-27")
def test_a_worker_cut_off_from_the_database_goes_on_when_it_is_back(site: Site) -> None:
    """A false death: for twenty seconds its packets go nowhere; the other takes its cases, and all settle once."""
    address = create_engine(site.url).url
    with TcpProxy(str(address.host), address.port or 0) as proxy:
        url = address.set(port=proxy.port).render_as_string(hide_password=False)
        first = site.start(url=url, seconds=2.0)
        wait_until(site.trace.exists, _LONGEST_SECONDS)
        second = site.start(seconds=2.0)
        wait_until(lambda: len(site.rows("select executor_id from adjuvant_worker")) == 2, _LONGEST_SECONDS)
        proxy.behave(Manner.SILENT)
        time.sleep(20)
        proxy.behave(Manner.PASS)
        proxy.cut()  # as the kernel does with a connection whose packets nobody acknowledges for fifteen seconds
        _finished(second)
        _finished(first)
    assert site.states() == {f"p{n}:1": _WHOLE for n in range(_PATIENTS)}
    assert site.ends().total() <= 4 * _PATIENTS + 2


@pytest.mark.fault("F-27")
def test_a_restart_of_the_database_costs_no_case(tmp_path: Path, own_postgresql: Postgresql) -> None:
    """F-27: PostgreSQL is killed and started while both work: they wait for it, and every case settles."""
    site = Site(own_postgresql.url, tmp_path)
    try:
        first, second = _two_at_work(site)
        at_work = "select distinct executor_id from dbos.workflow_status where executor_id is not null"
        wait_until(lambda: len(site.rows(at_work)) == 2, _LONGEST_SECONDS)
        own_postgresql.restart()
        _finished(first)
        _finished(second)
        assert set(site.states().values()) == {_WHOLE}
    finally:
        site.close()


@pytest.mark.fault("F-27")
def test_of_two_reapers_one_takes_over(site: Site) -> None:
    """While one is about it the other leaves it alone: no case is taken over, or its deaths counted, twice."""
    engine = open_database(site.url)
    one, other = WorkerRegister(engine), WorkerRegister(engine)
    with one.only_reaper() as first, other.only_reaper() as second:
        assert (first, second) == (True, False)
    with other.only_reaper() as again:
        assert again
    engine.dispose()


@pytest.mark.fault("F-01")
def test_the_dead_of_two_are_taken_over_by_two(site: Site) -> None:
    """Two die at once, two new ones look at the same moment: each case is settled once, each death counted once."""
    for worker in _two_at_work(site):
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
    for worker in (site.start(), site.start()):
        _finished(worker)
    assert site.states() == {f"p{n}:1": _WHOLE for n in range(_PATIENTS)}
    assert all(crashes <= 1 for (crashes,) in site.rows("select crashes from adjuvant_case"))  # type: ignore[operator]
    assert site.ends().total() <= 4 * _PATIENTS + 4


@pytest.mark.fault("F-49")
def test_an_upgrade_that_cannot_go_on_with_old_cases_asks_for_them_again(site: Site) -> None:
    """F-49: what waits and runs under the older engine version is ended there, and settles as the next revision."""
    old = site.start()
    wait_until(site.trace.exists, _LONGEST_SECONDS)
    old.send_signal(signal.SIGKILL)
    old.communicate()
    settled = {case for (case,) in site.rows("select case_id from adjuvant_case where state = 'skipped'")}
    _finished(site.start("upgraded", seconds=0.1))
    again = ("skipped", "asked for again")
    open_then = [f"p{n}" for n in range(_PATIENTS) if f"p{n}:1" not in settled]
    assert {patient: site.states()[f"{patient}:1"] for patient in open_then} == dict.fromkeys(open_then, again)
    assert {patient: site.states()[f"{patient}:2"] for patient in open_then} == dict.fromkeys(open_then, _WHOLE)


@pytest.mark.fault("F-49")
def test_an_upgrade_that_goes_on_with_old_cases_takes_them_over(site: Site) -> None:
    """F-49: with the same engine version a newer program continues after the last checkpoint."""
    old = site.start()
    wait_until(lambda: site.trace.exists() and site.ends().total() >= 2, _LONGEST_SECONDS)
    old.send_signal(signal.SIGKILL)
    old.communicate()
    _finished(site.start(seconds=0.1))
    assert site.states() == {f"p{n}:1": _WHOLE for n in range(_PATIENTS)}
    assert site.ends().total() <= 4 * _PATIENTS + 2
