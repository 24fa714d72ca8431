"""The service as a process that ends, or stops, itself at a named moment.

Usage: python -m tests.faults.victim CONFIG [MOMENT TIMES DELAY_SECONDS SIGNAL]

MOMENT: a name of `adapter.moments.Moment`; without it the service is left alone. TIMES: at which passage. SIGNAL:
KILL, where no handler runs and no buffer is written; STOP, until somebody sends CONT; TERM, as an administrator would.
With FORGETFUL in the environment the process loses what it reads from the feed: so a judge is seen to see it.
"""

from __future__ import annotations

import faulthandler
import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from adapter import moments

FORGETFUL = "ADJUVANT_VICTIM_FORGETS"


def _raise_at(at: moments.Moment, times: int, delay: float, number: signal.Signals) -> None:
    passages = itertools.count(1)

    def send() -> None:
        time.sleep(delay)
        os.kill(os.getpid(), number)

    def hook(reached: moments.Moment) -> None:
        if reached is at and next(passages) == times:
            if delay:
                threading.Thread(target=send, daemon=True).start()
            else:
                send()

    moments.install(hook)


def _forget_changes() -> None:
    from adapter.store.watermark import WatermarkStore

    advance = WatermarkStore.advance

    def forgetful(store: WatermarkStore, watermark: Any, patients: Any, **remembered: Any) -> Any:  # noqa: ANN401
        return advance(store, watermark, (), **remembered)

    WatermarkStore.advance = forgetful  # type: ignore[method-assign,assignment]


def main() -> None:
    """Run until killed, or asked to stop."""
    # here, because its decision processes import this module again
    from adapter.cli.logs import configure_logging
    from adapter.cli.service import run

    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)  # where every thread is, for one that does not end
    configure_logging()
    if FORGETFUL in os.environ:
        _forget_changes()
    config, *plan = sys.argv[1:]
    if plan:
        moment, times, delay, number = plan
        _raise_at(moments.Moment[moment], int(times), float(delay), signal.Signals[f"SIG{number}"])
    run(Path(config))


if __name__ == "__main__":
    main()
