"""The way through the worker: from storage straight into the SSH stream, no file in between, memory bounded."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from edgeloop.errors import UnreachableError
from edgeloop.training import stage_commands
from edgeloop.training.bundle import tar_stream
from edgeloop.training.staging_yard import (
    BATCH_BYTES,
    LARGE_BYTES,
    Answer,
    bring_large,
    failure,
    spoiled,
    whole_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from edgeloop.ssh.shell import Completed
    from edgeloop.training.bundle import Member
    from edgeloop.training.staging_yard import Yard

TRIES = 2
READY_SECONDS = 90.0


def batches(members: Iterable[Member], most: int = BATCH_BYTES) -> Iterator[tuple[Member, ...]]:
    """The members in groups of at most ``most`` bytes, in their order."""
    group: list[Member] = []
    size = 0
    for one in members:
        if group and size + one.size > most:
            yield tuple(group)
            group, size = [], 0
        group.append(one)
        size += one.size
    if group:
        yield tuple(group)


def split(members: Iterable[Member]) -> tuple[list[Member], list[Member]]:
    """Those that travel together, and those that travel alone."""
    members = list(members)
    return [one for one in members if one.size < LARGE_BYTES], [one for one in members if one.size >= LARGE_BYTES]


class Worker:
    """Sends members of one staging."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard

    def bring(self, members: Iterable[Member]) -> None:
        """Send them all; raises ``IntegrityError`` or ``ConflictError``, and what a source of bytes raises."""
        small, large = split(members)
        for group in batches(small):
            self._small(group)
        for one in large:
            self._large(one)

    def _small(self, group: tuple[Member, ...]) -> None:
        yard, answer = self._yard, Answer()
        text, seconds = stage_commands.take_small(yard.job), whole_seconds(sum(one.size for one in group))
        done = yard.bulk.run(text, stdin=partial(tar_stream, group, sent=yard.meter.add), sink=answer, timeout=seconds)
        for one in group:
            if answer.digests.get(one.sha256) == "bad" and not done.exit:
                raise spoiled(yard, one.path)
        if done.exit or not all(answer.digests.get(one.sha256) == "good" for one in group):
            raise failure(yard, done, "(small files)")

    def _large(self, one: Member) -> None:
        answer, done = bring_large(self._yard, one, self._attempt, tries=TRIES)
        if answer.here:
            return
        if answer.word == "bad":
            raise spoiled(self._yard, one.path)
        raise failure(self._yard, done, f"(receiving {one.path})")

    def _attempt(self, one: Member, answer: Answer) -> Completed:
        text = stage_commands.take_large(self._yard.job, one.sha256, one.size)
        return self._yard.bulk.run(
            text, stdin=partial(self._bytes, one, answer), sink=answer, timeout=whole_seconds(one.size)
        )

    def _bytes(self, one: Member, answer: Answer) -> Iterator[bytes]:
        """The file from where the receiver wants it; nothing if it has it or another brings it."""
        meter = self._yard.meter
        if not answer.ready.wait(READY_SECONDS):
            raise UnreachableError(
                f"{self._yard.host} did not say how much of {one.path} it has.",
                left="what has arrived there",
                next="Clear the task: it goes on from there.",
            )
        if answer.start < 0:
            return
        meter.add(answer.start, resumed=True)
        for chunk in one.read(answer.start):
            yield chunk
            meter.add(len(chunk))
