"""A patient three weeks after surgery, as a timeline that tests change piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import numpy as np

from adapter.decision.interpret import interpret
from adapter.domain.ids import BusinessIdentifier, PatientId, ResourceVersion
from adapter.domain.landmark import Landmark
from adapter.domain.period import Period
from adapter.domain.record import Diagnosis, Measurement, Person, ProcedureEvent
from adapter.domain.risk import AtRisk, LandmarkKind, RiskForecast
from adapter.domain.timeline import Timeline
from adapter.domain.tristate import TriState
from inference.contract import (
    BundleIdentity,
    Explanation,
    ForecastBand,
    InputEffect,
    ModelContract,
    ModelOutput,
    SequenceInput,
    StaticInput,
)

ZONE = timezone(timedelta(hours=8))
LANDMARK = datetime(2026, 3, 21, 9, 30, tzinfo=ZONE)
SURGERY = datetime(2026, 2, 28, 8, 0, tzinfo=ZONE)
PATHOLOGY: Mapping[str, float | str] = {
    "tnm_edition": "8",
    "histology": "scc_keratinizing",
    "cM": "cM0",
    "pT": "pT3",
    "pN": "pN3b",
    "ene_path": "macro",
    "margin_class": "R0",
    "margin_mm": 7.0,
    "pni": "absent",
    "lvi": "absent",
    "nodes_positive": 3.0,
    "nodes_examined": 32.0,
}
LABORATORY: Mapping[str, float | str] = {
    "ecog": 0.0,
    "creatinine": 80.0,
    "weight": 75.0,
    "hearing_grade": 0.0,
    "tinnitus_grade": 0.0,
    "neuropathy_grade": 0.0,
    "nyha": 0.0,
    "plt": 250.0,
    "neut": 4.2,
    "hgb": 13.5,
}
IDENTITY = BundleIdentity(
    name="illness-death",
    version="1.0.0",
    digest="ab" * 32,
    training_data="real",
    opset=20,
    contract_digest="12" * 32,
    card="# Model card\n\nWhat it is for, and what not.\n",
)
CONTRACT = ModelContract(
    model_name="illness-death",
    model_version="1.0.0",
    static=(StaticInput(name="pT", feature="pT", levels=(("pT3", 3.0),)),),
    sequence=(SequenceInput(name="hgb", feature="hgb", unit="g/dL"),),
    sequence_length=8,
    horizon_quarters=20,
)


def version(resource_type: str, resource_id: str, number: str = "1") -> ResourceVersion:
    """Name one version of one resource."""
    return ResourceVersion(resource_type, resource_id, number)


def measured(feature: str, value: float | str, at: datetime = SURGERY) -> Measurement:
    """One finding, known when it was true, from an Observation named after it."""
    unit = None if isinstance(value, str) else "1"
    source = version("Observation", feature.replace("_", "-"))
    return Measurement(feature=feature, value=value, unit=unit, effective=Period.instant(at), known=at, source=source)


def person() -> Person:
    """A man of sixty with one identifier."""
    return Person(
        patient_id=PatientId("p1"),
        identifiers=(BusinessIdentifier("urn:oid:1.2.3", "4711"),),
        birth=Period.instant(datetime(1965, 6, 1, tzinfo=ZONE)),
        sex="male",
        deceased=TriState.FALSE,
        died=None,
        known=SURGERY,
        source=version("Patient", "p1", "3"),
    )


def cancer() -> Diagnosis:
    """A confirmed carcinoma of the oral cavity."""
    return Diagnosis(
        kind="hnscc",
        site_group="oral_cavity",
        confirmed=TriState.TRUE,
        onset=None,
        known=SURGERY,
        source=version("Condition", "cancer"),
    )


def surgery() -> ProcedureEvent:
    """The index surgery."""
    return ProcedureEvent(
        kind="definitive_resection",
        performed=Period.instant(SURGERY),
        known=SURGERY,
        source=version("Procedure", "surgery"),
    )


def timeline(
    *,
    changes: Mapping[str, float | str | None] | None = None,
    procedures: tuple[ProcedureEvent, ...] = (),
    diagnoses: tuple[Diagnosis, ...] = (),
    landmark: datetime = LANDMARK,
) -> Timeline:
    """The patient with some findings changed; None takes a finding away."""
    findings = {**PATHOLOGY, **LABORATORY, **(changes or {})}
    fresh = LANDMARK - timedelta(days=2)
    return Timeline(
        landmark=Landmark(time=landmark),
        person=person(),
        index_surgery=surgery(),
        measurements=tuple(
            measured(feature, value, fresh if feature in LABORATORY else SURGERY)
            for feature, value in sorted(findings.items())
            if value is not None
        ),
        procedures=(surgery(), *procedures),
        diagnoses=(cancer(), *diagnoses),
        medications=(),
        imaging=(),
        images=(),
        quarantined=(),
    )


EXPLANATION = Explanation(
    quarter=12,
    effects=(
        InputEffect(name="lymph nodes and extranodal extension", recurrence=0.084, death=0.051),
        InputEffect(name="smoking", recurrence=-0.016, death=-0.072),
        InputEffect(name="grade", recurrence=0.004, death=0.0),
    ),
    recurrence_gap=0.012,
    death_gap=-0.021,
)


def curves(
    *, recurrence: float = 0.4, without: float = 0.1, explanation: Explanation | None = EXPLANATION
) -> ModelOutput:
    """Straight curves that reach the given fractions after five years."""
    quarters = np.arange(1, 21, dtype=np.float32) / np.float32(20)
    died = (quarters * np.float32(without)).astype(np.float32)
    recurred = (quarters * np.float32(recurrence)).astype(np.float32)
    death = (died + np.float32(0.5) * recurred).astype(np.float32)
    return ModelOutput(recurrence=recurred, death_without_recurrence=died, death=death, explanation=explanation)


def banded_curves() -> ModelOutput:
    """The straight curves inside a band a tenth lower and higher, of a patient who is not unusual."""
    straight = curves()
    stacked = np.stack([straight.recurrence, straight.death_without_recurrence, straight.death])
    band = ForecastBand(low=stacked * np.float32(0.9), high=stacked * np.float32(1.1))
    return replace(straight, band=band, typicality=0.4)


def forecast(patient: Timeline, *, output: ModelOutput | None = None, missing: tuple[str, ...] = ()) -> RiskForecast:
    """The forecast of straight curves at the timeline's landmark."""
    at_risk = AtRisk(kind=LandmarkKind.DECISION, landmark=patient.landmark, index_surgery=patient.index_surgery)
    return interpret(
        output or curves(), CONTRACT, identity=IDENTITY, at_risk=at_risk, timeline=patient, missing=missing
    )


def at_utc(moment: datetime) -> datetime:
    """The same moment in another zone."""
    return moment.astimezone(UTC)
