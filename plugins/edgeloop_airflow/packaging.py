"""Package: build the image of a registered model, prove it as a device would run it, push it to the registry."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

import edgeloop
from edgeloop import registry
from edgeloop.errors import ConfigurationError, ConflictError, NotFoundError
from edgeloop.packaging import audit, audit_debian, golden, golden_rows, leftovers
from edgeloop.packaging.audit import Audit
from edgeloop.packaging.builder import bill_of
from edgeloop.records import ModelImage, ModelVersion
from edgeloop.registry.versions import require_loadable
from edgeloop.residency_outputs import require_figures, require_synthetic
from edgeloop_airflow import builders, hooks
from edgeloop_airflow.origin import origin, send

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.sdk import Context

    from edgeloop.packaging.build import Built
    from edgeloop.packaging.builder import Builder
    from edgeloop.packaging.golden import Golden
    from edgeloop.packaging.proof import Proof
    from edgeloop.packaging.push import Pushed
    from edgeloop_airflow.hooks import Desk

PROOFS, AUDITS = "proofs", "audits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every packaging task works with: the model, its desk, who builds, and the image that is built."""

    desk: Desk
    model: ModelVersion
    builder: Builder
    built: Built

    @property
    def image(self) -> ModelImage:
        """The image's record so far."""
        return self.built.image

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
        require_figures(desk.snapshot.spec, json.loads(model.metrics))
        require_loadable(desk.blobs, model, len(desk.snapshot.spec.model.features))
        with builders.opened(desk, model) as builder:
            built = builder.build(force=rebuild and bool(self.force))
            self.log.info(
                "%s image %s of model %s (%s): %s",
                "Found" if built.found else "Built",
                built.image.key,
                version,
                model.sha256[:16],
                built.engine_id,
            )
            yield Bench(desk=desk, model=model, builder=builder, built=built)


class BuildImageOperator(_PackagingOperator):
    """Put the model on the scorer's base image as one more layer; returns the image record's id."""

    def execute(self, context: Context) -> str:
        """Build it, or find it; what is inside is read once for each base."""
        with self.bench(context, rebuild=True) as bench:
            inside = bench.builder.inventory()
            self.log.info(
                "It holds %d Debian packages and %d Python distributions", len(inside.of("deb")), len(inside.of("pypi"))
            )
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
            with ThreadPoolExecutor(1) as beside:
                asked = beside.submit(self._audit, bench)
                passed = bench.builder.prove(rows)
                if self.force:
                    # Not before: devices are asked these rows from then on, and one that fails them is taken back.
                    blob = golden_rows.remake(bench.desk.store, bench.desk.blobs, bench.image, rows, self.force)
                    self.log.info("Golden rows are %s from now on", blob)
                self._note(bench, passed, asked.result())
            return bench.image.id

    def on_kill(self) -> None:
        """Marked failed or cleared while it proves: the process ends within seconds, and its container with it."""
        leftovers.give_up()

    def golden(self, bench: Bench) -> Golden:
        """The golden rows of the bench's model: made once, or anew where a person forces it."""
        desk, spec = bench.desk, bench.desk.snapshot.spec

        def make() -> Golden:
            content = desk.blobs.get(bench.model.blob)
            return golden.make(content, bench.model.sha256, spec.model.features, spec.image.golden_rows)

        if self.force:
            return make()
        rows = golden_rows.ensure(desk.store, desk.blobs, bench.image, make)
        require_synthetic(spec, rows)
        return rows

    def _audit(self, bench: Bench) -> Audit | None:
        """What vulnerability databases say; a whole answer is asked for once a day for the same packages."""
        if not bench.desk.snapshot.spec.image.audit:
            return None
        inside = bench.builder.inventory()
        key = audit.key(inside, f"{datetime.now(UTC):%Y-%m-%d}")
        known = None if self.force else bench.desk.store.fixed(AUDITS, key)
        if known:
            return Audit.from_json(known)
        with ThreadPoolExecutor(1) as beside:
            debian = beside.submit(audit_debian.run, inside)
            said = replace(audit.run(inside.packages), debian=debian.result())
        if said.complete:
            bench.desk.store.fix(AUDITS, key, said.to_json())
        return said

    def _note(self, bench: Bench, passed: Proof, said: Audit | None) -> None:
        store = bench.desk.store
        if said is None:
            self.log.info("No vulnerability database was asked: image.audit is false")
        else:
            for one in said.parts:
                level = self.log.info if one.complete and not one.pressing else self.log.warning
                level("Image %s: %s", bench.image.key, one)
            store.append(f"{AUDITS}/{bench.image.id}", lambda _: {"said": said.to_json()})
        store.fix(PROOFS, bench.proof_key, passed.to_json())
        self.log.info(
            "Image %s answers %d golden rows as the model does; ready after %.2f s (%.2f s of process time), "
            "%.0f MB of memory",
            bench.image.key,
            passed.rows,
            passed.start_seconds,
            passed.cpu_seconds,
            passed.memory_bytes / 1e6,
        )


class PushImageOperator(_PackagingOperator):
    """Push the proven image, read its digest back, record it, and mint the first ring's partition in ``outlets``."""

    def execute(self, context: Context) -> str:
        """Push it, or find it in the registry; skips if its model is champion already."""
        with self.bench(context) as bench:
            stored = self._push(bench, context)
        self._announce(context, bench, stored)
        return stored.id

    def _push(self, bench: Bench, context: Context) -> ModelImage:
        store = bench.desk.store
        proven = store.fixed(PROOFS, bench.proof_key)
        if not proven:
            raise NotFoundError(
                f"Image {bench.image.key} was never proven in this form; it is not pushed.",
                left="the registry",
                next="Clear the prove task of this run.",
            )
        pushed = bench.builder.push(proven=json.loads(proven)["engine_id"])
        self.log.info(
            "%s %s, %d bytes, started in %s s when proven",
            "Found" if pushed.found else "Pushed",
            pushed.reference,
            pushed.size,
            json.loads(proven)["start_seconds"],
        )
        stored = store.put(self._record(bench, pushed, proven, origin(context).kind))
        if stored.digest != pushed.digest:
            raise ConflictError(
                f"Image {stored.key} was recorded as {stored.digest}, the registry now holds {pushed.digest}.",
                left="the record and the devices",
                next=f"Restore {stored.reference} in the registry from a backup, or train again for a new image.",
            )
        host = stored.reference.partition("/")[0]
        said = {"image": stored.digest, "image_reference": stored.reference, "image_registry": host}
        registry.tag(store, bench.model.id, said, by=f"{context['dag_run'].dag_id} {context['dag_run'].run_id}")
        return stored

    def _record(self, bench: Bench, pushed: Pushed, proof: str, why: str) -> ModelImage:
        store = bench.desk.store
        bill, audits = bill_of(bench.image), store.ledger(f"{AUDITS}/{bench.image.id}")
        return replace(
            bench.image, origin=why, reference=pushed.reference, digest=pushed.digest,
            golden=golden_rows.blob_of(store, bench.image), proof=proof,
            sbom=bill if store.objects.exists(bill) else "",
            audit=audits[-1].body["said"] if audits else "",
        )  # fmt: skip

    def _announce(self, context: Context, bench: Bench, stored: ModelImage) -> None:
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
