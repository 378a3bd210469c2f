"""Who computes when several threads travel with many small files."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgeloop.azure.turn import Turn, waiting

DEADLINE_S = 20.0


def test_one_thread_at_a_time_has_the_turn() -> None:
    """However many want it."""
    turn, inside, most = Turn(), list[int](), list[int]()

    def compute(number: int) -> None:
        for _ in range(200):
            with turn:
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(compute, range(4)))
    assert max(most) == 1


def test_whoever_waits_lets_the_next_one_compute() -> None:
    """The one that waits is woken up by the one that computes, also from a wait within a wait."""
    turn, woken, has_it = Turn(), threading.Event(), threading.Event()

    def waits() -> bool:
        with turn:
            has_it.set()
            with waiting, waiting:
                return woken.wait(DEADLINE_S)

    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(waits)
        assert has_it.wait(DEADLINE_S)
        with turn:
            woken.set()
        assert waiter.result(DEADLINE_S)


def test_a_turn_is_had_again_after_a_wait_and_left_after_an_error() -> None:
    """So that the work after an answer is one thread's, and an error stops nobody else."""
    turn = Turn()

    def taken() -> bool:
        with ThreadPoolExecutor(1) as pool:
            free = pool.submit(turn._lock.acquire, blocking=False).result()
        if free:
            turn._lock.release()
        return not free

    def silence() -> None:
        assert not taken()
        raise TimeoutError

    with turn:
        with pytest.raises(TimeoutError), waiting:
            silence()
        assert taken()
    with pytest.raises(ValueError, match="x"), turn:
        raise ValueError("x")
    assert not taken()


def test_a_wait_without_a_turn_is_nothing() -> None:
    """Everything else that is sent waits as before."""
    turn = Turn()
    with waiting, waiting:
        assert not turn._lock.locked()
    with turn:
        with waiting, waiting:
            assert not turn._lock.locked()
        assert turn._lock.locked()
    assert not turn._lock.locked()
