"""Work in a process of its own: what crashes, hangs or eats memory there ends that process, not the service.

Decoders and inference run native code on whatever an archive holds. One patient must not take down the others' work,
and where each has a process to itself it is known who did it. Only what happens after a process said that it is ready
is the question's doing.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import resource
import secrets
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from adapter.engine.steps import Interrupted
from adapter.errors import AdjuvantError, ProcessUnavailable, StepCrashed

_ATTEMPTS = 3
_GOODBYE_SECONDS = 2.0
_PREPARATION_SECONDS = 120.0
_FAILED = 1
_Answer = TypeVar("_Answer")
Prepare = Callable[[Path], Callable[[str], _Answer]]
_processes = multiprocessing.get_context("spawn")  # a fork would inherit our threads' locks


class Apart(Generic[_Answer]):
    """So many processes that answer questions, each started when it is first needed. A context manager."""

    def __init__(
        self, prepare: Prepare[_Answer], *, scratch: Path, processes: int, seconds: float, memory_bytes: int
    ) -> None:
        """prepare: called once in each process with a folder of its own; returns what answers. All must pickle.

        scratch: where those folders lie. A process that is killed cannot tidy up: its folder is removed when it ended.
        seconds: for one answer. memory_bytes: address space of one process.
        """
        self._prepare = prepare
        self._scratch = scratch
        self._seconds = seconds
        self._memory_bytes = memory_bytes
        self._processes = processes
        self._free: queue.LifoQueue[_Child[_Answer] | None] = queue.LifoQueue()  # the warm one first
        for _ in range(processes):
            self._free.put(None)
        self._children: set[_Child[_Answer]] = set()
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        """Nothing runs yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End every process, whatever it is doing; who still waits for an answer is interrupted."""
        self._closed.set()
        for child in tuple(self._children):
            child.kill()
        # one thread at a time has a process: closing its pipe under who reads it would close whatever is opened next
        returned = [self._returned() for _ in range(self._processes)]
        for one in returned:
            if one is not None:
                self._end(one)
            self._free.put(None)  # who still waits for a process is interrupted

    def ask(self, question: str) -> _Answer:
        """The answer. Raises StepCrashed when three processes died on it, hung, or ran out of memory.

        Raises what the preparation refused with, ProcessUnavailable where a process does not come to work, Interrupted
        when all are ended meanwhile.
        """
        child = self._free.get()
        reason = ""
        try:
            if self._closed.is_set():
                raise Interrupted
            for _ in range(_ATTEMPTS):
                child = child or self._started()
                try:
                    return child.ask(question, self._seconds)
                except _Died as death:
                    if self._closed.is_set():
                        raise Interrupted from death
                    reason = str(death)
                    self._end(child)
                    child = None
        finally:
            self._free.put(child)
        raise StepCrashed(f"{_ATTEMPTS} processes ended on it, the last one: {reason}")

    def _started(self) -> _Child[_Answer]:
        try:
            child = _Child(self._prepare, self._scratch / secrets.token_hex(8), self._memory_bytes)
        except OSError as error:
            raise ProcessUnavailable(f"no process can be started: {error.strerror}") from error
        self._children.add(child)
        try:
            if self._closed.is_set():  # whoever ends all may have looked before this one was there
                raise Interrupted
            child.wait_until_ready(_PREPARATION_SECONDS)
        except _Died as death:
            self._end(child)
            if self._closed.is_set():
                raise Interrupted from death
            raise ProcessUnavailable(f"a process ended before it was ready: {death}") from death
        except BaseException:
            self._end(child)
            raise
        return child

    def _returned(self) -> _Child[_Answer] | None:
        """What its asker gives back; None for one who does not, within some seconds of the death of the process."""
        try:
            return self._free.get(timeout=2 * _GOODBYE_SECONDS)
        except queue.Empty:
            return None

    def _end(self, child: _Child[_Answer]) -> None:
        child.end()
        self._children.discard(child)


class _Died(Exception):
    """A process gave no answer; says how it ended."""


class _Child(Generic[_Answer]):
    """One process, our end of the pipe to it, and the folder that is its own."""

    def __init__(self, prepare: Prepare[_Answer], folder: Path, memory_bytes: int) -> None:
        self._folder = folder
        self._pipe, theirs = _processes.Pipe()
        self._process = _processes.Process(target=_serve, args=(theirs, prepare, folder, memory_bytes), daemon=True)
        self._process.start()
        theirs.close()

    def wait_until_ready(self, seconds: float) -> None:
        with self._death_noticed():
            refusal: AdjuvantError | None = self._received(seconds)
        if refusal is not None:
            raise refusal

    def ask(self, question: str, seconds: float) -> _Answer:
        with self._death_noticed():
            self._pipe.send(question)
            answer: _Answer = self._received(seconds)
        return answer

    def _received(self, seconds: float) -> Any:  # noqa: ANN401 (whatever the other end sent)
        if not self._pipe.poll(seconds):
            raise _Died(f"silent for {seconds:g} s")
        return self._pipe.recv()

    @contextmanager
    def _death_noticed(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError) as error:
            self._process.join(_GOODBYE_SECONDS)
            raise _Died(f"exit code {self._process.exitcode}") from error

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        self.kill()
        self._process.join(_GOODBYE_SECONDS)
        self._pipe.close()
        shutil.rmtree(self._folder, ignore_errors=True)  # what it read lies there in plain


def _serve(pipe: Connection, prepare: Prepare[object], folder: Path, memory_bytes: int) -> None:
    """Say how the preparation ended: None, or our error. Then answer until the other end is gone.

    That is also how the death of the service is noticed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the service's to handle
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold a patient's data
    try:
        try:
            answer = prepare(folder)
        except AdjuvantError as refusal:
            pipe.send(refusal)
            return
        pipe.send(None)
        while True:
            pipe.send(answer(pipe.recv()))
    except EOFError:
        return
    except Exception:
        os._exit(_FAILED)  # in silence: a traceback may hold a patient's data
