"""One assessment about to be written: a statement with a forecast and a proposal."""

from __future__ import annotations

from dataclasses import dataclass

from adapter.domain.plan import ActionVerdict, CarePlanProposal, GateOutcome, GateState, Verdict
from adapter.domain.risk import RiskForecast
from adapter.fhir.encode.statement import Statement
from adapter.fhir.entries import Json

_TUMOUR_BOARD = "MDT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment(Statement):
    """Everything the resources of one assessment are written from."""

    forecast: RiskForecast
    proposal: CarePlanProposal

    @property
    def risk_assessment(self) -> Json:
        """Refers to the forecast."""
        return {"reference": f"RiskAssessment/ra-{self.names.statement}"}

    @property
    def care_plan(self) -> Json:
        """Refers to the proposal."""
        return {"reference": f"CarePlan/cp-{self.names.statement}"}

    @property
    def stop(self) -> GateOutcome | None:
        """The gate that stopped; None where all passed."""
        return next((outcome for outcome in self.proposal.gates if outcome.state is GateState.STOPPED), None)

    @property
    def board(self) -> ActionVerdict | None:
        """The tumour board, where the rules ask for it because they could not decide."""
        return next(
            (
                entry
                for entry in self.proposal.actions
                if entry.action == _TUMOUR_BOARD and entry.verdict is Verdict.CONCORDANT
            ),
            None,
        )


def stop_words(stop: GateOutcome) -> str:
    """Why the comparison of treatments stopped, and what would settle it."""
    return f"{stop.sentence} To resolve: {stop.resolve}"
