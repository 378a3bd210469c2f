"""Rings and the keys that stand for them."""

from __future__ import annotations

import pytest

from edgeloop import catalog
from edgeloop.errors import ConfigurationError
from edgeloop.rollout.plan import Step, following, ring_of

IMAGE = "0123456789abcdef"


@pytest.fixture(scope="module")
def spec() -> catalog.Pipeline:
    """The sample pipeline: a canary and a rest."""
    return catalog.load().find("wind_power").spec


def test_a_key_is_read_back_from_what_was_written() -> None:
    """Image and ring survive the partition key."""
    step = Step(image=IMAGE, ring=12)
    assert step.key == f"{IMAGE}@ring12"
    assert Step.parse(step.key) == step


@pytest.mark.parametrize("key", [None, "", IMAGE, f"{IMAGE}@ring", f"{IMAGE}@ring-1", "v1@abc", f"{IMAGE}@ring1 x"])
def test_another_key_is_refused(key: str | None) -> None:
    """A run that was triggered with no ring's key changes nothing and says what a key looks like."""
    with pytest.raises(ConfigurationError, match="<image key>@ring<number>"):
        Step.parse(key)


def test_rings_follow_each_other_and_end(spec: catalog.Pipeline) -> None:
    """Ring 0 is the canary, ring 1 the rest, and after it there is none."""
    first = Step(image=IMAGE, ring=0)
    second = following(spec, first)
    assert second == Step(image=IMAGE, ring=1)
    assert following(spec, second) is None
    assert [ring_of(spec, one).name for one in (first, second)] == ["canary", "rest"]


def test_a_ring_that_is_not_there_is_refused(spec: catalog.Pipeline) -> None:
    """Rings were taken out of pipeline.yaml: the error names those that are there."""
    with pytest.raises(ConfigurationError, match="has 2 rings, so there is no ring 2"):
        ring_of(spec, Step(image=IMAGE, ring=2))
