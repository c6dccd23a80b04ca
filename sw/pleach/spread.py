"""Jobs spread over processes of this machine, or over the workers of a dask scheduler.

A job is a function of a module and its arguments. What a worker was at when it died is handed out
again. Which of the two it is makes no difference to who hands out the jobs.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import traceback
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from pleach.errors import ConfigError, WorkerError
from pleach.extras import need
from pleach.processes import start_worker

#: workers that may die on one job before it is given up; dask calls one fewer allowed failures
ATTEMPTS = 4
#: seconds in which a scheduler has to answer
CONNECT = 30


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its value, or the error that it ended with."""

    value: Any = None
    error: Exception | None = None

    def result(self) -> Any:
        """The value, or the error raised."""
        if self.error is not None:
            raise self.error
        return self.value


class Jobs(ABC):
    """Jobs that are handed out, and what becomes of them.

    Attributes:
        place: where they are done, in words.
    """

    place: str

    @abstractmethod
    def submit(self, key: Hashable, function: Callable[..., Any], *arguments: Any) -> None:
        """Hand out ``function(*shared, *arguments)``; `finished` gives it back under `key`."""

    @abstractmethod
    def finished(self) -> Iterator[tuple[Any, Outcome]]:
        """Key and outcome of each job as it ends, until none is left; more may be submitted on the
        way.

        Raises:
            WorkerError: nobody is left who could do them.
        """

    def map(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """``function(*shared, item)`` of each item, in their order."""
        for number, item in enumerate(items):
            self.submit(number, function, item)
        found: dict[int, Outcome] = {}
        following = 0
        for number, outcome in self.finished():
            found[number] = outcome
            while following in found:
                yield found.pop(following).result()
                following += 1

    @abstractmethod
    def close(self) -> None:
        """Give up what is not done."""


@contextmanager
def spread(
    scheduler: str | None = None, *, processes: int | None = None, shared: tuple = ()
) -> Iterator[Jobs]:
    """Where jobs are done, until the block ends: what is not done then is given up.

    Args:
        scheduler: a dask scheduler's address, ``tcp://host:8786``; its workers need Pleach of the
            same version. Without, processes of this machine, which end with this one.
        processes: of this machine, by default one a processor.
        shared: first arguments of every job, taken to each worker once.

    Raises:
        ConfigError: no scheduler answers there.
        NotInstalledError: dask is not.
    """
    jobs = _Processes(processes, shared) if scheduler is None else _Dask(scheduler, shared)
    try:
        yield jobs
    finally:
        jobs.close()


@dataclass
class _Job:
    key: Hashable
    given: bytes
    attempts: int = 0


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection


class _Processes(Jobs):
    def __init__(self, count: int | None, shared: tuple):
        self._count = count or len(os.sched_getaffinity(0))
        self._shared = shared
        self._waiting: deque[_Job] = deque()
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, tuple[_Worker, _Job]] = {}
        self.place = f"{self._count} process{'es' * (self._count > 1)} of this machine"

    def submit(self, key: Hashable, function: Callable[..., Any], *arguments: Any) -> None:
        self._waiting.append(_Job(key, pickle.dumps((function, arguments))))
        self._hand_out()

    def finished(self) -> Iterator[tuple[Any, Outcome]]:
        while self._busy or self._waiting:
            self._hand_out()
            for ready in wait(list(self._busy)):
                assert isinstance(ready, Connection)
                worker, job = self._busy.pop(ready)
                try:
                    answer = ready.recv_bytes()
                except (EOFError, OSError):
                    self._end(worker)
                    if job.attempts < ATTEMPTS:
                        self._waiting.appendleft(job)
                    else:
                        yield job.key, Outcome(error=_given_up(self.place))
                    continue
                self._idle.append(worker)
                self._hand_out()
                yield job.key, pickle.loads(answer)

    def close(self) -> None:
        for worker in (*self._idle, *(worker for worker, _ in self._busy.values())):
            self._end(worker)

    def _hand_out(self) -> None:
        while self._waiting and (self._idle or len(self._busy) < self._count):
            worker = self._idle.pop() if self._idle else self._start()
            try:
                worker.connection.send_bytes(self._waiting[0].given)
            except OSError:  # it died idle
                self._end(worker)
                continue
            job = self._waiting.popleft()
            job.attempts += 1
            self._busy[worker.connection] = worker, job

    def _start(self) -> _Worker:
        own, its = multiprocessing.Pipe()
        process = multiprocessing.Process(
            target=_work, args=(os.getpid(), its, self._shared), daemon=True
        )
        process.start()
        its.close()
        return _Worker(process, own)

    def _end(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.connection.close()


def _work(parent: int, connection: Connection, shared: tuple) -> None:
    start_worker(parent)
    with suppress(EOFError, OSError):  # nobody hands out jobs any more
        while True:
            connection.send_bytes(_answer(shared, connection.recv_bytes()))


def _answer(shared: tuple, given: bytes) -> bytes:
    """The outcome of a job, as bytes."""
    try:
        function, arguments = pickle.loads(given)
        return pickle.dumps(Outcome(function(*shared, *arguments)))
    except Exception as error:
        text = traceback.format_exc()
        with suppress(Exception):  # what is no whole error on the other side is told as text
            error.add_note(f"in a worker:\n{text}")
            pickle.loads(answer := pickle.dumps(Outcome(error=error)))
            return answer
        return pickle.dumps(Outcome(error=WorkerError(f"a job failed:\n{text}")))


def _given_up(place: str) -> WorkerError:
    return WorkerError(
        f"{ATTEMPTS} workers died one after the other on this job ({place}): is there memory for "
        "it? Fewer at a time have more each"
    )


class _Dask(Jobs):
    def __init__(self, address: str, shared: tuple):
        need("dask", "distributed", "cloudpickle")
        import cloudpickle
        from distributed import Client

        try:
            self._client = Client(address, timeout=CONNECT, set_as_default=False)
        except (OSError, ValueError, ImportError) as error:  # a protocol that is not installed, too
            raise ConfigError(
                f"no dask scheduler answers at {address}: {error or type(error).__name__}"
            ) from error
        self._dumps = cloudpickle.dumps
        self._keys: dict[Hashable, Hashable] = {}  # of futures, and ours
        self._done: queue.SimpleQueue = queue.SimpleQueue()
        count = len(self._client.scheduler_info(n_workers=-1)["workers"])
        self.place = f"{count} worker{'s' * (count != 1)} of {address}"
        # A task like the others: what a worker loses with it another one makes again.
        self._shared = self._submit(_loads, self._dumps(shared))

    def submit(self, key: Hashable, function: Callable[..., Any], *arguments: Any) -> None:
        future = self._submit(_answer, self._shared, self._dumps((function, arguments)))
        self._keys[future.key] = key
        future.add_done_callback(self._done.put)

    def _submit(self, *task):
        with warnings.catch_warnings():  # that a task is large: each worker gets it once
            warnings.simplefilter("ignore", UserWarning)
            return self._client.submit(*task, pure=False)

    def finished(self) -> Iterator[tuple[Any, Outcome]]:
        from distributed import KilledWorker

        while self._keys:
            future = self._done.get()
            key = self._keys.pop(future.key)
            if future.cancelled():
                raise WorkerError(f"lost: {self.place}; what was finished is kept")
            try:
                outcome = pickle.loads(future.result())
            except KilledWorker:
                outcome = Outcome(error=_given_up(self.place))
            except Exception as error:
                raise WorkerError(f"{self.place} cannot do a job: {error!r}") from error
            yield key, outcome

    def close(self) -> None:
        self._client.close()  # which lets go of what was handed out


def _loads(data: bytes) -> tuple:
    return pickle.loads(data)
