"""The service as a process that ends, or stops, itself at a named moment."""

from __future__ import annotations

import faulthandler
import itertools
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from adapter import moments
from adapter.cli import _configure_logging, run

CLOCKS = "CLOCK_OFFSET_FOLDER"  # where each process that was forked from a stepped clock has its file, by process id


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """At which passage of which moment a worker gets the signal, and so many seconds later.

    signal: SIGKILL, where no handler runs and no buffer is written; SIGSTOP, until somebody sends SIGCONT; SIGTERM, as
    an administrator would.
    """

    moment: moments.Moment
    passage: int = 1
    delay: float = 0.0
    signal: signal.Signals = signal.SIGKILL

    def __str__(self) -> str:
        """As the log tells it."""
        return f"{self.signal.name} at {self.moment.name} passage {self.passage}"


def serve(config: Path, plan: Plan | None, log: Path, clock: Path | None) -> None:
    """Run until killed, or asked to stop; without a plan the service is left alone. For a process of its own.

    clock: the file with the seconds by which our wall clock is off, None for a right one.
    """
    threading.Thread(target=_end_with_the_driver, daemon=True).start()
    with log.open("ab") as written:
        for stream in (1, 2):
            os.dup2(written.fileno(), stream)
    faulthandler.enable()
    if clock is not None and CLOCKS in os.environ:
        (Path(os.environ[CLOCKS]) / str(os.getpid())).symlink_to(clock)
    _configure_logging()
    if plan is not None:
        _raise_at(plan)
    run(config)


def _end_with_the_driver() -> None:
    """A driver that is killed leaves nobody behind."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def _raise_at(plan: Plan) -> None:
    passages = itertools.count(1)

    def send() -> None:
        time.sleep(plan.delay)
        os.kill(os.getpid(), plan.signal)

    def hook(reached: moments.Moment) -> None:
        if reached is plan.moment and next(passages) == plan.passage:
            if plan.delay:
                threading.Thread(target=send, daemon=True).start()
            else:
                send()

    moments.install(hook)
