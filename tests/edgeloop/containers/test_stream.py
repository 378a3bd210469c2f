"""What the engine's answers mean."""

from __future__ import annotations

import pytest

from edgeloop.containers.stream import scan, seconds
from edgeloop.errors import EngineError


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("0001-01-01T00:00:00Z", 0.0),
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T00:01:00.250000000Z", 60.25),
        ("2014-11-22T01:02:03.123456789Z", 1416618123.123456789),
    ],
)
def test_docker_time_stamps_have_nanoseconds(stamp: str, expected: float) -> None:
    """Nine digits of a second are read; Docker's zero time is no start."""
    assert seconds(stamp) == pytest.approx(expected, abs=1e-6)


def test_a_stream_with_an_error_line_raises_wherever_it_stands() -> None:
    """The engine answers 200 and goes on talking after the error."""
    with pytest.raises(EngineError, match=r"'edgeloop_registry': denied"):
        scan(iter([{"status": "Pushing"}, {"error": "denied\n"}, {"status": "done"}]), "edgeloop_registry")
