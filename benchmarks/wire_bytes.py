"""What a retrain costs on the wire: one more model of a pipeline, pushed to the registry and pulled by a device.

A relay counts every byte between worker and registry, and another between the device's engine and the registry, both
directions, HTTP's own words included. The limit is the compressed model itself (by gzip as it is), times 1.1, plus
8 KiB. A push is all that is pushed: the image, its second tag, its bill of materials and what names that. The last
retrain comes after MODELS models and must cost what the others do.
"""

from __future__ import annotations

import gzip
import statistics
import tempfile
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import images
from benchmarks.grounds import SITE
from benchmarks.harness import Figure
from benchmarks.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.relay import Exchange
    from edgeloop.packaging.push import Pushed
    from edgeloop.rollout.fleet import SshDockerFleet
    from edgeloop.store import Store
    from lab.site import Site

DEVICE, REPOSITORY = "R80711", "bench/scorer"
RETRAINS, MODELS = 3, 20
TIMES, SLACK = 1.1, 8 * 1024
LEVEL = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """One model on its way: bytes counted for push and pull, predicted for the pull, and of the model compressed.

    ``parts`` are those of the push: its image, its other tags, its bill of materials.
    """

    push: int
    parts: tuple[tuple[str, int], ...]
    pull: int
    predicted: int
    told: int
    model: int

    def beyond(self, count: int) -> float:
        """What came on top of 1.1 times the compressed model."""
        return count - TIMES * self.model


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The worker's way to the registry and the device's."""

    site: Site
    store: Store
    near: Relay
    far: Relay
    fleet: SshDockerFleet
    cache: Path

    def ship(self, number: int) -> Trip:
        """Push a new model's image and let the device pull it."""
        content = images.model(number)
        self.near.taken()
        pushed = self.push(content, number)
        parts = _parts(self.near.exchanges)
        push = self.near.taken()
        predicted, told = self._pull(pushed)
        return Trip(
            push=push,
            parts=parts,
            pull=self.far.taken(),
            predicted=predicted,
            told=told,
            model=len(gzip.compress(content, LEVEL)),
        )

    def push(self, content: bytes, number: int) -> Pushed:
        """All that is pushed for one model."""
        with images.engine_of(self.site) as engine:
            base = self.site.images.scorer_base
            place = images.Place(
                engine=engine, base=base, host=self.near.address, repository=REPOSITORY, cache=self.cache
            )
            builder = images.builder_of(place, self.store, images.version(content, number), content)
            builder.build(force=False)
            return builder.push(proven=builder.plan.engine_id)

    def _pull(self, pushed: Pushed) -> tuple[int, int]:
        """Bytes predicted, and bytes that came by the engine's own words."""
        from edgeloop.containers.endpoint import RegistryEndpoint
        from edgeloop.containers.registry import Registry
        from edgeloop.rollout.bytes_ahead import predicted, pulled
        from edgeloop.rollout.bytes_source import Source

        endpoint = RegistryEndpoint(connection="bench", host=self.site.registry.host, insecure=True)
        reference = f"{self.far.address}/{REPOSITORY}@{pushed.digest}"
        # The engine knows the registry by the relay's name, so that is how its images are looked up.
        registry = Registry(endpoint)
        registry.endpoint = replace(endpoint, host=self.far.address)
        source = Source(registry)
        wanted, held = source.contents(reference), self.fleet.held(DEVICE)
        ahead = predicted(wanted, held, source.known(wanted, held))
        self.far.taken()
        return ahead, pulled(wanted, self.fleet.prefetch(DEVICE, reference)) or 0


def measure(say: Callable[[str], None]) -> list[Figure]:
    """Two figures: push and pull of a retrain, by what they take beyond 1.1 times the compressed model."""
    import lab
    from edgeloop.azure.blob import BlobAccount
    from edgeloop.store import Store

    lab.clean(SITE)
    say(f"starting site {SITE}")
    site = lab.up(SITE)
    try:
        with ExitStack() as stack:
            near = stack.enter_context(Relay(to=site.registry.host))
            far = stack.enter_context(Relay(to=site.registry.host, inside=_first_pid(site)))
            account = BlobAccount(connection="bench", connection_string=site.blob.private.connection_string)
            course = Course(
                site=site, store=Store(account.container(f"c{uuid.uuid4().hex[:16]}")), near=near, far=far,
                fleet=_fleet(site), cache=Path(stack.enter_context(tempfile.TemporaryDirectory())),
            )  # fmt: skip
            trips: list[Trip] = []
            for number in (*range(1, RETRAINS + 1), MODELS):
                for passed in range(len(trips) + 1, number) if number == MODELS else ():
                    course.push(b"model %d" % passed, passed)
                trips.append(course.ship(number))
                say(_said(number, trips[-1]))
    finally:
        lab.clean(SITE)
    first, *retrains = trips
    return [_figure(what, first, retrains) for what in ("push", "pull")]


def _figure(what: str, first: Trip, retrains: Sequence[Trip]) -> Figure:
    whole: int = getattr(first, what)
    counted: list[int] = [getattr(one, what) for one in retrains]
    beyond = tuple(one.beyond(count) for one, count in zip(retrains, counted, strict=True))
    return Figure(
        name=f"wire_bytes: {what} beyond 1.1x the model", value=statistics.median(beyond), unit="B", bar=SLACK,
        peer=f"the first {what}, {whole / 1e6:.1f} MB", ratio=statistics.median(counted) / whole, runs=beyond,
    )  # fmt: skip


def _said(number: int, trip: Trip) -> str:
    return (
        f"model {number}, {trip.model} bytes compressed: push {trip.push}, "
        f"pull {trip.pull} (predicted {trip.predicted}, by the engine's words {trip.told}); pushed "
        + ", ".join(f"{what} {size}" for what, size in trip.parts)
    )


def _parts(exchanges: Sequence[Exchange]) -> tuple[tuple[str, int], ...]:
    """Bytes of the image up to the question where its tag stands, of the other tags, and of the bill."""
    found, place = dict.fromkeys(("image", "tags", "bill"), 0), "image"
    for one in exchanges:
        method, path = one.request.split(" ")[:2]
        place = "bill" if "/manifests/sha256" in path else place
        found[place] += one.sent + one.received
        place = "tags" if (place, method) == ("image", "HEAD") and "/manifests/" in path else place
    return tuple(found.items())


def _first_pid(site: Site) -> int:
    from lab import describe
    from lab.hosts import Machine

    found = Machine(describe.layout_of(site), DEVICE).first_pid()
    assert found is not None
    return found


def _fleet(site: Site) -> SshDockerFleet:
    from edgeloop.rollout.fleet import Device, SshDockerFleet
    from edgeloop.ssh.endpoint import Endpoint

    device = site.device(DEVICE)
    login = Endpoint(
        connection="bench_device", host=device.host, port=device.port, user=device.user, key_file=str(device.key_file),
        host_key=device.host_key,
    )  # fmt: skip
    return SshDockerFleet(images.PIPELINE, {DEVICE: Device(endpoint=login, share=str(device.share))}, 8080)
