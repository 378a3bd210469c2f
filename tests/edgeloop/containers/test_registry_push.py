"""Pushing to a real registry: what is sent, what is not, and what every fault leaves behind."""

from __future__ import annotations

import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.registries import SBOM, Line, RegistryServer, described, image, layer_file, sbom

from benchmarks.relay import Relay
from edgeloop.containers import referrers, registry_manifests, registry_upload, registry_wire
from edgeloop.containers.content import OCI_LAYER, Content
from edgeloop.containers.referrers import Attached
from edgeloop.containers.registry import Registry
from edgeloop.containers.registry_wire import Deadline, Wire
from edgeloop.errors import ConfigurationError, ConflictError, IntegrityError, NotFoundError, UnreachableError
from edgeloop.packaging import push
from edgeloop.packaging.build import Name
from edgeloop.record_base import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgeloop.containers.content import ImageContent
    from edgeloop.containers.registry_wire import Answer, Call

pytestmark = pytest.mark.system
REPOSITORY, TAG = "tests/wind", "v1"
PIECE, BIG = 1 << 20, 6 << 20


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a megabyte and short waits, so that small blobs have many pieces."""
    monkeypatch.setattr(registry_upload, "PIECE_BYTES", PIECE)
    for module in (registry_upload, registry_wire):
        monkeypatch.setattr(module, "BACKOFF_SECONDS", 0.02)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryServer]:
    """A registry without TLS."""
    one = RegistryServer(tmp_path).start()
    yield one
    one.stop()


@pytest.fixture
def line(server: RegistryServer) -> Iterator[Line]:
    """A line to it."""
    one = Line(server.address)
    yield one
    one.close()


def through(line: Line, server: RegistryServer) -> Registry:
    """The registry behind the line."""
    return Registry(server.endpoint(host=line.address))


@pytest.fixture
def big(tmp_path: Path) -> ImageContent:
    """An image with a layer of several pieces and a small one."""
    return image(layer_file(tmp_path, BIG), Content.of(b"small", OCI_LAYER))


def test_an_image_is_pushed_whole_read_back_and_not_sent_again(
    server: RegistryServer, line: Line, big: ImageContent
) -> None:
    """Under its tag stands the manifest to the byte; a second push, and one of another tag, sends no blob."""
    registry = through(line, server)
    pushed = registry.push(REPOSITORY, TAG, big)
    assert pushed.digest == big.digest
    assert [one.digest for one in pushed.layers] == [one.descriptor.digest for one in big.blobs[1:]]
    assert registry.blob(REPOSITORY, big.blobs[1].descriptor.digest) == big.blobs[1].open().read()
    first, line.sent = line.sent, 0
    assert BIG < first < BIG + 20_000
    assert registry.push(REPOSITORY, TAG, big) == pushed
    assert registry.push(REPOSITORY, "v2", big) == pushed
    assert line.sent < 10_000


def test_only_the_changed_layer_of_a_rebuild_is_sent(server: RegistryServer, line: Line, big: ImageContent) -> None:
    """A new model on the same base sends its own layer, a configuration and a manifest."""
    registry = through(line, server)
    registry.push(REPOSITORY, TAG, big)
    line.sent = 0
    registry.push(REPOSITORY, "v2", image(big.blobs[1], Content.of(b"x" * 30_000, OCI_LAYER), note="2"))
    assert 30_000 < line.sent < 38_192


def test_a_line_cut_in_a_blob_costs_one_piece(server: RegistryServer, line: Line, big: ImageContent) -> None:
    """The upload goes on where the registry is; what had arrived is not sent twice."""
    line.drops = [3, 5]
    assert through(line, server).push(REPOSITORY, TAG, big).digest == big.digest
    assert line.connections == 3
    assert line.sent < BIG + 2 * PIECE + 40_000


def test_an_answer_that_was_lost_costs_no_byte(server: RegistryServer, line: Line, big: ImageContent) -> None:
    """The registry took the blob and the word of it was lost: it is looked for before it is sent again."""
    line.deaf = [2]
    assert through(line, server).push(REPOSITORY, TAG, big).digest == big.digest
    assert line.connections == 2
    assert line.sent < BIG + 40_000


def test_a_line_cut_in_a_piece_leaves_no_half_blob(server: RegistryServer, line: Line, big: ImageContent) -> None:
    """Debian's registry forgets an upload that was cut within a piece: that blob is sent anew, the others are not."""
    line.breaks = [3 * PIECE + PIECE // 2, PIECE + PIECE // 3]
    registry = through(line, server)
    assert registry.push(REPOSITORY, TAG, big).digest == big.digest
    assert registry.blob(REPOSITORY, big.blobs[1].descriptor.digest) == big.blobs[1].open().read()
    assert line.sent < 2 * BIG


def test_a_line_that_breaks_for_ever_is_an_error_and_the_next_push_goes_on(
    server: RegistryServer, line: Line, big: ImageContent, tmp_path: Path
) -> None:
    """The tag stays as it was; blobs that arrived are found by the next try."""
    whole = image(layer_file(tmp_path, 2 * PIECE, 7), *big.blobs[1:], note="two")
    line.breaks = [2 * PIECE + 60_000, *[3_000] * 40]
    with pytest.raises(UnreachableError, match=r"'edgeloop_registry'.*did not answer \(take blob sha256"):
        through(line, server).push(REPOSITORY, TAG, whole)
    registry = Registry(server.endpoint())
    assert registry.find(REPOSITORY, TAG) is None
    line.breaks, line.sent = [], 0
    assert through(line, server).push(REPOSITORY, TAG, whole).digest == whole.digest
    assert line.sent < BIG + 20_000


@pytest.mark.fault
def test_a_registry_that_is_restarted_in_the_middle_of_a_push_gets_the_whole_image(
    server: RegistryServer, line: Line, big: ImageContent
) -> None:
    """Its own idea of the upload may be gone; what stands under the tag is the image."""

    def restart() -> None:
        server.stop()
        server.start()

    line.breaks, line.broken = [2 * PIECE + PIECE // 2], restart
    assert through(line, server).push(REPOSITORY, TAG, big).digest == big.digest
    assert Registry(server.endpoint()).blob(REPOSITORY, big.blobs[1].descriptor.digest) == big.blobs[1].open().read()


@pytest.mark.fault
def test_a_registry_that_is_restarted_before_the_first_byte_of_a_blob_gets_it(
    server: RegistryServer, big: ImageContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has forgotten the upload that it just began: another is begun, for a small blob as for one in pieces."""
    really, restarted = registry_upload.Upload._begin, set[bool]()

    def begin(upload: registry_upload.Upload) -> None:
        really(upload)
        small = upload.content.descriptor.size < PIECE
        if small not in restarted:
            restarted.add(small)
            server.stop()
            server.start()

    monkeypatch.setattr(registry_upload.Upload, "_begin", begin)
    assert Registry(server.endpoint()).push(REPOSITORY, TAG, big).digest == big.digest
    assert restarted == {True, False}


@pytest.mark.fault
def test_a_registry_that_is_down_is_named_and_the_push_works_when_it_is_back(
    server: RegistryServer, big: ImageContent
) -> None:
    """Not reached is another error than not let in."""
    server.stop()
    with pytest.raises(UnreachableError, match=f"at {server.address} did not answer"):
        Registry(server.endpoint()).push(REPOSITORY, TAG, big)
    server.start()
    assert Registry(server.endpoint()).push(REPOSITORY, TAG, big).digest == big.digest


@pytest.mark.fault
def test_a_full_registry_says_so_and_keeps_no_half_image(tmp_path: Path, big: ImageContent) -> None:
    """No blob of the image that did not fit is left under its name; with room the same push goes through."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], check=True)
    server = RegistryServer(tmp_path, storage=disk).start()
    try:
        registry = Registry(server.endpoint())
        with pytest.raises(UnreachableError, match=r"'edgeloop_registry'.*is full \(take blob"):
            registry.push(REPOSITORY, TAG, big)
        assert registry.find(REPOSITORY, TAG) is None
        assert big.blobs[1].descriptor.digest.removeprefix("sha256:") not in server.blobs()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert registry.push(REPOSITORY, TAG, big).digest == big.digest
    finally:
        server.stop()
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.fault
def test_a_read_only_registry_says_so(tmp_path: Path, big: ImageContent) -> None:
    """It is no matter of trying again."""
    server = RegistryServer(tmp_path, readonly=True).start()
    try:
        with pytest.raises(ConfigurationError, match="takes no pushes: it is read-only"):
            Registry(server.endpoint()).push(REPOSITORY, TAG, big)
    finally:
        server.stop()


def test_a_file_that_changed_since_it_was_digested_is_not_pushed(server: RegistryServer, big: ImageContent) -> None:
    """The bytes are compared while they are sent; the registry never gets the request that names them."""
    path = big.blobs[1].file
    assert path is not None
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    registry = Registry(server.endpoint())
    with pytest.raises(IntegrityError, match="other bytes now"):
        registry.push(REPOSITORY, TAG, big)
    assert registry.find(REPOSITORY, TAG) is None
    assert server.blobs() == [big.blobs[0].descriptor.digest.removeprefix("sha256:")]


def test_an_image_whose_manifest_is_there_and_a_blob_is_not_is_no_whole_one(
    server: RegistryServer, big: ImageContent
) -> None:
    """A garbage collection at the wrong moment: no device could pull it; pushed again it is whole."""
    registry = Registry(server.endpoint())
    registry.push(REPOSITORY, TAG, big)
    assert registry.whole(REPOSITORY, big.digest)
    assert not registry.whole(REPOSITORY, "sha256:" + "0" * 64)
    lost = big.blobs[1].descriptor.digest.removeprefix("sha256:")
    blob = server.folder / f"registry/docker/registry/v2/blobs/sha256/{lost[:2]}/{lost}/data"
    blob.unlink()
    assert registry.exists(REPOSITORY, big.digest)
    assert not registry.whole(REPOSITORY, big.digest)
    registry.push(REPOSITORY, TAG, big)
    assert registry.whole(REPOSITORY, big.digest)


def test_two_pushes_of_one_image_at_once_both_find_it(server: RegistryServer, big: ImageContent) -> None:
    """Neither disturbs the other."""
    found: list[str] = []
    pushes = [
        threading.Thread(target=lambda: found.append(Registry(server.endpoint()).push(REPOSITORY, TAG, big).digest))
        for _ in range(3)
    ]
    for one in pushes:
        one.start()
    for one in pushes:
        one.join()
    assert found == [big.digest] * 3


@pytest.mark.parametrize(("said", "ends"), [("MANIFEST_BLOB_UNKNOWN", "pushed"), ("DENIED", "refused")])
def test_a_blob_that_the_registry_does_not_see_for_a_moment_is_waited_for(
    server: RegistryServer, big: ImageContent, monkeypatch: pytest.MonkeyPatch, said: str, ends: str
) -> None:
    """Debian's registry has a blob's link empty while somebody else sends the same one; no other refusal is."""
    really, refusals = registry_manifests.write, [ConflictError(f"refused: 400 ({said})")]

    def write(*arguments: Any) -> object:
        if refusals:
            raise refusals.pop()
        return really(*arguments)

    monkeypatch.setattr(registry_manifests, "write", write)
    try:
        found = "pushed" if Registry(server.endpoint()).push(REPOSITORY, TAG, big).digest == big.digest else "other"
    except ConflictError:
        found = "refused"
    assert found == ends


def test_a_tag_that_somebody_else_took_meanwhile_is_an_integrity_error(
    server: RegistryServer, big: ImageContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest is the one read back from the registry, not that of what was sent."""
    registry, other = Registry(server.endpoint()), image(Content.of(b"other", OCI_LAYER))
    really = registry_manifests.told

    def taken(*arguments: Any) -> str | None:
        monkeypatch.undo()
        Registry(server.endpoint()).push(REPOSITORY, TAG, other)
        return really(*arguments)

    monkeypatch.setattr(registry_manifests, "told", taken)
    with pytest.raises(IntegrityError, match=f"answers {other.digest} where {big.digest} belongs"):
        registry.push(REPOSITORY, TAG, big)


def test_only_what_was_proven_is_pushed(server: RegistryServer, big: ImageContent) -> None:
    """An image whose configuration is not the proven one's never reaches the registry."""
    registry = Registry(server.endpoint())
    name = Name(repository=f"{server.address}/{REPOSITORY}", tag=TAG)
    with pytest.raises(IntegrityError, match="that was proven"):
        push.ensure(registry, name, big, proven=f"sha256:{'0' * 64}")
    assert registry.find(REPOSITORY, TAG) is None
    proven = big.blobs[0].descriptor.digest
    pushed = push.ensure(registry, name, big, proven=proven)
    assert pushed == push.Pushed(
        reference=f"{server.address}/{REPOSITORY}@{big.digest}", digest=big.digest, size=BIG + 5, found=False
    )
    assert push.ensure(registry, name, big, proven=proven) == replace(pushed, found=True)


def test_one_bill_is_attached_by_many_at_once(server: RegistryServer, big: ImageContent) -> None:
    """Packagings of one image make the same bill: each writes the same index, and what was there before stays."""
    registry = Registry(server.endpoint())
    registry.push(REPOSITORY, TAG, big)
    before = registry.attach(REPOSITORY, big.digest, sbom("a signature of somebody else's"))
    with ThreadPoolExecutor(5) as pool:
        attach = [Registry(server.endpoint()).attach for _ in range(5)]
        made = {one.result() for one in [pool.submit(one, REPOSITORY, big.digest, sbom("bill")) for one in attach]}
    assert set(registry.attached(REPOSITORY, big.digest)) == made | {before}
    assert len(made) == 1


@pytest.mark.parametrize("refused", ["the bill", "the index"])
def test_a_bill_that_the_registry_does_not_see_for_a_moment_is_waited_for(
    server: RegistryServer, big: ImageContent, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """As with a blob: another packaging sends the same bill, and its manifest is gone for that moment."""
    registry, really = Registry(server.endpoint()), registry_manifests.write
    registry.push(REPOSITORY, TAG, big)
    refusals = [ConflictError("refused: 400 (MANIFEST_BLOB_UNKNOWN)")]

    def write(*arguments: Any, **options: Any) -> object:
        if refusals and ("sha256-" in arguments[2]) == (refused == "the index"):
            raise refusals.pop()
        return really(*arguments, **options)

    monkeypatch.setattr(registry_manifests, "write", write)
    entry = registry.attach(REPOSITORY, big.digest, sbom("ours"))
    assert (refusals, registry.attached(REPOSITORY, big.digest)) == ([], (entry,))


def test_what_belongs_to_an_image_is_attached_one_after_the_other(server: RegistryServer, big: ImageContent) -> None:
    """The registry has no referrers: their tag is rewritten each time, and none is lost; again changes nothing."""
    registry = Registry(server.endpoint())
    registry.push(REPOSITORY, TAG, big)
    for number in range(5):
        Registry(server.endpoint()).attach(REPOSITORY, big.digest, sbom(f"{number}"))
    found = registry.attached(REPOSITORY, big.digest, SBOM)
    assert len(found) == 5
    assert registry.attached(REPOSITORY, big.digest, "other") == ()
    assert registry.attach(REPOSITORY, big.digest, sbom("3")) in found
    assert registry.attached(REPOSITORY, big.digest) == found
    stored = registry.find(REPOSITORY, found[0].digest)
    assert stored is not None
    assert registry.blob(REPOSITORY, stored.layers[0].digest) in {b"0", b"1", b"2", b"3", b"4"}


def test_an_entry_that_another_writer_overwrote_comes_back(
    server: RegistryServer, big: ImageContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our writing of the index and reading it back another may write its own, who had looked before us."""
    registry, really = Registry(server.endpoint()), registry_manifests.told
    registry.push(REPOSITORY, TAG, big)
    tag = big.digest.replace(":", "-")

    def told(*arguments: Any) -> str | None:
        monkeypatch.undo()
        other = Attached(digest=big.digest, size=big.manifest.descriptor.size, artifact_type="other")
        registry_manifests.write(registry.wire, REPOSITORY, tag, referrers.index([other.to_dict()]), arguments[-1])
        return really(*arguments)

    monkeypatch.setattr(registry_manifests, "told", told)
    registry.attach(REPOSITORY, big.digest, sbom("ours"))
    assert {one.artifact_type for one in registry.attached(REPOSITORY, big.digest)} == {SBOM, "other"}


def test_a_bill_whose_entry_was_lost_is_attached_again(server: RegistryServer, big: ImageContent) -> None:
    """Whatever became of the index, the next run of the task finds that the bill is missing in it."""
    registry = Registry(server.endpoint())
    registry.push(REPOSITORY, TAG, big)
    entry = registry.attach(REPOSITORY, big.digest, sbom("ours"))
    empty, tag = referrers.index([]), big.digest.replace(":", "-")
    registry_manifests.write(registry.wire, REPOSITORY, tag, empty, Deadline.after(9))
    assert registry.attached(REPOSITORY, big.digest) == ()
    assert registry.attach(REPOSITORY, big.digest, sbom("ours")) == entry
    assert registry.attached(REPOSITORY, big.digest) == (entry,)


def test_what_others_said_of_their_entries_stays(server: RegistryServer, big: ImageContent) -> None:
    """An index that another tool wrote keeps every word, and costs one more entry."""
    registry = Registry(server.endpoint())
    registry.push(REPOSITORY, TAG, big)
    theirs = {**described(big.manifest), "annotations": {"signed": "by them"}, "artifactType": "signature"}
    tag = big.digest.replace(":", "-")
    registry_manifests.write(registry.wire, REPOSITORY, tag, referrers.index([theirs]), Deadline.after(9))
    registry.attach(REPOSITORY, big.digest, sbom("ours"))
    stored = registry_manifests.read(registry.wire, REPOSITORY, tag)
    assert stored is not None
    assert theirs in stored.body["manifests"]
    assert len(stored.body["manifests"]) == 2


def test_a_retrain_costs_the_same_however_many_went_before(server: RegistryServer, tmp_path: Path) -> None:
    """Image, second tag and bill: the eighth takes the bytes of the second, both ways."""
    base, costs = layer_file(tmp_path, 50_000), []
    with Relay(to=server.address) as relay:
        for number in range(1, 9):
            registry = Registry(server.endpoint(host=relay.address))
            whole = image(base, Content.of(b"%04d" % number, OCI_LAYER), note=f"{number:04d}")
            relay.taken()
            registry.push(REPOSITORY, f"v{number:04d}", whole)
            registry.tag(REPOSITORY, whole.digest, "newest", whole.manifest)
            registry.attach(REPOSITORY, whole.digest, sbom(f"{number:04d}"), whole.manifest)
            costs.append(relay.taken())
    assert costs[0] > 50_000
    # The place of an upload holds a time stamp whose last zeros are left out.
    assert max(costs[1:]) - min(costs[1:]) < 100
    assert max(costs[1:]) < 12_000


@pytest.mark.fault
def test_a_layer_of_the_base_that_the_registry_lost_is_sent_again(server: RegistryServer, tmp_path: Path) -> None:
    """It is not asked for with each model; but the registry refuses the manifest, and then every blob is."""
    lower, upper = (layer_file(tmp_path, 5_000, seed) for seed in (1, 2))
    registry = Registry(server.endpoint())
    registry.push(REPOSITORY, TAG, image(lower, upper, Content.of(b"one", OCI_LAYER)))
    lost = lower.descriptor.digest.removeprefix("sha256:")
    (link,) = server.folder.glob(f"registry/docker/registry/v2/repositories/{REPOSITORY}/_layers/sha256/{lost}/link")
    link.unlink()
    registry.push(REPOSITORY, "v2", image(lower, upper, Content.of(b"two", OCI_LAYER), note="two"))
    assert registry.blob(REPOSITORY, lower.descriptor.digest) == lower.open().read()


def test_a_registry_that_names_no_digests_is_asked_for_bytes(
    server: RegistryServer, big: ImageContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the specification leaves open is looked up: each blob that was sent, and the manifest itself."""
    really, asked = Wire.once, []

    def once(wire: Wire, call: Call, deadline: Deadline) -> Answer:
        asked.append((call.method, "manifests" in call.path))
        answer = really(wire, call, deadline)
        kept = {name: value for name, value in answer.headers.items() if name != "Docker-Content-Digest"}
        return replace(answer, headers=kept)

    monkeypatch.setattr(Wire, "once", once)
    assert Registry(server.endpoint()).push(REPOSITORY, TAG, big).digest == big.digest
    assert asked.count(("HEAD", False)) == 5, "two before, for the layers, and one after each of three blobs"
    assert asked[-1] == ("GET", True)


def test_nothing_is_attached_to_an_image_that_is_not_there(server: RegistryServer, big: ImageContent) -> None:
    """Nor an artifact of one image to another."""
    registry = Registry(server.endpoint())
    with pytest.raises(NotFoundError, match=f"has no {REPOSITORY} {big.digest}"):
        registry.attach(REPOSITORY, big.digest, sbom("x"))
    for one in (big, image(note="other")):
        registry.push(REPOSITORY, one.blobs[0].descriptor.digest[7:19], one)
    attached = registry.attach(REPOSITORY, big.digest, sbom("x"))
    stored = registry_manifests.read(registry.wire, REPOSITORY, attached.digest)
    assert stored is not None
    again = replace(sbom("x"), manifest=Content.of(canonical_json(stored.body), attached.media_type))
    assert again.digest == attached.digest
    with pytest.raises(IntegrityError, match=f"belongs to {big.digest}"):
        registry.attach(REPOSITORY, image(note="other").digest, again)


def test_an_index_is_no_image(server: RegistryServer, big: ImageContent) -> None:
    """A tag of several platforms is told from one image, with its kind in the error."""
    registry = Registry(server.endpoint())
    registry.push(REPOSITORY, TAG, big)
    registry.attach(REPOSITORY, big.digest, sbom("x"))
    with pytest.raises(IntegrityError, match=r"is no image of one machine but application/vnd.oci.image.index"):
        registry.find(REPOSITORY, big.digest.replace(":", "-"))
