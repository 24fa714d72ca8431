"""`adjuvant replay` and `page`: an assessment that was delivered."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from adapter.cli.arguments import INCOMPLETE, AsJson, Config, assessment_of
from adapter.decider import build_decision
from adapter.errors import BadSettings, UnknownCase
from adapter.fhir.delivery import load_delivery
from adapter.page.html import as_html
from adapter.page.pdf import as_pdf
from adapter.page.view import landmark_of, page_of
from adapter.pipeline.case_file import stored_bundle
from adapter.pipeline.replay import replay as replay_case
from adapter.pipeline.replay import replayable
from adapter.printing import err, out, print_json
from adapter.rooms import Absent, StoreRoom
from adapter.settings import load_settings
from adapter.store.cases import DELIVERED
from adapter.store.ledger import Ledger
from adapter.store.vault import save_private

app = typer.Typer()


@app.command()
def replay(
    assessment: Annotated[
        str, typer.Argument(help="The assessment id or reference, as `cases list` shows it or the EHR.")
    ],
    config: Config,
    as_json: AsJson = False,
) -> None:
    """Decide a stored case again and compare the transaction byte for byte; asks neither EHR nor PACS."""
    identity = assessment_of(assessment)
    settings = load_settings(config)
    with StoreRoom(settings, absent=Absent.REFUSE) as store:
        ports = build_decision(settings, store.vault)
        result = replay_case(replayable(_case_files_of(store.ledger, identity), ports), ports)
    if as_json:
        print_json({"assessment": result.assessment_id, "identical": result.identical, "bytes": result.bytes_now})
    else:
        verdict = "identical" if result.identical else "DIFFERENT"
        out.print(f"{identity}: {result.bytes_then} bytes then, {result.bytes_now} now, {verdict}")
    if not result.identical:
        sys.exit(INCOMPLETE)


@app.command()
def page(
    assessment: Annotated[
        str, typer.Argument(help="The assessment id or reference, as `cases list` shows it or the EHR.")
    ],
    config: Config,
    save: Annotated[Path, typer.Option("--out", help="The file to write: .html or .pdf.")],
) -> None:
    """One assessment on one page, with the numbers that the EHR got."""
    writers = {".html": lambda shown: as_html(shown).encode(), ".pdf": as_pdf}
    if save.suffix not in writers:
        raise BadSettings("--out names a file that ends in .html or .pdf")
    identity = assessment_of(assessment)
    settings = load_settings(config)
    systems = load_delivery(site_folder=settings.policy.site_folder).systems
    with StoreRoom(settings, absent=Absent.REFUSE) as store:
        # what the first delivery wrote stands: a later one of the same assessment finds it there
        bundle = stored_bundle(_case_files_of(store.ledger, identity)[-1], store.vault)
        newer = _standing_instead(store, identity, landmark_of(bundle.content))
    content = writers[save.suffix](page_of(bundle.content, systems=systems, newer=newer))
    try:
        save_private(save, content)
    except OSError as error:
        raise BadSettings(f"--out {save} cannot be written: {error.strerror}") from error
    err.print(f"wrote {save}")


def _standing_instead(store: StoreRoom, assessment_id: str, landmark: datetime) -> str | None:
    """The patient's assessment delivered last, where it is another one at a landmark that is not earlier."""
    entries = store.ledger.find_deliveries(assessment_id)
    delivered = store.ledger.list_cases(state=DELIVERED, patient_id=entries[0].patient_id) if entries else ()
    newest = delivered[0] if delivered else None
    if newest is None or newest.case_file is None or newest.assessment_id == assessment_id:
        return None
    later = landmark_of(stored_bundle(newest.case_file, store.vault).content) >= landmark
    return newest.assessment_id if later else None


def _case_files_of(ledger: Ledger, assessment_id: str) -> tuple[str, ...]:
    """Of every case that delivered the assessment, newest first."""
    entries = ledger.find_deliveries(assessment_id)
    if not entries:
        raise UnknownCase(f"no assessment {assessment_id}")
    kept = tuple(entry.case_file for entry in entries if entry.case_file is not None)
    if not kept:
        raise UnknownCase(f"the case file of assessment {assessment_id} has expired")
    return kept
