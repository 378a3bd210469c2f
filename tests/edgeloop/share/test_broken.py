"""The report of what will not become part of a batch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from edgeloop.errors import NotFoundError
from edgeloop.share import broken
from edgeloop.share.broken import GRACE, REPORT, Trouble, noted
from edgeloop.share.source import EVERYTHING, Broken, Scope

NOW = datetime(2026, 5, 14, 12, 0, tzinfo=UTC)
THEN = "2026-05-14T11:00:00+00:00"
OLD = Trouble(path="2026/05/12/a.csv", reason="is missing", since=THEN)


class Memory:
    """Blobs in a dictionary."""

    def __init__(self, **blobs: bytes) -> None:
        self.blobs = {name: content for name, content in blobs.items() if content}

    def get(self, name: str) -> bytes:
        """As a container answers."""
        if name not in self.blobs:
            raise NotFoundError(name, left="", next="")
        return self.blobs[name]

    def put(self, name: str, data: bytes) -> None:
        """Write."""
        self.blobs[name] = data


def test_the_same_trouble_keeps_its_time_and_another_reason_starts_anew() -> None:
    """On-call is told of what lasts: a look must not make old trouble young, nor new trouble old."""
    same, other = Broken(OLD.path, OLD.reason), Broken(OLD.path, "has 3 bytes")
    assert noted([OLD], [same, same], EVERYTHING, NOW) == (OLD,)
    (new,) = noted([OLD], [other], EVERYTHING, NOW)
    assert (new.reason, new.since) == ("has 3 bytes", "2026-05-14T12:00:00+00:00")


@pytest.mark.parametrize(
    ("folders", "stays"),
    [(None, False), (("2026/05/12",), False), (("2026/05",), False), (("2026/05/1",), True), (("2026/05/13",), True)],
)
def test_what_was_not_looked_at_stays_and_what_was_is_over(folders: tuple[str, ...] | None, *, stays: bool) -> None:
    """A sweep of recent folders says nothing of older ones; one that found the file in order ends the trouble."""
    assert noted([OLD], [], Scope(folders=folders), NOW) == ((OLD,) if stays else ())


def test_trouble_lasts_from_the_end_of_the_grace_on() -> None:
    """A delivery in the making is nobody's trouble yet."""
    began = datetime.fromisoformat(THEN)
    assert not OLD.lasts(began + GRACE - timedelta(seconds=1))
    assert OLD.lasts(began + GRACE)


def test_a_report_reads_back_sorted_and_a_spoilt_one_is_none() -> None:
    """It decides nothing, so one that cannot be read is written anew by the next look."""
    blobs = Memory()
    assert broken.read(blobs) == ()
    found = noted([], [Broken("b", "x"), Broken("a", "y"), Broken("a", "x")], EVERYTHING, NOW)
    assert [(one.path, one.reason) for one in found] == [("a", "x"), ("a", "y"), ("b", "x")]
    broken.write(blobs, found)
    assert broken.read(blobs) == found
    for spoilt in (b"{", b"[1]", b'[{"path": "a"}]', b"\xff"):
        blobs.put(REPORT, spoilt)
        assert broken.read(blobs) == ()
