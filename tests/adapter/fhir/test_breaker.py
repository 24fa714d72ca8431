"""A server that keeps failing is left alone."""

from __future__ import annotations

import pytest

from adapter.errors import PeerUnavailable
from adapter.fhir.breaker import CircuitBreaker


@pytest.mark.fault("F-03")
def test_the_circuit_opens_rests_and_probes() -> None:
    """Open after two failures in a row, closed again after the rest for one probe, open at once if it fails."""
    now = [0.0]
    breaker = CircuitBreaker(failures=2, rest_seconds=30.0, clock=lambda: now[0])
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    breaker.admit()
    breaker.failed()
    with pytest.raises(PeerUnavailable) as caught:
        breaker.admit()
    assert caught.value.retry_after_seconds == 30.0
    now[0] = 30.0
    breaker.admit()
    breaker.failed()
    with pytest.raises(PeerUnavailable):
        breaker.admit()
    now[0] = 60.0
    breaker.admit()
    breaker.succeeded()
    breaker.failed()
    breaker.admit()
