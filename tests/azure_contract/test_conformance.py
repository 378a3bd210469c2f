"""One registry of models, two backends, the same cases: ``blob`` on Azurite, ``azure_ml`` on the contract server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop.azure_ml.models import opened
from edgeloop.errors import ConflictError, IntegrityError, NotFoundError
from edgeloop.records import ModelVersion, sha256_hex
from edgeloop.registry.backend import CHALLENGER, CHAMPION, QUARANTINED, Listed, ModelRegistry
from edgeloop.registry.blob_backend import BlobRegistry
from edgeloop.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIPELINE = "tiny_power"


@pytest.fixture(params=["blob", "azure_ml"])
def another(request: pytest.FixtureRequest) -> Iterator[Callable[[], ModelRegistry]]:
    """Gives one more client of the same empty registry, for whoever works on it at the same time."""
    if request.param == "blob":
        container = request.getfixturevalue("container")
        yield lambda: BlobRegistry(Store(container), container, PIPELINE)
        return
    workspace = request.getfixturevalue("workspace")
    with ExitStack() as stack:
        yield lambda: stack.enter_context(opened(workspace, PIPELINE))


@pytest.fixture
def models(another: Callable[[], ModelRegistry]) -> ModelRegistry:
    """An empty registry of one pipeline."""
    return another()


def wanted(version: int, content: bytes, **more: Any) -> Listed:
    """A version of these bytes."""
    sha256 = sha256_hex(content)
    model = ModelVersion(pipeline=PIPELINE, sha256=sha256, size=0, blob="", version=0, training_run="", metrics="").id
    properties = {"accuracy": "0.93", "dataset": "d" * 64, "rows_train": "1200", "training_run": "f" * 64}
    return Listed(version=version, model=model, sha256=sha256, size=len(content), **{"properties": properties, **more})


ONE, TWO, THREE = (wanted(number, b"model %d" % number) for number in (1, 2, 3))


def publish(models: ModelRegistry, *versions: Listed) -> None:
    """With the bytes that belong to them."""
    for one in versions:
        models.publish(one, b"model %d" % one.version)


def test_an_empty_registry_has_no_versions(models: ModelRegistry) -> None:
    """And says so without an error."""
    assert (models.versions(), models.find(1)) == ((), None)


def test_what_is_published_is_shown_everywhere_as_it_was_given(models: ModelRegistry) -> None:
    """By publish itself, by find and in the list, which is in order of numbers and not of time or text."""
    ten = wanted(10, b"model 10", tags={"image": "sha256:1"}, aliases=frozenset({CHALLENGER}))
    assert models.publish(ten, b"model 10") == ten
    publish(models, TWO)
    assert (models.find(10), models.find(2)) == (ten, TWO)
    assert models.versions() == (TWO, ten)


def test_the_same_bytes_again_are_the_same_version(models: ModelRegistry) -> None:
    """However often; what was added meanwhile stays."""
    publish(models, ONE)
    models.tag(1, {"image": "sha256:1"})
    models.alias({CHAMPION: 1})
    publish(models, ONE)
    (shown,) = models.versions()
    assert (shown.tags, shown.aliases) == ({"image": "sha256:1"}, {CHAMPION})


def test_a_number_never_becomes_other_bytes(models: ModelRegistry) -> None:
    """A version is never changed in place, not even by somebody who insists."""
    publish(models, ONE)
    for _ in range(2):
        with pytest.raises(ConflictError, match="never changed in place"):
            models.publish(wanted(1, b"other"), b"other")
    assert models.versions() == (ONE,)


def test_bytes_that_are_not_the_versions_are_refused(models: ModelRegistry) -> None:
    """Nothing is registered under a digest that it does not have."""
    with pytest.raises(IntegrityError):
        models.publish(ONE, b"damaged")
    assert models.versions() == ()


def test_a_publication_that_had_not_come_to_tags_and_aliases_is_finished(models: ModelRegistry) -> None:
    """The next try adds what is missing, and takes the champion's place from the one before."""
    publish(models, wanted(1, b"model 1", aliases=frozenset({CHAMPION})), TWO)
    whole = wanted(2, b"model 2", tags={"image": "sha256:2"}, aliases=frozenset({CHAMPION}))
    assert models.publish(whole, b"model 2") == whole
    assert [one.aliases for one in models.versions()] == [frozenset(), {CHAMPION}]


def test_tags_are_added_and_replaced_and_properties_stay(models: ModelRegistry) -> None:
    """What is learnt of a version later does not change what it is."""
    publish(models, wanted(1, b"model 1", tags={"image": "sha256:1", "registry": "r"}))
    shown = models.tag(1, {"image": "sha256:2", "reference": "r/a@sha256:2"})
    assert shown.tags == {"image": "sha256:2", "registry": "r", "reference": "r/a@sha256:2"}
    assert shown.properties == ONE.properties
    assert models.find(1) == shown


def test_a_version_that_was_never_published_has_no_tags_and_no_alias(models: ModelRegistry) -> None:
    """Both raise, and nothing is there afterwards."""
    with pytest.raises(NotFoundError, match="no version 1"):
        models.tag(1, {"image": "sha256:1"})
    with pytest.raises(NotFoundError, match="no version 1"):
        models.alias({CHAMPION: 1})
    assert models.versions() == ()


def test_aliases_are_exactly_those_that_were_set(models: ModelRegistry) -> None:
    """They move, are taken off, and several versions may be quarantined; setting them again changes nothing."""
    publish(models, ONE, TWO, THREE)
    for aliases, shown in (
        ({CHAMPION: 1, CHALLENGER: 2}, [{CHAMPION}, {CHALLENGER}, frozenset()]),
        ({CHAMPION: 2, QUARANTINED: [1, 3]}, [{QUARANTINED}, {CHAMPION}, {QUARANTINED}]),
        ({CHAMPION: 2, QUARANTINED: 1}, [{QUARANTINED}, {CHAMPION}, frozenset()]),
        ({}, [frozenset()] * 3),
    ):
        for _ in range(2):
            models.alias(aliases)
            assert [one.aliases for one in models.versions()] == shown


def test_the_same_version_published_at_once_is_there_once(another: Callable[[], ModelRegistry]) -> None:
    """Four workers with one registration."""
    clients = [another() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda one: one.publish(ONE, b"model 1"), clients)) == [ONE] * 4
    assert clients[0].versions() == (ONE,)


def test_of_different_models_at_once_under_one_number_one_wins(another: Callable[[], ModelRegistry]) -> None:
    """The others are told, and the winner is whole."""
    clients, contents = [another() for _ in range(3)], [b"a", b"b", b"c"]

    def attempt(at: int) -> bool:
        try:
            clients[at].publish(wanted(1, contents[at]), contents[at])
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(3) as pool:
        won = [content for content, good in zip(contents, pool.map(attempt, range(3)), strict=True) if good]
    assert len(won) == 1
    assert clients[0].versions() == (wanted(1, won[0]),)
