"""Package: build the image of a registered model, prove it on the builder's engine, push it to the registry."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

import edgeloop
from edgeloop.errors import ConfigurationError, ConflictError, NotFoundError
from edgeloop.packaging import build, golden, proof, push
from edgeloop.records import ModelImage, ModelVersion, TrainingRun
from edgeloop.residency_outputs import require_figures, require_synthetic
from edgeloop_airflow import hooks
from edgeloop_airflow.origin import origin, send

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.sdk import Context

    from edgeloop.containers.engine import Engine
    from edgeloop.packaging.build import Built
    from edgeloop.packaging.golden import Golden
    from edgeloop_airflow.hooks import Desk

PROOFS = "proofs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every packaging task works with: the model, its desk, and the builder's engine with its image on it."""

    desk: Desk
    model: ModelVersion
    engine: Engine
    built: Built

    @property
    def image(self) -> ModelImage:
        """The image's record so far."""
        return self.built.image

    @property
    def golden_blob(self) -> str:
        """Where the golden rows are, beside the records."""
        return f"golden/{self.image.id}.json"

    @property
    def proof_key(self) -> str:
        """A proof is of the very bytes that were run, by the library that ran them: a later one may ask for more."""
        engine_id = self.built.engine_id.removeprefix("sha256:")
        return f"{self.image.id[:32]}-{engine_id[:32]}-{edgeloop.__version__}"


class _PackagingOperator(BaseOperator):
    """Base of the three: every one makes sure of the image first, which is free when it is there."""

    template_fields: ClassVar[Sequence[str]] = ("force",)

    def __init__(self, *, pipeline: str, force: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline, self.force = pipeline, force

    @contextmanager
    def bench(self, context: Context, *, rebuild: bool = False) -> Iterator[Bench]:
        from edgeloop.containers.engine import Engine

        key = context["dag_run"].partition_key
        version, _, model_id = (key or "").partition("@")
        if not model_id:
            raise ConfigurationError(
                f"{key!r} is no model: a packaging run's partition key reads 'v<version>@<model id>'.",
                left="everything",
                next="Trigger the run with the key that the register task logged.",
            )
        desk = hooks.desk(self.pipeline)
        model = desk.store.starting(ModelVersion, model_id)
        desk = desk.at(model.config)
        spec = desk.snapshot.spec
        require_figures(spec, json.loads(model.metrics))
        training = desk.store.find(TrainingRun, model.training_run)
        recipe = build.Recipe(
            base=spec.image.base,
            features=spec.model.features,
            host=hooks.registry_endpoint(spec.image.registry).host,
            repository=spec.image.repository,
            dataset=training.dataset if training else "",
            config=model.config,
        )
        with Engine(hooks.engine_endpoint(spec.image.engine)) as engine:
            built = build.ensure(engine, model, desk.blobs.get(model.blob), recipe, force=rebuild and bool(self.force))
            self.log.info(
                "%s image %s of model %s (%s) on the engine: %s",
                "Found" if built.found else "Built",
                built.image.key,
                version,
                model.sha256[:16],
                built.engine_id,
            )
            yield Bench(desk=desk, model=model, engine=engine, built=built)

    def golden(self, bench: Bench) -> Golden:
        """The golden rows of the bench's model, made once."""
        blobs, spec = bench.desk.blobs, bench.desk.snapshot.spec
        try:
            found = golden.Golden.from_json(blobs.get(bench.golden_blob))
        except NotFoundError:
            content = blobs.get(bench.model.blob)
            made = golden.make(content, bench.model.sha256, spec.model.features, spec.image.golden_rows)
        else:
            require_synthetic(spec, found)
            return found
        try:
            blobs.put_new(bench.golden_blob, made.to_json())
        except ConflictError:
            return golden.Golden.from_json(blobs.get(bench.golden_blob))
        return made


class BuildImageOperator(_PackagingOperator):
    """Put the model on the scorer's base image as one more layer; returns the image record's id."""

    def execute(self, context: Context) -> str:
        """Build it, or find it on the engine."""
        with self.bench(context, rebuild=True) as bench:
            return bench.image.id


class ProveImageOperator(_PackagingOperator):
    """Run the image as a device would and compare its golden answers with the model's, byte for byte."""

    def execute(self, context: Context) -> str:
        """Prove it, or find the proof of the very same bytes."""
        with self.bench(context) as bench:
            known = bench.desk.store.fixed(PROOFS, bench.proof_key)
            if known and not self.force:
                self.log.info("Found the proof of image %s: %s", bench.image.key, known)
                return bench.image.id
            rows = self.golden(bench)
            passed = proof.prove(bench.engine, bench.built.engine_id, bench.model.pipeline, rows)
            bench.desk.store.fix(PROOFS, bench.proof_key, passed.to_json())
            self.log.info(
                "Image %s answers %d golden rows as the model does; ready after %.2f s, %.0f MB of memory",
                bench.image.key,
                passed.rows,
                passed.start_seconds,
                passed.memory_bytes / 1e6,
            )
            return bench.image.id


class PushImageOperator(_PackagingOperator):
    """Push the proven image, read its digest back, record it, and mint the first ring's partition in ``outlets``."""

    def execute(self, context: Context) -> str:
        """Push it, or find it in the registry; skips if its model is champion already."""
        with self.bench(context) as bench:
            stored = self._push(bench, origin(context).kind)
        self._announce(context, bench, stored)
        return stored.id

    def _push(self, bench: Bench, why: str) -> ModelImage:
        from edgeloop.containers.registry import Registry

        store, spec = bench.desk.store, bench.desk.snapshot.spec
        proven = store.fixed(PROOFS, bench.proof_key)
        if not proven:
            raise NotFoundError(
                f"Image {bench.image.key} was never proven in this form; it is not pushed.",
                left="the registry",
                next="Clear the prove task of this run.",
            )
        registry = Registry(hooks.registry_endpoint(spec.image.registry))
        pushed = push.through_engine(
            bench.engine, registry, bench.built.name, bench.built.engine_id, force=bool(self.force)
        )
        self.log.info(
            "%s %s, %d bytes, started in %s s when proven",
            "Found" if pushed.found else "Pushed",
            pushed.reference,
            pushed.size,
            json.loads(proven)["start_seconds"],
        )
        record = replace(
            bench.image, origin=why,
            reference=pushed.reference, digest=pushed.digest, golden=bench.golden_blob, proof=proven,
        )  # fmt: skip
        stored = store.put(record)
        if stored.digest != pushed.digest:
            raise ConflictError(
                f"Image {stored.key} was recorded as {stored.digest}, the registry now holds {pushed.digest}.",
                left="the record and the devices",
                next=f"Restore {stored.reference} in the registry from a backup, or train again for a new image.",
            )
        return stored

    def _announce(self, context: Context, bench: Bench, stored: ModelImage) -> None:
        from edgeloop import registry
        from edgeloop.rollout.plan import Step

        why, key = origin(context), Step(image=stored.key, ring=0).key
        champion = registry.champion(bench.desk.store)
        if champion is not None and champion.id == stored.model and not why.promote:
            raise AirflowSkipException(f"Model version {champion.version} is champion already; its rollout is done.")
        if not why.may_go_out:
            raise AirflowSkipException(
                f"Image {stored.key} is pushed; a {why.kind} starts no rollout by itself. To start it, trigger this "
                f"DAG with the same partition key and a reason as 'promote', or the rollout DAG with key {key}."
            )
        send(context, self.outlets, [key], why)
        self.log.info("Ring 0 may start: partition %s", key)
