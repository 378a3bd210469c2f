from __future__ import annotations

import json
import logging
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from tests.memory import Memory

from edgeloop import tidy
from edgeloop.azure.blob import BlobAccount
from edgeloop.errors import ConfigurationError, IntegrityError
from edgeloop.ledger import MOST_REMOVED, Fold, Ledger
from edgeloop.records import canonical_json, sha256_hex
from edgeloop.share.journal import COMPACT_AFTER, Journal
from edgeloop.share.journal import Entry as Claimed
from edgeloop.store import Store
from edgeloop.training.retrain import overdue
from edgeloop.training.session import _upload
from edgeloop.training.waiting import DECIDED, Waiting
from edgeloop.transfer.upload import Courier

if TYPE_CHECKING:
    from pathlib import Path

    from edgeloop.azure.blob import BlobContainer

TOTAL: Fold[int] = Fold(
    name="total",
    add=lambda before, entries: (before or 0) + sum(one.body["n"] for one in entries),
    to_json=lambda total: total,
    from_json=int,
)
MANY = 6000


class Guarded(Memory):
    """A storage that may not be deleted from, as long as ``free`` is false."""

    free = False

    def delete(self, name: str) -> None:
        """Remove it, or not."""
        if not self.free:
            raise ConfigurationError(f"This account refused to delete, seen by {id(self)}.")
        super().delete(name)


@pytest.fixture
def narrow(container: BlobContainer) -> BlobContainer:
    """The same container, opened by a real SAS that reads, creates, writes and lists, and does not delete."""
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    container.ensure()
    fields = dict(part.split("=", 1) for part in container.account.connection_string.split(";") if part)
    signed = generate_container_sas(
        fields["AccountName"], container.name, account_key=fields["AccountKey"],
        permission=ContainerSasPermissions.from_string("rcwl"), expiry=datetime.now(UTC) + timedelta(hours=1),
        version="2019-02-02",
    )  # fmt: skip
    text = f"BlobEndpoint={fields['BlobEndpoint']};SharedAccessSignature={signed}"
    return BlobAccount(connection=f"narrow_{uuid.uuid4().hex[:8]}", connection_string=text).container(container.name)


def add(objects: BlobContainer | Memory, times: int) -> None:
    """Append as often to one ledger."""
    for _ in range(times):
        Ledger(objects, "count", TOTAL).append(lambda _: {"n": 1})


def heads(objects: BlobContainer | Memory) -> list[str]:
    """What sums there are."""
    return [one.name for one in objects.list("heads/total/count/")]


def test_a_ledger_and_a_journal_go_on_without_the_right_to_delete(
    container: BlobContainer, narrow: BlobContainer, caplog: pytest.LogCaptureFixture
) -> None:
    """On a real account: every entry counts, one warning names connection and permission; who may delete clears up."""
    with caplog.at_level(logging.WARNING):
        add(narrow, 6)
        journal = Journal(Store(narrow))
        for number in range(4 * COMPACT_AFTER):
            assert journal.append(Claimed(run=f"r{number}", at="2014-01-01T00:00:00Z"))
    assert Ledger(narrow, "count", TOTAL).read() == 6
    assert len(heads(container)) == 6
    assert Journal(Store(narrow)).read().seq == 4 * COMPACT_AFTER
    (warning,) = caplog.messages
    assert narrow.account.connection in warning
    assert f"Give the connection the right to delete: {tidy.RIGHT}." in warning
    add(container, 1)
    assert heads(container) == [f"heads/total/count/{seq:08d}" for seq in (6, 7)]
    assert Ledger(narrow, "count", TOTAL).read() == 7


def test_what_was_left_is_removed_some_at_a_time_and_reading_costs_what_it_did() -> None:
    """6,000 entries and as many heads: five reads for anybody, four again after whoever may delete came by."""
    memory = Guarded()
    for seq in range(1, MANY + 1):
        memory.objects[f"ledgers/count/{seq:08d}.json"] = canonical_json({"n": 1})
    last = sha256_hex(canonical_json({"n": 1}))
    for seq in range(1, MANY + 1):
        raw = {"schema": 1, "seq": seq, "last": last, "state": seq}
        body = canonical_json({**raw, "digest": sha256_hex(canonical_json(raw))})
        memory.objects[f"heads/total/count/{seq:08d}"] = body
    memory.asked.clear()
    assert Ledger(memory, "count", TOTAL).read() == MANY
    assert memory.reads == 5
    add(memory, 1)
    assert len(heads(memory)) == MANY + 1

    memory.free = True
    memory.asked.clear()
    add(memory, 1)
    assert memory.asked["delete"] == MOST_REMOVED
    add(memory, MANY // (MOST_REMOVED - 1) + 1)
    assert len(heads(memory)) == 2
    memory.asked.clear()
    assert Ledger(memory, "count", TOTAL).read() == MANY + 2 + MANY // (MOST_REMOVED - 1) + 1
    assert memory.reads == 4


def test_a_key_that_was_decided_waits_no_more_though_nobody_may_remove_it() -> None:
    """Else every sweep would ask for a training of it."""
    memory = Guarded()
    store = Store(memory)
    waiting = Waiting(store)
    for key in ("a", "b", "c"):
        waiting.note(key)
    waiting.take(("a", "b"), "b")
    for name in DECIDED:
        store.fix(name, "b", "x")
    waiting.settle("b")
    assert waiting.keys() == ("c",)
    request = overdue(waiting)
    assert request is not None
    assert request.why == "nothing was trained yet for c"


def test_an_output_that_is_in_the_way_names_the_right_that_is_missing(
    container: BlobContainer, narrow: BlobContainer, tmp_path: Path
) -> None:
    """A try that died left other bytes: nothing is written, both stay, and the permission is told."""
    from edgeloop.records import FileRef

    container.put("training/x/model.onnx", b"half")
    path = tmp_path / "model.onnx"
    path.write_bytes(b"whole")
    ref = FileRef(path="training/x/model.onnx", size=5, sha256=sha256_hex(b"whole"))
    with pytest.raises(ConfigurationError) as caught:
        _upload(narrow, ref, path)
    assert "was left by a try that died and holds other bytes" in caught.value.what
    assert f"right to delete ({tidy.RIGHT})" in caught.value.next
    assert container.get(ref.path) == b"half"
    _upload(container, replace(ref), path)
    assert container.get(ref.path) == b"whole"


def test_a_wrong_blob_that_may_not_be_removed_is_told_as_wrong(narrow: BlobContainer, tmp_path: Path) -> None:
    """What matters is that it reads back as something else; who may delete, and what, comes after it."""
    path, name = tmp_path / "a.csv", narrow.name
    path.write_bytes(b"hello")
    sent = Courier(narrow).send("a", path)
    narrow.put("a", b"HELLO")
    with pytest.raises(IntegrityError, match="reads back as 5 bytes") as caught:
        Courier(narrow).proven(sent)
    assert caught.value.left == "the wrong blob, which the connection may not remove"
    assert caught.value.next.startswith(f"Delete blob {name}/a, then clear the task; with the {tidy.RIGHT}")
    assert narrow.get("a") == b"HELLO"


def test_records_are_written_and_found_with_a_sas_that_may_not_delete(narrow: BlobContainer) -> None:
    """What docs/connections.md says is enough, is enough: read, create, write and list."""
    store = Store(narrow)
    store.append("plain", lambda _: {"n": 1})
    store.fix("keys", "k", "v")
    narrow.put("replaced", json.dumps(1).encode())
    narrow.put("replaced", json.dumps(2).encode())
    assert [one.body for one in store.ledger("plain")] == [{"n": 1}]
    assert (store.fixed("keys", "k"), narrow.get("replaced")) == ("v", b"2")
