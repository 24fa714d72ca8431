"""Each real server answers, so that a red test elsewhere is not the server's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import sqlalchemy
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from tests.peers.dcmtk import Dcmqrscp
from tests.peers.hapi import Hapi
from tests.peers.orthanc import Orthanc
from tests.peers.postgresql import Postgresql


def test_hapi_judges_a_percentage_over_one_hundred(hapi: Hapi) -> None:
    """$validate names invariant ras-2 for a probability of 180 and finds nothing in the same resource at 18."""
    resource = {
        "resourceType": "RiskAssessment",
        "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">test</div>'},
        "status": "final",
        "subject": {"reference": "Patient/p1"},
        "prediction": [{"outcome": {"text": "recurrence"}, "probabilityDecimal": 180}],
    }
    errors = hapi.validate(json.dumps(resource).encode(), "RiskAssessment")
    assert any("ras-2" in error for error in errors)
    sound = json.dumps(resource).replace("180", "18").encode()
    assert hapi.validate(sound, "RiskAssessment") == []


def _echo(host: str, port: int, ae_title: str) -> int:
    ae = AE(ae_title="ADJUVANT")
    ae.add_requested_context(Verification)
    association = ae.associate(host, port, ae_title=ae_title)
    assert association.is_established
    status = association.send_c_echo()
    association.release()
    return int(status.Status)


def test_orthanc_answers_c_echo(orthanc: Orthanc) -> None:
    """Orthanc accepts an association for its AE title and answers C-ECHO with success."""
    assert _echo(orthanc.host, orthanc.dicom_port, orthanc.ae_title) == 0


def test_dcmqrscp_answers_c_echo(dcmqrscp: Dcmqrscp) -> None:
    """DCMTK's archive accepts an association for its AE title and answers C-ECHO with success."""
    assert _echo(dcmqrscp.host, dcmqrscp.dicom_port, dcmqrscp.ae_title) == 0


def test_postgresql_answers_a_query(postgresql: Postgresql) -> None:
    """The cluster answers `select 1`."""
    engine = sqlalchemy.create_engine(postgresql.url)
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("select 1")).scalar() == 1
    engine.dispose()


def test_chromium_draws_a_page(chromium_path: str, tmp_path: Path) -> None:
    """Headless Chromium renders a page to an image."""
    page, image = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text("<h1>adjuvant</h1>")
    flags = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
    command = [chromium_path, *flags.split(), "--disable-sync", f"--user-data-dir={tmp_path}/profile"]
    subprocess.run([*command, f"--screenshot={image}", page.as_uri()], check=True, capture_output=True, timeout=60)
    assert image.read_bytes().startswith(b"\x89PNG")
