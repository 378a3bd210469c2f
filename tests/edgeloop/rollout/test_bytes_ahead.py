from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from edgeloop.containers.registry import Blob, Manifest
from edgeloop.errors import IntegrityError
from edgeloop.rollout.bytes_ahead import (
    Contents,
    Delivery,
    Fetched,
    Held,
    Layer,
    missing,
    predicted,
    pulled,
    read_held,
    read_pull,
)
from edgeloop.rollout.bytes_source import Source

HOST = "10.0.0.1:5000"
DIGEST = "sha256:" + "f" * 64


def digest(letter: str) -> str:
    """Of a packed layer."""
    return f"sha256:{letter * 64}"


def image(letters: str, sizes: tuple[int, ...] = (100, 10, 1)) -> Contents:
    """An image of those layers; each unpacks to the layer of its capital letter."""
    layers = tuple(
        Layer(digest=digest(letter), size=size, diff_id=letter.upper())
        for letter, size in zip(letters, sizes, strict=False)
    )
    return Contents(digest=DIGEST, layers=layers, overhead=5)


def held(letters: str, *pulled_as: str) -> Held:
    """An image on the device, from the base up."""
    return Held(layers=tuple(letters), pulled_as=pulled_as)


@pytest.mark.parametrize(
    ("on_device", "known", "size"),
    [
        ([], "", 116),
        ([held("AB")], "ab", 6),
        ([held("ABX"), held("A")], "ab", 6),
        ([held("A")], "ab", 16),
        ([held("AB")], "b", 116),
        ([held("AB")], "", 116),
        ([held("XB")], "ab", 116),
        ([held("XAB")], "ab", 116),
        ([held("ABC")], "abc", 5),
        ([held("ABC", f"{HOST}/s@{DIGEST}")], "", 0),
        ([held("", f"elsewhere/s@{DIGEST}")], "", 0),
    ],
    ids=[
        "an empty device", "the base is there", "two images share it", "half the base", "the base is not known",
        "it was loaded", "other layers", "other layers below", "all layers of another image", "this very image",
        "this very image from elsewhere",
    ],
)  # fmt: skip
def test_a_layer_is_there_if_the_engine_knows_it_in_its_place(on_device: list[Held], known: str, size: int) -> None:
    """From the base up, until the first that is unknown or lies elsewhere; then everything is pulled."""
    assert predicted(image("abc"), on_device, map(digest, known)) == size


def test_a_layer_that_comes_twice_travels_once() -> None:
    """Empty layers are often the same one."""
    one = image("aba", (7, 3, 7))
    assert (one.size, predicted(one, [], ())) == (15, 15)
    assert [layer.size for layer in missing(one, [], ())] == [7, 3, 7]


SAID = f"""{HOST}/s@{DIGEST}: Pulling from s
aaaaaaaaaaaa: Already exists
bbbbbbbbbbbb: Pulling fs layer
bbbbbbbbbbbb: Verifying Checksum
bbbbbbbbbbbb: Download complete
bbbbbbbbbbbb: Pull complete
cccccccccccc: Download complete
Digest: {DIGEST}
Status: Downloaded newer image for {HOST}/s@{DIGEST}
{HOST}/s@{DIGEST}
"""


def test_what_an_engine_says_of_a_pull_is_counted_in_the_manifests_bytes() -> None:
    """Layers that came are counted, those that were there are not; found costs nothing; silence is no number."""
    said = read_pull(SAID)
    assert said == Fetched(layers=frozenset({"b" * 12, "c" * 12}))
    assert pulled(image("abc"), said) == 5 + 10 + 1
    assert pulled(image("abc"), read_pull(SAID.replace("Pulling fs layer", "Already exists"))) == 16
    assert pulled(image("abc"), Fetched(found=True)) == 0
    assert pulled(image("abc"), read_pull(f"{HOST}/s@{DIGEST}\n")) is None


def test_a_delivery_reads_as_a_sentence() -> None:
    """In numbers where there are some."""
    told = {
        Delivery(site="R1", found=False, predicted=20, pulled=21): "R1: 20 bytes predicted, 21 pulled",
        Delivery(site="R1", found=True, predicted=0, pulled=0): "R1: there already",
        Delivery(
            site="R1", found=False, predicted=20, pulled=None
        ): "R1: 20 bytes predicted, the engine does not tell how many came",
    }
    assert {one: str(one) for one in told} == told


def test_images_of_a_device_are_read_line_by_line() -> None:
    """One that was loaded has no digests, one that is empty no layers."""
    lines = ("h/s@sha256:1", ["A", "B"]), (None, ["A"]), (None, None)
    bodies = [{"digests": digests and [digests], "layers": layers} for digests, layers in lines]
    text = "\n\n".join(map(json.dumps, bodies))
    assert read_held(text) == (held("AB", "h/s@sha256:1"), held("A"), held(""))


@dataclass
class Shelf:
    """A registry's answers, counted."""

    images: dict[str, str]
    endpoint: Any = field(default_factory=lambda: SimpleNamespace(host=HOST))
    asked: list[str] = field(default_factory=list)
    diff_ids: list[str] | None = None

    def find(self, repository: str, reference: str) -> Manifest | None:
        """The manifest of a digest."""
        self.asked.append(f"{repository}@{reference}")
        letters = self.images.get(reference)
        if letters is None:
            return None
        layers = tuple(Blob(digest=digest(one), size=10) for one in letters)
        return Manifest(digest=reference, config=Blob(digest="c", size=3), layers=layers, size=2)

    get = find

    def config(self, repository: str, manifest: Manifest) -> dict[str, Any]:
        """Its configuration."""
        letters = self.images[manifest.digest].upper()
        return {"rootfs": {"diff_ids": self.diff_ids or list(letters)}}


def test_only_images_that_share_a_base_are_asked_for_and_each_once() -> None:
    """Others' registries are not asked, nor is an image twice; one that is gone from the registry proves nothing."""
    shelf = Shelf({DIGEST: "abc", "sha256:1": "abx"})
    source = Source(shelf)  # type: ignore[arg-type]
    wanted = source.contents(f"{HOST}/wind/scorer@{DIGEST}")
    assert (wanted.size, wanted.overhead, [one.diff_id for one in wanted.layers]) == (35, 5, ["A", "B", "C"])
    shelf.asked.clear()
    on_device = (
        held("ABX", f"{HOST}/wind/scorer@sha256:1"),
        held("A", "other.example/x@sha256:1"),
        held("A", f"{HOST}/wind/scorer@sha256:gone"),
        held("X", f"{HOST}/wind/scorer@sha256:other"),
    )
    for _ in range(2):
        assert source.known(wanted, on_device) == {digest("a"), digest("b")}
    assert shelf.asked == ["wind/scorer@sha256:1", "wind/scorer@sha256:gone"]


def test_a_manifest_that_does_not_fit_its_configuration_is_refused() -> None:
    """Nothing could be predicted of it, and no engine would run it."""
    shelf = Shelf({DIGEST: "abc"}, diff_ids=["A"])
    with pytest.raises(IntegrityError, match="3 layers in its manifest, 1 in its configuration"):
        Source(shelf).contents(f"{HOST}/wind/scorer@{DIGEST}")  # type: ignore[arg-type]
