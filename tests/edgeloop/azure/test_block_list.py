from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING

import pytest

from edgeloop.azure import block_list
from edgeloop.azure.block_list import COMMITTED, UNCOMMITTED
from edgeloop.errors import ConfigurationError, ConflictError, NotFoundError

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient

    from edgeloop.azure.blob import BlobAccount, BlobContainer

ANSWER = (
    b'<?xml version="1.0" encoding="utf-8"?><BlockList>'
    b"<CommittedBlocks><Block><Name>YQ==</Name><Size>7</Size></Block></CommittedBlocks>"
    b"<UncommittedBlocks><Block><Name>Yg==</Name><Size>5</Size></Block>"
    b"<Block><Name>no base64!</Name><Size>3</Size></Block></UncommittedBlocks></BlockList>"
)


def test_an_answer_gives_the_blocks_of_the_kind_that_was_asked_for() -> None:
    """Ids as they were chosen; another program's that are no text stay as they travel."""
    assert block_list.of_xml(ANSWER, COMMITTED) == {"a": 7}
    assert block_list.of_xml(ANSWER, UNCOMMITTED) == {"b": 5, "no base64!": 3}
    assert block_list.of_xml(b"<BlockList/>", COMMITTED) == {}


def test_a_list_is_written_in_the_order_of_its_blocks() -> None:
    """What was sent last under each id, ids as they travel."""
    assert block_list.to_xml(["b", "a"]) == (
        b'<?xml version="1.0" encoding="utf-8"?><BlockList><Latest>Yg==</Latest><Latest>YQ==</Latest></BlockList>'
    )


@pytest.fixture
def place(blob_account: BlobAccount) -> BlobContainer:
    """A container of the test's own on a real Azurite."""
    made = blob_account.container(f"blocks-{uuid.uuid4().hex[:12]}")
    made.ensure()
    return made


def _sdk(place: BlobContainer, name: str) -> BlobClient:
    return place.account.client(place.name).get_blob_client(name)


@pytest.mark.system
def test_blocks_of_the_sdk_are_found_and_made_a_blob_that_it_reads(place: BlobContainer) -> None:
    """Both sides mean the same block by an id, the same order by a list, the same metadata by a name."""
    theirs = _sdk(place, "data/ä b+c%.bin")
    theirs.stage_block("00-x", b"world")
    place.stage("data/ä b+c%.bin", "01-y", b"hello ")
    assert place.staged("data/ä b+c%.bin") == {"00-x": 5, "01-y": 6}

    etag = place.commit("data/ä b+c%.bin", ["01-y", "00-x"], metadata={"sha256": "abc"})

    found = theirs.get_blob_properties()
    assert theirs.download_blob().readall() == b"hello world"
    assert (found.etag.strip('"'), found.metadata) == (etag, {"sha256": "abc"})
    assert found.content_settings.content_type == "application/octet-stream"
    assert list(place.committed("data/ä b+c%.bin").items()) == [("01-y", 6), ("00-x", 5)]
    made, waiting = theirs.get_block_list("all")
    assert ([one.id for one in made], waiting) == (["01-y", "00-x"], [])


@pytest.mark.system
def test_a_list_never_takes_a_name_that_is_taken(place: BlobContainer) -> None:
    """Whoever commits second is told, and the first blob stays."""
    place.stage("a", "00", b"first")
    place.commit("a", ["00"])
    place.stage("a", "00", b"second")
    with pytest.raises(ConflictError, match="already there"):
        place.commit("a", ["00"])
    assert place.get("a") == b"first"


@pytest.mark.system
def test_a_list_with_a_block_that_is_gone_makes_nothing(place: BlobContainer) -> None:
    """A service drops blocks that nobody committed for a week; the error names its code and the blob."""
    place.stage("a", "00", b"there")
    with pytest.raises(ConfigurationError, match=f"InvalidBlockList.*blob {place.name}/a"):
        place.commit("a", ["00", base64.b64encode(b"gone").decode()[:2]])
    with pytest.raises(NotFoundError):
        place.look("a")


@pytest.mark.system
def test_of_a_blob_in_one_piece_there_are_no_blocks(place: BlobContainer) -> None:
    """Nor any that wait; of a name that nobody used neither, and its blocks cannot be asked for."""
    place.put("a", b"whole")
    assert (place.committed("a"), place.staged("a"), place.staged("b")) == ({}, {}, {})
    with pytest.raises(NotFoundError):
        place.committed("b")
