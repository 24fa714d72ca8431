"""What the commands share: arguments, how an id is spelled, exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapter.domain.ids import PatientId

CONFIG_VARIABLE = "ADJUVANT_CONFIG"
DONE, INCOMPLETE, USAGE, UNREACHABLE = 0, 1, 2, 3

Config = Annotated[Path, typer.Option("--config", envvar=CONFIG_VARIABLE, help="The site's configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def patient_of(written: str) -> PatientId:
    """An id as people copy it: with or without `Patient/`."""
    return PatientId(written.removeprefix("Patient/"))


def assessment_of(written: str) -> str:
    """An id as people copy it: with or without `RiskAssessment/`, `ra-` and `/_history/1`."""
    return written.removeprefix("RiskAssessment/").partition("/_history/")[0].removeprefix("ra-")
