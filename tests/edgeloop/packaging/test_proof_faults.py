"""A proof whose engine is away for a moment, or whose container somebody kills: what is left, and what is told."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.engine_line import EngineLine
from tests.shipyard import FEATURES, ROWS, Shipyard, builder, linear

from edgeloop.containers.engine import Engine
from edgeloop.errors import EdgeloopError, EngineError, ProofFailedError, UnreachableError
from edgeloop.packaging import build, golden, leftovers, proof
from edgeloop.records import sha256_hex

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD, OTHER = linear(1.0, 2.0), linear(9.0, 9.0)
SLEEPS = ["python3", "-c", "import time; time.sleep(600)"]


@pytest.fixture
def engine(shipyard: Shipyard) -> Iterator[Engine]:
    """The builder's engine, on which no proof's container is left."""
    with Engine(builder(shipyard.site)) as one:
        yield one
        for name in one.labels(leftovers.LABEL):
            one.remove(name)


@pytest.fixture
def rows() -> golden.Golden:
    """What ``GOOD`` answers."""
    return golden.make(GOOD, sha256_hex(GOOD), FEATURES, ROWS)


def image(shipyard: Shipyard, engine: Engine, served: bytes, entrypoint: list[str] | None = None) -> str:
    """The id of an image on the engine that says it serves ``GOOD``."""
    return build.put(engine, shipyard.plan_other(engine, GOOD, served, 1, entrypoint)).engine_id


def line_to(shipyard: Shipyard, at: str, how: str = "after", away: float = 0.3) -> EngineLine:
    """A line to the builder's engine."""
    return EngineLine(to=shipyard.site.builder.docker.removeprefix("unix://"), at=at, how=how, away=away)


def asked(engine: Engine) -> str:
    """The name of the proof's container, once its golden rows are asked."""
    until = threading.Event()
    for _ in range(400):
        for name in engine.labels(leftovers.LABEL):
            if engine.client.api.inspect_container(name)["ExecIDs"]:
                return name
        until.wait(0.05)
    raise AssertionError("no proof asked within 20 s")


@pytest.mark.parametrize(
    ("at", "how"),
    [
        ("POST .*/containers/create", "after"),
        ("POST .*/containers/.*/start$", "before"),
        ("POST .*/containers/.*/start$", "after"),
        ("POST .*/exec$", "after"),
        ("POST .*/exec/.*/start$", "after"),
        ("GET .*/exec/.*/json", "before"),
        ("GET .*/stats", "after"),
    ],
)
def test_an_engine_that_is_away_for_a_moment_keeps_no_container(
    shipyard: Shipyard, engine: Engine, rows: golden.Golden, at: str, how: str
) -> None:
    """Whatever was asked when it went: the container goes when it is back, and the error is of what was asked."""
    proven = image(shipyard, engine, GOOD)
    with (
        line_to(shipyard, at, how) as line,
        Engine(line.endpoint) as behind,
        pytest.raises(UnreachableError, match=r"did not answer \((run|read the figures)"),
    ):
        proof.prove(behind, proven, shipyard.pipeline, rows)
    assert line.cut
    assert engine.labels(leftovers.LABEL) == {}


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_proof_that_passed_waits_for_an_engine_that_is_away_for_a_moment(
    shipyard: Shipyard, engine: Engine, rows: golden.Golden, how: str
) -> None:
    """All that was left to do is to remove the container; it is done, and the proof holds."""
    proven = image(shipyard, engine, GOOD)
    with line_to(shipyard, "DELETE .*/containers/", how) as line, Engine(line.endpoint) as behind:
        assert proof.prove(behind, proven, shipyard.pipeline, rows).rows == ROWS
    assert line.cut
    assert engine.labels(leftovers.LABEL) == {}


def test_what_a_proof_found_is_told_though_its_container_cannot_be_removed(
    shipyard: Shipyard, engine: Engine, rows: golden.Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong answers are no question of the engine; what it keeps is named, and gone with the next proof."""
    monkeypatch.setattr(leftovers, "AWAY_SECONDS", 0.1)
    wrong = image(shipyard, engine, OTHER)
    with (
        line_to(shipyard, "DELETE .*/containers/", "before", away=60.0) as line,
        Engine(line.endpoint) as behind,
        pytest.raises(ProofFailedError, match="golden answers other than the model's"),
    ):
        proof.prove(behind, wrong, shipyard.pipeline, rows)
    assert line.cut
    assert len(engine.labels(leftovers.LABEL)) == 1


def test_a_proof_that_passed_and_left_its_container_is_tried_again(
    shipyard: Shipyard, engine: Engine, rows: golden.Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next try removes it; a proof that is noted is never made again."""
    monkeypatch.setattr(leftovers, "AWAY_SECONDS", 0.1)
    proven = image(shipyard, engine, GOOD)
    with (
        line_to(shipyard, "DELETE .*/containers/", "before", away=60.0) as line,
        Engine(line.endpoint) as behind,
        pytest.raises(UnreachableError, match="remove container"),
    ):
        proof.prove(behind, proven, shipyard.pipeline, rows)


def test_several_proofs_at_once_remove_what_another_left(shipyard: Shipyard, engine: Engine) -> None:
    """The engine refuses all but one of them; the container goes, and nobody fails."""
    sleeps = image(shipyard, engine, GOOD, SLEEPS)
    for turn in range(2):
        said = {**leftovers.labels(), leftovers.PROCESS: "1-1"}
        engine.start(sleeps, f"{leftovers.PREFIX}dead-{turn}", labels=said, init=True)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda _: clear(shipyard), range(3)))
        assert engine.labels(leftovers.LABEL) == {}


def clear(shipyard: Shipyard) -> None:
    """As a proof begins."""
    with Engine(builder(shipyard.site)) as one:
        leftovers.clear(one)


def test_a_command_whose_stream_is_cut_off_says_nothing_of_the_image(
    shipyard: Shipyard, engine: Engine, rows: golden.Golden
) -> None:
    """A proxy that closes what was silent for long: the engine is tried again, the image did not fail."""
    sleeps = image(shipyard, engine, GOOD, SLEEPS)
    with (
        line_to(shipyard, "POST .*/exec/.*/start$", "closed") as line,
        Engine(line.endpoint) as behind,
        pytest.raises(UnreachableError, match="cut off while the command ran"),
    ):
        proof.prove(behind, sleeps, shipyard.pipeline, rows)
    assert line.cut
    assert engine.labels(leftovers.LABEL) == {}


def test_a_container_that_somebody_kills_says_nothing_of_the_image(
    shipyard: Shipyard, engine: Engine, rows: golden.Golden
) -> None:
    """A failed proof is final, a kill from outside is tried again."""
    sleeps = image(shipyard, engine, GOOD, SLEEPS)
    with ThreadPoolExecutor(1) as pool, Engine(builder(shipyard.site)) as mine:
        proving = pool.submit(proof.prove, mine, sleeps, shipyard.pipeline, rows)
        engine.client.api.kill(asked(engine))
        with pytest.raises(EngineError, match="killed from outside") as told:
            proving.result()
    assert not isinstance(told.value, ProofFailedError)
    assert engine.labels(leftovers.LABEL) == {}


def test_a_proof_that_is_given_up_leaves_no_container(shipyard: Shipyard, engine: Engine, rows: golden.Golden) -> None:
    """Marked failed, the task's process has seconds to live: its container goes at once."""
    sleeps = image(shipyard, engine, GOOD, SLEEPS)
    with ThreadPoolExecutor(1) as pool, Engine(builder(shipyard.site)) as mine:
        proving = pool.submit(proof.prove, mine, sleeps, shipyard.pipeline, rows)
        asked(engine)
        leftovers.give_up()
        assert engine.labels(leftovers.LABEL) == {}
        with pytest.raises(EdgeloopError):
            proving.result()


def test_an_engine_that_goes_while_it_loads_is_named(shipyard: Shipyard, engine: Engine) -> None:
    """Its progress is read past the SDK's own errors; the message says which engine, and what to type."""
    with (
        line_to(shipyard, "POST .*/images/load", "closed") as line,
        Engine(line.endpoint) as behind,
        pytest.raises(UnreachableError, match=r"(?s)edgeloop_builder.*load an image.*Next: Check that it runs"),
    ):
        build.put(behind, shipyard.plan(engine, linear(3.0, 4.0), 1), force=True)
