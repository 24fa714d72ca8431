"""What a bundle says about itself: in the manifest for people, in `metadata_props` for whoever holds the graph alone.

`created_utc` is the time of the commit that exported, not of the clock: the same code gives the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from inference.contract import ModelContract
from training.cohorts.landmarks import LandmarkRow
from training.network import Recalibration, Typicality
from training.source_code import SourceCode

ARMS = "none: prognostic; contrasts come from trials"
TIME_ORIGIN = "the landmark; years_since_surgery is the postoperative clock there"
THRESHOLDS = "none in the graph; a site's policy sets the least typicality (mappings/rules.toml)"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCohort:
    """One source of training rows. recurrence_or_death, deaths: patients, after the landmark. sha256: of its files."""

    name: str
    patients: int
    recurrence_or_death: int
    deaths: int
    citation: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Everything a bundle says of its making and its use; what every bundle says has no default to be forgotten by.

    kind: `real` or `simulated`. data_sha256: over all training data. further: what only this manifest says.
    """

    kind: str
    data_sha256: str
    cohorts: tuple[TrainingCohort, ...]
    code_systems: str
    calibration: str
    intended_use: str
    contraindicated_use: str
    limits: str
    licence: str
    command: str
    effort: str
    source: SourceCode
    further: Mapping[str, object] = field(default_factory=dict)

    def stated(self, contract: ModelContract) -> dict[str, object]:
        """For the manifest."""
        return {
            "training_data_kind": self.kind,
            "training_data_sha256": self.data_sha256,
            "training_data": {
                cohort.name: {
                    "patients": cohort.patients,
                    "citation": cohort.citation,
                    "events": {"recurrence_or_death": cohort.recurrence_or_death, "deaths": cohort.deaths},
                    "sha256": cohort.sha256,
                }
                for cohort in self.cohorts
            },
            "code_systems": self.code_systems,
            "calibration": self.calibration,
            "intended_use": self.intended_use,
            "contraindicated_use": self.contraindicated_use,
            "limits": self.limits,
            "licence": self.licence,
            "command": self.command,
            "horizons": _horizons(contract),
            "effort": self.effort,
            "git_commit": self.source.commit,
            "created_utc": self.source.committed,
            **self.further,
        }

    def properties(
        self, contract: ModelContract, recalibration: Recalibration, typicality: Typicality
    ) -> dict[str, str]:
        """For the graph. Its golden vectors' hashes are added by who writes them."""
        static = [entry.name for entry in contract.static]
        sequence = [f"{column.name}[{column.unit}]" for column in contract.sequence]
        return {
            "model_name": contract.model_name,
            "model_version": contract.model_version,
            "git_commit": self.source.commit,
            "created_utc": self.source.committed,
            "sbom_sha256": self.source.lock_sha256,
            "schema_sha256": contract.schema_sha256,
            "feature_order": " ".join([*static, *sequence]),
            "static_order": " ".join(static),
            "sequence_order": " ".join(sequence),
            "code_systems": self.code_systems,
            "training_data_kind": self.kind,
            "train_data_sha256": self.data_sha256,
            "cohort_name": ", ".join(cohort.name for cohort in self.cohorts),
            "patients": _each(self.cohorts, "patients"),
            "events": "; ".join(
                f"{what.replace('_', ' ')}: {_each(self.cohorts, what)}" for what in ("recurrence_or_death", "deaths")
            ),
            "time_origin": TIME_ORIGIN,
            "horizons": _horizons(contract),
            "horizon_quarters": str(contract.horizon_quarters),
            "arms": ARMS,
            "calibration": self.calibration,
            "calibration_id": digest_of(recalibration.centre, recalibration.scale, recalibration.offset),
            "thresholds": THRESHOLDS,
            "conformal_quantiles": "typicality, Mahalanobis distances of training patients in equal steps of rank: "
            + " ".join(f"{knot:.6g}" for knot in typicality.knots.tolist()),
            "intended_use": self.intended_use,
            "contraindicated_use": self.contraindicated_use,
            "limitations": self.limits,
            "license": self.licence,
        }


def cohort_of(name: str, rows: Sequence[LandmarkRow], *, citation: str, sha256: str) -> TrainingCohort:
    """A source of training rows, counted."""
    return TrainingCohort(
        name=name,
        patients=len({row.patient_id for row in rows}),
        recurrence_or_death=sum(row.illness_days is not None or row.died for row in rows),
        deaths=sum(row.died for row in rows),
        citation=citation,
        sha256=sha256,
    )


def digest_of(*tensors: Tensor) -> str:
    """SHA-256, hexadecimal, over float32 values in order."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(tensor.detach().float().contiguous().numpy().tobytes())
    return total.hexdigest()


def _horizons(contract: ModelContract) -> str:
    return f"quarters 1 to {contract.horizon_quarters} after the landmark"


def _each(cohorts: Sequence[TrainingCohort], what: str) -> str:
    return ", ".join(f"{cohort.name} {getattr(cohort, what)}" for cohort in cohorts)
