"""The service, its preflight, and the pretend hospital."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from adapter.checkup import check_site
from adapter.cli.arguments import CONFIG_VARIABLE, DONE, INCOMPLETE, UNREACHABLE, AsJson, Config
from adapter.cli.logs import quiet_logs
from adapter.demo import SEED, TODAY, run_demo
from adapter.domain.ids import AETitle
from adapter.errors import BadIdentifier, BadSettings
from adapter.printing import err, finding_line, findings_row, out, print_cases, print_json, report
from adapter.sandbox.hospital import SandboxHospital
from adapter.sandbox.patients import simulate_courses
from adapter.service import Role, Service
from adapter.settings import EXAMPLE, load_settings
from adapter.terminology import load_terminology

app = typer.Typer()
_LAST_PORT = 65535


@app.command()
def demo(
    patients: Annotated[int, typer.Option(min=1, max=500, help="How many simulated patients.")] = 12,
    once: Annotated[bool, typer.Option("--once", help="End when every patient is settled.")] = False,
    as_json: AsJson = False,
    picture: Annotated[Path | None, typer.Option(help="Save the settled table as SVG.")] = None,
    pages: Annotated[
        Path | None, typer.Option(help="Save each assessment as a page for people in this folder.")
    ] = None,
) -> None:
    """Start a pretend hospital and run the service on it. Nothing leaves this machine; every patient is simulated."""
    started = time.monotonic()
    with TemporaryDirectory(prefix="adjuvant-demo-") as folder, quiet_logs():
        entries, settled = run_demo(patients, Path(folder), err, once=once, picture=picture, pages=pages)
    if as_json:
        print_json(report(entries, time.monotonic() - started))
    elif once:
        print_cases(entries)
    if not settled or len(entries) < patients:
        sys.exit(INCOMPLETE)


@app.command()
def run(
    config: Config,
    role: Annotated[Role, typer.Option(help="What this process does; several processes need PostgreSQL.")] = Role.ALL,
) -> None:
    """Run the service until it is asked to stop (SIGTERM or SIGINT)."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with Service(load_settings(config), role=role) as service:
        err.print(f"adjuvant runs; health at {service.web.url}/health/ready")
        service.run_until(stopping)
    if service.unfinished:
        err.print(f"still at work, to be repeated: {', '.join(service.unfinished)}")
    # what hangs in a peer must not hold the exit, for the next start repeats it from its last checkpoint; nor a thread
    # of the engine that waits for what another worker makes of a case that is ours no more
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(DONE)


@app.command()
def check(
    config: Annotated[Path | None, typer.Option(envvar=CONFIG_VARIABLE, help="The site's configuration file.")] = None,
    write_example: Annotated[bool, typer.Option("--write-example", help="Print a commented configuration.")] = False,
    as_json: AsJson = False,
) -> None:
    """Try everything the service needs, one line each; exit 1 if it could not do its job, 3 if only for a peer."""
    if write_example:
        out.print(EXAMPLE, markup=False, end="")
        return
    if config is None:
        raise BadSettings("give --config, or --write-example for a start")
    findings = []
    for finding in check_site(load_settings(config)):
        findings.append(finding)
        if not as_json:
            out.print(finding_line(finding), markup=False)
    if as_json:
        print_json(findings_row(findings))
    failed = [finding for finding in findings if not finding.passed]
    if failed:
        sys.exit(UNREACHABLE if all(finding.unreachable for finding in failed) else INCOMPLETE)


@app.command()
def sandbox(
    patients: Annotated[int, typer.Option(min=1, max=500)] = 12,
    fhir_port: Annotated[int, typer.Option(min=0, max=_LAST_PORT, help="0 for any free port.")] = 8080,
    dicom_port: Annotated[int, typer.Option(min=0, max=_LAST_PORT, help="0 for any free port.")] = 4242,
    destination: Annotated[str, typer.Option(help="Your move destination, AE_TITLE:PORT on this machine.")] = (
        "ADJUVANT:11112"
    ),
) -> None:
    """The pretend hospital alone, for integration work: simulated patients only, loopback only."""
    title, port = _move_destination_of(destination)
    courses = simulate_courses(patients, seed=SEED, today=TODAY)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with ExitStack() as open_hours:
        hospital = SandboxHospital(courses, load_terminology(), fhir_port=fhir_port, dicom_port=dicom_port)
        try:
            open_hours.enter_context(hospital)
        except OSError as error:
            raise BadSettings(f"--fhir-port {fhir_port} cannot be had on 127.0.0.1: name another, or 0") from error
        except BadSettings as error:
            raise BadSettings(f"--dicom-port {dicom_port}: {error}") from error
        hospital.archive.allow(title, "127.0.0.1", port)
        hospital.unfold()
        err.print(
            f"EHR  {hospital.ehr.base_url}\nPACS {hospital.archive.ae_title} at 127.0.0.1:{hospital.archive.port}"
        )
        stopping.wait()


def _move_destination_of(written: str) -> tuple[AETitle, int]:
    """`AE_TITLE:PORT`; a title may hold a colon itself. Raises typer.BadParameter."""
    title, _, port = written.rpartition(":")
    try:
        if port.isdecimal() and 0 < int(port) <= _LAST_PORT:
            return AETitle(title), int(port)
    except BadIdentifier as error:
        raise typer.BadParameter(str(error), param_hint="--destination") from error
    raise typer.BadParameter(f"{written!r} is not AE_TITLE:PORT, such as ADJUVANT:11112", param_hint="--destination")
