"""What follows from a file's size and the configuration, and what a cap lets through: pure, no server."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from edgeloop.azure.features import AZURE, MIB, STACK
from edgeloop.pipeline_data import Transfer
from edgeloop.transfer import Plan, Terms, plan
from edgeloop.transfer.crew import work_through
from edgeloop.transfer.progress import Meter, Progress, duration, sentence
from edgeloop.transfer.proof import named, sample
from edgeloop.transfer.throttle import Throttle, reserve

if TYPE_CHECKING:
    from pathlib import Path

KIB = 1024


@pytest.mark.parametrize(
    ("mbit", "block", "workers"),
    [(0.5, 256 * KIB, 1), (4, 256 * KIB, 1), (20, MIB, 2), (100, 4 * MIB, 4), (200, 8 * MIB, 4), (10_000, 8 * MIB, 8)],
)
def test_blocks_are_few_and_small_on_slow_links(mbit: float, block: int, workers: int) -> None:
    """Half a second of the link at most, from 256 KiB to 8 MiB; more workers as it is faster."""
    assert plan(MIB, Terms(link_mbit=mbit)) == Plan(block_bytes=block, workers=workers)


def test_a_cap_counts_as_the_link() -> None:
    """Large blocks under a small cap would be bursts; a cap above the link changes nothing."""
    assert plan(1, Terms(link_mbit=1000, limit_mbit=4)) == plan(1, Terms(link_mbit=4))
    assert plan(1, Terms(link_mbit=4, limit_mbit=1000)) == plan(1, Terms(link_mbit=4))


@pytest.mark.parametrize("size", [0, MIB, 12 * 1024 * MIB, 13 * 1024 * MIB, 400 * 1024 * MIB, STACK.blob_bytes])
@pytest.mark.parametrize("features", [AZURE, STACK])
@pytest.mark.parametrize("mbit", [1, 100, 1000])
def test_every_size_the_service_takes_fits_its_blocks(size: int, features: object, mbit: float) -> None:
    """At most 50,000 blocks, none above the service's limit: 100 MiB with x-ms-version 2019-02-02."""
    way = plan(size, Terms(link_mbit=mbit), features)  # type: ignore[arg-type]
    assert way.block_bytes * 50_000 >= size
    assert way.block_bytes <= features.block_bytes  # type: ignore[attr-defined]


def test_terms_are_what_the_pipeline_says() -> None:
    """Every field of the section arrives, in bytes where it says MiB."""
    section = Transfer(link_mbit=20, limit_mbit=8, verify="sampled", sample_above_mb=256)
    want = Terms(link_mbit=20, limit_mbit=8, sampled=True, sample_above=256 * MIB, pipeline="wind")
    assert Terms.of(section, "wind") == want


def test_what_is_sent_waits_for_its_time_on_the_link() -> None:
    """Reservations follow each other; an idle link makes up for a quarter of a second at most."""
    assert reserve(10.0, 10.0, 2.0) == (12.0, 2.0)
    assert reserve(12.0, 10.0, 2.0) == (14.0, 4.0)
    assert reserve(0.0, 100.0, 2.0) == (101.75, 1.75)


def _sender(mbit: float, state: Path | None, now: list[float]) -> tuple[Throttle, list[float]]:
    waits: list[float] = []
    return Throttle(mbit, state, clock=lambda: now[0], wait=waits.append), waits


def test_tasks_of_a_pipeline_share_its_cap(tmp_path: Path) -> None:
    """Two processes have two throttles and one file between them: the second waits for what the first reserved."""
    now = [1000.0]
    one, first = _sender(8, tmp_path / "link", now)
    other, second = _sender(8, tmp_path / "link", now)
    one.take(1_000_000)
    other.take(1_000_000)
    one.take(1_000_000)
    assert (first, second) == ([0.75, 2.75], [1.75])


def test_a_machine_that_started_again_forgets_what_was_reserved(tmp_path: Path) -> None:
    """Its clock begins at zero; without this an upload would wait for days."""
    now = [1_000_000.0]
    one, _ = _sender(8, tmp_path / "link", now)
    one.take(1_000_000)
    now[0] = 5.0
    one.take(1_000_000)
    again, waits = _sender(8, tmp_path / "link", now)
    again.take(1_000_000)
    assert waits == [1.75]


def test_no_cap_is_no_wait(tmp_path: Path) -> None:
    """And leaves no file behind."""
    one, waits = _sender(0, tmp_path / "link", [0.0])
    one.take(10**9)
    assert (waits, list(tmp_path.iterdir())) == ([], [])


def test_the_log_says_share_rate_and_time_left() -> None:
    """What an earlier try brought does not count as speed."""
    half = Progress(name="data/a.parquet", done=60 * MIB, size=100 * MIB, resumed=20 * MIB)
    assert sentence(half, 10) == (
        "data/a.parquet: 60 % of 100.0 MiB, 4.0 MiB/s, 20.0 MiB were there already, 10 s left"
    )
    whole = Progress(name="a", done=MIB, size=MIB, resumed=0)
    assert sentence(whole, 2) == "a: 100 % of 1.0 MiB, 0.5 MiB/s"
    assert [duration(one) for one in (0.2, 59, 200, 7500)] == ["1 s", "59 s", "3 min 20 s", "2 h 5 min"]


def test_the_log_is_told_every_ten_seconds_and_at_the_end() -> None:
    """A thousand blocks are not a thousand lines; what is over in seconds is none."""
    now, lines = [0.0], list[str]()
    meter = Meter("a", 100 * MIB, log=lines.append, clock=lambda: now[0])
    for _ in range(100):
        now[0] += 0.25
        meter.add(MIB)
    assert [line.split(",")[0] for line in lines] == [
        "a: 40 % of 100.0 MiB", "a: 80 % of 100.0 MiB", "a: 100 % of 100.0 MiB"
    ]  # fmt: skip
    short = list[str]()
    Meter("b", 1, log=short.append, clock=lambda: 0.0).add(1)
    assert short == []


def test_workers_take_no_more_than_they_work_on() -> None:
    """Three workers hold three things; the fourth is not even read. All of them are done, once."""
    held, most, lock, done = [0], [0], threading.Lock(), list[int]()

    def things() -> object:
        for number in range(1, 50):
            with lock:
                held[0] += 1
                most[0] = max(most[0], held[0])
            yield number

    def work(number: int) -> None:
        with lock:
            held[0] -= 1
            done.append(number)

    work_through(3, iter(things()), work)  # type: ignore[call-overload]
    assert sorted(done) == list(range(1, 50))
    assert most[0] <= 3


@pytest.mark.parametrize("workers", [1, 4])
def test_the_first_error_stops_the_others(workers: int) -> None:
    """What is left is not begun, and the caller gets the error."""
    failed, begun = threading.Event(), list[int]()

    def work(number: int) -> None:
        begun.append(number)
        if number == 1:
            failed.set()
            raise OSError("number 1")
        failed.wait()
        time.sleep(0.001)

    with pytest.raises(OSError, match="number 1"):
        work_through(workers, iter(range(1, 1000)), work)
    assert len(begun) < 500


def test_a_reader_that_fails_is_an_error_too() -> None:
    """The share may go away in the middle of a file."""

    def torn() -> object:
        yield 1
        raise OSError("the share went away")

    with pytest.raises(OSError, match="the share went away"):
        work_through(2, iter(torn()), lambda _: None)  # type: ignore[call-overload]


def test_a_sample_has_both_ends_and_is_the_contents_own() -> None:
    """The first and the last block, 16 or 2 % between, the same ones for whoever looks again, others for others."""
    one = sample("a" * 64, 2000)
    assert one == sample("a" * 64, 2000) != sample("b" * 64, 2000)
    assert (one[0], one[-1], len(one)) == (0, 1999, 42)
    assert len(sample("a" * 64, 100)) == 18
    assert [sample("a" * 64, count) for count in (1, 2, 3)] == [[0], [0, 1], [0, 1, 2]]


def test_only_blocks_that_an_upload_named_are_sampled() -> None:
    """Another tool's block ids say nothing of their content."""
    assert named({"00000000-ab": 1, "00000001-cd": 1})
    assert not named({"00000000-ab": 1, "00000002-cd": 1})
    assert not named({"AAAA": 1})
    assert not named({})
