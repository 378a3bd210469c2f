"""One ring of one image: prefetch, switch, watch, restore, settle. Effects, each safe to repeat and to be cut off."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from edgeloop.errors import EdgeloopError, RolloutFailedError
from edgeloop.records import ModelImage
from edgeloop.rollout import history
from edgeloop.rollout.bytes_ahead import Delivery, predicted, pulled
from edgeloop.rollout.deliveries import deliveries, note
from edgeloop.rollout.device import digest_of
from edgeloop.rollout.exposure import RESTORED, SETTLED, Exposure, close, expose, exposures, way_back
from edgeloop.rollout.gate import Outcome, Verdict, since
from edgeloop.rollout.watch import READY_SECONDS, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edgeloop.rollout.bytes_ahead import Contents
    from edgeloop.rollout.bytes_source import Source
    from edgeloop.rollout.device import Found
    from edgeloop.rollout.fleet import Fleet, Wanted
    from edgeloop.rollout.gate import Observation
    from edgeloop.store import Store

S = TypeVar("S")
T = TypeVar("T")
AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """The devices at ``sites``, which are to serve ``image``; ``by`` is written down with every change."""

    store: Store
    fleet: Fleet
    image: ModelImage
    wanted: Wanted
    sites: tuple[str, ...]
    by: str

    def prefetch(self, source: Source, report: Callable[[str], None]) -> tuple[Delivery, ...]:
        """Bring the image to every device; nothing that serves is touched.

        ``report`` is told what each device will have to pull before the first one begins, and what each has pulled. A
        device that an earlier try of this run brought it to is told of with the bytes of that try.
        """
        wanted = source.contents(self.wanted.reference)
        ahead = {
            site: predicted(wanted, held, source.known(wanted, held))
            for site, held in _each(self.sites, self.fleet.held)
        }
        for site, size in ahead.items():
            report(f"{site}: will pull {size} of {wanted.size} bytes")
        done = _each(self.sites, lambda site: self._deliver(site, wanted, ahead[site]))
        known = deliveries(self.store, self.image, by=self.by)
        told = tuple(known.get(site, one) for site, one in done)
        for one in told:
            report(str(one))
        return told

    def _deliver(self, site: str, wanted: Contents, ahead: int) -> Delivery:
        fetched = self.fleet.prefetch(site, self.wanted.reference)
        one = Delivery(site=site, found=fetched.found, predicted=ahead, pulled=pulled(wanted, fetched))
        note(self.store, self.image, one, by=self.by)
        return one

    def switch(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Make the image serve on every device; returns what was done at each site.

        What served is written down for all of them before the first one changes.
        """
        for site, found in _each(self.sites, self.fleet.look):
            self._note_found(site, found)
            if found.serves != self.wanted.reference:
                runs = found.serves if found.current is not None and found.current.running else ""
                expose(self.store, self.image, site, found.serves, by=self.by, runs=runs)
        return _each(self.sites, lambda site: self.fleet.switch(site, self.wanted.reference))

    def watch(
        self, soak_seconds: float, report: Callable[[str], None], *, ready_seconds: float = READY_SECONDS
    ) -> Verdict:
        """Look at the devices until the ring fails or has passed every look for ``soak_seconds``.

        A device that is seen to run the image is noted in its history, whether the ring passes or not.
        """
        noted: set[str] = set()

        def look() -> list[Observation]:
            seen = [one for _, one in _each(self.sites, lambda site: self.fleet.observe(site, self.wanted))]
            for one in seen:
                if one.serving and one.site not in noted:
                    self._saw(one.site, self.wanted)
                    noted.add(one.site)
            return seen

        return watch(look, soak_seconds=soak_seconds, ready_seconds=ready_seconds, report=report)

    def exposed(self) -> tuple[Exposure, ...]:
        """Every device the image is on, of this ring and of earlier ones, that was neither restored nor settled."""
        return tuple(exposures(self.store, self.image).values())

    def ways_back(self) -> tuple[Exposure, ...]:
        """As :meth:`exposed`, each with what a restore brings back: nothing that was itself taken back meanwhile."""

        def images(reference: str) -> list[ModelImage]:
            digest = digest_of(reference).removeprefix("sha256:")
            return self.store.children(digest, ModelImage) if digest else []

        return tuple(way_back(self.store, one, self.wanted.reference, images) for one in self.exposed())

    def restore(
        self,
        exposed: Iterable[Exposure],
        prove: Callable[[str], Wanted | None],
        report: Callable[[str], None],
    ) -> None:
        """Bring exposed devices back to what served before, and prove it; they stay exposed until :meth:`close`.

        Args:
            exposed: The devices.
            prove: From a reference that served before to its golden rows, None if nothing is known of it.
            report: Told what was done.

        Raises:
            RolloutFailedError: Some devices could not be restored; the others are, and stay so.
        """
        ended = _each(exposed, lambda one: self._restore(one, prove, report))
        for one, problem in ended:
            if not problem:
                self._note_restored(one, prove)
        failed = [f"{one.site}: {problem}" for one, problem in ended if problem]
        if failed:
            raise RolloutFailedError(
                f"{len(failed)} of {len(ended)} devices could not be restored: {'; '.join(failed)}",
                left="the other devices serve what they served before",
                next="See that the devices named are on and reachable, then clear the restore task.",
            )

    def close(self, restored: Iterable[Exposure]) -> None:
        """Write down that these devices are as they were, the last exposed one last."""
        for one in sorted(restored, key=lambda one: one.seq):
            close(self.store, self.image, one.site, RESTORED, by=self.by)

    def settle(self) -> None:
        """The image is there to stay: what served before is no longer what a restore would go back to."""
        for one in self.exposed():
            close(self.store, self.image, one.site, SETTLED, by=self.by)

    def _restore(self, one: Exposure, prove: Callable[[str], Wanted | None], report: Callable[[str], None]) -> str:
        """Restore one device; returns what went wrong, or the empty string."""
        try:
            done = self.fleet.restore(one.site, self.wanted.reference, one.before)
            report(f"{one.site}: {'; '.join(done) or 'already as before'}")
            return self._proven(one, prove(one.before) if one.before else None)
        except EdgeloopError as error:
            return error.what

    def _note_found(self, site: str, found: Found) -> None:
        """Write down what a device served before this ring: somebody may have changed it by hand, or long ago."""
        current = found.current
        if current is not None and current.running and current.reference != self.wanted.reference:
            self._saw(site, None, current.reference, f"found there by {self.by}")

    def _note_restored(self, one: Exposure, prove: Callable[[str], Wanted | None]) -> None:
        """Write down what a restored device was found with; one that is in somebody else's hands is theirs to note."""
        current = self.fleet.look(one.site).current
        if current is None:
            history.saw(self.store, one.site, image="", digest="", at=datetime.now(UTC), by=self.by)
        elif current.reference == one.before:
            self._saw(one.site, prove(one.before), one.before)

    def _saw(self, site: str, wanted: Wanted | None, reference: str = "", by: str = "") -> None:
        reference = wanted.reference if wanted is not None else reference
        history.saw(
            self.store,
            site,
            image=wanted.image if wanted is not None else "",
            digest=digest_of(reference),
            at=datetime.now(UTC),
            by=by or self.by,
            reference=reference,
        )

    def _proven(self, one: Exposure, wanted: Wanted | None) -> str:
        current = self.fleet.look(one.site).current
        if current is not None and current.reference not in (self.wanted.reference, one.before):
            return ""
        if not one.before:
            return "" if current is None else "the image is still there"
        if wanted is None:
            return "" if current is not None and current.serving else "what served before does not run"
        # What served before may have fallen over on another day; only what it does from now on counts.
        fell = current.restarts if current is not None else 0
        verdict = watch(lambda: [since(self.fleet.observe(one.site, wanted), fell)], soak_seconds=0.0)
        return "" if verdict.outcome is Outcome.PASS else verdict.reason


def _each(items: Iterable[S], work: Callable[[S], T]) -> tuple[tuple[S, T], ...]:
    """``work`` on several devices at once; the first error is raised after all have ended."""
    things = tuple(items)
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        running = [pool.submit(work, one) for one in things]
    return tuple((one, future.result()) for one, future in zip(things, running, strict=True))
