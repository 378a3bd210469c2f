"""Golden rows: where they come from and what counts as the same answer."""

from __future__ import annotations

import pytest
from tests.shipyard import FEATURES, linear

from edgeloop.errors import IntegrityError
from edgeloop.packaging import golden
from edgeloop.pipeline import Feature

SHA = "ab" * 32


def response(*values: float, datatype: str = "FP32", name: str = "Y") -> dict[str, object]:
    """A v2 answer."""
    return {"outputs": [{"name": name, "datatype": datatype, "shape": [len(values), 1], "data": list(values)}]}


def test_rows_are_the_same_for_the_same_model_and_others_for_another() -> None:
    """The model's digest is the seed: nothing else decides the rows, so every machine draws the same."""
    rows = golden.draw(FEATURES, SHA, 5)
    assert rows == golden.draw(FEATURES, SHA, 5)
    assert rows[:2] == ((0.0, -10.0), (20.0, 35.0))
    assert rows[2] != golden.draw(FEATURES, "cd" * 32, 5)[2]


def test_the_stream_of_drawn_rows_never_changes() -> None:
    """Stored golden rows can be drawn again by any later version."""
    assert golden.draw(FEATURES, SHA, 3)[2] == (15.966825485229492, 6.028779029846191)


def test_rows_are_float32_within_their_ranges() -> None:
    """Every value survives float32, so that JSON brings the same number to the scorer."""
    for row in golden.draw(FEATURES, SHA, 200):
        for value, feature in zip(row, FEATURES, strict=True):
            assert feature.low <= value <= feature.high
            assert golden.packed(value) == golden.packed(float(repr(value)))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (response(1.5, 0.1), ""),
        (response(1.5, 0.10000000149011612), ""),
        (response(1.5, 0.1000001), "gave 1 of 2 golden answers other than the model's"),
        (response(-1.5, 0.2), "gave 2 of 2 golden answers other than the model's"),
        (response(1.5), "gave FP32 of 1 values, not FP32 of 2"),
        (response(1.5, 0.1, datatype="FP64"), "gave FP64 of 2 values, not FP32 of 2"),
        (response(1.5, 0.1, name="Z"), "gave no output Y (StopIteration)"),
        ({"error": "no"}, "gave no output Y (KeyError)"),
        (response(1.5, 1e300), "gave no output Y (OverflowError)"),
        (response(1.5, None), "gave no output Y (error)"),  # type: ignore[arg-type]
    ],
)
def test_answers_are_compared_byte_for_byte_as_float32(answer: dict[str, object], said: str) -> None:
    """The shortest and the longest digits of the same float32 are equal; one step of the last bit is not."""
    expected = golden.Golden(sha256=SHA, rows=((1.0,), (2.0,)), answers=(1.5, 0.10000000149011612))
    assert expected.differing(answer) == said


def test_minus_zero_is_another_answer() -> None:
    """The comparison is of bytes, not of numbers."""
    expected = golden.Golden(sha256=SHA, rows=((1.0,),), answers=(0.0,))
    assert expected.differing(response(-0.0))


def test_a_model_answers_its_rows_and_they_are_stored_and_read_back() -> None:
    """Answers come from onnxruntime; the JSON form holds every bit."""
    made = golden.make(linear(1.0, 2.0, bias=0.5), SHA, FEATURES, 4)
    assert made.answers[:2] == (-19.5, 90.5)
    assert golden.Golden.from_json(made.to_json()) == made
    assert made.request()["inputs"][0]["shape"] == [4, 2]


def test_a_model_with_other_inputs_is_refused_with_what_to_compare() -> None:
    """Three features in pipeline.yaml and two in the model: said before anything is built."""
    with pytest.raises(IntegrityError, match="does not answer 4 rows of 3 features"):
        golden.make(linear(1.0, 2.0), SHA, (*FEATURES, Feature(name="Va", low=0, high=1)), 4)


def test_a_model_that_answers_infinity_within_its_ranges_is_named() -> None:
    """JSON has no way to write it; whoever reads the error learns where to look."""
    with pytest.raises(IntegrityError, match=r"(?s)answers 2 of 3 rows.*NaN or infinity.*model\.features"):
        golden.make(linear(3e38, 0.0), SHA, (Feature(name="a", low=0.0, high=2.0), FEATURES[1]), 3)
