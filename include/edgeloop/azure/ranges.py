"""A blob in order, its ranges fetched by several workers, never more of it in memory than they hold."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeloop.azure.wire import Ranged


class Fetch(Protocol):
    """Reads a piece of a blob."""

    def __call__(self, start: int, length: int, etag: str) -> Ranged:
        """At most ``length`` bytes from ``start`` of the version ``etag``, or of the newest."""
        ...


def in_order(
    fetch: Fetch, block: int, workers: int, *, start: int = 0, seen: Callable[[Ranged], None] = lambda _: None
) -> Iterator[bytes]:
    """The bytes from ``start`` on in pieces of ``block``; the version that the first piece is of is read to its end.

    ``seen`` is told of the first piece before its bytes are given.
    """
    first = fetch(start, block, "")
    seen(first)
    yield first.data
    starts = range(start + len(first.data), first.size, block)
    if workers == 1 or len(starts) < 2:  # noqa: PLR2004 - nothing to do at once
        for one in starts:
            yield fetch(one, block, first.etag).data
        return
    ahead: deque[Future[Ranged]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ranges")
    try:
        for one in starts:
            ahead.append(pool.submit(fetch, one, block, first.etag))
            if len(ahead) == workers:
                yield ahead.popleft().result().data
        while ahead:
            yield ahead.popleft().result().data
    finally:
        # A reader that stops early must not wait for ranges that nobody will see.
        pool.shutdown(wait=False, cancel_futures=True)
