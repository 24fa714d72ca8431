"""Whether the service lives and can do its job, for orchestrators, monitors and the container's health check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from adapter.breaker import CircuitReport, CircuitState
from adapter.errors import StoreUnavailable

Complaints = Callable[[], tuple[str, ...]]
"""What keeps the service from its work now, one sentence each; empty when nothing does."""

Circuits = Callable[[], tuple[CircuitReport, ...]]
"""How this process stands with each peer."""

_UNAVAILABLE = 503


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What a night shift watches of the whole store: times, numbers and codes, nothing about a patient.

    counts: how many cases are in each state. polled: when a look at the EHR last ended well, whichever process looked.
    reconciled: when every record was last compared. oldest_waiting: when the case that waits longest was asked for.
    None: not yet, or none. endings: of cases, by state and reason. workers: how many processes run cases.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    polled: datetime | None = None
    reconciled: datetime | None = None
    oldest_waiting: datetime | None = None
    endings: Mapping[tuple[str, str], int] = field(default_factory=dict)
    workers: int = 0


def create_health_app(
    complaints: Complaints, vitals: Callable[[], Vitals] = Vitals, circuits: Circuits = tuple
) -> FastAPI:
    """`/health/live`, `/health/ready` and `/metrics`; none of them shows anything about a patient.

    vitals: raises StoreUnavailable while the database is away; then the metrics are those of this process.
    """
    app = FastAPI(title="adjuvant", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/health/live")
    def live() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/health/ready")
    def ready(response: Response) -> dict[str, object]:
        reports = circuits()
        found = [*complaints(), *map(_sentence, filter(_is_down, reports))]
        if found:
            response.status_code = _UNAVAILABLE
        peers = {report.peer: report.state.value for report in reports}
        return {"status": "not ready" if found else "ready", "complaints": found, "peers": peers}

    @app.get("/metrics")
    def metrics() -> Response:
        registry = CollectorRegistry()  # a fresh one each time, so that nothing of an earlier state lingers
        _collect_peers(circuits(), registry)
        store_up = Gauge("adjuvant_store_up", "Whether the database can be used now", registry=registry)
        try:
            _collect_store(vitals(), registry)
            store_up.set(1)
        except StoreUnavailable:
            store_up.set(0)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


def _is_down(report: CircuitReport) -> bool:
    return report.state is not CircuitState.CLOSED


def _sentence(report: CircuitReport) -> str:
    return f"the {report.peer} kept failing and is left alone; cases wait for it"


def _collect_store(vitals: Vitals, registry: CollectorRegistry) -> None:
    cases = Gauge("adjuvant_cases", "Cases by state", ["state"], registry=registry)
    for state, number in vitals.counts.items():
        cases.labels(state=state).set(number)
    ended = Gauge(
        "adjuvant_cases_ended", "Cases that ended, by state and reason", ["state", "reason"], registry=registry
    )
    for (state, reason), number in vitals.endings.items():
        ended.labels(state=state, reason=reason).set(number)
    Gauge("adjuvant_workers", "Processes that run cases", registry=registry).set(vitals.workers)
    times = {
        "adjuvant_last_good_poll": ("When a look at the EHR last ended well", vitals.polled),
        "adjuvant_last_reconciliation": ("When every record was last compared", vitals.reconciled),
        "adjuvant_oldest_waiting_case": ("When the case that waits longest was asked for", vitals.oldest_waiting),
    }
    for name, (meaning, time) in times.items():
        if time is not None:
            Gauge(f"{name}_timestamp_seconds", meaning, registry=registry).set(time.timestamp())


def _collect_peers(circuits: tuple[CircuitReport, ...], registry: CollectorRegistry) -> None:
    state = Gauge("adjuvant_circuit", "1 for the state of a peer's circuit", ["peer", "state"], registry=registry)
    for report in circuits:
        for possible in CircuitState:
            state.labels(peer=report.peer, state=possible.value).set(possible is report.state)
    registry.register(_PeerFailures(circuits))


class _PeerFailures(Collector):
    """Counts that the circuits keep; a Counter would count them again from now."""

    def __init__(self, circuits: tuple[CircuitReport, ...]) -> None:
        self._circuits = circuits

    def collect(self) -> Iterator[CounterMetricFamily]:
        """One family, a sample for each peer and error."""
        failures = CounterMetricFamily(
            "adjuvant_peer_failures", "Failed attempts since the start, by error", labels=["peer", "error"]
        )
        for report in self._circuits:
            for error, number in report.failures:
                failures.add_metric([report.peer, error], number)
        yield failures
