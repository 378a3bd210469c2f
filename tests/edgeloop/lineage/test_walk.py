from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from edgeloop.errors import ConflictError, NotFoundError, UnreachableError
from edgeloop.lineage import upward
from edgeloop.lineage.chain import State
from edgeloop.lineage.find import Subject
from edgeloop.lineage.tree import draw
from edgeloop.lineage.walk import Running, of_device, of_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.edgeloop.lineage.conftest import World

    from edgeloop.errors import EdgeloopError
    from edgeloop.lineage.chain import Lineage, Node

SITES = ("R80711", "R80721")
UP = ["image", "model", "training_run", "code", "dataset", *(["certificate", "batch", "file"] * 3)]
LATER = datetime(2014, 5, 1, tzinfo=UTC)
MOST_READS = 40


def kinds(nodes: tuple[Node, ...]) -> list[str]:
    """What stands in a chain, in the order in which it is printed."""
    return [node.kind for one in nodes for node in one.walk()]


def broken(lineage: Lineage) -> list[tuple[str, str]]:
    """What is broken: the kind of thing and what was found."""
    return [(node.kind, check.found) for node, check in lineage.wrong() if check.state is State.BROKEN]


def of(world: World, kind: str, record_id: str) -> Lineage:
    """The chain of a record."""
    return of_record(world.reader, Subject(kind=kind, id=record_id), SITES)


def test_a_device_leads_back_to_the_files_on_the_share(world: World) -> None:
    """Image, model, training, code, dataset, each certificate with its batch and files; all links hold."""
    found = of_device(world.reader, "R80711")
    assert kinds(found.made_of) == UP
    assert found.wrong() == ()
    assert found.subject.facts == (
        f"served {world.image().digest[:23]} from 2014-04-02T12:00:00.000+00:00 until now, brought by run of 02",
    )
    assert [one.name for one in found.nodes() if one.kind == "file"] == [f"R80711_2014-{n:02}.csv" for n in (1, 2, 3)]


def test_a_batch_leads_on_to_the_devices(world: World) -> None:
    """Certificate, dataset, training, model, image, the rings that took it and each device with the time it ran it."""
    found = of(world, "batch", world.batch("2014-02").id)
    assert kinds(found.made_into) == [
        "certificate", "dataset", "training_run", "model", "image", "rollout", "device", "device",
    ]  # fmt: skip
    assert found.wrong() == ()


@pytest.mark.parametrize(
    ("kind", "up", "down"),
    [
        ("image", UP[1:], ["rollout", "device", "device"]),
        ("model", UP[2:], ["image", "rollout", "device", "device"]),
        ("training_run", UP[3:], ["model", "image", "rollout", "device", "device"]),
        ("dataset", UP[5:], ["training_run", "model", "image", "rollout", "device", "device"]),
    ],
)
def test_what_is_in_the_middle_shows_both_ways(world: World, kind: str, up: list[str], down: list[str]) -> None:
    """What it was made of, and what was made of it."""
    ids = {
        "image": world.image().id,
        "model": world.model().id,
        "training_run": world.training().id,
        "dataset": world.dataset.id,
    }
    found = of(world, kind, ids[kind])
    assert (kinds(found.made_of), kinds(found.made_into), found.wrong()) == (up, down, ())


def change_record(world: World) -> None:
    """Somebody edits a batch."""
    world.spoil(f"records/batch/{world.batch('2014-02').id}.json", b'"size":10', b'"size":11')


def lose_record(world: World) -> None:
    """Somebody deletes a certificate."""
    del world.memory.objects[f"records/certificate/{world.certificate('2014-01').id}.json"]


def garble_record(world: World) -> None:
    """A disk loses half of a batch."""
    name = f"records/batch/{world.batch('2014-03').id}.json"
    world.memory.objects[name] = world.memory.objects[name][:50]


def change_model(world: World) -> None:
    """Somebody puts other bytes in the model's place."""
    world.memory.objects[world.model().blob] = b"another model"


def lose_model(world: World) -> None:
    """Somebody deletes the model's bytes."""
    del world.memory.objects[world.model().blob]


def change_outputs(world: World) -> None:
    """The training's record names another model."""
    name = f"records/training_run/{world.training().id}.json"
    world.spoil(name, world.model().sha256.encode(), b"0" * 64)


def change_code(world: World) -> None:
    """Somebody edits the kept script."""
    (name,) = (one for one in world.memory.objects if one.startswith("configs/"))
    world.spoil(name, b"trained", b"tampered")


def uncertify(world: World) -> None:
    """A certificate no longer vouches for the file."""
    name = f"records/certificate/{world.certificate('2014-01').id}.json"
    world.memory.objects[world.data("2014-01").replace("2014-01", "2014-99")] = world.parquet("2014-01")
    world.spoil(name, b"/2014-01.parquet", b"/2014-99.parquet")


def lose_image(world: World) -> None:
    """Somebody deletes the manifest from the registry."""
    world.images.labels.clear()


def relabel(world: World) -> None:
    """Another model's image was pushed under the digest that the record was given."""
    world.images.labels[world.image().digest]["edgeloop.sha256"] = "f" * 64


def redigest(world: World) -> None:
    """The image's record names another digest than the device ran."""
    name = f"records/image/{world.image().id}.json"
    world.spoil(name, world.image().digest.encode(), b"sha256:" + b"e" * 64)
    world.images.labels["sha256:" + "e" * 64] = world.images.labels[world.image().digest]


@pytest.mark.parametrize(
    ("harm", "where", "says"),
    [
        (change_record, {"batch"}, "it was changed: it hashes to"),
        (lose_record, {"certificate", "dataset"}, "there is no record certificate/"),
        (garble_record, {"batch"}, "is no record"),
        (change_model, {"model"}, "hashes to"),
        (lose_model, {"model"}, "there is no blob models/"),
        (change_outputs, {"model"}, "the training put out 0000"),
        (change_code, {"code"}, "hashes to"),
        (uncertify, {"certificate", "dataset"}, "/2014-01.parquet is in none of its certificates"),
        (lose_image, {"image"}, "it has no wind/scorer@sha256:"),
        (relabel, {"image"}, "edgeloop.sha256 is ffff"),
        (redigest, {"image"}, "the record says sha256:eeee"),
    ],
)
def test_a_broken_link_is_shown_and_the_rest_of_the_chain_with_it(
    world: World, harm: Callable[[World], None], where: set[str], says: str
) -> None:
    """Whatever was changed or lost: it is broken where it is broken, nothing else is, and all that is left is shown."""
    harm(world)
    found = of_device(world.reader, "R80711")
    assert {kind for kind, _ in broken(found)} == where
    assert any(says in text for _, text in broken(found))
    lost = ["batch", "file"] if harm is lose_record else ["file"] if harm is garble_record else []
    assert len(kinds(found.made_of)) == len(UP) - len(lost)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("image", "reference", None),
        ("image", "model", 5),
        ("model", "sha256", None),
        ("model", "tags", [None]),
        ("training_run", "seconds", "long"),
        ("dataset", "certificates", None),
        ("certificate", "etags", 5),
        ("certificate", "batch", {}),
        ("batch", "files", [{"path": None, "size": 1, "sha256": ""}]),
        ("rollout", "devices", None),
    ],
)
def test_a_record_that_cannot_be_read_any_more_is_broken_and_hides_nothing_else(
    world: World, kind: str, field: str, value: object
) -> None:
    """Somebody put a number where a text belongs: the chain is told up to there, from the other side too."""
    name = next(one for one in sorted(world.memory.objects) if one.startswith(f"records/{kind}/"))
    body = json.loads(world.memory.objects[name])
    body["record"][field] = value
    world.memory.objects[name] = json.dumps(body).encode()
    chains = [of(world, "image", world.image().id), of(world, "batch", world.batch("2014-02").id)]
    told = {found for chain in chains for found in broken(chain)}
    assert (kind, f"it was changed: {field} cannot be what was written") in told
    assert all(draw(chain) for chain in chains)


def test_scripts_that_are_kept_and_are_others_than_ran(world: World) -> None:
    """The kept folder is what it was, but the training says that it ran other code."""
    node = upward.code(world.reader, replace(world.training(), code="f" * 64))
    assert [(one.state, one.found[-33:]) for one in node.checks] == [
        (State.SOUND, ""),
        (State.BROKEN, "ffffffffffffffff was trained with"),
    ]


def test_a_model_that_its_training_did_not_put_out_is_broken_seen_from_above_too(world: World) -> None:
    """From the batch on: the training's record names other bytes."""
    change_outputs(world)
    found = of(world, "batch", world.batch("2014-01").id)
    assert [(kind, text[:30]) for kind, text in broken(found)] == [("model", "the training put out 000000000")]


def test_where_the_trainings_record_is_lost_the_models_tags_lead_on(world: World) -> None:
    """The training is broken; its dataset and everything behind it is still shown."""
    del world.memory.objects[f"records/training_run/{world.training().id}.json"]
    found = of_device(world.reader, "R80711")
    assert broken(found) == [("training_run", f"there is no record training_run/{world.training().id[:16]}")]
    assert kinds(found.made_of) == [one for one in UP if one != "code"]


@pytest.mark.parametrize("kind", [UnreachableError, ConflictError])
def test_a_registry_that_does_not_answer_leaves_the_link_untried(world: World, kind: type[EdgeloopError]) -> None:
    """It is no broken link, and no link that holds; so with one that answers 400, as a TLS port asked without does."""
    world.images.error = kind("The registry did not answer.")
    (found,) = of_device(world.reader, "R80711").wrong()
    assert (found[0].kind, found[1].state, found[1].found) == (
        "image", State.UNPROVEN, "The registry did not answer.",
    )  # fmt: skip


def test_a_chain_is_told_once_however_often_a_thing_stands_in_it(world: World) -> None:
    """Two models of one dataset on one day: the harmed certificate is on both ways and each finding comes once."""
    world.runs("R80711", world.ship(2), LATER)
    data = world.data("2014-01")
    uncertify(world)
    world.runs("R80711", world.image(), LATER.replace(hour=9))
    found = of_device(world.reader, "R80711", day="2014-05-01")
    assert kinds(found.made_of).count("dataset") == 2
    assert sorted(broken(found)) == [
        ("certificate", f"{data.replace('2014-01', '2014-99')} is not in the dataset"),
        ("dataset", f"{data} is in none of its certificates"),
    ]


def test_what_a_device_ran_on_a_day(world: World) -> None:
    """Both that served on the day of a switch, the old one the day before, and a refusal before anything was seen."""
    new = world.ship(2)
    world.runs("R80711", new, LATER.replace(hour=9))
    both = of_device(world.reader, "R80711", day="2014-05-01")
    assert [one.id for one in both.made_of] == [world.image(1).id, new.id]
    before = of_device(world.reader, "R80711", day="2014-04-30")
    assert [one.id for one in before.made_of] == [world.image(1).id]
    now = of_device(world.reader, "R80711")
    assert [one.id for one in now.made_of] == [new.id]
    assert [fact[:11] for fact in now.subject.facts] == ["served sha2"] * 2
    with pytest.raises(NotFoundError, match=r"Nobody saw R80711 serve anything on 2014-04-01; the first time was 2014"):
        of_device(world.reader, "R80711", day="2014-04-01")


def test_a_device_that_is_asked_itself(world: World) -> None:
    """The digest that was noted, another one, none at all, and a device that does not answer."""
    image = world.image()
    says = {
        Running(reference=image.reference, digests=(image.digest,)): None,
        Running(reference="x@sha256:" + "a" * 64, digests=("sha256:" + "a" * 64,)): State.BROKEN,
        Running(): State.BROKEN,
        Running(unreachable="The device is off."): State.UNPROVEN,
    }
    for live, state in says.items():
        wrong = of_device(world.reader, "R80711", live=live).wrong()
        assert [check.state for _, check in wrong] == ([state] if state else []), live


def test_a_device_nobody_noted_is_found_by_what_it_says(world: World) -> None:
    """A device of before there was a history: its digest leads to the image, also without an edge."""
    live = Running(reference=world.image().reference, digests=(world.image().digest,))
    with pytest.raises(NotFoundError, match=r"Nobody saw R9.*\n.*edgeloop lineage R9 --live"):
        of_device(world.reader, "R9")
    with pytest.raises(NotFoundError, match=r"cannot be asked: The device is off"):
        of_device(world.reader, "R9", live=Running(unreachable="The device is off."))
    assert kinds(of_device(world.reader, "R9", live=live).made_of) == UP
    for name in [one for one in world.memory.objects if one.startswith(f"edges/{world.image().digest[7:]}/")]:
        del world.memory.objects[name]
    assert kinds(of_device(world.reader, "R9", live=live).made_of) == UP
    strange = of_device(world.reader, "R9", live=Running(reference="nginx:1", digests=("sha256:" + "b" * 64,)))
    assert ("image", "no record names it; somebody else put it there") in broken(strange)


def test_a_device_that_serves_nothing_any_more(world: World) -> None:
    """After a first rollout was taken back: no chain, and what was there before is told."""
    world.runs("R80711", None, LATER)
    found = of_device(world.reader, "R80711")
    assert found.made_of == ()
    assert [fact.split()[1] for fact in found.subject.facts] == ["nothing", world.image().digest[:23]]


def test_the_chain_of_a_device_costs_few_reads(long_world: World) -> None:
    """A year of batches, a long history, many other records: at most 40 questions to the storage."""
    other = long_world.ship(2)
    for day in range(1, 29):
        long_world.runs("R80711", other if day % 2 else long_world.image(), datetime(2015, 1, day, tzinfo=UTC))
    for number in range(500):
        long_world.memory.objects[f"records/image/{number:064x}.json"] = b""
    long_world.memory.asked.clear()
    found = of_device(long_world.reader, "R80711")
    assert found.wrong() == ()
    assert kinds(found.made_of).count("batch") == 12
    assert long_world.memory.reads <= MOST_READS, long_world.memory.asked
