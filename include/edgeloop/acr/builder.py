"""The builder for workers without a Docker engine: one task run of the registry builds, proves and pushes.

What is the same as with an engine: the files, the labels, what a container of it runs, the bill of materials.
What is not, bit for bit: Azure's builder stamps times into the configuration and packs the layer, so image id and
manifest digest are its own (its records name it), and the manifest has no annotations.
"""

from __future__ import annotations

import gzip
import io
import logging
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.acr import runs, task
from edgeloop.containers.engine import EngineImage
from edgeloop.errors import CloudError, ConfigurationError, IntegrityError, ProofFailedError
from edgeloop.packaging import build, builder, inventory, push
from edgeloop.packaging.build import Built
from edgeloop.packaging.packing import INVENTORIES
from edgeloop.packaging.proof import Proof
from edgeloop.records import ModelImage, sha256_hex

if TYPE_CHECKING:
    from edgeloop.acr.runs import Run, Runs
    from edgeloop.containers.registry import Manifest, Registry
    from edgeloop.packaging.build import Plan, Recipe
    from edgeloop.packaging.golden import Golden
    from edgeloop.packaging.inventory import Inventory
    from edgeloop.packaging.push import Pushed
    from edgeloop.records import ModelVersion
    from edgeloop.store import Store

BY, SOURCES = "acr_task", "acr_sources"
ID = 24
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The base image as the registry has it: ``reference`` by digest."""

    reference: str
    repository: str
    manifest: Manifest
    image: EngineImage


def base_of(registry: Registry, name: str) -> Base:
    """The base called ``name``, ``<registry>/<repository>:<tag>``; it must be in the registry that builds."""
    host, _, rest = name.partition("/")
    if host != registry.endpoint.host or not rest:
        raise ConfigurationError(
            f"image.base is {name!r}; a task of {registry.endpoint.host} takes its base from there.",
            left="nothing was built",
            next=f"Import it (`az acr import`, or `docker push`) and write image.base: {registry.endpoint.host}/"
            "edgeloop/scorer-base:<tag>.",
        )
    repository, mark, reference = rest.partition("@") if "@" in rest else rest.partition(":")
    manifest = registry.get(repository, reference if mark else "latest")
    config = registry.config(repository, manifest)
    return Base(
        reference=f"{host}/{repository}@{manifest.digest}",
        repository=repository,
        manifest=manifest,
        image=EngineImage(
            id=manifest.config.digest,
            layers=tuple(config["rootfs"]["diff_ids"]),
            config=config.get("config") or {},
            architecture=config["architecture"],
            os=config["os"],
            size=sum(one.size for one in manifest.layers),
        ),
    )


def plan_of(base: Base, model: ModelVersion, content: bytes, recipe: Recipe) -> Plan:
    """As :func:`edgeloop.packaging.build.prepare` does with an engine's base."""
    build.require_same(model, content)
    return build.plan(base.image, model, build.layer_of(model, content, recipe), recipe, by=BY)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcrTaskBuilder:
    """A registry of Azure builds, proves and pushes; ``pool`` is its agent pool, "" for Azure's own machines."""

    runs: Runs
    registry: Registry
    store: Store
    base: Base
    plan: Plan
    pool: str = ""

    @property
    def run_name(self) -> str:
        """The task run's name: the same image, the same run."""
        return f"edgeloop-{self.plan.image.id[:ID]}"

    @property
    def subject(self) -> str:
        """What the run makes by name; by digest once that was recorded, which is never made anew."""
        known = self._recorded()
        return str(self.plan.name) if known is None else f"{self.plan.name.repository}@{known.digest}"

    def build(self, *, force: bool) -> Built:
        """Say what will be built; the run that does it goes on to the proof. ``force`` forgets a run that ended."""
        if force:
            self.runs.delete(self.run_name)
        found = self.runs.find(self.run_name) is not None
        return Built(image=self.plan.image, name=self.plan.name, engine_id=self.plan.engine_id, found=found)

    def inventory(self) -> Inventory:
        """Read from the base's layers in the registry, each once for ever."""
        layers = zip(self.base.image.layers, self.base.manifest.layers, strict=True)
        return inventory.united(self._inventory(diff_id, blob.digest) for diff_id, blob in layers)

    def prove(self, rows: Golden) -> Proof:
        """Let the registry build, ask and compare, and push what passed; follows a run that was begun before.

        Raises ``ProofFailedError`` if the image answers otherwise and ``CloudError`` for a run that ended badly.
        """
        run = self._begun(rows)
        LOG.info("Run %s of registry %s is %s", run.id, self.registry.endpoint.host, run.status or "beginning")
        if run.active:
            run = self.runs.await_end(run.name)
        log = self.runs.log(run) if run.id else ""
        said = task.said(log)
        differing = rows.differing(said.answer) if said is not None else ""
        if differing:
            raise self._failed(f"it {differing} ({rows.sha256[:16]})", log)
        if not run.good:
            raise self._ended(run, log)
        if said is None:
            raise self._failed("its run tells nothing of a proof", log)
        return Proof(
            rows=len(rows.rows),
            start_seconds=said.start_seconds,
            cpu_seconds=said.cpu_seconds,
            memory_bytes=said.memory_bytes,
            engine_id=self._pushed(run).config.digest,
        )

    def push(self, *, proven: str) -> Pushed:
        """Read back what the run pushed, give it its other tags, and attach its bill of materials."""
        manifest = self._recorded() or self.registry.get(self._repository, self.plan.name.tag)
        if manifest.config.digest != proven:
            raise IntegrityError(
                f"{self.plan.name} is {manifest.config.digest[:19]} in the registry, but it was {proven[:19]} that was "
                "proven.",
                left="the devices serve what they served",
                next="See who else pushes to that repository; then clear the build task with a reason to force.",
            )
        for tag in build.more_tags(self.plan.model):
            self.registry.tag(self._repository, manifest.digest, tag)
        self.registry.attach(self._repository, manifest.digest, builder.bill(self.store, self.plan, self.inventory))
        return push.as_found(self.plan.name, manifest)

    def _begun(self, rows: Golden) -> Run:
        """The run of this image: the one there is, or a new one; one that ended badly is begun again."""
        before = self.runs.find(self.run_name)
        if before is not None and (before.active or before.good):
            return before
        again = before.id or before.status if before is not None else ""
        # Two workers who begin at once must ask for the very same: the first one's source is both's.
        key = sha256_hex(f"{self.plan.image.id} {again}".encode())
        source = self.store.fixed(SOURCES, key)
        if source is None:
            uploaded = self.runs.upload(task.context(self.plan, self.base.reference, rows))
            source = self.store.fix(SOURCES, key, uploaded)
        body = task.body(self.subject, source, again=again, pool=self.pool)
        return self.runs.start(self.run_name, body)

    def _pushed(self, run: Run) -> Manifest:
        """What the registry holds under the tag; the run must have named the same."""
        found = self._recorded() or self.registry.get(self._repository, self.plan.name.tag)
        if run.digest and run.digest != found.digest:
            raise IntegrityError(
                f"Run {run.id} pushed {run.digest} as {self.plan.name}, but the registry answers {found.digest}.",
                left="the devices serve what they served",
                next="See who else pushes to that repository; then clear the build task with a reason to force.",
            )
        return found

    def _recorded(self) -> Manifest | None:
        """What was recorded for this image before, if the registry has it: a record never changes its digest."""
        known = self.store.find(ModelImage, self.plan.image.id)
        return self.registry.find(self._repository, known.digest) if known is not None and known.digest else None

    def _inventory(self, diff_id: str, digest: str) -> Inventory:
        key = diff_id.removeprefix("sha256:")
        known = self.store.fixed(INVENTORIES, key)
        if known is None:
            packed = self.registry.blob(self.base.repository, digest)
            with tarfile.open(fileobj=gzip.GzipFile(fileobj=io.BytesIO(packed)), mode="r|") as layer:
                known = self.store.fix(INVENTORIES, key, inventory.read(layer).to_json())
        return inventory.Inventory.from_json(known)

    def _failed(self, why: str, log: str) -> ProofFailedError:
        return ProofFailedError(
            f"The image, run by the registry's task as on a device, failed: {why}.\n"
            f"The run's last lines: {runs.last_lines(log)}",
            left="it was not pushed; the devices serve what they served",
            next="Compare include/images/scorer with the model's inputs; then clear the build task with a reason to "
            "force.",
        )

    def _ended(self, run: Run, log: str) -> CloudError | ProofFailedError:
        words = log.rpartition("golden answers are other")[1]
        if words:
            return self._failed("the golden answers are other than the model's", log)
        return CloudError(
            f"Run {run.id or run.name} of registry {self.runs.registry.registry!r} ended as {run.status}"
            f"{f' ({run.why})' if run.why else ''}.\nIts last lines: {runs.last_lines(log)}",
            left="nothing was pushed under the image's tag; the devices serve what they served",
            next="Correct what the lines say, then clear the prove task: it begins a new run.",
        )

    @property
    def _repository(self) -> str:
        return self.plan.name.repository.removeprefix(f"{self.registry.endpoint.host}/")
