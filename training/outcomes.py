"""The two endpoints that forecasts are scored on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.cohorts.landmarks import LandmarkRow

ENDPOINTS = ("RFS", "OS")


def outcomes(rows: Sequence[LandmarkRow], endpoint: str) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether the endpoint was seen and after how many days, each (N,). RFS: recurrence or death; OS: death."""
    if endpoint == "OS":
        return np.array([row.died for row in rows]), np.array([row.last_days for row in rows])
    events = np.array([row.illness_days is not None or row.died for row in rows])
    return events, np.array([row.last_days if row.illness_days is None else row.illness_days for row in rows])
