"""What only blobs do: etags, kinds that grow in place, containers that nobody made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeloop.azure.blob import BlobItem
from edgeloop.errors import ConfigurationError
from edgeloop.share.blob_prefix import BlobPrefix, Sorting
from edgeloop.share.complete import Policy
from edgeloop.share.names import Matching
from edgeloop.share.settle import NS, Rule
from edgeloop.share.watch import Watch

if TYPE_CHECKING:
    from edgeloop.azure.blob import BlobAccount, BlobContainer

RULE = Rule(polls=3, poll_seconds=1.0, quiet_seconds=5.0)


def source_of(container: BlobContainer, **more: str) -> BlobPrefix:
    """All blobs of a container."""
    return BlobPrefix(connection="arrivals", container=container, **more)


def test_two_uploads_within_a_second_differ(container: BlobContainer) -> None:
    """Time and size are the same, the etag is not: what was seen first has no digest any more."""
    container.put("a.csv", b"one")
    source = source_of(container)
    (first,) = source.scan()
    container.put("a.csv", b"two")
    (second,) = source.scan()
    assert first.etag != second.etag
    assert source.digest(first._replace(mtime_ns=second.mtime_ns)) is None
    assert source.digest(second) is not None


def test_one_look_settles_a_blob_that_is_quiet(container: BlobContainer) -> None:
    """It appeared with its last byte; looking again would show the same. Quiet time still gathers a batch."""
    container.put("a.csv", b"one")
    source = source_of(container)
    (seen,) = source.scan()
    now = [seen.mtime_ns + 4 * NS]
    watch = Watch(source, Policy(rule=RULE), clock=lambda: now[0])
    assert watch.look().ready == ()
    assert watch.pause() == 1.0
    now[0] += NS
    assert watch.look().ready == (seen,)
    assert Watch(source, Policy(rule=RULE), clock=lambda: now[0]).look().ready == (seen,)


def test_blobs_that_grow_in_place_are_told(container: BlobContainer) -> None:
    """An append blob has no moment when it is complete."""
    container.put("a.csv", b"one")
    container._client.get_blob_client("log.csv").upload_blob(b"row", blob_type="AppendBlob")
    found = source_of(container, pattern="*.csv").listing()
    assert [one.path for one in found.files] == ["a.csv"]
    assert [(one.path, "AppendBlob" in one.reason) for one in found.broken] == [("log.csv", True)]


def test_names_that_are_no_paths_are_told(container: BlobContainer) -> None:
    """Any text is a blob's name; a batch needs one that stays below its folder."""
    container.put("in//a.csv", b"1")
    container.put("in/b.csv", b"1")
    found = source_of(container, prefix="in").listing()
    assert [one.path for one in found.files] == ["b.csv"]
    assert [one.path for one in found.broken] == ["/a.csv"]
    sorting = Sorting(Matching("*", (), ""))
    for name in ("a/../b.csv", "./c.csv", "tab\t.csv", "folder/", "d.csv"):
        sorting.add(name, BlobItem(name=name, size=1, etag="e"))
    assert [one.path for one in sorting.listing().files] == ["d.csv"]
    assert [one.path for one in sorting.listing().broken] == ["./c.csv", "a/../b.csv", "tab\\x09.csv"]


def test_a_container_that_nobody_made_is_told_and_not_made(blob_account: BlobAccount) -> None:
    """A typing error in pipeline.yaml would otherwise be an empty source for ever."""
    source = source_of(blob_account.container("no-such-arrivals"))
    for work in (source.scan, source.check):
        with pytest.raises(ConfigurationError, match=r"no container 'no-such-arrivals'.*'arrivals'") as caught:
            work()
        assert "source.folder" in str(caught.value)


@pytest.mark.fault
def test_a_listing_without_an_end_is_ended(container: BlobContainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Millions of blobs cost the whole time-out, and the error says what to do about them."""
    container.put("a.csv", b"1")
    monkeypatch.setattr("edgeloop.share.blob_prefix.WHOLE_SECONDS", 0.0)
    with pytest.raises(Exception, match=r"was not listed within 0 s\.") as caught:
        source_of(container).scan()
    assert "source.partitions" in str(caught.value)
