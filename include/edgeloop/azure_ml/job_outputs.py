"""What a job of Azure ML wrote, brought home by the rules of the VM: an allow-list, sizes, a manifest of digests.

The job writes into the pipeline's own container, so the model lies in the account that the data lies in, and is
collected with that account's client: the workspace's storage keys are not asked for.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from edgeloop.azure_ml.in_job import MANIFEST
from edgeloop.errors import IntegrityError, NotFoundError, TrainingFailedError
from edgeloop.tidy import tidy
from edgeloop.training import outputs as rules
from edgeloop.training.outputs import Choice, Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from edgeloop.training.job import Job

MOST_MANIFEST = 1024 * 1024
MOST_LISTED = 10_000
UNSAFE = ("", ".", "..")


class Written(Protocol):
    """Where a job wrote; a blob container is one."""

    def list(self, prefix: str = "") -> Iterator[Any]:
        """Everything below a prefix, with name and size."""
        ...

    def get(self, name: str) -> bytes:
        """Read, or raise ``NotFoundError``."""
        ...

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a blob, piece by piece."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Write a blob, replacing what is there."""
        ...

    def delete(self, name: str) -> None:
        """Remove a blob; that it is not there is no error."""
        ...


class JobOutputs:
    """The outputs of one attempt, with the methods by which a session collects those on a VM.

    Args:
        blobs: The pipeline's container.
        folder: The attempt's folder there, without a slash at its end.
        say: Takes one line of the task's log.
        spare: Folders that are done with when the outputs are collected.
    """

    def __init__(self, blobs: Written, folder: str, say: Callable[[str], None], *, spare: tuple[str, ...] = ()) -> None:
        self.blobs, self.folder, self.say, self.spare = blobs, folder, say, spare
        self._left: tuple[str, ...] = ()
        self._manifest: dict[str, dict[str, Any]] | None = None

    @property
    def manifest(self) -> dict[str, dict[str, Any]]:
        """What the job says it wrote, by path; raises ``TrainingFailedError``."""
        if self._manifest is None:
            self._manifest = read_manifest(self._read_manifest(), self.folder)
        return self._manifest

    def _read_manifest(self) -> bytes:
        name = f"{self.folder}/{MANIFEST}"
        sizes = [one.size for one in self.blobs.list(name) if one.name == name]
        if not sizes or sizes[0] > MOST_MANIFEST:
            raise _no_manifest(
                self.folder, f"its manifest has {sizes[0]} bytes" if sizes else "its manifest is missing"
            )
        try:
            return self.blobs.get(name)
        except NotFoundError:
            raise _no_manifest(self.folder, "its manifest is missing") from None

    def choose(self, job: Job) -> Choice:
        """What of the outputs is to be collected; what stays is told when the rest is home.

        Raises ``TrainingFailedError``.
        """
        choice = rules.choose(entries(self.manifest, self._listed()), job.allowance)
        self._left = choice.left
        return replace(choice, left=())

    def _listed(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for one in self.blobs.list(f"{self.folder}/"):
            found[one.name.removeprefix(f"{self.folder}/")] = one.size
            if len(found) > MOST_LISTED:
                raise _no_manifest(self.folder, f"it wrote more than {MOST_LISTED} files")
        return found

    def digests(self, job: Job, names: tuple[str, ...]) -> dict[str, str]:
        """The sha256 of outputs as the job saw them, by name."""
        del job
        return {name: str(self.manifest[name]["sha256"]) for name in names}

    def fetch(self, job: Job, entry: Entry, sink: BinaryIO, *, sha256: str) -> None:
        """Copy one output into ``sink``; raises ``IntegrityError`` when it is not what the job's manifest says."""
        del job
        size, digest = 0, hashlib.sha256()
        for chunk in self.blobs.chunks(f"{self.folder}/{entry.path}"):
            size += len(chunk)
            digest.update(chunk)
            if size > entry.size:
                break
            sink.write(chunk)
        if size != entry.size or digest.hexdigest() != sha256:
            raise IntegrityError(
                f"{entry.path} reads as {size} bytes with sha256 {digest.hexdigest()}, the job's manifest says "
                f"{entry.size} bytes and {sha256}.",
                left=f"the job and what it wrote under {self.folder}",
                next="Clear the task: it collects again. If it stays so, trigger the DAG with a force reason.",
            )

    def forget(self, job: Job) -> None:
        """Remove what was collected, and the checkpoint; if something was not, keep it all and say so."""
        del job
        if self._left:
            self.say(f"Left under {self.folder} of the pipeline's container: " + ", ".join(self._left))
            return
        for folder in (self.folder, *self.spare):
            tidy(self.blobs, [one.name for one in self.blobs.list(f"{folder}/")])

    def mark_unfit(self, job: Job) -> None:
        """Remember that the outputs will not do: the next try asks for another attempt."""
        del job
        self.blobs.put(unfit_mark(self.folder), b"")


def unfit_mark(folder: str) -> str:
    """The blob that says of an attempt's outputs that they will not do."""
    return f"{folder}-unfit"


def read_manifest(raw: bytes, folder: str) -> dict[str, dict[str, Any]]:
    """The manifest by path; raises ``TrainingFailedError`` for one that is no list of plain relative paths."""
    try:
        found = {str(one["path"]): dict(one) for one in json.loads(raw)}
        for path, one in found.items():
            if any(part in UNSAFE for part in path.split("/")) or posixpath.isabs(path):
                raise ValueError(f"{path!r} is no plain path")  # noqa: TRY301 - one place says what is wrong
            one["size"] = int(one["size"])
            one["kind"], one["sha256"] = str(one["kind"]), str(one["sha256"])
    except (ValueError, TypeError, KeyError) as error:
        raise _no_manifest(folder, f"its manifest is none: {error}") from error
    return found


def entries(manifest: dict[str, dict[str, Any]], listed: dict[str, int]) -> tuple[Entry, ...]:
    """What is there, as the rules take it: sizes as storage counts them, kinds as the job saw them.

    What the manifest does not name was written by something else than the driver; it is never collected, only told,
    and an empty blob that is a folder's mark is not even that. A file that storage does not have is missing.
    """
    known = [
        Entry(path=path, kind=one["kind"], size=listed.get(path, 0))
        for path, one in manifest.items()
        if path in listed or one["kind"] != "f"
    ]
    strange = _strange(manifest, listed)
    return tuple(sorted((*known, *strange), key=lambda one: one.path))


def _strange(manifest: dict[str, dict[str, Any]], listed: dict[str, int]) -> Iterable[Entry]:
    for path, size in listed.items():
        if path in manifest or path == MANIFEST or size == 0:
            continue
        yield Entry(path=path, kind="?", size=size)


def _no_manifest(folder: str, why: str) -> TrainingFailedError:
    return TrainingFailedError(
        f"The job completed, but what it wrote cannot be collected: {why}.",
        left=f"the job, and what it wrote under {folder} of the pipeline's container",
        next="Look at its log in the studio; may jobs write to the datastore? Then clear the task: it collects again.",
    )
