"""What reaches standard error: structured lines of ours, and of libraries only that they spoke."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog


class _NamesOnly(logging.Handler):
    """Says that a library spoke, and where: what it says may hold a patient's data."""

    def emit(self, record: logging.LogRecord) -> None:
        """One structured line without the message."""
        place = f"{record.filename}:{record.lineno}"
        structlog.get_logger().warning("library", name=record.name, level=record.levelname, place=place)


def configure_logging() -> None:
    """JSON lines on standard error, for the usual log collector."""
    logging.basicConfig(handlers=[_NamesOnly()], level=logging.WARNING, force=True)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )


@contextmanager
def quiet_logs() -> Iterator[None]:
    """The demo shows progress in its own way; structured lines would tear it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
