"""Whether the service lives and can do its job, for orchestrators, monitors and the container's health check."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CaseCounts = Callable[[], Mapping[str, int]]
"""How many cases are in each state."""

Complaints = Callable[[], tuple[str, ...]]
"""What keeps the service from its work now, one sentence each; empty when nothing does."""

_UNAVAILABLE = 503


def create_health_app(counts: CaseCounts, complaints: Complaints) -> FastAPI:
    """`/health/live`, `/health/ready` and `/metrics`; none of them shows anything about a patient."""
    app = FastAPI(title="adjuvant", docs_url=None, redoc_url=None, openapi_url=None)
    registry = CollectorRegistry()
    cases = Gauge("adjuvant_cases", "Cases by state", ["state"], registry=registry)

    @app.get("/health/live")
    def live() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/health/ready")
    def ready(response: Response) -> dict[str, object]:
        found = complaints()
        if found:
            response.status_code = _UNAVAILABLE
        return {"status": "not ready" if found else "ready", "complaints": list(found)}

    @app.get("/metrics")
    def metrics() -> Response:
        for state, number in counts().items():
            cases.labels(state=state).set(number)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app
