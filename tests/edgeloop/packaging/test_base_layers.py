"""The base's layers on a worker: packed alike, named by content, never believed without a look."""

from __future__ import annotations

import gzip
import hashlib
import os
import time
from typing import TYPE_CHECKING

import pytest

from edgeloop.containers.content import Descriptor
from edgeloop.errors import IntegrityError
from edgeloop.packaging.base_layers import KEPT_SECONDS, Late, Layers, folder
from edgeloop.packaging.inventory import Package
from edgeloop.packaging.layer import pack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONE = pack(
    {"etc/os-release": b'ID=debian\nVERSION_ID="12"\n', "opt/site/a-1.dist-info/METADATA": b"Name: a\nVersion: 1\n"}
)
TWO = pack({"opt/server/x.py": bytes(range(256)) * 9000})


def diff(layer: bytes) -> str:
    """A layer's own digest."""
    return "sha256:" + hashlib.sha256(layer).hexdigest()


def archive(*layers: bytes, names: str = "{}/layer.tar", step: int = 7001) -> Iterator[bytes]:
    """What an engine sends, in pieces that end anywhere."""
    files = {names.format(hashlib.sha256(one).hexdigest()): one for one in layers}
    raw = pack({"manifest.json": b"[]", **files})
    for start in range(0, len(raw), step):
        yield raw[start : start + step]


def test_the_same_layer_is_packed_alike_in_any_folder_on_any_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No name, no time and no order is in the packed bytes, so every device has the layer already."""
    first, second = Layers(tmp_path / "a"), Layers(tmp_path / "deep" / "b")
    first.take(archive(ONE, TWO), [diff(ONE), diff(TWO)])
    later = time.time() + 40 * 24 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    second.take(archive(TWO, ONE, step=512), [diff(TWO), diff(ONE)])
    for layer in (ONE, TWO):
        found = first.find(diff(layer))
        assert found is not None
        assert found == second.find(diff(layer))
        path = first.file(diff(layer), found[0])
        assert path is not None
        assert gzip.decompress(path.read_bytes()) == layer
        assert found[0].size == path.stat().st_size


def test_what_is_inside_is_read_while_it_is_packed(tmp_path: Path) -> None:
    """One pass over the base; a layer that is no tar at all has no packages."""
    cache, noise = Layers(tmp_path), os.urandom(70_000)
    cache.take(archive(ONE, noise), [diff(ONE), diff(noise)])
    one, other = cache.find(diff(ONE)), cache.find(diff(noise))
    assert one is not None
    assert one[1].packages == (Package(kind="pypi", name="a", version="1", where="opt/site/"),)
    assert one[1].release == "debian-12"
    assert other is not None
    assert other[1].packages == ()


def test_an_archive_of_containerds_store_is_understood(tmp_path: Path) -> None:
    """There layers lie below blobs/sha256, packed as they were pulled; what counts is their unpacked digest."""
    cache = Layers(tmp_path)
    cache.take(archive(gzip.compress(ONE, 1), TWO, names="blobs/sha256/{}"), [diff(ONE), diff(TWO)])
    assert cache.find(diff(ONE)) is not None
    assert cache.find(diff(TWO)) is not None


def test_only_what_is_wanted_is_kept(tmp_path: Path) -> None:
    """A base shares layers with others; those that are here are not packed into the folder again."""
    cache = Layers(tmp_path)
    cache.take(archive(ONE, TWO), [diff(TWO)])
    assert cache.find(diff(ONE)) is None
    assert sorted(one.name for one in tmp_path.iterdir()) == [diff(TWO).removeprefix("sha256:")]


def test_a_layer_that_the_engine_does_not_give_is_named(tmp_path: Path) -> None:
    """Nothing is made of half a base."""
    with pytest.raises(IntegrityError, match=diff(TWO)):
        Layers(tmp_path).take(archive(ONE), [diff(ONE), diff(TWO)])


@pytest.mark.parametrize("change", ["one byte", "another layer", "cut off", "gone"])
def test_a_packed_file_that_was_changed_is_not_believed(tmp_path: Path, change: str) -> None:
    """It is thrown away, by its packed bytes where those are known and by its unpacked ones where they are not."""
    for look in ("file", "holds"):
        cache = Layers(tmp_path / look)
        cache.take(archive(ONE), [diff(ONE)])
        found = cache.find(diff(ONE))
        assert found is not None
        path = cache.file(diff(ONE), found[0])
        assert path is not None
        assert cache.holds(diff(ONE), found[0])
        raw = bytearray(path.read_bytes())
        raw[-9] ^= 1
        if change == "gone":
            path.unlink()
        else:
            path.write_bytes({"one byte": raw, "another layer": gzip.compress(TWO), "cut off": raw[:99]}[change])
        assert not getattr(cache, look)(diff(ONE), found[0])
        assert cache.find(diff(ONE)) is None


def test_a_late_blob_is_not_looked_for_until_it_is_read(tmp_path: Path) -> None:
    """A registry that has it never asks."""
    asked: list[int] = []

    def make() -> Path:
        asked.append(1)
        path = tmp_path / "x"
        path.write_bytes(b"abc")
        return path

    late = Late(descriptor=Descriptor(media_type="t", digest="sha256:x", size=3), make=make)
    assert asked == []
    with late.open() as stream:
        assert stream.read() == b"abc"
    assert asked == [1]


def test_layers_of_bases_that_are_gone_go(tmp_path: Path) -> None:
    """A worker's disk does not fill up; what was used since stays, and so does what another packs now."""
    cache = Layers(tmp_path)
    cache.take(archive(ONE, TWO), [diff(ONE), diff(TWO)])
    (tmp_path / ".part-now").mkdir()
    (tmp_path / ".part-old").mkdir()
    old = time.time() - KEPT_SECONDS - 60
    for one in (diff(ONE).removeprefix("sha256:"), diff(TWO).removeprefix("sha256:"), ".part-old"):
        os.utime(tmp_path / one, (old, old))
    assert cache.find(diff(TWO)) is not None
    cache.take(archive(TWO), [])
    assert cache.find(diff(ONE)) is None
    assert cache.find(diff(TWO)) is not None
    assert sorted(one.name for one in tmp_path.iterdir() if one.name.startswith(".part")) == [".part-now"]


def test_a_broken_archive_leaves_nothing_half(tmp_path: Path) -> None:
    """An engine that dies while it sends: the next try packs from the beginning."""
    cache = Layers(tmp_path)
    pieces = list(archive(TWO))
    with pytest.raises(IntegrityError):
        cache.take(iter(pieces[: len(pieces) // 2]), [diff(TWO)])
    assert list(tmp_path.iterdir()) == []
    cache.take(iter(pieces), [diff(TWO)])
    assert cache.find(diff(TWO)) is not None


def test_the_folder_is_the_workers_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """EDGELOOP_CACHE, or the user's cache."""
    monkeypatch.setenv("EDGELOOP_CACHE", str(tmp_path))
    assert folder() == tmp_path / "layers"
    monkeypatch.delenv("EDGELOOP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert folder() == tmp_path / "c" / "edgeloop" / "layers"
