from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from edgeloop import registry
from edgeloop.errors import ConfigurationError, NotFoundError
from edgeloop.records import ModelVersion

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.store import Store

    Register = Callable[..., ModelVersion]


def test_tags_are_added_and_replaced_beside_a_record_that_stays(store: Store, registered: Register) -> None:
    """The newest value of each name stands, the older one stays in the ledger with who set it."""
    model = registered(1.0)
    assert registry.tags(store, model) == {}

    registry.tag(store, model.id, {"image": "sha256:1", "registry": "10.0.0.1:5000"}, by="push")
    registry.tag(store, model, {"image": "sha256:2"}, by="push again")

    assert registry.tags(store, model.id) == {"image": "sha256:2", "registry": "10.0.0.1:5000"}
    assert store.get(ModelVersion, model.id) == model
    first, second = (one.body for one in store.ledger(f"tags/{model.id}"))
    assert (first["tags"]["image"], first["by"]) == ("sha256:1", "push")
    assert (second["tags"], second["by"]) == ({"image": "sha256:2"}, "push again")


def test_tags_that_are_there_append_nothing(store: Store, registered: Register) -> None:
    """A retried push tags once, also when eight do it at once."""
    model = registered(1.0)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: registry.tag(store, model, {"image": "sha256:1"}, by="push"), range(8)))

    assert sum(one is not None for one in made) == 1
    assert registry.tag(store, model, {}, by="push") is None
    assert len(store.ledger(f"tags/{model.id}")) == 1


def test_what_is_not_registered_cannot_be_tagged(store: Store) -> None:
    """A wrong id is an error, not a ledger that nobody reads."""
    with pytest.raises(NotFoundError):
        registry.tag(store, "f" * 64, {"image": "sha256:1"}, by="push")
    assert registry.tags(store, "f" * 64) == {}


@pytest.mark.parametrize("wrong", [{"rows": 12}, {"": "x"}, {"image": None}])
def test_a_tag_is_text(store: Store, registered: Register, wrong: dict[str, str]) -> None:
    """What a registry elsewhere could not hold is refused here, with what was wrong."""
    model = registered(1.0)
    with pytest.raises(ConfigurationError, match="Tags are texts"):
        registry.tag(store, model, wrong, by="push")
    assert registry.tags(store, model) == {}
