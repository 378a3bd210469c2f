from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from edgeloop import registry
from edgeloop.errors import ConfigurationError, ConflictError, IntegrityError, NotFoundError
from edgeloop.records import ModelVersion, sha256_hex
from edgeloop.registry.backend import CHALLENGER, CHAMPION, QUARANTINED, Listed, ModelRegistry
from edgeloop.registry.blob_backend import BlobRegistry

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.azure.blob import BlobContainer
    from edgeloop.store import Store

    Register = Callable[..., ModelVersion]

ONNX = b"the bytes of a model"


@pytest.fixture
def models(store: Store, container: BlobContainer) -> BlobRegistry:
    """The registry of the sample pipeline in this test's container."""
    found: ModelRegistry = BlobRegistry(store, container, "wind_power", by="oncall")
    assert isinstance(found, BlobRegistry)
    return found


def wanted(version: int = 1, content: bytes = ONNX, **more: Any) -> Listed:
    """A version as another registry shows it."""
    sha256 = sha256_hex(content)
    model = ModelVersion(
        pipeline="wind_power", sha256=sha256, size=0, blob="", version=0, training_run="", metrics=""
    ).id
    properties = {"dataset": "d" * 64, "accuracy": "0.93", "rows_train": "1200", "window_end": "2014-04-01T00:00:00Z"}
    values = {"properties": properties, "tags": {"image": "sha256:1"}, **more}
    return Listed(version=version, model=model, sha256=sha256, size=len(content), **values)


def test_what_was_registered_is_shown_with_its_figures_tags_and_aliases(
    store: Store, models: BlobRegistry, registered: Register
) -> None:
    """A view: the record's own values as properties, what was added since as tags, the ledger's word as aliases."""
    first, second, third = (registered(float(n)) for n in (1, 2, 3))
    registry.nominate(store, first, by="train", why="first")
    registry.promote(store, first.id, by="oncall", why="passed", evidence="", expected_champion="")
    registry.nominate(store, second, by="train", why="better")
    registry.quarantine(store, third.id, by="gate", why="wrong answers")
    registry.tag(store, second, {"image": "sha256:2"}, by="push")

    shown = models.versions()

    assert [one.version for one in shown] == [1, 2, 3]
    assert [one.aliases for one in shown] == [{CHAMPION}, {CHALLENGER}, {QUARANTINED}]
    assert [one.tags for one in shown] == [{}, {"image": "sha256:2"}, {}]
    assert models.find(2) == shown[1]
    assert (shown[1].model, shown[1].sha256, shown[1].size) == (second.id, second.sha256, second.size)
    proof = {name: value for name, value in shown[1].properties.items() if name.startswith("parity.")}
    assert (proof["parity.passed"], proof["parity.mismatched_rows"]) == ("true", "0")
    assert {name: value for name, value in shown[1].properties.items() if name not in proof} == {
        "accuracy": "0.9",
        "mae": "20.0",
        "rows_holdout": "2000",
        "training_run": second.training_run,
        "window_end": "2014-04-01T00:00:00Z",
    }
    assert models.find(4) is None


def test_a_backfilled_version_says_so(models: BlobRegistry, registered: Register) -> None:
    """Where a model comes from is among what never changes."""
    registered(1.0, origin="backfill")
    found = models.find(1)
    assert found is not None
    assert found.properties["origin"] == "backfill"


def test_what_is_published_is_what_is_shown(store: Store, container: BlobContainer, models: BlobRegistry) -> None:
    """Number, bytes, properties and tags as they were given; figures are figures again in the record."""
    assert models.publish(wanted(7), ONNX) == wanted(7) == models.find(7)
    assert models.versions() == (wanted(7),)
    record = store.get(ModelVersion, wanted().model)
    assert (record.metrics, record.tags) == ('{"accuracy":0.93,"rows_train":1200}', (f"dataset={'d' * 64}",))
    assert container.get(record.blob) == ONNX
    assert models.publish(wanted(7), ONNX) == wanted(7)
    assert len(store.ledger("promotions")) == 1


def test_a_number_is_never_given_to_other_bytes(container: BlobContainer, models: BlobRegistry) -> None:
    """Nor the same bytes a second number; nothing is written of either."""
    models.publish(wanted(), ONNX)
    with pytest.raises(ConflictError, match=r"Version 1 is model .* never changed in place"):
        models.publish(wanted(1, b"other"), b"other")
    with pytest.raises(ConflictError, match=r"is version 1 already"):
        models.publish(wanted(2), ONNX)
    assert not container.exists(f"models/{sha256_hex(b'other')}.onnx")
    assert models.versions() == (wanted(),)


def test_other_bytes_than_named_and_other_pipelines_are_refused(models: BlobRegistry) -> None:
    """What is published is what it says."""
    with pytest.raises(IntegrityError, match="have sha256"):
        models.publish(wanted(), b"other")
    with pytest.raises(IntegrityError, match="of pipeline wind_power, not"):
        models.publish(replace(wanted(), model="f" * 64), ONNX)
    assert models.versions() == ()


@pytest.mark.fault
@pytest.mark.parametrize("dies_at", range(1, 8), ids=["bytes", "entry", "head", "record", "tags", "alias", "its head"])
def test_a_publication_that_died_is_finished_by_the_next(
    container: BlobContainer, models: BlobRegistry, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    """Whatever write it died at, the next try leaves the version as a whole."""

    class Killed(BaseException):
        """As SIGKILL would: nothing catches it."""

    writes, put_new = 0, type(container).put_new

    def dying(self: BlobContainer, *args: Any, **kwargs: Any) -> None:
        nonlocal writes
        writes += 1
        if writes == dies_at:
            raise Killed
        put_new(self, *args, **kwargs)

    asked = wanted(1, aliases=frozenset({CHALLENGER}))
    with monkeypatch.context() as patch:
        patch.setattr(type(container), "put_new", dying)
        with pytest.raises(Killed):
            models.publish(asked, ONNX)
    assert models.publish(asked, ONNX) == asked == models.find(1)


@pytest.mark.fault
def test_eight_publications_at_once_are_one_version(models: BlobRegistry, store: Store) -> None:
    """All are told the same, and the ledger has one entry."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: models.publish(wanted(), ONNX), range(8)))
    assert found == [wanted()] * 8
    assert len(store.ledger("promotions")) == 1


def test_tags_are_added_to_a_version(models: BlobRegistry) -> None:
    """Beside those that it has; one that was never published is told."""
    models.publish(wanted(), ONNX)
    shown = models.tag(1, {"registry": "10.0.0.1:5000", "image": "sha256:2"})
    assert shown.tags == {"image": "sha256:2", "registry": "10.0.0.1:5000"}
    with pytest.raises(NotFoundError, match="no version 2"):
        models.tag(2, {"image": "x"})


def test_exactly_the_named_aliases_are_shown(models: BlobRegistry, store: Store) -> None:
    """They move, and those that are not named are taken off; each change is one entry of the promotion ledger."""
    for number in (1, 2, 3):
        models.publish(wanted(number, bytes([number])), bytes([number]))

    def shown() -> list[set[str]]:
        return [set(one.aliases) for one in models.versions()]

    models.alias({CHAMPION: 1, CHALLENGER: 2})
    models.alias({CHAMPION: 1, CHALLENGER: 2})
    assert shown() == [{CHAMPION}, {CHALLENGER}, set()]
    champion = registry.champion(store)
    assert champion is not None
    assert champion.version == 1
    models.alias({CHAMPION: 2, QUARANTINED: (1, 3)})
    assert shown() == [{QUARANTINED}, {CHAMPION}, {QUARANTINED}]
    models.alias({})
    assert shown() == [set(), set(), set()]
    told = [one.body for one in store.ledger("promotions")]
    assert [one["event"] for one in told] == ["registered"] * 3 + ["aliased"] * 3
    assert {one["by"] for one in told} == {"oncall"}


def test_an_alias_lifts_no_quarantine(models: BlobRegistry, store: Store, registered: Register) -> None:
    """What a gate found bad stays so until somebody nominates it again with a reason."""
    bad, good = registered(1.0), registered(2.0)
    registry.quarantine(store, bad.id, by="gate", why="wrong answers")
    models.alias({CHAMPION: 2, QUARANTINED: 1})
    models.alias({CHALLENGER: 2})
    models.alias({CHAMPION: 2})
    assert registry.is_quarantined(store, bad.id), "who named it so too did not make it theirs to lift"
    with pytest.raises(ConflictError, match="Version 1 is quarantined"):
        models.alias({CHAMPION: 1})
    champion = registry.champion(store)
    assert champion == good


@pytest.mark.parametrize(
    ("aliases", "kind", "words"),
    [
        ({"best": 1}, ConfigurationError, "best is no alias"),
        ({CHAMPION: (1, 2)}, ConfigurationError, "one champion"),
        ({CHAMPION: 9}, NotFoundError, "no version 9"),
    ],
)
def test_an_alias_that_cannot_be_is_refused(
    models: BlobRegistry, registered: Register, aliases: dict[str, Any], kind: type[Exception], words: str
) -> None:
    """A name that is none, two champions, a version that is not there."""
    registered(1.0), registered(2.0)
    with pytest.raises(kind, match=words):
        models.alias(aliases)
    assert all(not one.aliases for one in models.versions())
