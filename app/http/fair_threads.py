"""Threads that serve users in turn: nobody waits behind all that another one has sent."""

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

from app.http.errors import BusyError

ResultT = TypeVar("ResultT")


class _Job:
    """A call that waits, and the future of its result."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.future: Future[Any] = Future()
        self.since = time.monotonic()

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.call())
        except BaseException as error:
            self.future.set_exception(error)


class FairThreads:
    """A bounded number of threads, of which a user has a part; users' calls wait by turns."""

    def __init__(
        self, name: str, threads: int, *, per_user: int, max_waiting: int, max_wait_s: float
    ) -> None:
        """Start no thread yet.

        Args:
            name: of the threads.
            threads: calls that run at once.
            per_user: of them for one user.
            max_waiting: calls that wait, of one user; of all eight times as many.
            max_wait_s: how long one may wait for its turn, seconds.
        """
        self._threads = ThreadPoolExecutor(threads, name)
        self._free = threads
        self._per_user = per_user
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._lock = Lock()

    def submit(self, user: str, call: Callable[[], ResultT]) -> "Future[ResultT]":
        """The future of a call's result; BusyError in it if its turn did not come in time.

        Raises:
            BusyError: too many calls wait already.
        """
        job = _Job(call)
        with self._lock:
            own = self._waiting.get(user, ())
            waiting = sum(map(len, self._waiting.values()))
            if len(own) >= self._max_waiting or waiting >= 8 * self._max_waiting:
                raise BusyError("too many requests of this kind wait already")
            self._waiting.setdefault(user, deque()).append(job)
            self._begin()
        return job.future

    def expire(self) -> None:
        """Fail the calls whose turn did not come in time; to be called every second or so."""
        late: list[_Job] = []
        oldest = time.monotonic() - self._max_wait_s
        with self._lock:
            for user, jobs in list(self._waiting.items()):
                while jobs and jobs[0].since < oldest:
                    late.append(jobs.popleft())
                if not jobs:
                    del self._waiting[user]
        for job in late:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(
                    BusyError(f"no turn within {self._max_wait_s:g} s: others are served first")
                )

    def shutdown(self) -> None:
        """Begin no more calls."""
        with self._lock:
            self._waiting.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        """Begin what may run, with the lock held; a user who was served goes to the end."""
        while self._free:
            user = next((u for u in self._waiting if self._running[u] < self._per_user), None)
            if user is None:
                return
            jobs = self._waiting.pop(user)
            job = jobs.popleft()
            if jobs:
                self._waiting[user] = jobs
            self._free -= 1
            self._running[user] += 1
            self._threads.submit(self._run, user, job)

    def _run(self, user: str, job: _Job) -> None:
        try:
            job.run()
        finally:
            with self._lock:
                self._free += 1
                self._running -= Counter([user])
                self._begin()
