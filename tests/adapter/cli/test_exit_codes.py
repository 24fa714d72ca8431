"""What is refused is one sentence and an exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapter.rooms import opened_database
from adapter.settings import load_settings
from tests.fakes.command import run

pytestmark = pytest.mark.real  # each command is a process of its own: too slow for the fast tests


@pytest.mark.fault("F-34")
@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["status", "--config", "absent.toml"], 2, "cannot read absent.toml"),
        (["assess", "patient-01"], 2, "--config"),
        (["replay", "nonsense", "--config", "SITE"], 2, "has the service ever run here?"),
        (["assess", "../etc", "--config", "SITE"], 1, "not a legal FHIR id"),
        (["assess", "nobody", "--config", "SITE", "--json"], 0, ""),
        (["policy", "try", "absent.json"], 2, "cannot read absent.json: No such file"),
        (["policy", "try", "SITE"], 2, "is no case"),
        (["cases", "show", "Patient/nobody:1", "--json", "--config", "SITE"], 2, "has the service ever run here?"),
        (["page", "nonsense", "--config", "SITE", "--out", "page.docx"], 2, "ends in .html or .pdf"),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_code(site: Path, arguments: list[str], code: int, sentence: str) -> None:
    """0 done (an abstention is an answer), 1 refused, 2 usage or configuration; never a traceback."""
    finished = run(*(str(site) if argument == "SITE" else argument for argument in arguments))
    assert (finished.returncode, "Traceback" in finished.stderr) == (code, False), finished.stderr
    assert sentence in finished.stderr


@pytest.mark.fault("F-05")
def test_an_unreachable_peer_is_exit_3(site: Path) -> None:
    """The EHR is not there: nothing is half done, the code tells a script to try later."""
    closed = site.with_name("closed.toml")
    closed.write_text(site.read_text().replace("base_url = ", 'base_url = "http://127.0.0.1:9/fhir" #', 1))
    assert run("assess", "patient-01", "--config", closed).returncode == 3
    with opened_database(load_settings(closed)):
        pass
    assert run("reconcile", "--config", closed).returncode == 3
    down = site.with_name("down.toml")
    down.write_text(site.read_text().replace('"sqlite:', '"postgresql://adjuvant:s3cret@127.0.0.1:9/cases" # ', 1))
    looked = run("status", "--config", down)
    assert (looked.returncode, "s3cret" in looked.stderr) == (3, False)
    assert "the database at 127.0.0.1:9/cases: connection refused" in looked.stderr
