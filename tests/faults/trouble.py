"""Faults beside the death of a worker: what peers, the network, the database, the disk and the clock do, for a while.

Each is drawn by the schedule's seed, lasts some seconds, and ends well: what is proven is that nothing needs a person.
Source: the project's standards, section 4, faults F-03 to F-10, F-16, F-26, F-27.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url

from adapter.sandbox.pacs import PacsFaults, SandboxPacs
from tests.faults.proxy import Manner, TcpProxy
from tests.peers.postgresql import Postgresql

_HOUR, _YEAR = 3_600, 31_536_000
_DISK_BYTES = 1_300 << 20  # room for the gibibyte without which no series is asked for, and some more
_CLOCKS = (0, _HOUR, -_HOUR, _YEAR, -_YEAR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What can be disturbed. ehr: the proxy before the EHR. archive: None where it is a real one.

    clock_file: where the workers' clock reads its offset, again and again; not on the disk that gets full.
    """

    folder: Path
    url: str
    ehr: TcpProxy
    archive: SandboxPacs | None
    postgresql: Postgresql | None
    small_disk: bool
    clock_file: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """Of a worker whose wall clock can be stepped."""
        return stepped_clock(self.clock_file)


def stepped_clock(clock_file: Path) -> Mapping[str, str]:
    """The environment of a process that reads its clock's offset from the file; empty without a C compiler here.

    libfaketime, which would do it, breaks Python's own sleep (0.9.10: EINVAL from clock_nanosleep).
    """
    library = clock_file.with_name("clock_offset.so")
    compiler = shutil.which("cc")
    if compiler is None:
        return {}
    if not library.exists():
        source = Path(__file__).with_name("clock_offset.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(clock_file)}


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small memory disk on the folder; False where this machine permits no mount."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


Fault = Callable[[Surroundings, random.Random], str]
"""Disturbs, waits, ends the disturbance; says what it was."""


def _gateway_errors(around: Surroundings, draw: random.Random) -> str:
    status, seconds = draw.choice([500, 502, 503, 504]), draw.uniform(1, 6)
    with _behaving(around.ehr, lambda: around.ehr.answer(status)):
        time.sleep(seconds)
    return f"EHR answers {status} for {seconds:.1f} s"


def _busy(around: Surroundings, draw: random.Random) -> str:
    status = draw.choice([429, 503])
    wait = draw.choice(["0", "1", "2", "-5", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"])
    with _behaving(around.ehr, lambda: around.ehr.answer(status, retry_after=wait)):
        time.sleep(draw.uniform(0.5, 3))
    return f"EHR answers {status}, Retry-After: {wait}"


def _network(around: Surroundings, draw: random.Random) -> str:
    manner, seconds = draw.choice([Manner.SILENT, Manner.TRICKLE, Manner.RESET]), draw.uniform(1, 8)
    with _behaving(around.ehr, lambda: around.ehr.behave(manner)):
        time.sleep(seconds)
    around.ehr.cut()  # who was silent is not believed again
    return f"EHR's network: {manner.value} for {seconds:.1f} s"


def _lost_replies(around: Surroundings, draw: random.Random) -> str:
    with _behaving(around.ehr, lambda: around.ehr.behave(Manner.LOSE_REPLIES)):
        time.sleep(draw.uniform(0.2, 2))
    return "EHR's replies are lost after it wrote"


def _archive(around: Surroundings, draw: random.Random) -> str:
    if around.archive is None:
        return _network(around, draw)
    more = len(around.archive.moves) + 1  # the counts are of all C-MOVEs since the start
    fault = draw.choice(
        [
            PacsFaults(moves_aborted=more),
            PacsFaults(moves_cut=more, says_success=True),
            PacsFaults(moves_refused=more),
            PacsFaults(refuses_associations=True),
            PacsFaults(sends_nothing=True),
        ]
    )
    around.archive.faults = fault
    time.sleep(draw.uniform(0.5, 3))
    around.archive.faults = PacsFaults()
    return f"PACS: {fault}"


def _database(around: Surroundings, draw: random.Random) -> str:
    if around.postgresql is not None:
        around.postgresql.restart()
        return "PostgreSQL killed and started"
    path = Path(str(make_url(around.url).database))
    if not path.exists():
        return "no database yet"
    seconds = draw.uniform(1, 6)
    with sqlite3.connect(path, timeout=30, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        other.execute("ROLLBACK")
    other.close()
    return f"database locked by another process for {seconds:.1f} s"


def _disk(around: Surroundings, draw: random.Random) -> str:
    if not around.small_disk:
        return _database(around, draw)
    filler, spared = around.folder / "filler", draw.choice([0, 0, 64 << 10, 512 << 20])
    with filler.open("wb") as file:
        while (wanted := shutil.disk_usage(around.folder).free - spared) > 0:
            with suppress(OSError):  # the workers write meanwhile: what is left now, then
                os.posix_fallocate(file.fileno(), 0, wanted)
                break
    time.sleep(draw.uniform(0.5, 4))
    filler.unlink()
    return f"disk full but for {spared} bytes"


def _clock(around: Surroundings, draw: random.Random) -> str:
    seconds = draw.choice(_CLOCKS)
    set_clock(around.clock_file, seconds)
    return f"the workers' clocks step to {seconds:+d} s"


FAULTS: tuple[Fault, ...] = (_gateway_errors, _busy, _network, _lost_replies, _archive, _database, _disk, _clock)


def set_clock(clock_file: Path, seconds: int) -> None:
    """Step the wall clock of all who read it here; whole file or none, it is read while it is written."""
    fresh = clock_file.with_suffix(".new")
    fresh.write_text(f"{seconds}\n")
    fresh.replace(clock_file)


@contextmanager
def _behaving(proxy: TcpProxy, badly: Callable[[], None]) -> Iterator[None]:
    badly()
    try:
        yield
    finally:
        proxy.behave(Manner.PASS)


@contextmanager
def trouble(around: Surroundings, draw: random.Random, tell: Callable[[str], None]) -> Iterator[None]:
    """One to three faults at once, beside what happens in the block; all have ended when it ends."""

    def run(fault: Fault, own: random.Random) -> None:
        time.sleep(own.uniform(0, 4))
        told.append(fault(around, own))

    told: list[str] = []
    chosen = draw.sample(FAULTS, draw.choice([1, 2, 2, 3]))
    threads = [threading.Thread(target=run, args=(fault, random.Random(draw.getrandbits(32)))) for fault in chosen]
    with ExitStack() as stack:
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        yield
    tell(f"with: {'; '.join(told)}")
    if len(told) < len(chosen):
        raise RuntimeError("a fault could not be made: see the thread's traceback")
