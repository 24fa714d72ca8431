"""The offline gate: three FHIR R4 validators, none of which is enough alone, asked together.

Source: V-1 of the project's standards. Of 13 seeded defects each of them misses at least five, together none.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import fhirkit
from pyrofile_validator import Validator
from pyrofile_validator.config import ValidatorConfig

_FOLDER = Path(__file__).parent
_MEDPLUM_SECONDS = 60


class GateMissing(Exception):
    """A validator that is not installed; the message says how to install it."""


def errors_of(resources: Sequence[bytes]) -> list[dict[str, list[str]]]:
    """Ask all three about each resource: validator -> its errors, empty where it finds none.

    Raises GateMissing when node or its packages are absent.
    """
    medplum = _medplum(resources)
    return [
        {"fhirkit": _fhirkit(resource), "pyrofile": _pyrofile(resource), "medplum": medplum[index]}
        for index, resource in enumerate(resources)
    ]


def _fhirkit(resource: bytes) -> list[str]:
    return [
        f"{issue.path}: {issue.message}" for issue in fhirkit.validate(resource.decode()) if issue.severity == "error"
    ]


@cache
def _with_the_guide() -> Validator:
    """Of the extensions in HL7's name it lets pass those it knows, so it is given the guide's."""
    return Validator(ValidatorConfig(local_package_paths=[str(_FOLDER / "guide")]))


def _pyrofile(resource: bytes) -> list[str]:
    report = _with_the_guide().validate_resource(json.loads(resource))
    return [f"{issue.path}: {issue.message}" for issue in report.issues if issue.severity.value in {"error", "fatal"}]


def _medplum(resources: Sequence[bytes]) -> list[list[str]]:
    node = shutil.which("node")
    if node is None or not (_FOLDER / "node_modules" / "@medplum" / "core").is_dir():
        raise GateMissing("node or @medplum/core is absent: run scripts/install-test-peers")
    finished = subprocess.run(
        [node, _FOLDER / "medplum.mjs"],
        input=b"[" + b",".join(resources) + b"]",
        capture_output=True,
        check=True,
        timeout=_MEDPLUM_SECONDS,
    )
    answers: list[list[str]] = json.loads(finished.stdout)
    return answers
