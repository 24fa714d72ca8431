"""The value of one finding: a number in the feature's unit, or one of its categories."""

from __future__ import annotations

import math

from adapter.domain.record import Comparator
from adapter.fhir.elements import Component, Quantity
from adapter.fhir.refused import Refused
from adapter.fhir.tnm import STAGED, of_the_primary
from adapter.terminology import Feature, Terminology
from adapter.units import UnknownUnit, factor_between

_UCUM = "http://unitsofmeasure.org"


class Values:
    """How values are read with these tables."""

    def __init__(self, terminology: Terminology) -> None:
        self._terminology = terminology

    def measured(self, finding: Component, feature: Feature) -> tuple[float | str, Comparator | None] | None:
        """Value and comparator; None when the source says that there is none."""
        if finding.data_absent_reason is not None:
            return None
        if feature.kind == "code":
            return self._category(finding, feature), None
        if finding.value_quantity is not None:
            return self._number(finding.value_quantity, feature)
        if finding.value_integer is not None and feature.unit == "1":
            return _in_range(float(finding.value_integer), feature), None
        if finding.value_codeable_concept is not None:
            return _in_range(float(self._category(finding, feature)), feature), None  # a grade sent as its concept
        if finding.value_string is not None:
            raise Refused("number-in-text")
        raise Refused("no-value")

    def _number(self, quantity: Quantity, feature: Feature) -> tuple[float, Comparator | None]:
        if quantity.value is None:
            raise Refused("no-value")
        if not math.isfinite(quantity.value):
            raise Refused("not-a-number")
        number = quantity.value * self._factor(quantity, feature)
        try:
            comparator = Comparator(quantity.comparator) if quantity.comparator else None
        except ValueError as error:
            raise Refused("unknown-comparator") from error
        return _in_range(number, feature), comparator

    def _factor(self, quantity: Quantity, feature: Feature) -> float:
        """The unit's code, else its text; without either nothing is assumed from the magnitude."""
        if quantity.code is not None and quantity.system not in {None, _UCUM}:
            raise Refused("unknown-unit-system")
        written = quantity.code or quantity.unit
        if not written or feature.unit is None:
            raise Refused("no-unit")
        for spelling in feature.units:
            if spelling.unit == written:
                return spelling.factor
        try:
            return factor_between(written, feature.unit)
        except UnknownUnit as error:
            raise Refused("unknown-unit", written[:24] if written.isprintable() else "") from error

    def _category(self, finding: Component, feature: Feature) -> str:
        concept = finding.value_codeable_concept
        if concept is not None:
            found = {
                category
                for coding in concept.coding
                if coding.system
                and coding.code
                and (category := self._terminology.category_of(feature.key, coding.system, coding.code)) is not None
            }
            if len(found) > 1:
                raise Refused("conflicting-values")
            if found:
                return found.pop()
        text = finding.value_string if concept is None else concept.text
        if text and feature.key in STAGED:
            text = of_the_primary(text)
        category = self._terminology.category_of_text(feature.key, text) if text else None
        if category is None:
            raise Refused("unknown-value")
        return category


def _in_range(number: float, feature: Feature) -> float:
    if feature.hard is not None and not feature.hard[0] <= number <= feature.hard[1]:
        raise Refused("out-of-range")
    return number
