"""The EHR behind the ports of the walk."""

from __future__ import annotations

from adapter.domain.ids import PatientId
from adapter.domain.outcome import TransactionBundle, WriteReceipt
from adapter.domain.record import RawRecord
from adapter.fhir.client import FhirClient
from adapter.fhir.fetch import fetch_record
from adapter.fhir.submit import submit


class Ehr:
    """One EHR, read and written."""

    def __init__(self, client: FhirClient) -> None:
        """client: shared by every case."""
        self._client = client

    def fetch_record(self, patient_id: PatientId) -> RawRecord:
        """Every page of every search of one patient, or an error."""
        return fetch_record(self._client, patient_id)

    def knock(self) -> None:
        """Ask what concerns no patient."""
        self._client.knock()

    def submit(self, bundle: TransactionBundle) -> WriteReceipt:
        """Make the server hold exactly this assessment, once."""
        return submit(self._client, bundle)
