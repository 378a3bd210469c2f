"""A training of one's own: a script and files by path or URI, without a pipeline.yaml, records or a ledger."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from edgeloop.errors import ConfigurationError, IntegrityError, TrainingFailedError
from edgeloop.records import canonical_json, sha256_hex
from edgeloop.training import session
from edgeloop.training.bundle import Cargo, Member, member
from edgeloop.training.job import Job
from edgeloop.training.outputs import parse_listing
from edgeloop.training.reaper import ALONE
from edgeloop_airflow import hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from edgeloop.ssh.endpoint import Endpoint
    from edgeloop.training.job import Found
    from edgeloop.training.outputs import Entry
    from edgeloop.training.remote import TrainingVm

CHUNK = 1024 * 1024
MINUTE = 60
MANIFEST = "training.json"
"""Written last: a folder of outputs with it is complete."""


class Source(NamedTuple):
    """A file that is sent: its name in /data, where it is, its size in bytes and its sha256."""

    name: str
    uri: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What is trained, where, and what it may use; the fields are those of ``TrainOnVMOperator``."""

    script: str
    outputs: str
    data: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    collect: tuple[str, ...] = ("model.onnx", "metrics.json")
    connection: str = "edgeloop_vm"
    image: str = "edgeloop/trainer"
    cpus: float = 1.0
    memory_mb: int = 2048
    gpus: int = 0
    disk_mb: int = 1024
    timeout_minutes: float = 60.0
    grace_seconds: float = 120.0


@dataclass(slots=True, kw_only=True)
class ScriptOrder:
    """A training of a script.

    Args:
        script: What is asked for.
        forced: Why the same is trained once more, with the run that said so.
    """

    script: Script
    forced: str = ""
    _job: Job | None = None
    _sources: tuple[Source, ...] = ()

    @classmethod
    def resumed(cls, script: Script, token: str) -> ScriptOrder:
        """The order of a token."""
        return cls(script=script, _job=Job(**json.loads(token)))

    @property
    def connection(self) -> str:
        """The VM's Airflow connection."""
        return self.script.connection

    def endpoint(self) -> Endpoint:
        """How the VM is reached."""
        return hooks.ssh_endpoint(self.script.connection)

    def fix(self, vm: TrainingVm) -> Job:
        """Read every file once for its digest: the same bytes, image and parameters are the same training."""
        if self._job is None:
            one, self._sources = self.script, self._known()
            image = vm.image_id(one.image)
            identity = {
                "kind": "script_training",
                "script": sha256_hex(self._code()),
                "image": image,
                "data": [[each.name, each.sha256] for each in self._sources],
                "parameters": dict(one.parameters),
                "forced": self.forced,
            }
            self._job = Job(
                run_id=sha256_hex(canonical_json(identity)),
                pipeline=ALONE,
                image=image,
                cpus=one.cpus,
                memory_mb=one.memory_mb,
                gpus=one.gpus,
                disk_mb=one.disk_mb,
                grace_seconds=one.grace_seconds,
                deadline=int(time.time() + one.timeout_minutes * MINUTE),
            )
        return self._job

    @property
    def folder(self) -> str:
        """Where the outputs are kept."""
        assert self._job is not None
        return f"{self.script.outputs.rstrip('/')}/{self._job.short}"

    def finished(self) -> str:
        """The folder of the outputs, once its manifest is there."""
        return self.folder if _path(f"{self.folder}/{MANIFEST}").exists() else ""

    def cargo(self) -> Cargo:
        """The files below data/, parameters.json beside them, and the script as code/train.py."""
        sources = self._sources or self._known()
        sent = [member("data/parameters.json", canonical_json(dict(self.script.parameters)))]
        sent += [
            Member(path=f"data/{one.name}", size=one.size, sha256=one.sha256, read=partial(_chunks, one.uri))
            for one in sources
        ]
        return Cargo(members=(*sent, member("code/train.py", self._code())))

    def collect(self, vm: TrainingVm, job: Job, found: Found, say: Callable[[str], None]) -> str:
        """Copy the files that are asked for into a folder of their own, the manifest last; then tidy up on the VM."""
        entries = {one.path: one for one in parse_listing(vm.listing(job))}
        wrong = [name for name in self.script.collect if name not in entries or entries[name].kind != "f"]
        if wrong:
            vm.mark_unfit(job.at(found.attempt))
            raise TrainingFailedError(
                f"The training ended well, but it wrote no regular file {', '.join(wrong)}.",
                left=f"its folder ~/{job.folder} on the VM; nothing was taken from there",
                next="Let the script write them to $EDGELOOP_OUTPUTS, or name others in `collect`.",
            )
        digests = vm.digests(job, self.script.collect)
        kept = {name: self._keep(vm, job, entries[name], digests[name]) for name in self.script.collect}
        record = {"training": job.run_id, "seconds": found.seconds, "outputs": kept}
        _put(f"{self.folder}/{MANIFEST}", canonical_json(record))
        session.tidy(vm, job, self.left(vm, job), say)
        say(f"Collected {', '.join(kept)} into {self.folder}")
        return self.folder

    def left(self, vm: TrainingVm, job: Job) -> tuple[str, ...]:
        """Outputs that were not asked for."""
        there = sorted(one.path for one in parse_listing(vm.listing(job)))
        return tuple(repr(name) for name in there if name not in self.script.collect)

    def token(self) -> str:
        """The job, as JSON."""
        import dataclasses

        assert self._job is not None
        return canonical_json(dataclasses.asdict(self._job)).decode()

    def _keep(self, vm: TrainingVm, job: Job, entry: Entry, sha256: str) -> str:
        target = _path(f"{self.folder}/{entry.path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as sink:
            vm.fetch(job, entry, sink, sha256=sha256)
        return sha256

    def _code(self) -> bytes:
        return b"".join(_chunks(self.script.script))

    def _known(self) -> tuple[Source, ...]:
        names = [uri.rstrip("/").rpartition("/")[2] for uri in self.script.data]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or "parameters.json" in names:
            raise ConfigurationError(
                f"Two files would be /data/{(twice or ['parameters.json'])[0]}.",
                left="nothing was sent",
                next="Rename one of them: each arrives under the last part of its path.",
            )
        return tuple(_source(name, uri) for name, uri in zip(names, self.script.data, strict=True))


def _source(name: str, uri: str) -> Source:
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(uri):
        digest.update(chunk)
        size += len(chunk)
    return Source(name, uri, size, digest.hexdigest())


def _chunks(uri: str, offset: int = 0) -> Iterator[bytes]:
    try:
        with _path(uri).open("rb") as source:
            source.seek(offset)
            while chunk := source.read(CHUNK):
                yield chunk
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"There is no file {uri}.",
            left="nothing was started on the VM",
            next="Give `script` and `data` as paths that the worker sees, or as URIs such as abfs://conn@container/file.",
        ) from error


def _put(uri: str, data: bytes) -> None:
    path = _path(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as sink:
        sink.write(data)
    if b"".join(_chunks(uri)) != data:
        raise IntegrityError(
            f"{uri} does not read as it was written.", left="the job's outputs on the VM", next="Clear it."
        )


def _path(uri: str) -> Any:
    """A path of this machine, or Airflow's own way to a URI, with the connection in its user part."""
    if "://" not in uri:
        from pathlib import Path

        return Path(uri)
    from airflow.sdk import ObjectStoragePath

    return ObjectStoragePath(uri)
