"""What somebody means by a word at a terminal: a device, a version, a digest, a key, the start of an id."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop import registry
from edgeloop.errors import ConfigurationError, NotFoundError
from edgeloop.lineage.walk import UPWARD, find_image
from edgeloop.records import KINDS, ModelImage, ModelVersion
from edgeloop.share.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edgeloop.lineage.reader import Reader

DEVICE = "device"
VERSION = re.compile(r"^v(\d+)$")
ID = re.compile(r"^[0-9a-f]{4,64}$")
KEYED = re.compile(r"^(?P<name>.+)@(?P<id>[0-9a-f]{8,64})$")
RING = re.compile(r"^(?P<id>[0-9a-f]{8,64})@ring\d+$")
TAGGED = re.compile(r"^.+:v\d+-(?P<id>[0-9a-f]{8,64})$")
DIGEST = re.compile(r"^(?:.+@)?(?P<sure>sha256:)?(?P<digest>[0-9a-f]{8,64})$")
WHOLE = 64
NAMES = (
    "a device's name, a version (v3), a batch's group (2014-01) or key, an image's reference or digest (sha256:...), "
    "or at least 4 digits of a record's id"
)
LISTED = 12
LONGEST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is asked about: ``kind`` of record and its ``id``, or a ``device`` by its site's name."""

    kind: str
    id: str


def find(reader: Reader, text: str, *, pipeline: str, sites: Sequence[str]) -> Subject:
    """What ``text`` means.

    Raises:
        NotFoundError: Nothing is called so.
        ConfigurationError: Several things are; the error lists them.
    """
    if text in sites:
        return Subject(kind=DEVICE, id=text)
    ways: tuple[Callable[[Reader, str, str], Iterator[Subject]], ...] = (_versions, _groups, _keys, _starts, _digests)
    for way in ways:
        found = tuple(dict.fromkeys(way(reader, text, pipeline)))
        if len(found) == 1:
            return found[0]
        if found:
            raise _several(text, found)
    raise _none(text, pipeline, sites)


def _versions(reader: Reader, text: str, _: str) -> Iterator[Subject]:
    if (match := VERSION.match(text)) is None:
        return
    for model, version in registry.current(reader.store).versions.items():
        if version == int(match[1]):
            yield Subject(kind=ModelVersion.kind, id=model)


def _digests(reader: Reader, text: str, pipeline: str) -> Iterator[Subject]:
    """A model by its bytes, an image by its manifest, by whole digest or the start of one."""
    match = DIGEST.match(text)
    if match is None or not (match["sure"] or len(match["digest"]) == WHOLE):
        return
    digest = match["digest"]
    for blob in reader.store.objects.list(f"models/{digest}"):
        sha256 = blob.name.removeprefix("models/").removesuffix(".onnx")
        yield Subject(kind=ModelVersion.kind, id=_model_of(pipeline, sha256).id)
    if len(digest) == WHOLE:
        if image := find_image(reader, f"sha256:{digest}"):
            yield Subject(kind=ModelImage.kind, id=image)
        return
    for one in reader.records(ModelImage, reader.store.named(digest, ModelImage)):
        if isinstance(one.record, ModelImage) and one.record.digest.startswith(f"sha256:{digest}"):
            yield Subject(kind=ModelImage.kind, id=one.id)


def _model_of(pipeline: str, sha256: str) -> ModelVersion:
    """The model of some bytes, as far as its identity goes."""
    return ModelVersion(pipeline=pipeline, sha256=sha256, size=0, blob="", version=0, training_run="", metrics="")


def _keys(reader: Reader, text: str, _: str) -> Iterator[Subject]:
    """Partition keys and image tags, which carry the start of an id."""
    if match := RING.match(text) or TAGGED.match(text):
        yield from _of_kind(reader, ModelImage.kind, match["id"])
    elif match := KEYED.match(text):
        yield from _of_kind(reader, "model" if VERSION.match(match["name"]) else "batch", match["id"])


def _groups(reader: Reader, text: str, _: str) -> Iterator[Subject]:
    """The batch that stands for a group."""
    if standing := Journal(reader.store).read().standing.get(text):
        yield Subject(kind="batch", id=standing)


def _starts(reader: Reader, text: str, _: str) -> Iterator[Subject]:
    if ID.match(text):
        for kind in UPWARD:
            yield from _of_kind(reader, kind, text)


def _of_kind(reader: Reader, kind: str, start: str) -> Iterator[Subject]:
    for one in reader.store.ids(KINDS[kind], start):
        yield Subject(kind=kind, id=one)


def _several(text: str, found: Sequence[Subject]) -> ConfigurationError:
    listed = "; ".join(f"{one.kind} {one.id[:32]}" for one in found[:LISTED])
    more = f"; and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return ConfigurationError(
        f"{text!r} may be {len(found)} things: {listed}{more}.", next="Give more of the id, as listed here."
    )


def _none(text: str, pipeline: str, sites: Sequence[str]) -> NotFoundError:
    return NotFoundError(
        f"Pipeline {pipeline} knows nothing called {text[:LONGEST]!r}.",
        next=f"Give {NAMES}. Its devices: {', '.join(sites)}.",
    )
