"""Which cases run in this process, also where one is run twice."""

from __future__ import annotations

from adapter.engine.executions import Executions


def test_a_case_runs_until_its_last_execution_ends() -> None:
    """Breach: the old run of a case that was given back took the new one's mark along, and it looked stranded."""
    executions = Executions()
    with executions.of("p1:1") as step:
        with executions.of("p1:1") as same, executions.of("p2:1") as other:
            assert same is step is not other
            assert executions.cases == {"p1:1", "p2:1"}
        assert executions.cases == {"p1:1"}
    assert executions.cases == frozenset()
