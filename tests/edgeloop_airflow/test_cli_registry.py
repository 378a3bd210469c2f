"""What `edgeloop standing`, `history` and `quarantine` print and write, on a real store behind a real connection."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from edgeloop import registry
from edgeloop.records import ModelImage, ModelVersion, sha256_hex
from edgeloop.registry.promotions import Change, entry_body, opened
from edgeloop.rollout import history as devices
from edgeloop_airflow.cli import main

if TYPE_CHECKING:
    from edgeloop.store import Store
    from edgeloop_airflow.hooks import Desk


@pytest.fixture
def store(sample: Desk) -> Store:
    """The records of the sample pipeline, in a container of this test's own."""
    return sample.store


def model(store: Store, number: int) -> ModelVersion:
    """A registered version; no bytes are needed to speak of one."""
    one = ModelVersion(
        pipeline="wind_power", sha256=sha256_hex(b"%d" % number), size=1, blob="", version=number,
        training_run="r" * 64, metrics="{}",
    )  # fmt: skip
    change = Change(event="registered", by="train", why="registered after training")
    opened(store).append(lambda now: entry_body(change, one.id, now, version=number))
    return store.put(one)


def champion(store: Store, number: int, before: str = "") -> ModelVersion:
    """A version that went through every ring."""
    one = model(store, number)
    registry.nominate(store, one, by="train", why="better", evidence="e" * 64)
    registry.promote(store, one.id, by="oncall", why="passed every ring", evidence="f" * 64, expected_champion=before)
    return one


def image(store: Store, one: ModelVersion) -> ModelImage:
    """Its image, pushed."""
    digest = f"sha256:{one.sha256}"
    return store.put(ModelImage(pipeline="wind_power", model=one.id, base="b", reference=f"r@{digest}", digest=digest))


def edgeloop(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What the command prints."""
    assert main(arguments) == code
    out, err = capsys.readouterr()
    return err if code else out


def test_standing_says_who_is_what_and_since_when(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Champion with who, why and when; the challenger with whose place it may take; what is out of the running."""
    first = champion(store, 1)
    second, third = model(store, 2), model(store, 3)
    registry.quarantine(store, second.id, by="gate", why="wrong answers")
    registry.nominate(store, third, by="train", why="better")

    said = edgeloop(capsys, "standing", "wind_power")

    assert said.splitlines()[0] == "wind_power: 3 versions, 7 entries in the promotion ledger"
    assert f"champion     version 1 ({first.id[:16]})" in said
    assert "by oncall: passed every ring (entry 3, champion)" in said
    assert f"challenger   version 3 ({third.id[:16]})" in said
    assert f"for the place of version 1 ({first.id[:16]})" in said
    assert f"quarantined  version 2 ({second.id[:16]})" in said


def test_standing_on_a_day_names_everybody_who_was_champion(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the first there was none; a day that no champion changed on shows the one from before."""
    one = champion(store, 1)
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    assert "2014-01-31: there was no champion" in edgeloop(capsys, "standing", "wind_power", "--on", "2014-01-31")
    assert f"{today}: champion version 1 ({one.id[:16]})" in edgeloop(capsys, "standing", "wind_power", "--on", today)
    assert "2199-01-01: champion version 1" in edgeloop(capsys, "standing", "wind_power", "--on", "2199-01-01")
    assert "'31.1.2014' is no day" in edgeloop(capsys, "standing", "wind_power", "--on", "31.1.2014", code=2)


def test_history_is_of_one_model_or_of_all(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Newest last, by version or id, with evidence and what was overridden; nothing yet is said so."""
    assert edgeloop(capsys, "history", "wind_power") == "Nothing happened in wind_power yet.\n"
    first = champion(store, 1)
    second = model(store, 2)
    registry.quarantine(store, second.id, by="gate", why="wrong answers")
    registry.nominate(store, second, by="rollout", why="rollout", force="the device was at fault")

    told = edgeloop(capsys, "history", "wind_power", "v2")
    assert [line.split()[2] for line in told.splitlines() if line[:5].strip()] == [
        "registered",
        "quarantined",
        "candidate",
    ]
    assert "overrides a quarantine or rejection: the device was at fault" in told
    assert f"champion then {first.id[:16]}" in told
    assert told == edgeloop(capsys, "history", "wind_power", second.id[:12])
    newest = edgeloop(capsys, "history", "wind_power", "--last", "1")
    assert newest.split()[:1] == ["6"]
    assert len([one for one in edgeloop(capsys, "history", "wind_power").splitlines() if one[:5].strip()]) == 6


@pytest.mark.parametrize(("named", "words"), [("v9", "There is no model 'v9'"), ("zz", "no model 'zz'")])
def test_a_model_that_is_not_there_is_told_with_those_that_are(
    store: Store, capsys: pytest.CaptureFixture[str], named: str, words: str
) -> None:
    """The answer is an error with exit code 2 that names the newest versions."""
    one = model(store, 1)
    said = edgeloop(capsys, "history", "wind_power", named, code=2)
    assert words in said
    assert f"v1@{one.id[:16]}" in said
    assert "There is no pipeline 'wind'" in edgeloop(capsys, "standing", "wind", code=2)


def test_a_quarantine_is_written_down_and_says_what_serves_it(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whom and why; who is champion again; on which devices it is, and what to type to get it off them."""
    first = champion(store, 1)
    back = image(store, first)
    second = champion(store, 2, before=first.id)
    bad = image(store, second)
    now = datetime.now(UTC)
    devices.saw(store, "R80711", image=bad.id, digest=bad.digest, at=now, by="run")
    devices.saw(store, "R80721", image=back.id, digest=back.digest, at=now, by="run")

    said = edgeloop(capsys, "quarantine", "wind_power", "2", "--why", "drifts at once", "--by", "mara")

    assert f"version 2 ({second.id[:16]}) is quarantined." in said
    assert f"version 1 ({first.id[:16]}) is champion again" in said
    assert "It still serves on R80711." in said
    assert f"trigger wind_power_rollout with partition key {back.key}@ring0" in said
    body = store.ledger("promotions")[-1].body
    assert (body["event"], body["by"], body["why"]) == ("quarantined", "mara", "drifts at once")

    assert "reconcile" not in said
    monkeypatch.setattr("edgeloop_airflow.cli_registry.MIRRORED", "blob")
    again = edgeloop(capsys, "quarantine", "wind_power", "2", "--why", "drifts at once")
    assert "Next: `edgeloop reconcile wind_power --mend`" in again
    assert "was quarantined before; nothing is added" in again
    assert len(store.ledger("promotions")) == 7


def test_a_quarantine_needs_a_reason(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty one is refused and nothing is written."""
    model(store, 1)
    assert "needs a reason" in edgeloop(capsys, "quarantine", "wind_power", "1", "--why", " ", code=2)
    assert len(store.ledger("promotions")) == 1


def test_a_quarantine_of_the_only_champion_leaves_none(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """What its devices serve is not replaced by anything; the way on is said."""
    one = image(store, champion(store, 1))
    devices.saw(store, "R80711", image=one.id, digest=one.digest, at=datetime.now(UTC), by="run")
    said = edgeloop(capsys, "quarantine", "wind_power", "1", "--why", "wrong")
    assert "It was champion; there is none now." in said
    assert "no model takes its place" in said
