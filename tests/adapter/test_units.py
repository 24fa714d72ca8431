"""Units convert by their dimension, or are refused by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from adapter.errors import BadData
from adapter.units import UnknownUnit, factor_between


@pytest.mark.parametrize(
    ("source", "target", "factor"),
    [
        ("mg/L", "mg/dL", 0.1),
        ("g/dL", "g/L", 10.0),
        ("cm", "mm", 10.0),
        ("[ft_i]", "cm", 30.48),
        ("[lb_av]", "kg", 0.45359237),
        ("10*3/uL", "10*9/L", 1.0),
        ("/nL", "10*9/L", 1.0),
        ("ukat/L", "U/L", 60.0),
        ("L/L", "%", 100.0),
    ],
)
def test_a_unit_of_the_same_dimension_converts(source: str, target: str, factor: float) -> None:
    """Clinical.md 5.3: heights in feet and counts per nanolitre are the same numbers in our units."""
    assert factor_between(source, target) == pytest.approx(factor, rel=1e-6)


def test_the_same_unit_changes_no_bit() -> None:
    """A value already in our unit keeps its last bit: the factor is one, exactly."""
    assert factor_between("mL/min/{1.73_m2}", "mL/min/{1.73_m2}") == 1.0


@pytest.mark.parametrize("source", ["mg/dL", "kg", "1", "Cel"])
def test_another_dimension_is_refused(source: str) -> None:
    """Mass never becomes moles by itself (clinical.md 5.4): that needs the analyte's own factor."""
    with pytest.raises(UnknownUnit):
        factor_between(source, "umol/L")


@pytest.mark.parametrize("source", ["", "furlongs per fortnight", "{score}", "mg/", "((", "x" * 65, "\x00", "10*9/L /"])
def test_what_is_no_unit_is_refused_as_bad_data(source: str) -> None:
    """A hostile or mistyped unit ends in our own error, never in one of the units library."""
    with pytest.raises(UnknownUnit) as refusal:
        factor_between(source, "mg/L")
    assert isinstance(refusal.value, BadData)


_AT_ONCE = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from adapter.units import factor_between
units = [("mg/L", "mg/dL"), ("g/dL", "g/L"), ("cm", "mm"), ("10*3/uL", "10*9/L")] * 2
barrier = Barrier(len(units))
def convert(pair):
    barrier.wait()
    return factor_between(*pair)
with ThreadPoolExecutor(len(units)) as pool:
    print([round(factor, 6) for factor in pool.map(convert, units)])
"""


def test_the_first_conversions_may_come_together() -> None:
    """Two cases that meet their first foreign unit at one moment both get their number (seen: KeyError in pint)."""
    found = subprocess.run([sys.executable, "-c", _AT_ONCE], check=True, capture_output=True, text=True).stdout
    assert found.strip() == str([0.1, 10.0, 10.0, 1.0] * 2)
