"""Identifiers are checked at the edge (F-34): nothing hostile reaches a path or an address."""

from __future__ import annotations

import pytest

from adapter.domain.ids import AETitle, PatientId, ResourceVersion, SeriesUid
from adapter.errors import BadIdentifier


@pytest.mark.fault("F-34")
@pytest.mark.parametrize("text", ["", "../x", "a/b", "p%2e", "p\0", "x" * 65, "ä", "p 1", "p\n"])
def test_a_fhir_id_outside_its_grammar_is_refused(text: str) -> None:
    """FHIR R4 `id`: letters, digits, hyphen and dot, at most 64."""
    with pytest.raises(BadIdentifier):
        PatientId(text)


@pytest.mark.fault("F-34")
@pytest.mark.parametrize("text", ["", "1", "1.2.", "1..2", "01.2", "1.2.a", "1." + "2" * 64, "1.2/../3", "1.2\0"])
def test_a_uid_outside_its_grammar_is_refused(text: str) -> None:
    """PS3.5 section 9.1: components without leading zeros, at most 64 characters."""
    with pytest.raises(BadIdentifier):
        SeriesUid(text)


@pytest.mark.fault("F-34")
@pytest.mark.parametrize("text", ["", " ", "A" * 17, "A\\B", "A\tB", "Ä"])
def test_an_ae_title_outside_its_grammar_is_refused(text: str) -> None:
    """PS3.5 section 6.2: sixteen printable characters without backslash, not all blanks."""
    with pytest.raises(BadIdentifier):
        AETitle(text)


@pytest.mark.fault("F-34")
def test_blanks_around_an_ae_title_mean_nothing() -> None:
    """PS3.5: leading and trailing spaces are not significant."""
    assert AETitle(" ORTHANC ") == "ORTHANC"


@pytest.mark.fault("F-34")
def test_a_hostile_id_stays_short_in_the_message() -> None:
    """The error shows a bounded repr, so that a log line cannot be forged or flooded."""
    with pytest.raises(BadIdentifier) as refusal:
        PatientId("\x1b[2J\n" + "x" * 10_000)
    assert "\n" not in str(refusal.value)
    assert "\x1b" not in str(refusal.value)
    assert len(str(refusal.value)) < 100


@pytest.mark.fault("F-34")
def test_a_version_reads_as_the_reference_fhir_uses() -> None:
    """A basis reference names the version it saw."""
    assert str(ResourceVersion("Observation", "hb-1", "2")) == "Observation/hb-1/_history/2"
