"""Which cases run in this process, also where one patient has two of them."""

from __future__ import annotations

from adapter.domain.ids import PatientId
from adapter.domain.outcome import Case
from adapter.engine.executions import Executions


def _case(patient: str, revision: int) -> Case:
    return Case(patient_id=PatientId(patient), revision=revision)


def test_a_case_runs_until_its_last_execution_ends() -> None:
    """Breach: the old run of a case that was given back took the new one's mark along, and it looked stranded."""
    executions = Executions()
    with executions.of(_case("p1", 1)):
        with executions.of(_case("p1", 1)), executions.of(_case("p2", 1)):
            assert executions.cases == {"p1:1", "p2:1"}
        assert executions.cases == {"p1:1"}
    assert executions.cases == frozenset()


def test_a_patient_has_one_step_at_a_time() -> None:
    """Breach: the old run of one case removed the images under the next, which ended as a dead letter."""
    executions = Executions()
    with executions.of(_case("p1", 1)) as step:
        with executions.of(_case("p1", 2)) as same, executions.of(_case("p2", 1)) as other:
            assert same is step is not other
            assert executions.cases == {"p1:1", "p1:2", "p2:1"}
        assert executions.cases == {"p1:1"}
