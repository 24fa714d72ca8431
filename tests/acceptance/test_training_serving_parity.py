"""On a real server: what the service assembles for a patient is what training assembled, entry by entry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from adapter.fhir.client import FhirClient
from adapter.terminology import Terminology, load_terminology
from benchmarks.both_sides import INPUT_BAR, OUTPUT_BAR, Comparison, as_served, as_trained, compare, load_cohort, spread
from inference.artifact import load_bundle, shipped_bundle
from inference.predictor import Predictor
from tests.peers.hapi import Hapi
from training.cohorts.cohort import CohortPatient
from training.cohorts.hancock import read_hancock

SAMPLE = 60


@pytest.fixture(scope="module")
def terminology() -> Terminology:
    return load_terminology()


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(load_bundle(shipped_bundle()))


@pytest.fixture(scope="module")
def patients(data_folder: Path, terminology: Terminology) -> tuple[CohortPatient, ...]:
    """Sixty patients at equal steps through the file; some of them had distant metastasis at diagnosis."""
    return spread(read_hancock(data_folder / "hancock", terminology), SAMPLE)


@pytest.fixture(scope="module")
def comparison(
    hapi: Hapi, patients: tuple[CohortPatient, ...], terminology: Terminology, predictor: Predictor
) -> Iterator[Comparison]:
    with FhirClient(hapi.base_url) as client:
        load_cohort(client, patients, terminology)
        yield compare(as_trained(patients, predictor), as_served(client, patients, terminology, predictor))


def test_everyone_stands_where_training_put_them(comparison: Comparison) -> None:
    """At risk or skipped for the same reason, and at the same landmark to the microsecond."""
    assert comparison.standing_differs == ()
    assert comparison.landmark_differs == ()
    assert sum(comparison.standings.values()) == SAMPLE
    assert set(comparison.standings) == {"decision", "distant-metastasis"}


def test_model_inputs_are_those_of_training(comparison: Comparison) -> None:
    """No mask differs and no entry by more than a millionth, for everyone who is at risk."""
    assert comparison.compared == comparison.standings["decision"]
    assert comparison.masks_differ == ()
    assert comparison.input_distance <= INPUT_BAR


def test_forecasts_are_those_of_training(comparison: Comparison) -> None:
    """The shipped model gives both sides the same curves within one in a hundred thousand."""
    assert comparison.output_distance <= OUTPUT_BAR


def test_a_changed_haemoglobin_would_be_seen(patients: tuple[CohortPatient, ...], predictor: Predictor) -> None:
    """The comparison is a judge: one number of one patient altered, and it does not hold."""
    ours = list(as_trained(patients, predictor))
    altered = list(as_trained(patients, predictor))
    at_risk = next(seen.asked.model_input for seen in altered if seen.asked)
    at_risk.static[np.flatnonzero(at_risk.static_mask)[0]] += np.float32(1e-3)
    assert compare(ours, ours).holds
    assert not compare(ours, altered).holds
