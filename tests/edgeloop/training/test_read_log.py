"""Splitting Docker's log so that no line is lost or passed on twice."""

from __future__ import annotations

from edgeloop.training.follow import read_log

FIRST, SECOND, THIRD = (f"2026-01-01T00:00:0{n}.000000000Z" for n in (1, 2, 3))


def test_lines_up_to_the_last_one_are_dropped() -> None:
    """Docker's --since is inclusive: the line that was passed on last comes again."""
    raw = f"{FIRST} one\n{SECOND} two\n{THIRD} three\n".encode()
    lines = read_log(raw, FIRST)
    assert (lines.texts, lines.cursor, lines.cut) == (("two", "three"), THIRD, False)


def test_nothing_new_keeps_the_cursor() -> None:
    """A quiet job moves nothing."""
    lines = read_log(f"{FIRST} one\n".encode(), FIRST)
    assert (lines.texts, lines.cursor) == ((), FIRST)


def test_a_piece_that_was_cut_ends_at_its_last_whole_line() -> None:
    """The rest of a cut line comes whole with the next piece."""
    raw = f"{FIRST} one\n{SECOND} tw".encode()
    lines = read_log(raw, "", limit=len(raw))
    assert (lines.texts, lines.cursor, lines.cut) == (("one",), FIRST, True)


def test_a_last_line_without_its_end_is_passed_on() -> None:
    """A script that dies in the middle of a line is quoted to the end."""
    assert read_log(f"{FIRST} Traceback".encode(), "").texts == ("Traceback",)


def test_the_parts_of_a_long_line_are_joined() -> None:
    """Docker prints the timestamp again before each 16 KiB of a line."""
    assert read_log(f"{FIRST} {'x' * 16384}{FIRST} yy\n".encode(), "").texts == ("x" * 16384 + "yy",)


def test_empty_lines_and_any_bytes_survive() -> None:
    """A blank line stays a line; what is no UTF-8 does not stop the log."""
    assert read_log(f"{FIRST} \n{SECOND} ".encode() + b"\xff\n", "").texts == ("", "�")
