"""The service as a process that kills itself at a named moment.

Usage: python -m tests.faults.victim CONFIG MOMENT TIMES DELAY_SECONDS

MOMENT: a name of `adapter.moments.Moment`, or `-` for a service that is left alone. TIMES: at which passage. The kill
is SIGKILL: no handler runs, no buffer is written.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path

from adapter import moments
from adapter.cli import run


def _suicide(at: moments.Moment, times: int, delay: float) -> None:
    passages = itertools.count(1)

    def die() -> None:
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGKILL)

    def hook(reached: moments.Moment) -> None:
        if reached is at and next(passages) == times:
            if delay:
                threading.Thread(target=die, daemon=True).start()
            else:
                die()

    moments.install(hook)


def main() -> None:
    """Run until killed, or asked to stop."""
    config, moment, times, delay = sys.argv[1:]
    if moment != "-":
        _suicide(moments.Moment[moment], int(times), float(delay))
    run(Path(config))


if __name__ == "__main__":
    main()
