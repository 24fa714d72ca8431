"""What pynetdicom and pydicom would say by themselves, turned off: it names patients."""

from __future__ import annotations

import logging
import warnings

import pydicom.config
from pynetdicom import _config


def quiet_libraries() -> None:
    """Log no identifiers, events or values, and validate nothing with a warning that quotes the value.

    pynetdicom logs query identifiers and every event by default, and at level ERROR the exceptions of handlers;
    pydicom warns with the offending value. What matters of both reaches us as statuses and our own named errors.
    Process-wide, because both libraries keep these switches process-wide; calling it again changes nothing.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    for category in (UserWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=category, module=r"(pydicom|pynetdicom)(\.|$)")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
