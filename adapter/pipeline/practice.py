"""How this site reads, decides and words: every table and switch that shapes an output, as one frozen value."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from adapter.decision.policy import Policy
from adapter.features.at_risk import LandmarkPolicy
from adapter.fhir.decode import Reading
from adapter.fhir.delivery import Delivery, OutputMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Practice:
    """The same practice, record, images and model give the same bytes for ever.

    base_url: of the EHR, names a patient that has no identifier. patient_system: which identifier names an assessment.
    pacs_system: which identifier is the DICOM Patient ID; None where a patient has only one identifier.
    """

    reading: Reading
    landmarks: LandmarkPolicy
    policy: Policy
    delivery: Delivery
    mode: OutputMode
    base_url: str
    patient_system: str | None = None
    pacs_system: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal, over everything above: a replay under another practice is refused."""
        named = {
            "terminology": self.reading.terminology.digest,
            "known_time": self.reading.known_time.value,
            "zone": self.reading.zone.key,
            "landmarks": repr(self.landmarks),
            "policy": self.policy.version,
            "delivery": self.delivery.digest,
            "mode": self.mode.value,
            "base_url": self.base_url,
            "systems": [self.patient_system, self.pacs_system],
        }
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
