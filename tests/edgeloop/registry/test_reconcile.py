"""Differences between the store and its mirrors: each is named, with where it is and how it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeloop.records import ModelImage
from edgeloop.registry.backend import CHALLENGER, CHAMPION, QUARANTINED, Listed
from edgeloop.registry.reconcile import STORE, What, aliases_of, differences, image_differences

ONE = Listed(
    version=1,
    model="1" * 64,
    sha256="a" * 64,
    size=10,
    properties={"dataset": "d"},
    tags={"image": "sha256:1"},
    aliases=frozenset({CHAMPION}),
)
TWO = Listed(version=2, model="2" * 64, sha256="b" * 64, size=20, aliases=frozenset({QUARANTINED}))
BOTH = (ONE, TWO)
DIGEST = "sha256:" + "e" * 64


def test_nothing_differs_of_what_is_the_same() -> None:
    """Also where the mirror has tags of its own beside the store's."""
    assert differences(BOTH, BOTH, "azure_ml") == ()
    assert differences(BOTH, (replace(ONE, tags={**ONE.tags, "seen": "1"}), TWO), "azure_ml") == ()


@pytest.mark.parametrize(
    ("shown", "what", "says"),
    [
        ({"sha256": "", "size": 0}, What.BYTES, "the bytes are gone, or without a digest, not 10 of aaaaaaaaaaaaaaaa"),
        ({"sha256": "c" * 64}, What.BYTES, "the bytes are 10 bytes of sha256 cccccccccccccccc, not 10 of"),
        ({"size": 9}, What.BYTES, "9 bytes"),
        ({"properties": {"dataset": "x", "more": "1"}}, What.PROPERTIES, "properties differ: dataset, more"),
        ({"tags": {}}, What.TAGS, "tags differ: image"),
        ({"aliases": frozenset()}, What.ALIASES, "is shown as nothing and is champion"),
        ({"aliases": frozenset({CHAMPION, QUARANTINED})}, What.ALIASES, "champion and quarantined and is champion"),
        ({"model": "9" * 64}, What.OTHER_MODEL, "is model 9999999999999999, and the number is that of model 1111"),
        ({"model": ""}, What.OTHER_MODEL, "was registered by somebody else"),
    ],
)
def test_whatever_differs_is_named(shown: dict[str, object], what: What, says: str) -> None:
    """One difference, of one version, in one place."""
    (found,) = differences(BOTH, (replace(ONE, **shown), TWO), "azure_ml")  # type: ignore[arg-type]
    assert (found.version, found.what, found.where) == (1, what, "azure_ml")
    assert says in found.says
    assert found.mendable is (what is not What.OTHER_MODEL)


def test_everything_that_differs_is_named_at_once() -> None:
    """Versions in order, and several things of one."""
    shown = (replace(TWO, tags={}, aliases=frozenset(), sha256="c" * 64), replace(TWO, version=3, model=""))
    found = [(one.version, one.what, one.mendable) for one in differences(BOTH, shown, "azure_ml")]
    assert found == [
        (1, What.MISSING, True),
        (2, What.BYTES, True),
        (2, What.ALIASES, True),
        (3, What.UNKNOWN, False),
    ]


def test_a_version_the_store_does_not_know_is_told_and_left() -> None:
    """One that will be in the way of the store's next number says so."""
    (behind,) = differences((TWO,), (ONE, TWO), "azure_ml")
    (ahead,) = differences((ONE,), (ONE, TWO), "azure_ml")
    assert "in the way" not in str(behind)
    assert "will be in the way when the store gets to that number" in str(ahead)
    assert str(behind).startswith("version 1: model 1111111111111111 is there in azure_ml (unknown); the store")


def test_an_image_that_left_its_registry_is_told_with_the_key_to_push_it_again() -> None:
    """Asked for by repository and digest; what was never pushed is nobody's loss."""
    image = ModelImage(pipeline="p", model=ONE.model, base="b", reference=f"reg:5000/a/b@{DIGEST}", digest=DIGEST)
    built = ModelImage(pipeline="p", model=TWO.model, base="b")
    asked: list[tuple[str, str]] = []

    def holds(repository: str, digest: str) -> bool:
        asked.append((repository, digest))
        return False

    (found,) = image_differences([built, image], BOTH, holds, "edgeloop_registry")
    assert asked == [("a/b", DIGEST)]
    assert (found.version, found.what, found.mendable) == (1, What.IMAGE, False)
    assert f"key v1@{ONE.model[:16]}" in found.remedy
    assert image_differences([built, image], BOTH, lambda *_: True, "edgeloop_registry") == ()


def test_an_image_whose_digest_never_came_back_to_its_version_is_told() -> None:
    """The push task died between the record and the tag; clearing it writes the tag."""
    image = ModelImage(pipeline="p", model=TWO.model, base="b", reference=f"reg:5000/a/b@{DIGEST}", digest=DIGEST)
    (found,) = image_differences([image], BOTH, lambda *_: True, "edgeloop_registry")
    assert (found.version, found.what, found.where, found.mendable) == (2, What.UNTAGGED, STORE, False)
    assert "push task" in found.remedy


def test_a_tag_of_somebody_else_does_not_hide_it() -> None:
    """A version that has tags all the same, but none that names its image."""
    image = ModelImage(pipeline="p", model=TWO.model, base="b", reference=f"reg:5000/a/b@{DIGEST}", digest=DIGEST)
    tagged = replace(TWO, tags={"note": "seen"})
    (found,) = image_differences([image], (ONE, tagged), lambda *_: True, "edgeloop_registry")
    assert (found.version, found.what) == (2, What.UNTAGGED)


def test_aliases_are_told_with_all_their_versions() -> None:
    """As the mirror takes them: several may be quarantined, and an alias that nobody has is not there."""
    three = replace(TWO, version=3, aliases=frozenset({QUARANTINED, CHALLENGER}))
    assert aliases_of((*BOTH, three)) == {CHAMPION: (1,), CHALLENGER: (3,), QUARANTINED: (2, 3)}
