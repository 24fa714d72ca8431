"""`adjuvant status` and `reconcile`: how the whole stands."""

from __future__ import annotations

import sys
import time

import typer

from adapter.cli.arguments import INCOMPLETE, AsJson, Config
from adapter.pipeline.reconcile import Reconciliation, asked_at
from adapter.printing import (
    out,
    print_json,
    readiness_lines,
    readiness_row,
    reconciliation_lines,
    reconciliation_row,
    worker_line,
    worker_row,
)
from adapter.rooms import Absent, StoreRoom, build_client, build_reconciler, opened_database, wall_clock
from adapter.settings import load_settings
from adapter.store.cases import RUNNING, WAITING
from adapter.store.ledger import Ledger
from adapter.store.workers import WorkerRegister
from adapter.web.ask import ask_readiness

app = typer.Typer()


@app.command()
def status(config: Config, as_json: AsJson = False) -> None:
    """How many cases wait, run, and ended in which way; who runs them; what the service says of itself and peers."""
    settings = load_settings(config)
    with opened_database(settings, absent=Absent.REFUSE) as database:
        counts, workers = Ledger(database, wall_clock).counts(), WorkerRegister(database).signs_of_life()
    service = ask_readiness(settings.web.bind, settings.web.port) if settings.web.port else None
    if as_json:
        print_json({**counts, "service": readiness_row(service), "workers": [worker_row(one) for one in workers]})
        return
    for state, number in counts.items():
        out.print(f"{state:12} {number}")
    for line in (*readiness_lines(service), *map(worker_line, workers)):
        out.print(line, markup=False)
    unfinished = counts[WAITING] + counts[RUNNING]
    if unfinished and service is None and not workers:
        out.print(f"{unfinished} unfinished and no service answers: they go on at the next start")


@app.command()
def reconcile(config: Config, as_json: AsJson = False) -> None:
    """Compare every record with what its last case was decided on and look for its result; ask for what is missing.

    A running service takes the new cases up within seconds. It compares by itself every night.
    """
    settings = load_settings(config)
    started = time.monotonic()
    rounds: list[Reconciliation] = []
    with StoreRoom(settings, absent=Absent.REFUSE) as store, build_client(settings) as client:
        client.capabilities()  # an EHR that is down is no comparison; one that goes down later leaves a part of it
        reconciler, name = build_reconciler(settings, client, store), asked_at(wall_clock())
        while not rounds or (
            rounds[-1].name != name and not rounds[-1].interrupted
        ):  # a round that was cut comes first
            result = reconciler.reconcile(name, wall_clock)
            if result is None:
                break
            rounds.append(result)
    if as_json:
        print_json(reconciliation_row(rounds, time.monotonic() - started))
    else:
        for line in reconciliation_lines(rounds):
            out.print(line, markup=False)
    if rounds and rounds[-1].interrupted:
        sys.exit(INCOMPLETE)
