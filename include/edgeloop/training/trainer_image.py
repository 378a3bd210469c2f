"""The trainer image of a pipeline: the common one and a layer with the pipeline's own packages, made for the VM.

No engine builds it. The layer is a tar of pinned, hashed wheels that the worker downloads; the image is that layer on
the VM's own trainer image, written as Docker's archive and loaded over SSH: the VM has the other layers, so only the
new one travels. The same requirements on the same base are the same bytes and the same id, whoever makes them, and the
id that the VM names afterwards must be the one that was computed here.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.containers.engine import EngineImage
from edgeloop.errors import ConfigurationError, IntegrityError, UnreachableError
from edgeloop.packaging.layer import base_digest
from edgeloop.records import canonical_json, sha256_hex
from edgeloop.ssh import problems
from edgeloop.training import image_archive, image_commands, requirements, wheels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from edgeloop.catalog import Snapshot
    from edgeloop.ssh.shell import Shell

RECIPE = "1"
"""Raise it when the layer is made otherwise."""
SITE = "/opt/requirements"
LOOK_SECONDS, ASK_SECONDS, LOAD_SECONDS = 30.0, 120.0, 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What wheels for an image must fit: ``python`` as (3, 11), ``machine`` as x86_64, ``glibc`` as (2, 36)."""

    python: tuple[int, int]
    machine: str
    glibc: tuple[int, int]


class VmImages:
    """The images of a training VM. Raises ``UnreachableError`` when VM or Docker do not answer."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    def find(self, name: str) -> EngineImage | None:
        """The image of that name, or None."""
        command = image_commands.inspect(name)
        done = self.shell.run(command, timeout=LOOK_SECONDS)
        if done.exit != 0:
            raise self._engine_down(done.err)
        # Docker prints [] before it says that there is none.
        found = json.loads(done.text or "[]")
        if not found:
            return None
        (attrs,) = found
        return EngineImage(
            id=attrs["Id"],
            layers=tuple(attrs["RootFS"]["Layers"] or ()),
            config=attrs["Config"],
            architecture=attrs["Architecture"],
            os=attrs["Os"],
            size=attrs["Size"],
        )

    def facts(self, name: str) -> Facts:
        """What wheels for the image must fit; raises ``ConfigurationError`` for one without Python on glibc."""
        done = self.shell.run(image_commands.ask(name, image_commands.FACTS), timeout=ASK_SECONDS)
        try:
            python, machine, glibc = json.loads(done.text)
            major, minor = (int(part) for part in glibc.split(".")[:2])
        except ValueError:
            raise ConfigurationError(
                f"Image {name!r} on {self.shell.endpoint.host} has no python3 with glibc to install packages for: "
                f"{(done.err or done.text).strip()[-300:]}",
                left="the image; nothing was made of it",
                next="Build training.requirements on an image with Python, or put what train.py needs into "
                "training.image itself and leave training.requirements out.",
            ) from None
        return Facts(python=(python[0], python[1]), machine=machine, glibc=(major, minor))

    def packages(self, name: str) -> dict[str, str]:
        """Which packages the image finds: name as it is compared, and version."""
        done = self.shell.check(image_commands.ask(name, image_commands.VERSIONS), timeout=ASK_SECONDS)
        return dict(json.loads(done.text))

    def load(self, archive: Iterable[bytes], wanted: str) -> None:
        """Load an archive; raises ``IntegrityError`` if the VM then has no image of the id ``wanted``."""
        done = self.shell.run(image_commands.load(), stdin=iter(archive), timeout=LOAD_SECONDS)
        if done.exit != 0:
            raise problems.command_failed(self.shell.endpoint, image_commands.load(), done.exit, done.err)
        if self.find(wanted) is None:
            raise IntegrityError(
                f"Docker on {self.shell.endpoint.host} loaded an image ({done.text.strip()[-200:]}), and none of it is "
                f"{wanted}, which was sent.",
                left="what it loaded",
                next="Clear the task. If it stays so, that engine does not keep images by Docker's own ids (it has "
                "containerd's image store): build the image elsewhere and name it as training.image.",
            )

    def tag(self, image_id: str, name: str) -> None:
        """Give an image a name."""
        self.shell.check(image_commands.tag(image_id, name), timeout=LOOK_SECONDS)

    def prune(self, repository: str, keep: str) -> None:
        """Take the other images of a repository off the VM, those in use left."""
        self.shell.check(image_commands.prune(repository, keep), timeout=ASK_SECONDS)

    def _engine_down(self, said: str) -> UnreachableError:
        endpoint = self.shell.endpoint
        return UnreachableError(
            f"Docker on {endpoint.host} (connection {endpoint.connection!r}) does not answer: {said.strip()[-300:]}",
            left="its images",
            next=f"Look at `ssh -p {endpoint.port} {endpoint.user}@{endpoint.host} docker version`, then clear it.",
        )


def repository_of(pipeline: str) -> str:
    """What a pipeline's trainer image is called; Docker takes no name that ends in or repeats an underscore."""
    return f"edgeloop/trainer-{pipeline.replace('_', '-').strip('-')}"


def name_of(pipeline: str, text: str, base: EngineImage) -> str:
    """Repository and digest of the image of some requirements on a base: known before it is made."""
    digest = sha256_hex(canonical_json({"recipe": RECIPE, "base": base_digest(base), "requirements": text}))
    return f"{repository_of(pipeline)}:{digest[:12]}"


def reference(images: VmImages, snapshot: Snapshot) -> str:
    """The image that a pipeline's training runs in: ``training.image``, or the one made of it."""
    training = snapshot.spec.training
    if not training.requirements:
        return training.image
    base = images.find(training.image)
    if base is None:
        return training.image
    return name_of(snapshot.spec.name, snapshot.text(training.requirements), base)


def ensure(
    images: VmImages,
    snapshot: Snapshot,
    *,
    wheelhouse: Path | None,
    say: Callable[[str], None],
) -> str:
    """Make sure that the VM has the pipeline's own trainer image on its base; returns the image's name.

    Args:
        images: Those of the VM, with ``training.image`` among them.
        snapshot: The pipeline.
        wheelhouse: A folder of wheels to take instead of asking an index; None asks where the worker's pip is told to.
        say: Takes a line of the task's log.

    Raises:
        ConfigurationError: The requirements are not all pinned with hashes, or cannot be had.
        IntegrityError: What the VM then has is not what was made.
    """
    training = snapshot.spec.training
    base = images.find(training.image)
    if not training.requirements or base is None:
        return training.image
    text = snapshot.text(training.requirements)
    pins = _pins(training.requirements, text)
    name = name_of(snapshot.spec.name, text, base)
    if images.find(name) is not None:
        return name
    facts = images.facts(training.image)
    say(f"Image {name} is made: {len(pins)} packages for Python {facts.python[0]}.{facts.python[1]}")
    with tempfile.TemporaryDirectory(prefix="edgeloop-") as folder:
        site = Path(folder) / "site"
        wheels.install(text, site, facts, wheelhouse=wheelhouse)
        layer = Path(folder) / "layer.tar"
        image_archive.pack(site, layer, below=SITE.strip("/"))
        made = image_archive.Archive.on(_with_site(base), layer, labels(snapshot, training.requirements, text), name)
        say(f"{layer.stat().st_size / 2**20:.1f} MiB of packages travel to {images.shell.endpoint.host}")
        images.load(made.chunks(), made.image_id)
    prove(images, name, pins)
    images.prune(repository_of(snapshot.spec.name), name)
    return name


def labels(snapshot: Snapshot, file: str, text: str) -> dict[str, str]:
    """What the image says of itself."""
    return {
        "edgeloop.pipeline": snapshot.spec.name,
        "edgeloop.base": snapshot.spec.training.image,
        "edgeloop.requirements": f"{file} sha256:{sha256_hex(text.encode())}",
    }


def prove(images: VmImages, name: str, pins: Iterable[requirements.Pin]) -> None:
    """Ask the image itself for the versions that were pinned; raises ``IntegrityError`` naming those that differ."""
    found = images.packages(name)
    wrong = [f"{one.name} {found.get(one.name, '(none)')}, not {one.version}" for one in pins if _differs(one, found)]
    if wrong:
        raise IntegrityError(
            f"Image {name} does not hold what was pinned: {'; '.join(wrong)}.",
            left="the image, and every other on the VM",
            next=f"Remove it there (`docker rmi {name}`) and clear the task.",
        )


def _differs(pin: requirements.Pin, found: dict[str, str]) -> bool:
    from packaging.version import InvalidVersion, Version

    there = found.get(pin.name)
    if there is None:
        # A requirement of another platform only is rightly absent.
        return pin.always
    try:
        return Version(there) != Version(pin.version)
    except InvalidVersion:
        return there != pin.version


def _pins(file: str, text: str) -> list[requirements.Pin]:
    pins, mistakes = requirements.read(text)
    if mistakes:
        lines = "".join(f"\n  {file}:{one.line}: {one.remedy}" for one in mistakes)
        raise ConfigurationError(
            f"training.requirements cannot be installed exactly as it was resolved:{lines}",
            left="the VM as it is; nothing was downloaded",
            next=f"Correct {file}; {requirements.REMEDY}.",
        )
    return pins


def _with_site(base: EngineImage) -> EngineImage:
    """The base with the new packages first on Python's path."""
    variables = list(base.config.get("Env") or [])
    before = next((one.partition("=")[2] for one in variables if one.startswith("PYTHONPATH=")), "")
    rest = [one for one in variables if not one.startswith("PYTHONPATH=")]
    config: dict[str, Any] = {**base.config, "Env": [*rest, f"PYTHONPATH={SITE}{':' if before else ''}{before}"]}
    return dataclasses.replace(base, config=config)


def bring(images: VmImages, name: str, image_id: str, saved: Iterator[bytes]) -> None:
    """Load a whole image that another engine saved, under its name; raises ``IntegrityError`` for another id."""
    images.load(saved, image_id)
    images.tag(image_id, name)
