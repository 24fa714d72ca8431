"""The command: one sentence where the data is missing, pages and an overview where it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from training.studies.__main__ import main


def test_missing_data_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback and no page: the missing file is named, exit status 1."""
    out = tmp_path / "docs" / "evaluation"
    assert main(["--data", str(tmp_path), "--out", str(out), "--only", "images"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == ["images", f"{tmp_path}/hn1/radiomics.csv is missing: --data names the folder of the research data"]
    assert not out.exists()


def test_a_study_writes_its_page_and_the_overview(data_folder: Path, tmp_path: Path) -> None:
    """The quick run goes through the same code: a page, its JSON, and the gates in README.md."""
    out = tmp_path / "docs" / "evaluation"
    assert main(["--data", str(data_folder), "--out", str(out), "--only", "images", "--quick"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "images.json", "images.md"]
    assert "42" in (out / "README.md").read_text(encoding="utf-8")
