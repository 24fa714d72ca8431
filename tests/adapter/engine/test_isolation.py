"""F-28: a poison question costs its own process, three times at most, and nobody else anything."""

from __future__ import annotations

import multiprocessing.resource_tracker
import os
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from adapter.engine.isolation import Apart
from adapter.engine.steps import Interrupted
from adapter.errors import BadMapping, ProcessUnavailable, StepCrashed
from adapter.store.vault import Vault
from tests.fakes.trouble import prepare, prepare_badly, prepare_to_read

_KEY = bytes(32)


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Apart[str]]:
    """Two processes, each with 20 seconds for an answer and 4 GiB."""
    with Apart(prepare, scratch=tmp_path, processes=2, seconds=20.0, memory_bytes=4 * 2**30) as running:
        yield running


def test_an_answer_comes_from_another_process(apart: Apart[str]) -> None:
    """The same process answers again: it is started once."""
    first, second = apart.ask("a"), apart.ask("b")
    assert first.startswith("a by ")
    assert first.removeprefix("a by ") == second.removeprefix("b by ") != str(os.getpid())


@pytest.mark.fault("F-28", "F-29")
def test_a_crash_is_named_and_the_next_answer_comes(apart: Apart[str]) -> None:
    """Three processes abort on it; the one who asked learns how, and the place is free again."""
    with pytest.raises(StepCrashed, match="3 processes ended on it, the last one: exit code -6"):
        apart.ask("crash")
    assert apart.ask("a").startswith("a by ")


@pytest.mark.fault("F-17")
def test_a_process_that_eats_memory_is_ended(apart: Apart[str]) -> None:
    """The limit holds: the machine keeps its memory."""
    with pytest.raises(StepCrashed, match="exit code 1"):
        apart.ask("eat")


@pytest.mark.fault("F-28")
def test_a_process_that_hangs_is_ended_after_its_time(tmp_path: Path) -> None:
    """A decoder that never returns costs three times its seconds."""
    with (
        Apart(prepare, scratch=tmp_path, processes=1, seconds=2.0, memory_bytes=4 * 2**30) as apart,
        pytest.raises(StepCrashed, match="silent for 2 s"),
    ):
        apart.ask("hang")


@pytest.mark.fault("F-28")
def test_others_are_answered_beside_a_poison(apart: Apart[str]) -> None:
    """While one place is busy dying, the other answers all."""
    with ThreadPoolExecutor(2) as pool:
        poison = pool.submit(apart.ask, "crash")
        answers = [pool.submit(apart.ask, str(number)).result() for number in range(20)]
        assert len(answers) == 20
        assert isinstance(poison.exception(), StepCrashed)


@pytest.mark.fault("F-02")
def test_a_stop_interrupts_who_waits(apart: Apart[str]) -> None:
    """F-02: an answer that the stop cut short is no crash: no process is started again, the case has no outcome."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(apart.ask, "hang")
        time.sleep(1.0)
        apart.__exit__()
        assert isinstance(waiting.exception(timeout=10), Interrupted)


@pytest.mark.parametrize(
    ("how", "error", "sentence"),
    [
        ("refuse", BadMapping, "landmarks.toml: a row that somebody is editing"),
        ("crash", ProcessUnavailable, "before it was ready: exit code -6"),
        ("eat", ProcessUnavailable, "before it was ready: exit code 1"),
    ],
)
def test_what_the_preparation_ends_with_is_no_patient_s_doing(
    tmp_path: Path, how: str, error: type[Exception], sentence: str
) -> None:
    """Law: the site's fault is told as the site's. Breach: it was the crash of whoever happened to be asked for."""
    prepared = partial(prepare_badly, how)
    with Apart(prepared, scratch=tmp_path, processes=1, seconds=20.0, memory_bytes=4 * 2**30) as apart:
        for _ in range(2):  # the place is free again
            with pytest.raises(error, match=sentence):
                apart.ask("a")


@pytest.mark.fault("F-02")
def test_a_stop_interrupts_a_preparation(tmp_path: Path) -> None:
    """A process that the stop ended before it was ready is no trouble of the machine: the case has no outcome."""
    with (
        ThreadPoolExecutor(1) as pool,
        Apart(partial(prepare_badly, "hang"), scratch=tmp_path, processes=1, seconds=20.0, memory_bytes=2**32) as apart,
    ):
        waiting = pool.submit(apart.ask, "a")
        time.sleep(1.0)
        apart.__exit__()
        assert isinstance(waiting.exception(timeout=10), Interrupted)


@pytest.mark.parametrize("spare", [0, 4], ids=["no pipe", "a pipe and no process"])
def test_a_machine_that_starts_no_process_now_is_waited_for(apart: Apart[str], spare: int) -> None:
    """Out of descriptors is a transient error: with some to spare the answer comes."""
    multiprocessing.resource_tracker.ensure_running()  # belongs to the whole process, not to this start
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path(os.devnull).open("rb") as lowest:
        free = lowest.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + spare, hard))
    try:
        with pytest.raises(ProcessUnavailable, match="Too many open files"):
            apart.ask("a")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert apart.ask("a").startswith("a by ")


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Apart[str]]:
    """One process that answers while an image lies open in plain."""
    digest = Vault(tmp_path / "vault", _KEY).keep(b"an image")
    prepared = partial(prepare_to_read, tmp_path / "vault", _KEY, digest)
    with Apart(prepared, scratch=tmp_path / "plain", processes=1, seconds=60.0, memory_bytes=4 * 2**30) as running:
        yield running


def _plain_files(folder: Path) -> list[Path]:
    return [path for path in (folder / "plain").rglob("*") if path.is_file()]


@pytest.mark.fault("F-28")
def test_a_process_that_died_leaves_nothing_in_plain(reading: Apart[str], tmp_path: Path) -> None:
    """Law: empty whenever nothing is read. Breach: what a killed process read lay there until the next start."""
    with pytest.raises(StepCrashed, match="exit code -6"):
        reading.ask("crash")
    assert list((tmp_path / "plain").iterdir()) == []
    assert reading.ask("a").startswith("a by ")
    assert _plain_files(tmp_path) == []


@pytest.mark.fault("F-02")
def test_a_stop_while_an_image_is_read_leaves_nothing_in_plain(reading: Apart[str], tmp_path: Path) -> None:
    """The shutdown kills the process in the middle of its reading, and takes the copy away."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reading.ask, "hang")
        while not _plain_files(tmp_path):
            assert not waiting.done()
            time.sleep(0.05)
        reading.__exit__()
        assert isinstance(waiting.exception(timeout=10), Interrupted)
    assert list((tmp_path / "plain").iterdir()) == []


def test_nothing_is_left_running(apart: Apart[str]) -> None:
    """After the block no process of it lives."""
    process = int(apart.ask("a").removeprefix("a by "))
    apart.__exit__()
    assert not Path(f"/proc/{process}").exists()
