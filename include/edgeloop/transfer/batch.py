"""The files of a batch, and the manifest that is written when the last of them is proven.

    manifests/<batch>.json      names, sizes, sha256, the etag of the version that was read back, how it was proven, and
                                the stamp of the file that was read, if one can be trusted (edgeloop.transfer.stamp)

So a manifest that is there says that everything in it was proven, whatever became of the task that wrote it. A file
that stands in it, and whose blob still has the etag it was proven under, is known to be there without reading it again:
the service gives a blob another etag with every write. Metadata is not believed for that, since it is written before
the proof. Nor is the file read, if it has the stamp that it had then.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from os.path import commonprefix
from typing import TYPE_CHECKING, Any

from edgeloop.azure.turn import Turn
from edgeloop.errors import ConflictError, IntegrityError, NotFoundError
from edgeloop.records import FileRef, canonical_json, sha256_hex
from edgeloop.transfer.crew import work_through
from edgeloop.transfer.plan import LARGEST, Terms, plan
from edgeloop.transfer.progress import Meter
from edgeloop.transfer.stamp import read, stamp_of
from edgeloop.transfer.target import Transferred
from edgeloop.transfer.upload import Courier

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeloop.transfer.target import Log, Target

IN_TURN_BYTES = 128 * 1024
"""Files up to this size cost more processor time than they wait for the network or are hashed without Python."""
PROVEN_BEFORE = "proven before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A file on its way: the blob's name, where it lies, and what it must be if that is known."""

    name: str
    path: Path
    known: FileRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """What arrived, in the order it was asked for; ``manifest`` is the manifest's blob."""

    manifest: str
    files: tuple[Transferred, ...]

    @property
    def refs(self) -> tuple[FileRef, ...]:
        """The files by name and content."""
        return tuple(one.file for one in self.files)

    @property
    def found(self) -> int:
        """How many were there already."""
        return sum(one.found for one in self.files)

    @property
    def sent(self) -> int:
        """Bytes sent by this try."""
        return sum(one.sent for one in self.files)


def upload_all(
    container: Target,
    outgoing: Sequence[Outgoing],
    *,
    batch: str,
    terms: Terms | None = None,
    log: Log | None = None,
    checksum: bool = False,
) -> Shipment:
    """Put every file into its blob, prove each, and write the manifest last.

    The same files again are a no-op. Interrupted anywhere, there is no manifest, and the next try goes on. With
    ``checksum`` every file is read and hashed, though the manifest knows it by size, inode and times.

    Raises:
        ConflictError: Other content has one of the names, or the manifest is there with other files; both stay.
        IntegrityError: A file changed while it was sent, or what was read back is not what was sent.
        UnreachableError: The account did not answer.
    """
    name = manifest_name(batch)
    if len({one.name for one in outgoing}) != len(outgoing):
        raise ConflictError(
            f"Two files of batch {batch} want the same blob's name.",
            left="nothing was sent",
            next="Give the files of a batch names that differ.",
        )
    written = _read(container, name)
    known = written or {}
    sent = send_all(container, outgoing, terms=terms, log=log, known=known, prove=True, checksum=checksum)
    entries = {one.file.path: _kept(one, known) for one in sent}
    if entries != written:
        _write(container, batch, list(entries.values()), written)
    return Shipment(manifest=name, files=tuple(sent))


def seal(container: Target, batch: str, sent: Sequence[Transferred]) -> str:
    """Write the manifest of files that were uploaded one by one, each of them proven; returns the manifest's blob.

    If it is there with other files, 12 digits of these files' digest are added to its name. Raises ``IntegrityError``
    if one of them was not read back.
    """
    if unproven := [one.file.path for one in sent if not one.proof]:
        raise IntegrityError(
            f"Nothing of {unproven[0]} was read back, so batch {batch} has no manifest.",
            left="every blob",
            next="Upload it with upload or Courier.upload.",
        )
    entries = [_entry(one) for one in sent]
    try:
        _write(container, batch, entries, None)
    except ConflictError:
        # A try that died after its manifest may have sealed a file that changed since: that must trap no later try.
        contents = sorted([one.file.path, one.file.sha256] for one in sent)
        batch = f"{batch}-{sha256_hex(canonical_json(contents))[:12]}"
        _write(container, batch, entries, None)
    return manifest_name(batch)


def manifest_name(batch: str) -> str:
    """The blob that says what of a batch arrived."""
    return f"manifests/{batch}.json"


def send_all(
    container: Target,
    outgoing: Sequence[Outgoing],
    *,
    terms: Terms | None = None,
    log: Log | None = None,
    known: dict[str, dict[str, Any]] | None = None,
    prove: bool = False,
    checksum: bool = False,
) -> list[Transferred]:
    """Send many files at once, small ones side by side and large ones block by block; read back only with ``prove``.

    ``known`` are a manifest's entries by name; with ``checksum`` their stamps are not believed. Memory is bounded as
    for one file: by workers and the size of a block.
    """
    terms = terms or Terms()
    courier, known = Courier(container, terms, log=log), known or {}
    with ThreadPoolExecutor(1) as aside:
        listing = aside.submit(_there, container, outgoing)
        # While the service makes its list, files are looked at, and those that changed since they were proven are read.
        found = {one.name: one.path.stat() for one in outgoing}
        same = {
            one.name: _same(one, known[one.name], "" if checksum else stamp_of(found[one.name]))
            for one in outgoing
            if one.name in known and known[one.name]["size"] == found[one.name].st_size
        }
        there = listing.result()
    sizes = {name: one.st_size for name, one in found.items()}
    meter = Meter(f"{len(outgoing)} files", sum(sizes.values()), log=log)
    done = {name: one for name, one in same.items() if one is not None and there.get(name) == one.etag}
    meter.add(sum(sizes[name] for name in done), resumed=True)

    turn = Turn()

    def one(file: Outgoing) -> None:
        take, new = (courier.upload if prove else courier.send), file.name not in there
        with turn if new and sizes[file.name] <= IN_TURN_BYTES else nullcontext():
            moved = take(file.name, file.path, file.known, new=new)
        done[file.name] = moved
        meter.add(sizes[file.name], resumed=moved.found)

    way = plan(0, terms, container.features)
    left = [file for file in outgoing if file.name not in done]
    # A large file takes all workers for its blocks; small ones take one each.
    work_through(way.workers, (file for file in left if sizes[file.name] <= way.block_bytes), one)
    work_through(1, (file for file in left if sizes[file.name] > way.block_bytes), one)
    return [done[file.name] for file in outgoing]


def _same(file: Outgoing, entry: dict[str, Any], stamp: str) -> Transferred | None:
    """What the manifest says of the file, if that is still what lies there."""
    ref = FileRef(path=file.name, size=entry["size"], sha256=entry["sha256"])
    if file.known is not None:
        seen, stamp = file.known, ""
    elif stamp and entry.get("stamp") == stamp:
        seen = ref
    else:
        seen, stamp = read(file.name, file.path)
    if (seen.size, seen.sha256) != (ref.size, ref.sha256):
        return None
    return Transferred(file=ref, found=True, sent=0, etag=entry["etag"], proof=PROVEN_BEFORE, stamp=stamp)


def _there(container: Target, outgoing: Sequence[Outgoing]) -> dict[str, str]:
    """Etags of the blobs that are there, by name: one question for a thousand files instead of one each."""
    wanted = {one.name for one in outgoing}
    tops: dict[str, list[str]] = {}
    for name in wanted:
        tops.setdefault(name[: name.find("/") + 1], []).append(name)
    prefixes = [commonprefix(names) for names in tops.values()]  # noqa: RUF071 - a blob's prefix may end anywhere
    found: dict[str, str] = {}
    try:
        for prefix in prefixes:
            found |= {item.name: item.etag for item in container.list(prefix, make=False) if item.name in wanted}
    except NotFoundError:  # no container yet: the first write makes it
        return {}
    return found


def _read(container: Target, name: str) -> dict[str, dict[str, Any]] | None:
    try:
        body = json.loads(b"".join(container.chunks(name, block=LARGEST, workers=1, seen=lambda _: None)))
        return {one["path"]: one for one in body["files"]}
    except NotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"Manifest {container.name}/{name} cannot be read: {error}.",
            left="the manifest and every blob",
            next="Remove it and clear the task: every blob is proven again and the manifest written anew.",
        ) from error


def _entry(one: Transferred) -> dict[str, Any]:
    file = one.file
    return {"path": file.path, "size": file.size, "sha256": file.sha256, "etag": one.etag, "proof": one.proof}


def _path(entry: dict[str, Any]) -> str:
    return str(entry["path"])


def _kept(one: Transferred, known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    entry = known[one.file.path] if one.proof == PROVEN_BEFORE else _entry(one)
    return entry | {"stamp": one.stamp} if one.stamp else entry


def _write(
    container: Target, batch: str, entries: list[dict[str, Any]], before: dict[str, dict[str, Any]] | None
) -> None:
    name = manifest_name(batch)
    ordered: list[dict[str, Any]] = sorted(entries, key=_path)
    body = canonical_json({"batch": batch, "files": ordered})
    if before is None:
        try:
            container.put_new(name, body)
        except ConflictError:
            before = _read(container, name)
        else:
            return
    if _contents(before or {}) != _contents({str(one["path"]): one for one in entries}):
        raise ConflictError(
            f"Manifest {container.name}/{name} is there with other files.",
            left="the manifest, and every blob",
            next="A batch's files never change: look at who else uses this batch's id.",
        )
    # The same files under other etags: somebody restored blobs, and they were proven again just now.
    container.put(name, body)


def _contents(entries: dict[str, dict[str, Any]]) -> set[tuple[str, int, str]]:
    return {(path, one["size"], one["sha256"]) for path, one in entries.items()}
