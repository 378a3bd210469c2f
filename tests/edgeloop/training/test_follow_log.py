"""Reading Docker's log so that no line is lost or passed on twice, and what is lost is told."""

from __future__ import annotations

import pytest

from edgeloop.training import follow_log
from edgeloop.training.follow import Place, resume
from edgeloop.training.follow_log import Ask, Entry, LogReader, shifted, split

STAMPS = [f"2026-01-01T00:00:{n:02d}.000000000Z" for n in range(60)]


def written(*lines: tuple[str, str]) -> bytes:
    """What ``docker logs --timestamps`` prints of lines with their stamps."""
    return "".join(f"{stamp} {text}\n" for stamp, text in lines).encode()


def look(reader: LogReader, *log: tuple[str, str]) -> list[str]:
    """A whole look at a log of a Docker that answers as the real one does."""
    texts: list[str] = []
    ask: Ask | None = reader.ask()
    while ask is not None:
        last = log[-ask.tail :] if ask.tail else log
        piece = reader.take(written(*(one for one in last if one[0] >= ask.since)), ask)
        for entry in piece.entries:
            reader.passed(entry)
        texts += [entry.text for entry in piece.entries] + [piece.trouble] * bool(piece.trouble)
        ask = piece.more
    return texts


def test_each_line_is_passed_on_once() -> None:
    """A look at a log that did not change brings nothing, one at a longer log brings what is new."""
    reader, log = LogReader(), [(STAMPS[n], f"line {n}") for n in range(6)]
    assert look(reader, *log[:3]) == ["line 0", "line 1", "line 2"]
    assert look(reader, *log[:3]) == []
    assert look(reader, *log) == ["line 3", "line 4", "line 5"]
    assert look(LogReader(STAMPS[3]), *log) == ["line 4", "line 5"]


def test_a_line_that_was_written_late_is_not_lost() -> None:
    """Two threads write the two outputs: a line may come behind one with a later stamp that was passed on already."""
    reader = LogReader()
    early, later = shifted(STAMPS[1], -40_000), STAMPS[1]
    assert look(reader, (STAMPS[0], "a"), (later, "out")) == ["a", "out"]
    assert look(reader, (STAMPS[0], "a"), (later, "out"), (early, "err")) == ["err"]
    for _ in range(3):
        assert look(reader, (STAMPS[0], "a"), (later, "out"), (early, "err")) == []


def test_more_lines_than_the_end_holds_are_fetched_from_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the log is asked for first; when it does not reach back, nothing of it is passed on out of order."""
    monkeypatch.setattr(follow_log, "TAIL", 3)
    reader, log = LogReader(), [(STAMPS[n], f"line {n}") for n in range(20)]
    assert look(reader, *log[:2]) == ["line 0", "line 1"]
    assert look(reader, *log) == [f"line {n}" for n in range(2, 20)]


def test_lines_that_docker_threw_away_are_told() -> None:
    """When the line passed on last is gone, lines between it and the next one may be, too; told once, with both."""
    reader = LogReader()
    look(reader, (STAMPS[0], "a"), (STAMPS[1], "b"))
    said = look(reader, (STAMPS[5], "f"), (STAMPS[6], "g"))
    assert said[:2] == ["f", "g"]
    assert STAMPS[1] in said[2]
    assert STAMPS[5] in said[2]
    assert "Lines were lost" in said[2]
    assert look(reader, (STAMPS[5], "f"), (STAMPS[6], "g"), (STAMPS[7], "h")) == ["h"]


def test_pieces_that_were_cut_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of many pieces is read to its end, whatever the size of a piece, also when all of it is one moment."""
    for step, size in ((1_000_000_000, 300), (10, 300), (1, 1000)):
        monkeypatch.setattr(follow_log, "PIECE_BYTES", size)
        log = [(shifted(STAMPS[0], n * step), f"line {n}") for n in range(100)]
        assert pieces(LogReader(), written(*log), size) == [f"line {n}" for n in range(100)], (step, size)


def pieces(reader: LogReader, raw: bytes, size: int) -> list[str]:
    """Read a log through a pipe that cuts at ``size`` bytes."""
    texts: list[str] = []
    ask: Ask | None = reader.ask()
    for _ in range(1000):
        if ask is None:
            return texts
        since = ask.since.encode()
        reply = b"".join(line for line in raw.splitlines(keepends=True) if line[:30] >= since)[:size]
        piece = reader.take(reply, ask)
        for entry in piece.entries:
            reader.passed(entry)
            texts.append(entry.text)
        ask = piece.more
    raise AssertionError(f"it goes round in circles after {texts[-3:]}")


def test_a_line_longer_than_a_piece_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its beginning is passed on with a word about the rest, and the lines after it come."""
    monkeypatch.setattr(follow_log, "PIECE_BYTES", 200)
    log = written((STAMPS[0], "a"), (STAMPS[1], "x" * 1000), (STAMPS[2], "b"))
    texts = pieces(LogReader(), log, 200)
    assert (texts[0], texts[-1], len(texts)) == ("a", "b", 3)
    assert texts[1].startswith("x" * 100)
    assert "the line goes on" in texts[1]


def test_what_docker_itself_says_is_no_line_of_the_job() -> None:
    """A log that a power cut tore makes Docker complain; that is told once and moves no place."""
    reader = LogReader()
    raw = written((STAMPS[0], "a")) + b"error from daemon in stream: Error grabbing logs: invalid character\n"
    first = reader.take(raw, Ask())
    assert [one.text for one in first.entries] == ["a"]
    assert first.trouble == "docker logs: error from daemon in stream: Error grabbing logs: invalid character"
    reader.passed(first.entries[0])
    assert reader.take(raw, reader.ask()) == follow_log.Piece()
    assert reader.cursor == STAMPS[0]


def test_the_parts_of_a_long_line_are_joined() -> None:
    """Docker prints the stamp again before each 16 KiB of a line, also in the middle of a character."""
    euro = "€".encode()
    stamp = STAMPS[1].encode()
    raw = stamp + b" " + b"x" * 16383 + euro[:1] + stamp + b" " + euro[1:] + b" yy\n"
    assert split(raw) == ([Entry(stamp=STAMPS[1], text="x" * 16383 + "€ yy")], [])


def test_empty_lines_and_any_bytes_survive() -> None:
    """A blank line stays a line, a last line without its end too; what is no UTF-8 does not stop the log."""
    raw = f"{STAMPS[0]} \n{STAMPS[1]} ".encode() + b"\xff\x00\r\n" + f"{STAMPS[2]} Traceback".encode()
    assert [one.text for one in split(raw)[0]] == ["", "�\x00", "Traceback"]


@pytest.mark.parametrize(
    ("kept", "logged", "expected"),
    [
        ("", "", ""),
        (f"{STAMPS[5]} here", "", STAMPS[5]),
        (f"{STAMPS[5]} here", STAMPS[3], STAMPS[3]),
        (f"{STAMPS[5]} here", STAMPS[7], STAMPS[7]),
        (f"{STAMPS[5]} there", STAMPS[3], STAMPS[5]),
        (f"{STAMPS[5]} there", STAMPS[7], STAMPS[7]),
        ("", STAMPS[3], STAMPS[3]),
        (STAMPS[5], STAMPS[3], STAMPS[5]),
    ],
)
def test_a_follower_goes_on_where_the_log_ends(kept: str, logged: str, expected: str) -> None:
    """The log on this machine is believed before the VM, unless another machine followed last."""
    assert resume(Place.read(kept), host="here", logged=logged) == expected


def test_stamps_are_reckoned_with() -> None:
    """Nanoseconds carry over seconds and days."""
    assert shifted("2026-01-01T00:00:00.000000000Z", -1) == "2025-12-31T23:59:59.999999999Z"
    assert shifted("2026-01-01T00:00:00.999999999Z", 1) == "2026-01-01T00:00:01.000000000Z"
    assert follow_log.padded("2026-01-01T00:00:00.12Z") == "2026-01-01T00:00:00.120000000Z"
    assert follow_log.padded("") == ""
