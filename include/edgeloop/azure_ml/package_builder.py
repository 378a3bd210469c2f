"""Azure ML as builder of images: what it packaged is fetched by digest, proven here like any other, then used.

Azure ML pushes what it builds before anybody has tried it. So there is nothing left to push: `push` makes sure that
what the registry holds is what was proven, and attaches its bill of materials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.azure_ml.packages import by_digest, order_of
from edgeloop.errors import EngineError, IntegrityError
from edgeloop.packaging import build, proof, push
from edgeloop.packaging.builder import bill
from edgeloop.packaging.inventory import united
from edgeloop.records import ModelImage, canonical_json

if TYPE_CHECKING:
    from edgeloop.azure_ml.packages import Order, Packager
    from edgeloop.containers.engine import Engine
    from edgeloop.containers.registry import Manifest, Registry
    from edgeloop.packaging.base_layers import Layers
    from edgeloop.packaging.build import Built, Name, Plan, Recipe
    from edgeloop.packaging.golden import Golden
    from edgeloop.packaging.inventory import Inventory
    from edgeloop.packaging.proof import Proof
    from edgeloop.packaging.push import Pushed
    from edgeloop.records import ModelVersion
    from edgeloop.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageBuilder:
    """See :class:`edgeloop.packaging.builder.Builder`; ``engine`` only proves, ``registry`` is the workspace's."""

    packager: Packager
    engine: Engine
    registry: Registry
    cache: Layers
    store: Store
    model: ModelVersion
    recipe: Recipe

    def build(self, *, force: bool) -> Built:
        """Have it packaged, or find the package, and bring it onto the engine; ``force`` pulls it again.

        Raises:
            EngineError: The engine has not what it pulled.
        """
        name, manifest = self._package()
        found = self.engine.find(manifest.config.digest) is not None
        if not found or force:
            login = self.registry.pull_login(self._path(name), manifest.digest)
            self.engine.pull(name.repository, manifest.digest, login)
        if self.engine.find(manifest.config.digest) is None:
            raise EngineError(
                f"The engine of connection {self.engine.endpoint.connection!r} pulled {name} and has no image "
                f"{manifest.config.digest}.",
                left="the package in its registry; nothing was recorded",
                next="Clear the build task; if it stays so, look at the engine's log and disk.",
            )
        return build.Built(image=self._image, name=name, engine_id=manifest.config.digest, found=found)

    def inventory(self) -> Inventory:
        """Read from the package's layers, each once on this worker."""
        _, manifest = self._package()
        layers = self.engine.get(manifest.config.digest).layers
        missing = [one for one in layers if self.cache.find(one) is None]
        if missing:
            self.cache.take(self.engine.save(manifest.config.digest), missing)
        return united(found[1] for one in layers if (found := self.cache.find(one)) is not None)

    def prove(self, rows: Golden) -> Proof:
        """As any image: Azure ML's own servers do not speak the protocol of devices, and fail here."""
        _, manifest = self._package()
        return proof.prove(self.engine, manifest.config.digest, self.model.pipeline, rows)

    def push(self, *, proven: str) -> Pushed:
        """Find it where Azure ML put it. Raises ``IntegrityError`` if that is not what was proven."""
        name, manifest = self._package()
        if manifest.config.digest != proven:
            raise IntegrityError(
                f"{name} is {manifest.config.digest[:19]} by now, but it was {proven[:19]} that was proven.",
                left="the registry and the devices; nothing was recorded",
                next="Clear the build task of this run: what is there now is fetched and proven.",
            )
        plan = self._plan(name, manifest)
        self.registry.attach(self._path(name), manifest.digest, bill(self.store, plan, self.inventory))
        return push.as_found(name, manifest)

    @property
    def _order(self) -> Order:
        card = canonical_json(build.card(self.model, self.recipe.features))
        return order_of(self.model, self.recipe.base, card)

    @property
    def _image(self) -> ModelImage:
        """Another one than an engine would build of the same model: the base tells who did."""
        return ModelImage(
            pipeline=self.model.pipeline,
            model=self.model.id,
            base=f"azure_ml_package:{self._order.number}",
            config=self.recipe.config,
        )

    def _package(self) -> tuple[Name, Manifest]:
        image = self.packager.ensure(self._order)
        reference = by_digest(image, self.registry.endpoint.host, self.registry.find)
        repository, _, digest = reference.partition("@")
        tag = image.partition("/")[2].partition(":")[2] or "latest"
        name = build.Name(repository=repository, tag=tag)
        return name, self.registry.get(self._path(name), digest)

    def _path(self, name: Name) -> str:
        return name.repository.removeprefix(f"{self.registry.endpoint.host}/")

    def _plan(self, name: Name, manifest: Manifest) -> Plan:
        return build.Plan(
            image=self._image,
            name=name,
            model=self.model,
            dataset=self.recipe.dataset,
            base=self.engine.get(manifest.config.digest),
            layer=b"",
            configuration=self.registry.blob(self._path(name), manifest.config.digest),
            annotations={},
        )
