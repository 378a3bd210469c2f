"""A limit for calls that the kernel can block for ever, such as listing a mount whose server is gone."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from edgeloop.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_stuck: dict[str, threading.Thread] = {}


class Patience:
    """Waits at most ``seconds`` for a call to get on. ``what`` begins the sentence of the error."""

    def __init__(self, what: str, *, seconds: float, connection: str) -> None:
        self.what, self.seconds, self.connection = what, seconds, connection

    def call(self, key: str, work: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """The answer of ``work``, or what it raised. A call whose ``progress`` changes meanwhile may take longer.

        A thread that hangs in the kernel cannot be ended, so while one hangs no other is started for the same ``key``.

        Raises:
            UnreachableError: There was no answer in time, or an earlier call for ``key`` still hangs.
        """
        earlier = _stuck.get(key)
        if earlier is not None and earlier.is_alive():
            raise self._late()
        _stuck.pop(key, None)
        answer: list[T] = []
        trouble: list[BaseException] = []

        def run() -> None:
            try:
                answer.append(work())
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
                trouble.append(error)

        # A daemon: a thread pool's thread would keep the interpreter from ending while the mount hangs.
        thread = threading.Thread(target=run, name=f"edgeloop {key}", daemon=True)
        thread.start()
        before = -1
        while thread.is_alive() and progress() != before:
            before = progress()
            thread.join(self.seconds)
        if thread.is_alive():
            _stuck[key] = thread
            raise self._late()
        if trouble:
            raise trouble[0]
        return answer[0]

    def _late(self) -> UnreachableError:
        return UnreachableError(
            f"{self.what} did not answer within {self.seconds:g} s.",
            left="everything that was there",
            next=f"Check the mount behind connection {self.connection!r} (`stat` hangs on a dead one); "
            "then clear the task.",
        )
