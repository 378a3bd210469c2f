"""Reading a log that grows: every line once, in order, whatever its pieces are; on a real Azurite as its storage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from edgeloop.azure_ml import job_stream
from edgeloop.azure_ml.job_stream import Place, lines, piece

if TYPE_CHECKING:
    from edgeloop.azure.blob import BlobAccount, BlobContainer

HERE = Place(log="job/user_logs/std_log.txt", at=100)


def test_a_place_is_read_as_it_was_written() -> None:
    """Anything else is the beginning."""
    assert Place.read(HERE.text) == HERE
    assert Place.read(Place(log="a b/user_logs/c d", at=7).text) == Place(log="a b/user_logs/c d", at=7)
    for other in ("", "x", "12", "x y"):
        assert Place.read(other) == Place()


def test_only_whole_lines_are_told_until_the_job_has_ended() -> None:
    """The place is behind the last whole line, in bytes, so that what is still being written is read again."""
    raw = "erste Zeile ü\r\n\nthird, unfini".encode()
    found = lines(raw, HERE, rest=False)
    assert [(one.text, one.place.at) for one in found] == [("erste Zeile ü", 116), ("", 117)]
    assert [one.text for one in lines(raw, HERE, rest=True)] == ["erste Zeile ü", "", "third, unfini"]
    assert lines(b"", HERE, rest=True) == lines(b"unfinished", HERE, rest=False) == ()


def test_the_end_of_a_full_piece_is_not_the_end_of_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a job that ended; but a line of more than a piece is told in pieces, so that the reader gets further."""
    monkeypatch.setattr(job_stream, "PIECE_BYTES", 8)
    assert [one.text for one in lines(b"abc\ndefg", HERE, rest=True)] == ["abc"]
    (one,) = lines(b"abcdefgh", HERE, rest=False)
    assert (one.text, one.place.at) == ("abcdefgh", 108)


@pytest.mark.system
def test_a_log_in_a_real_storage_account_is_read_as_it_grows(
    blob_account: BlobAccount, container: BlobContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a SAS, by ranges; where there is nothing new storage answers 416, and that is no error."""
    from azure.storage.blob import BlobClient, BlobSasPermissions, generate_blob_sas

    monkeypatch.setattr(job_stream, "PIECE_BYTES", 64)
    name = "ExperimentRun/dcid.job/user_logs/std_log.txt"
    container.put("made", b"")
    client = BlobClient.from_connection_string(blob_account.connection_string, container.name, name)
    client.create_append_blob()
    sas = generate_blob_sas(
        client.account_name, container.name, name, account_key=client.credential.account_key,
        permission=BlobSasPermissions(read=True), expiry=datetime.now(UTC) + timedelta(hours=1),
    )  # fmt: skip
    address, place, said = f"{client.url}?{sas}", HERE, []

    def look(*, ended: bool = False) -> None:
        nonlocal place
        while new := lines(piece(address, place.at - HERE.at), place, rest=ended):
            said.extend(one.text for one in new)
            place = new[-1].place

    look()
    for n in range(30):
        client.append_block(f"epoch {n}, loss {n / 7:.3f}\nhalf".encode())
        look()
        client.append_block(f" of {n}\n".encode())
    client.append_block(b"the last words")
    look()
    assert said[-1] == "half of 29"
    look(ended=True)
    assert said == [one for n in range(30) for one in (f"epoch {n}, loss {n / 7:.3f}", f"half of {n}")] + [
        "the last words"
    ]
