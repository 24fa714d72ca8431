"""A real archive over TLS: Orthanc asks for our certificate, we for its, and a series comes whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adapter.dicom.tls import TlsFiles
from adapter.domain.ids import PatientId
from adapter.domain.imaging import DicomPatient
from adapter.errors import PeerUnavailable
from adapter.rooms import build_archive
from adapter.sandbox.ct import CtOptions, file_bytes, simulated_ct
from adapter.settings import Settings, settings_from
from tests.fakes.certificates import issue
from tests.peers.orthanc import Orthanc, Secured

SLICES = 6


def _settings(orthanc: Orthanc, folder: Path, tls: dict[str, str]) -> Settings:
    return settings_from(
        {
            "fhir": {"base_url": "http://127.0.0.1:9/fhir"},
            "cohort": {"patients": ["Patient/p1"]},
            "pacs": {"host": orthanc.host, "port": orthanc.dicom_port, "ae_title": orthanc.ae_title},
            "dicom": {"bind": orthanc.our_address, "port": 0, "quiet_seconds": 0.5, **tls},
            "store": {"folder": str(folder / "data")},
        }
    )


@pytest.mark.fault("F-05")
def test_a_series_comes_over_tls_and_not_without(own_orthanc: Callable[[Secured], Orthanc], tmp_path: Path) -> None:
    """Both associations are secured by the site's settings; a caller in plain TCP gets nothing."""
    issued: list[TlsFiles] = []

    def secured(theirs: str, ours: str) -> dict[str, object]:
        files = issue(tmp_path, "hospital", (theirs, ours))
        issued.append(files)
        return {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(files.certificate),
            "DicomTlsPrivateKey": str(files.key),
            "DicomTlsTrustedCertificates": str(files.authorities),
        }

    orthanc = own_orthanc(secured)
    for instance in simulated_ct(CtOptions(patient_id="SIM-TLS", slices=SLICES, rows=40, columns=40)):
        orthanc.upload(file_bytes(instance))
    (files,) = issued
    paths = {"certificate": files.certificate, "key": files.key, "authorities": files.authorities}
    tls = {f"tls_{name}": str(path) for name, path in paths.items()}
    archive = build_archive(_settings(orthanc, tmp_path, tls))
    assert archive is not None
    with archive:
        orthanc.allow("ADJUVANT", archive.port, tls=True)
        archive.check()
        patient = DicomPatient(patient_id="SIM-TLS")
        (ref,) = archive.find_series(patient)
        with archive.retrieved(patient, ref, owner=PatientId("p1")) as series:
            assert len(series.files) == SLICES
    plain = build_archive(_settings(orthanc, tmp_path, {}))
    assert plain is not None
    with plain, pytest.raises(PeerUnavailable):
        plain.check()
