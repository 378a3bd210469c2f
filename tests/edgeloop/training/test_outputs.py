"""What may leave the VM."""

from __future__ import annotations

import pytest

from edgeloop.errors import TrainingFailedError
from edgeloop.training.outputs import ALLOWED, METRICS, MODEL, Entry, canonical_metrics, choose, parse_listing

GOOD = (Entry(path=METRICS, kind="f", size=20), Entry(path=MODEL, kind="f", size=100))


def test_the_two_files_are_collected() -> None:
    """A listing with nothing else leaves nothing behind."""
    choice = choose(GOOD)
    assert {one.path for one in choice.files} == {MODEL, METRICS}
    assert choice.left == ()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (Entry(path=MODEL, kind="l", size=11), "model.onnx is a link, not a regular file"),
        (Entry(path=MODEL, kind="d", size=4096), "model.onnx is a folder"),
        (Entry(path=MODEL, kind="p", size=0), "model.onnx is a pipe"),
        (Entry(path=MODEL, kind="f", size=0), "model.onnx is empty"),
        (Entry(path=MODEL, kind="f", size=ALLOWED[MODEL] + 1), "are allowed"),
    ],
)
def test_an_output_that_is_no_plain_file_of_its_size_is_refused(entry: Entry, words: str) -> None:
    """A link, a folder, an empty or an oversized file fails the training in words."""
    with pytest.raises(TrainingFailedError, match=words):
        choose((GOOD[0], entry))


def test_a_missing_output_is_named() -> None:
    """Both files are told at once."""
    with pytest.raises(TrainingFailedError, match=r"model.onnx is missing; metrics.json is missing"):
        choose(())


def test_everything_else_is_left_and_named() -> None:
    """A file that is not in the allow-list stays, and the log says so; a flood of them is counted."""
    others = tuple(Entry(path=f"rows-{n}.csv", kind="f", size=n) for n in range(14))
    left = choose((*GOOD, *others)).left
    assert left[0] == "'rows-0.csv' (0 bytes, not in the allow-list)"
    assert left[-1] == "4 more"


def test_a_listing_bears_any_file_name() -> None:
    """Blanks and line breaks in a name cannot shift the others."""
    entries = parse_listing(b"f 5 a b\n c\0l 3 model.onnx\0")
    assert entries == (Entry(path="a b\n c", kind="f", size=5), Entry(path="model.onnx", kind="l", size=3))


@pytest.mark.parametrize("raw", [b"{", b"[1]", b'{"accuracy": NaN}', b'{"accuracy": Infinity}', b"\xff"])
def test_metrics_must_be_an_object_of_numbers(raw: bytes) -> None:
    """NaN is no accuracy."""
    with pytest.raises(TrainingFailedError, match=r"metrics\.json"):
        canonical_metrics(raw)


def test_metrics_are_kept_in_one_form() -> None:
    """Key order and blanks do not matter."""
    assert canonical_metrics(b'{ "b": 1, "a": {"x": 0.5} }') == '{"a":{"x":0.5},"b":1}'
