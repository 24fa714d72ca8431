"""F-48: a configuration that is wrong is refused with the key that is wrong, and no value."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapter.errors import BadSettings
from adapter.fhir.delivery import OutputMode
from adapter.settings import EXAMPLE, load_settings, settings_from

_SMALLEST = {"fhir": {"base_url": "http://127.0.0.1:8080/fhir"}, "cohort": {"patients": ["Patient/p1"]}}


def test_the_example_is_a_configuration_that_works(tmp_path: Path) -> None:
    """What `check --write-example` prints is accepted as it stands."""
    path = tmp_path / "site.toml"
    path.write_text(EXAMPLE)
    assert load_settings(path).mode is OutputMode.RESEARCH


@pytest.mark.fault("F-48")
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"fihr": {}}, "fihr: unknown key"),
        ({"fhir": {"base_url": "http://h/fhir", "pagesize": 3}}, "fhir.pagesize: unknown key"),
        ({"fhir": {}}, "fhir.base_url: missing"),
        ({"fhir": {"base_url": "ftp://h"}}, "fhir.base_url: begins with http"),
        ({"fhir": {"base_url": "http://h/fhir/"}}, "fhir.base_url: .* no final slash"),
        ({"fhir": {"base_url": "http://me:secret@h/fhir"}}, "fhir.base_url: .* no user"),
        ({"fhir": {"base_url": "http://h/fhir", "time_zone": "Mars/Olympus"}}, "fhir.time_zone"),
        ({"cohort": {}}, "cohort: give exactly one"),
        ({"cohort": {"patients": ["Patient/a"], "group": "Group/b"}}, "cohort: give exactly one"),
        ({"dicom": {"ae_title": "MUCH TOO LONG A TITLE"}}, "dicom.ae_title"),
        ({"dicom": {"tls_key": "k.pem"}}, "dicom: give tls_certificate, tls_key and tls_authorities, or none"),
        ({"pacs": {"host": "h", "port": 0, "ae_title": "A"}}, "pacs.port"),
        ({"mode": "live"}, "live mode refuses plain http"),
    ],
)
def test_a_wrong_key_is_named(change: dict[str, object], complaint: str) -> None:
    """The message names section and key."""
    with pytest.raises(BadSettings, match=complaint):
        settings_from({**_SMALLEST, **change})


@pytest.mark.fault("F-48")
def test_a_value_never_stands_in_the_message() -> None:
    """A secret pasted under a wrong key does not reach a log."""
    with pytest.raises(BadSettings) as refusal:
        settings_from({**_SMALLEST, "fhir": {"base_url": "http://h/fhir", "token": "s3cret-value"}})
    assert "s3cret-value" not in str(refusal.value)


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ADJUVANT_FHIR__PAGE_SIZE` is the key page_size of section fhir."""
    path = tmp_path / "site.toml"
    path.write_text(EXAMPLE)
    monkeypatch.setenv("ADJUVANT_FHIR__PAGE_SIZE", "77")
    monkeypatch.setenv("ADJUVANT_COHORT__PATIENTS", '["Patient/a", "Patient/b"]')
    monkeypatch.setenv("ADJUVANT_MODE", "demo")
    assert (load_settings(path).fhir.page_size, load_settings(path).mode) == (77, OutputMode.DEMO)
    assert load_settings(path).cohort.patients == ("Patient/a", "Patient/b")


@pytest.mark.fault("F-48")
@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("ADJUVANT_STORE_FOLDER", "/x", "ADJUVANT_STORE_FOLDER: two underscores"),
        ("ADJUVANT_FHIR__PAGE_SIZEE", "7", "fhir.page_sizee: unknown key"),
        ("ADJUVANT_STROE__FOLDER", "/x", "stroe: unknown key"),
        ("ADJUVANT_COHORT__PATIENTS", "[Patient/a]", "ADJUVANT_COHORT__PATIENTS begins as a list"),
    ],
)
def test_a_wrong_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str
) -> None:
    """Breach: with one underscore too few it was ignored, and the service ran on the other value."""
    path = tmp_path / "site.toml"
    path.write_text(EXAMPLE)
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=complaint):
        load_settings(path)


@pytest.mark.fault("F-48")
def test_a_missing_file_and_broken_toml_are_named(tmp_path: Path) -> None:
    """Neither ends in a traceback."""
    with pytest.raises(BadSettings, match="cannot read"):
        load_settings(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("mode = ")
    with pytest.raises(BadSettings, match="not TOML"):
        load_settings(broken)
