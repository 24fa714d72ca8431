"""A monitor learns from one request whether the service lives and can work."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest

from adapter.errors import BadSettings
from adapter.web.health import create_health_app
from adapter.web.server import WebServer

_complaints: list[str] = []


@pytest.fixture
def server() -> Iterator[WebServer]:
    """The application on a real loopback port."""
    _complaints.clear()
    app = create_health_app(lambda: {"delivered": 3, "dead-letter": 1}, lambda: tuple(_complaints))
    with WebServer(app, host="127.0.0.1", port=0) as running:
        yield running


def test_ready_says_what_is_wrong(server: WebServer) -> None:
    """200 while nothing complains; 503 with the sentence when something does; alive either way."""
    assert httpx.get(f"{server.url}/health/ready").json() == {"status": "ready", "complaints": []}
    _complaints.append("the EHR cannot be reached")
    answer = httpx.get(f"{server.url}/health/ready")
    assert (answer.status_code, answer.json()["complaints"]) == (503, ["the EHR cannot be reached"])
    assert httpx.get(f"{server.url}/health/live").status_code == 200


def test_metrics_count_cases_by_state(server: WebServer) -> None:
    """Prometheus sees one gauge a state."""
    assert 'adjuvant_cases{state="dead-letter"} 1.0' in httpx.get(f"{server.url}/metrics").text


def test_a_taken_port_is_named() -> None:
    """The administrator reads the address, not a traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        app = create_health_app(dict, tuple)
        with pytest.raises(BadSettings, match=str(port)), WebServer(app, host="127.0.0.1", port=port):
            pass
