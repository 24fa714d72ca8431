"""TNM as it is written by hand: the category without its descriptors."""

from __future__ import annotations

import re

from adapter.fhir.refused import Refused

STAGED = frozenset({"pT", "cT", "pN", "cN", "cM", "pM", "stage_group"})
"""The features whose texts carry descriptors."""

_UICC = re.compile(
    r"(?P<prefix>[yra]*)(?P<category>[cp]?[TNM]\w+?)(?:\s*\((?:m|\d{1,2}|sn|i[+-]|mol[+-])\))*", re.IGNORECASE
)


def of_the_primary(text: str) -> str:
    """The category of `pT4a(m)`: suffixes describe it and do not change it; what is no TNM stays as written.

    Raises Refused for y, r and a, which say that it was staged after therapy, at recurrence or at autopsy.
    Source: UICC TNM Classification of Malignant Tumours, 8th edition, additional descriptors.
    """
    written = _UICC.fullmatch(text.strip())
    if written is None:
        return text
    if written["prefix"]:
        raise Refused("tnm-not-primary")
    return written["category"]
