"""A monitor learns from one request whether the service lives and can work."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from adapter.breaker import CircuitReport, CircuitState
from adapter.errors import BadSettings, StoreUnavailable
from adapter.web.ask import Readiness, ask_readiness
from adapter.web.health import Vitals, create_health_app
from adapter.web.server import WebServer

_complaints: list[str] = []
_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _circuits(pacs: CircuitState) -> tuple[CircuitReport, ...]:
    return (
        CircuitReport(peer="EHR", state=CircuitState.CLOSED, failures=()),
        CircuitReport(peer="PACS", state=pacs, failures=(("PeerTimeout", 7),)),
    )


_reports: list[CircuitReport] = []
_stored: list[Vitals] = []


def _vitals() -> Vitals:
    if not _stored:
        raise StoreUnavailable("the database cannot be used now: locked, full, or away")
    return _stored[0]


@pytest.fixture
def server() -> Iterator[WebServer]:
    """The application on a real loopback port."""
    _complaints.clear()
    _reports[:] = _circuits(CircuitState.CLOSED)
    _stored[:] = [
        Vitals(
            counts={"delivered": 3, "dead-letter": 1},
            polled=_NOON,
            oldest_waiting=_NOON,
            endings={("dead-letter", "peer-timeout"): 1},
            workers=2,
        )
    ]
    app = create_health_app(lambda: tuple(_complaints), _vitals, lambda: tuple(_reports))
    with WebServer(app, host="127.0.0.1", port=0) as running:
        yield running


def test_ready_says_what_is_wrong(server: WebServer) -> None:
    """200 while nothing complains; 503 with the sentence when something does; alive either way."""
    peers = {"EHR": "closed", "PACS": "closed"}
    assert httpx.get(f"{server.url}/health/ready").json() == {"status": "ready", "complaints": [], "peers": peers}
    _complaints.append("the EHR cannot be reached")
    answer = httpx.get(f"{server.url}/health/ready")
    assert (answer.status_code, answer.json()["complaints"]) == (503, ["the EHR cannot be reached"])
    assert httpx.get(f"{server.url}/health/live").status_code == 200


def test_metrics_count_cases_by_state(server: WebServer) -> None:
    """Prometheus sees one gauge a state."""
    assert 'adjuvant_cases{state="dead-letter"} 1.0' in httpx.get(f"{server.url}/metrics").text


def test_a_peer_that_is_left_alone_is_a_complaint(server: WebServer) -> None:
    """F-03: readiness names the peer whose circuit is open; the command `status` reads the same."""
    _reports[:] = _circuits(CircuitState.OPEN)
    answer = httpx.get(f"{server.url}/health/ready")
    complaint = "the PACS kept failing and is left alone; cases wait for it"
    assert (answer.status_code, answer.json()["complaints"]) == (503, [complaint])
    host, _, port = server.url.removeprefix("http://").partition(":")
    assert ask_readiness(host, int(port)) == Readiness(
        status="not ready", complaints=(complaint,), peers=(("EHR", "closed"), ("PACS", "open"))
    )


def test_a_service_that_does_not_run_is_no_error() -> None:
    """Nobody listens: there is no answer, which says enough."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert ask_readiness("127.0.0.1", port) is None


def test_metrics_hold_what_a_night_shift_watches(server: WebServer) -> None:
    """Last good poll, oldest waiting case, endings by reason, circuits, failures by class; nothing lingers."""
    _reports[:] = _circuits(CircuitState.OPEN)
    found = httpx.get(f"{server.url}/metrics").text
    for line in (
        "adjuvant_last_good_poll_timestamp_seconds 1.7723664e+09",
        'adjuvant_cases_ended{reason="peer-timeout",state="dead-letter"} 1.0',
        'adjuvant_circuit{peer="PACS",state="open"} 1.0',
        'adjuvant_circuit{peer="EHR",state="closed"} 1.0',
        'adjuvant_peer_failures_total{error="PeerTimeout",peer="PACS"} 7.0',
        "adjuvant_store_up 1.0",
        "adjuvant_workers 2.0",
    ):
        assert line in found
    _stored[:] = [Vitals()]
    assert "oldest_waiting" not in httpx.get(f"{server.url}/metrics").text


@pytest.mark.fault("F-27")
def test_metrics_are_answered_while_the_database_is_away(server: WebServer) -> None:
    """Law: then they are those of this process, and say why. Breach: 500, and the monitor lost the circuits too."""
    _stored.clear()
    answer = httpx.get(f"{server.url}/metrics")
    assert answer.status_code == 200
    assert "adjuvant_store_up 0.0" in answer.text
    assert 'adjuvant_circuit{peer="EHR",state="closed"} 1.0' in answer.text
    assert "adjuvant_cases" not in answer.text


def test_a_taken_port_is_named() -> None:
    """The administrator reads the address, not a traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        app = create_health_app(tuple)
        with pytest.raises(BadSettings, match=str(port)), WebServer(app, host="127.0.0.1", port=port):
            pass
