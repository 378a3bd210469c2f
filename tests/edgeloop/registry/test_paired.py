from __future__ import annotations

from typing import Any

import pytest

from edgeloop.errors import TrainingFailedError
from edgeloop.registry.paired import read, sign_flip


def body(**changes: Any) -> dict[str, Any]:
    """A metrics.json of 100 rows in three blocks, in some way wrong."""
    paired = {
        "both": 60, "challenger": 20, "champion": 10, "neither": 10,
        "block_hours": 24, "blocks": [[10, 0], [5, 10], [5, 0]],
    }  # fmt: skip
    return {"accuracy": 0.8, "champion": {"accuracy": 0.7}, "paired": paired | changes}


@pytest.mark.parametrize(
    "differences",
    [
        [3, 0],
        [1, 1, 1, 1, 1],
        [5, -2, 3, 0, 7, -1, 2],
        [-4, -2, -9],
        [0, 0, 0],
        [12, 12, -12, 1, 30, 2, -8, 5, 5, 1, -3],
    ],
)
def test_the_p_value_is_that_of_scipys_exact_permutation_test(differences: list[int]) -> None:
    """Another implementation, which tries every one of the 2^n ways to set the signs, comes to the same."""
    import numpy as np
    from scipy import stats

    expected = stats.permutation_test(
        (np.array(differences, dtype=float), np.zeros(len(differences))),
        lambda ours, theirs, axis: np.sum(ours - theirs, axis=axis),
        permutation_type="samples", alternative="greater", vectorized=True, n_resamples=2**12,
    ).pvalue  # fmt: skip

    assert sign_flip(differences) == pytest.approx(expected, rel=1e-12)


def test_many_blocks_are_exact_and_quick() -> None:
    """A year of days, where 2^365 ways cannot be tried: all won is 2^-365, all even is certain."""
    assert sign_flip([50] * 365) == pytest.approx(0.5**365)
    assert sign_flip([0] * 365) == 1
    assert sign_flip([]) == 1


def test_rows_of_one_day_are_no_independent_witnesses() -> None:
    """Between equally good models whose days hang together, the test is wrong no more often than it may be."""
    import numpy as np

    draw = np.random.default_rng(7)
    days = draw.normal(0, 30, size=(400, 14)).round().astype(int)

    wrong = sum(sign_flip(one.tolist()) <= 0.05 for one in days) / len(days)

    assert wrong <= 0.05 + 3 * (0.05 * 0.95 / len(days)) ** 0.5
    assert wrong > 0.01


def test_the_counts_are_read_with_their_gain() -> None:
    """Rows, gain and p are those of the blocks: of eight ways to set their signs four come to as much."""
    found = read(body())

    assert (found.rows, found.gain, found.smallest_p) == (100, 0.1, 0.125)
    assert found.p_value == 3 / 8
    assert found.figures()["only_champion_right"] == 10


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"accuracy": 0.8, "champion": {"accuracy": 0.7}}, "it holds none"),
        (body() | {"paired": [1, 2]}, "it holds none"),
        (body(both=60.0), "whole numbers"),
        (body(both=-1), "whole numbers"),
        (body(both=True), "whole numbers"),
        (body(both=0, challenger=0, champion=0, neither=0), "not all of them 0"),
        (body(blocks=[[20, 10, 1]]), "blocks must be a list"),
        (body(blocks=[20, 10]), "blocks must be a list"),
        (body(blocks="20"), "blocks must be a list"),
        (body(blocks=[[20, -10]]), "blocks must be a list"),
        (body(blocks=[[19, 10]]), r"add up to \(19, 10\), the counts are \(20, 10\)"),
        (body(block_hours=0), "block_hours"),
        (body(block_hours=float("nan")), "block_hours"),
        (body(both=61, neither=9), "by the counts the challenger has accuracy 0.8100, by metrics.json 0.8"),
        (body() | {"champion": {"accuracy": 0.6}}, "by the counts the champion has accuracy 0.7000"),
        (body() | {"champion": None}, "by the counts the champion"),
    ],
)
def test_counts_that_are_wrong_are_told(metrics: dict[str, Any], words: str) -> None:
    """Each mistake of a train.py is named, and nothing is decided on numbers that contradict themselves."""
    with pytest.raises(TrainingFailedError, match=words):
        read(metrics)
