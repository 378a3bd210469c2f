"""A few workers that take one thing after the other, hold no more than they work on, and stop at the first error."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class _Queue(Generic[T]):
    """Hands out one thing at a time; nothing after an error."""

    def __init__(self, things: Iterator[T]) -> None:
        self._things, self._lock = things, threading.Lock()
        self.error: BaseException | None = None

    def work(self, do: Callable[[T], object]) -> None:
        """Take and do until nothing is left."""
        try:
            while True:
                with self._lock:
                    if self.error is not None:
                        return
                    thing = next(self._things, None)
                if thing is None:
                    return
                do(thing)
                # What was done must not be held while waiting for the next: memory is workers x one thing.
                thing = None
        except BaseException as error:  # noqa: BLE001 - raised by work_through, in the caller's thread
            with self._lock:
                self.error = self.error or error


def work_through(workers: int, things: Iterator[T], do: Callable[[T], object]) -> None:
    """Do every one of ``things``, ``workers`` at a time, in the order they come; raises the first error of any.

    The caller's thread is one of the workers. Workers take for themselves: handing each thing from a reader to a
    worker cost two switches of threads for every small file, three times the work itself.
    """
    queue = _Queue(things)
    threads = [
        threading.Thread(target=queue.work, args=(do,), name=f"transfer-{number}", daemon=True)
        for number in range(1, workers)
    ]
    for thread in threads:
        thread.start()
    queue.work(do)
    for thread in threads:
        thread.join()
    if queue.error is not None:
        raise queue.error
