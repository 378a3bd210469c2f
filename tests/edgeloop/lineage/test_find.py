from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeloop.errors import ConfigurationError, NotFoundError
from edgeloop.lineage.find import Subject, find
from edgeloop.record_base import sha256_hex
from edgeloop.share.journal import Entry as Claim
from edgeloop.share.journal import Journal

if TYPE_CHECKING:
    from tests.edgeloop.lineage.conftest import World

SITES = ("R80711", "R80721")


def asked(world: World, text: str) -> Subject:
    """What a word means in this world."""
    return find(world.reader, text, pipeline="wind", sites=SITES)


@pytest.fixture
def registered(world: World) -> World:
    """The model has its number in the promotion ledger, and the newest batch of each month stands for it."""
    told = {"event": "registered", "model": world.model().id, "version": 1, "from": "", "by": "test", "why": "trained"}
    world.store.append("promotions", lambda _: {**told, "at": "2014-04-01", "evidence": "", "origin": "live"})
    claims = tuple((month, world.batch(month).id) for month in world.months)
    assert Journal(world.store).append(Claim(run="r", at="2014-04-01T00:00:00Z", batches=claims))
    return world


def test_everything_that_people_call_things(registered: World) -> None:
    """Devices, versions, groups, keys, references, tags, digests, and starts of ids lead to the same things."""
    world, image, model, batch = registered, registered.image(), registered.model(), registered.batch("2014-02")
    means = {
        "R80711": ("device", "R80711"),
        "v1": ("model", model.id),
        "2014-02": ("batch", batch.id),
        batch.key: ("batch", batch.id),
        batch.id: ("batch", batch.id),
        batch.id[:10]: ("batch", batch.id),
        model.key: ("model", model.id),
        model.sha256: ("model", model.id),
        f"sha256:{model.sha256[:12]}": ("model", model.id),
        image.reference: ("image", image.id),
        image.digest: ("image", image.id),
        image.digest[:23]: ("image", image.id),
        f"{image.key}@ring1": ("image", image.id),
        f"10.0.0.1:5000/wind/scorer:v1-{image.key}": ("image", image.id),
        world.dataset.id[:8]: ("dataset", world.dataset.id),
        world.training().id[:8]: ("training_run", world.training().id),
    }
    for text, (kind, record_id) in means.items():
        assert asked(world, text) == Subject(kind=kind, id=record_id), text


def test_what_may_be_several_things_is_told_with_all_of_them(world: World) -> None:
    """Two records whose ids start alike: the error names both, kind and id."""
    batch, start = world.batch("2014-01").id, world.batch("2014-01").id[:6]
    world.memory.objects[f"records/model/{start}{'0' * 58}.json"] = b"{}"
    with pytest.raises(ConfigurationError, match=rf"may be 2 things: model {start}0+; batch {batch[:32]}") as error:
        asked(world, start)
    assert "Give more of the id" in str(error.value)


@pytest.mark.parametrize(
    "text", ["R80712", "v9", "2031-01", "abc", "ffffffff", f"sha256:{sha256_hex(b'')}", "", "x" * 999]
)
def test_what_nobody_knows_is_told_with_what_could_be_meant(world: World, text: str) -> None:
    """A typing mistake, a version that was never made, a digest of somebody else's image."""
    with pytest.raises(NotFoundError, match=r"knows nothing called.*\n.*a version \(v3\).*R80711, R80721") as error:
        asked(world, text)
    assert len(str(error.value)) < 500
