"""How the sentences begin that a page sets apart from the other notes, wherever an EHR shows them."""

from __future__ import annotations

BASIS = "Basis: "
UNUSUAL = "Unusual patient: "
RANGE = "Range of models refitted on resampled patients, 10 to 90 %: "
FOLLOW_UP = "Follow-up: "
