"""A ring on real devices: switching, crashes in the middle, restoring, and the two bad images."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.shipyard import ENDS_AT_START, MISSING_COMMAND, Shipyard, linear, registry

from edgeloop.containers.registry import Registry
from edgeloop.errors import RolloutFailedError, UnreachableError
from edgeloop.rollout import commands, history
from edgeloop.rollout.bytes_source import Source
from edgeloop.rollout.device import switch_step
from edgeloop.rollout.exposure import expose, exposures
from edgeloop.rollout.fleet import SshDockerFleet
from edgeloop.rollout.gate import Outcome
from edgeloop.rollout.ring import Ring
from edgeloop.ssh.shell import Shell

if TYPE_CHECKING:
    from edgeloop.records import ModelImage
    from edgeloop.rollout.bytes_ahead import Delivery
    from edgeloop.rollout.fleet import Wanted
    from edgeloop.rollout.gate import Verdict

CANARY, REST = ("R80711",), ("R80721", "R80736")
EVERY = CANARY + REST
OLD, NEW, OTHER = linear(1.0, 2.0), linear(1.5, 2.5), linear(9.0, 9.0)


def ring(yard: Shipyard, image: ModelImage, sites: tuple[str, ...]) -> Ring:
    """A ring of the yard's devices."""
    return Ring(
        store=yard.store,
        fleet=yard.fleet,
        image=image,
        wanted=yard.wanted(image.reference),
        sites=sites,
        by="test",
    )


def bring(yard: Shipyard, one: Ring) -> tuple[Delivery, ...]:
    """Prefetch."""
    return one.prefetch(Source(Registry(registry(yard.site))), lambda _: None)


def ran(yard: Shipyard, site: str) -> list[str]:
    """The ids of the images that a device was seen serving, one after the other."""
    return [one.image for one in history.history(yard.store, site)]


def roll(yard: Shipyard, one: Ring) -> Verdict:
    """Prefetch, switch and watch."""
    bring(yard, one)
    one.switch()
    return one.watch(soak_seconds=0.5, report=lambda _: None)


def restore(yard: Shipyard, one: Ring) -> None:
    """As the restore task does."""
    exposed = one.ways_back()

    def known(reference: str) -> Wanted | None:
        return yard.wanted(reference) if reference in yard.answers else None

    one.restore(exposed, known, lambda _: None)
    one.close(exposed)


def serves(yard: Shipyard, image: ModelImage) -> dict[str, bool]:
    """Whether each device answers as the image's model does, asked from outside."""
    expected = yard.answers[image.reference]
    body = expected.request()
    path = f"/v2/models/{yard.pipeline}/infer"
    return {site: not expected.differing(yard.get(site, path, body)) for site in EVERY}


@pytest.fixture
def old(shipyard: Shipyard) -> ModelImage:
    """An image that serves on every device and is settled there."""
    image = shipyard.ship(OLD, 1)
    one = ring(shipyard, image, EVERY)
    assert roll(shipyard, one).outcome is Outcome.PASS
    one.settle()
    return image


def test_a_ring_switches_its_devices_only_and_again_finds_all_done(shipyard: Shipyard, old: ModelImage) -> None:
    """The canary serves the new model, the others the old one; doing it twice changes nothing."""
    new = shipyard.ship(NEW, 2)
    canary = ring(shipyard, new, CANARY)
    (first,) = bring(shipyard, canary)
    assert (first.found, first.predicted) == (False, first.pulled)
    assert 0 < first.predicted < 20_000
    assert bring(shipyard, canary) == (first,)
    (found,) = bring(shipyard, replace(canary, by="another run"))
    assert (found.found, found.predicted, found.pulled) == (True, 0, 0)
    assert roll(shipyard, canary).outcome is Outcome.PASS
    expected = shipyard.answers[new.reference]
    answers = {
        site: not expected.differing(shipyard.get(site, f"/v2/models/{shipyard.pipeline}/infer", expected.request()))
        for site in EVERY
    }
    assert answers == {"R80711": True, "R80721": False, "R80736": False}
    started = shipyard.fleet.look("R80711")
    assert canary.switch() == (("R80711", ()),)
    assert shipyard.fleet.look("R80711") == started
    assert {site: one.before for site, one in exposures(shipyard.store, new).items()} == {"R80711": old.reference}
    assert {site: ran(shipyard, site) for site in EVERY} == {
        "R80711": [old.id, new.id], "R80721": [old.id], "R80736": [old.id],
    }  # fmt: skip


@pytest.mark.parametrize("bad", ["ends at start", "no such command", "answers wrongly"])
def test_a_bad_image_leaves_the_old_version_serving_everywhere(shipyard: Shipyard, old: ModelImage, bad: str) -> None:
    """The gate fails the canary, the restore brings the old version back, and every device serves it, from outside."""
    image = {
        "ends at start": lambda: shipyard.ship_other(NEW, NEW, 2, ENDS_AT_START),
        "no such command": lambda: shipyard.ship_other(NEW, NEW, 2, MISSING_COMMAND),
        "answers wrongly": lambda: shipyard.ship_other(NEW, OTHER, 2),
    }[bad]()
    canary = ring(shipyard, image, CANARY)
    verdict = roll(shipyard, canary)
    assert verdict.outcome is Outcome.FAIL, verdict.reason
    restore(shipyard, canary)
    assert serves(shipyard, old) == dict.fromkeys(EVERY, True)
    assert exposures(shipyard.store, image) == {}
    for site in EVERY:
        assert shipyard.fleet.look(site).current is not None
        assert ran(shipyard, site)[-1] == old.id
    if bad == "answers wrongly":
        assert ran(shipyard, "R80711") == [old.id, image.id, old.id]


def test_a_later_ring_that_fails_restores_the_earlier_ones_too(shipyard: Shipyard, old: ModelImage) -> None:
    """The image passed the canary and is refused in the next ring: all of them serve the old version again."""
    new = shipyard.ship(NEW, 2)
    assert roll(shipyard, ring(shipyard, new, CANARY)).outcome is Outcome.PASS
    rest = ring(shipyard, new, REST)
    assert roll(shipyard, rest).outcome is Outcome.PASS
    restore(shipyard, rest)
    assert serves(shipyard, old) == dict.fromkeys(EVERY, True)
    assert {site: ran(shipyard, site) for site in EVERY} == {site: [old.id, new.id, old.id] for site in EVERY}


def test_the_first_image_ever_is_restored_to_nothing(shipyard: Shipyard) -> None:
    """On a device that never served, restoring stops and removes; doing it again finds it so."""
    image = shipyard.ship_other(NEW, NEW, 1, ENDS_AT_START)
    canary = ring(shipyard, image, CANARY)
    assert roll(shipyard, canary).outcome is Outcome.FAIL
    restore(shipyard, canary)
    found = shipyard.fleet.look("R80711")
    assert found.current is None
    assert found.previous is None
    assert ran(shipyard, "R80711")[-1] == ""
    restore(shipyard, canary)


def cut_off(shipyard: Shipyard, one: Ring, steps: dict[str, int]) -> None:
    """What a switch did that died after so many steps: it wrote down what served, and came so far."""
    for site, count in steps.items():
        expose(shipyard.store, one.image, site, one.fleet.look(site).serves, by="test")
        device = shipyard.fleet.devices[site]
        scorer = commands.Scorer(pipeline=shipyard.pipeline, site=site, share=device.share, port=shipyard.port)
        with Shell(device.endpoint) as shell:
            for _ in range(count):
                if command := switch_step(one.fleet.look(site), scorer, one.wanted.reference):
                    shell.check(command, timeout=60)


@pytest.mark.parametrize("steps", [(0, 1, 2), (3, 4, 2)])
def test_a_switch_cut_off_after_any_step_is_finished_or_restored(
    shipyard: Shipyard, old: ModelImage, steps: tuple[int, ...]
) -> None:
    """Killed after any number of steps, a restore finds the way back, and the same rollout goes on to the end."""
    new = shipyard.ship(NEW, 2)
    one = ring(shipyard, new, EVERY)
    bring(shipyard, one)
    cut_off(shipyard, one, dict(zip(EVERY, steps, strict=True)))
    restore(shipyard, one)
    assert serves(shipyard, old) == dict.fromkeys(EVERY, True)
    cut_off(shipyard, one, dict(zip(EVERY, steps, strict=True)))
    assert roll(shipyard, one).outcome is Outcome.PASS
    assert {site: ran(shipyard, site)[-2:] for site in EVERY} == {site: [old.id, new.id] for site in EVERY}
    assert {site: one.before for site, one in exposures(shipyard.store, new).items()} == dict.fromkeys(
        EVERY, old.reference
    )


def test_a_device_that_does_not_answer_is_named_and_leaves_the_gate_open(shipyard: Shipyard) -> None:
    """Prefetch fails naming the connection; the gate calls it inconclusive, not failed."""
    fleet = shipyard.fleet
    device = fleet.devices["R80711"]
    dead = replace(device, endpoint=replace(device.endpoint, port=9))
    image = shipyard.ship(OLD, 1)
    one = replace(
        ring(shipyard, image, CANARY), fleet=SshDockerFleet(shipyard.pipeline, {"R80711": dead}, shipyard.port)
    )
    with pytest.raises(UnreachableError, match="edgeloop_device_r80711"):
        bring(shipyard, one)
    verdict = one.watch(soak_seconds=0, report=lambda _: None, ready_seconds=0)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "edgeloop_device_r80711" in verdict.reason


def test_a_device_that_cannot_be_restored_is_named_and_stays_exposed(shipyard: Shipyard, old: ModelImage) -> None:
    """The others are restored, the error names the one that is not, and a later try finishes it."""
    new = shipyard.ship(NEW, 2)
    both = ring(shipyard, new, REST)
    assert roll(shipyard, both).outcome is Outcome.PASS
    fleet = shipyard.fleet
    cut = fleet.devices["R80736"]
    fleet.devices["R80736"] = replace(cut, endpoint=replace(cut.endpoint, port=9))
    with pytest.raises(RolloutFailedError, match="1 of 2 devices could not be restored: R80736"):
        restore(shipyard, replace(both, fleet=fleet))
    assert set(exposures(shipyard.store, new)) == {"R80721", "R80736"}
    restore(shipyard, both)
    assert serves(shipyard, old) == dict.fromkeys(EVERY, True)


def fall_over(shipyard: Shipyard, site: str) -> None:
    """End the scorer's process once; its engine starts it again and counts that."""
    import docker

    client = docker.DockerClient(base_url=shipyard.site.device(site).docker, timeout=30)
    scorer = client.containers.get(f"edgeloop-scorer-{shipyard.pipeline}")
    scorer.exec_run(["python3", "-c", "import os; os.kill(1, 15)"])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        scorer.reload()
        if (scorer.attrs["RestartCount"], scorer.status) == (1, "running"):
            client.close()
            return
        time.sleep(0.1)
    raise AssertionError("it was not started again")


def test_a_scorer_that_fell_over_long_ago_is_what_served_before_all_the_same(
    shipyard: Shipyard, old: ModelImage
) -> None:
    """A switch died before it touched the device: the restart of another day fails no restore."""
    fall_over(shipyard, "R80711")
    one = ring(shipyard, shipyard.ship(NEW, 2), CANARY)
    cut_off(shipyard, one, {"R80711": 0})
    restore(shipyard, one)
    assert one.exposed() == ()
    assert serves(shipyard, old)["R80711"]


def test_a_device_does_not_go_back_to_what_was_taken_back_meanwhile(shipyard: Shipyard, old: ModelImage) -> None:
    """A newer rollout came over one that was then refused: when the newer fails too, what served before both serves."""
    refused, newer = (ring(shipyard, shipyard.ship(*one), CANARY) for one in ((NEW, 2), (OTHER, 3)))
    for one in (refused, newer):
        assert roll(shipyard, one).outcome is Outcome.PASS
    restore(shipyard, refused)
    assert not serves(shipyard, old)["R80711"]
    restore(shipyard, newer)
    assert serves(shipyard, old) == dict.fromkeys(EVERY, True)
    assert ran(shipyard, "R80711")[-1] == old.id


def test_a_rollout_begun_again_goes_back_to_what_serves_by_then(shipyard: Shipyard, old: ModelImage) -> None:
    """It passed its canary once, another became champion, and it is tried again by force: the champion comes back."""
    early, champion = (ring(shipyard, shipyard.ship(*one), CANARY) for one in ((NEW, 2), (OTHER, 3)))
    for one in (early, champion):
        assert roll(shipyard, one).outcome is Outcome.PASS
    champion.settle()
    assert roll(shipyard, early).outcome is Outcome.PASS
    restore(shipyard, early)
    assert ran(shipyard, "R80711") == [old.id, early.image.id, champion.image.id, early.image.id, champion.image.id]
