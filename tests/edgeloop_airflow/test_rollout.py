"""Package and rollout tasks on the real site: what they find, what they leave, what they tell the next."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, DownstreamTasksSkipped
from tests.edgeloop_airflow.yard import Ti, Yard

from edgeloop import registry
from edgeloop.errors import NotFoundError, RolloutFailedError, UnreachableError
from edgeloop.packaging import golden
from edgeloop.records import ModelImage, Rollout
from edgeloop.rollout.exposure import exposures
from edgeloop_airflow.rollout import ANSWER, ANSWERED_BY, ApproveOperator

if TYPE_CHECKING:
    from edgeloop.records import ModelVersion
    from lab.site import Site

EVERY = ("R80711", "R80721", "R80736")


def serving(site: Site, yard: Yard) -> dict[str, str]:
    """The version that each device says it serves, asked from outside."""
    port = yard.desk.snapshot.spec.rollout.scorer_port
    found = {}
    for device in site.devices:
        try:
            with urllib.request.urlopen(f"http://{device.host}:{port}/v2/models/{yard.name}", timeout=10) as answer:
                found[device.name] = json.load(answer)["versions"][0]
        except OSError:
            found[device.name] = ""
    return found


def containers(site: Site, yard: Yard) -> set[tuple[str, str]]:
    """Id and name of the pipeline's containers on the canary."""
    import docker

    client = docker.DockerClient(base_url=site.device("R80711").docker, timeout=30)
    found = client.containers.list(all=True, filters={"label": f"edgeloop.pipeline={yard.name}"})
    client.close()
    return {(one.id, one.name) for one in found}


def corrupt_golden(yard: Yard, model: ModelVersion) -> None:
    """Make the stored answers another model's, so that a healthy scorer answers wrongly."""
    (image,) = yard.desk.store.children(model.id, ModelImage)
    known = golden.Golden.from_json(yard.desk.blobs.get(image.golden))
    wrong = replace(known, answers=tuple(one + 1 for one in known.answers))
    yard.desk.blobs.put(image.golden, wrong.to_json())


def test_a_model_goes_through_every_ring_to_champion(site: Site, yard: Yard) -> None:
    """Ring by ring, approved by name, each minting the next key; at the end it serves everywhere and is champion."""
    model = yard.candidate(1.0)
    key = yard.package(model)
    canary = yard.switched(key)
    assert canary.task("gate") == "approve"
    assert serving(site, yard) == {"R80711": "1", "R80721": "", "R80736": ""}
    canary.answer("Approve", "oncall")
    passed = yard.desk.store.get(Rollout, canary.task("advance"))
    assert (passed.outcome, passed.approved_by, passed.ring) == ("passed", "oncall", 0)
    assert canary.announced == [key.replace("@ring0", "@ring1")]
    rest = yard.switched(canary.announced[0])
    assert rest.task("gate") == "advance"
    with pytest.raises(AirflowSkipException, match="version 1 is champion"):
        rest.task("advance")
    assert rest.announced == []
    assert serving(site, yard) == dict.fromkeys(EVERY, "1")
    champion = registry.champion(yard.desk.store)
    assert champion is not None
    assert champion.id == model.id
    (image,) = yard.desk.store.children(model.id, ModelImage)
    assert exposures(yard.desk.store, image) == {}


def test_every_task_run_again_finds_what_is_done(site: Site, yard: Yard) -> None:
    """A retry of each packaging and rollout task gives the same ids and changes nothing on the device."""
    model = yard.candidate(1.0)
    first, again = yard.run(model.key), yard.run(model.key)
    for name in ("build", "prove", "push"):
        assert first.task(name) == again.task(name)
    assert first.announced == again.announced
    run = yard.switched(first.announced[0])
    run.task("gate")
    before = containers(site, yard)
    run.task("prefetch")
    run.task("switch")
    run.task("gate")
    assert containers(site, yard) == before
    run.answer("Approve", "oncall")
    assert run.task("advance") == run.task("advance")
    assert len(yard.desk.store.all(Rollout)) == 1
    rest = yard.switched(run.announced[0])
    rest.task("gate")
    for _ in range(2):
        with pytest.raises(AirflowSkipException):
            rest.task("advance")
    assert len(yard.desk.store.all(Rollout)) == 2
    with pytest.raises(AirflowSkipException, match="champion already"):
        again.task("push")


def test_a_rerun_pushes_the_image_and_starts_no_rollout_by_itself(yard: Yard) -> None:
    """A packaging that a person started ends at the registry, says so in the record, and goes on with a reason only."""
    model = yard.candidate(1.0)
    by_hand = yard.run(model.key)
    by_hand.kind = "manual"
    by_hand.task("build")
    by_hand.task("prove")
    with pytest.raises(AirflowSkipException, match=r"a rerun starts no rollout by itself.*'promote'"):
        by_hand.task("push")
    assert by_hand.announced == []
    (image,) = yard.desk.store.children(model.id, ModelImage)
    assert (image.origin, bool(image.digest)) == ("rerun", True)
    by_hand.conf["promote"] = "the live run was lost with the database"
    by_hand.task("push")
    assert by_hand.announced == [f"{image.key}@ring0"]


def test_a_proof_counts_for_the_version_that_gave_it(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an upgrade the image is proven anew, and until then it is not pushed."""
    run = yard.run(yard.candidate(1.0).key)
    run.task("build")
    run.task("prove")
    run.task("prove")
    assert len(yard.desk.store.keys("proofs")) == 1
    monkeypatch.setattr("edgeloop.__version__", "99.0")
    with pytest.raises(NotFoundError, match="was never proven in this form"):
        run.task("push")
    run.task("prove")
    run.task("push")
    assert len(yard.desk.store.keys("proofs")) == 2


def test_a_ring_that_answers_wrongly_is_restored_and_its_model_quarantined(site: Site, yard: Yard) -> None:
    """The gate branches to restore; the old version serves again; the run fails with the reason; no ring follows."""
    yard.promote(yard.candidate(1.0))
    bad = yard.candidate(2.0)
    run = yard.switched(yard.package(bad))
    corrupt_golden(yard, bad)
    assert run.task("gate") == "restore"
    record = yard.desk.store.get(Rollout, run.task("restore"))
    assert (record.outcome, record.ring) == ("restored", 0)
    assert "golden answers other than the model's" in record.reason
    assert serving(site, yard) == dict.fromkeys(EVERY, "1")
    assert registry.is_quarantined(yard.desk.store, bad.id)
    assert run.task("restore") == record.id
    with pytest.raises(AirflowFailException, match="golden answers other than the model's"):
        run.task("report")
    with pytest.raises(AirflowFailException, match=r"(?s)was quarantined on .*golden answers.*reason as 'force'"):
        yard.run(run.key).task("prefetch")
    with pytest.raises(AirflowFailException, match="was quarantined"):
        yard.run(run.key).task("switch")
    yard.run(run.key).task("prefetch", force="the golden rows were wrong")
    override = yard.desk.store.ledger("promotions")[-1].body
    assert (override["event"], override["override"]) == ("candidate", "the golden rows were wrong")


def test_a_refused_approval_restores_and_rejects(site: Site, yard: Yard) -> None:
    """The canary serves the old version again; who refused stands in the record and in the ledger."""
    old = yard.candidate(1.0)
    yard.promote(old)
    new = yard.candidate(2.0)
    run = yard.switched(yard.package(new))
    assert run.task("gate") == "approve"
    run.answer("Reject", "oncall")
    registry.quarantine(yard.desk.store, old.id, by="mara", why="drifts")
    record = yard.desk.store.get(Rollout, run.task("restore"))
    said = "approval of ring canary: refused by oncall; R80711 went back to a quarantined version"
    assert record.reason.startswith(said)
    assert serving(site, yard) == dict.fromkeys(EVERY, "1")
    standing = registry.current(yard.desk.store)
    assert new.id in standing.rejected
    forced = yard.run(run.key)
    forced.task("prefetch", force="oncall looked at it again")
    forced.task("switch")
    assert forced.task("gate") == "approve"
    assert serving(site, yard)["R80711"] == "2"


def test_nothing_is_advanced_without_an_approval(yard: Yard) -> None:
    """An approve task that was marked as done by hand is no approval."""
    run = yard.switched(yard.package(yard.candidate(1.0)))
    run.task("gate")
    with pytest.raises(AirflowFailException, match="nobody gave it"):
        run.task("advance")


def test_an_inconclusive_gate_is_tried_again_and_then_restored(
    yard: Yard, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While tries are left it raises; at the last it branches to restore, which rejects and does not quarantine."""
    new = yard.candidate(1.0)
    run = yard.switched(yard.package(new))
    conn = f"AIRFLOW_CONN_EDGELOOP_DEVICE_{EVERY[0]}"
    from lab.connections import environment

    device = json.loads(environment(site)[conn])
    monkeypatch.setenv(conn, json.dumps({**device, "port": 9}))
    monkeypatch.setattr("edgeloop.rollout.ring.Ring.watch.__kwdefaults__", {"ready_seconds": 0.0})
    with pytest.raises(RolloutFailedError, match=r"(?s)inconclusive.*edgeloop_device_r80711"):
        run.task("gate")
    assert run.task("gate", try_number=4) == "restore"
    monkeypatch.setenv(conn, json.dumps(device))
    run.task("restore")
    assert serving(site, yard)["R80711"] == ""
    standing = registry.current(yard.desk.store)
    assert new.id in standing.rejected
    assert new.id not in standing.quarantined


def test_a_gate_of_a_ring_that_was_never_switched_fails_and_restores_nothing(site: Site, yard: Yard) -> None:
    """Prefetch of the second ring failed: the canary passed and serves on, nothing is taken back."""
    model = yard.candidate(1.0)
    canary = yard.switched(yard.package(model))
    canary.task("gate")
    canary.answer("Approve", "oncall")
    canary.task("advance")
    with pytest.raises(AirflowFailException, match="No device of this ring was switched"):
        yard.run(canary.announced[0]).task("gate")
    assert serving(site, yard)["R80711"] == "1"


def test_an_approval_that_broke_down_restores(site: Site, yard: Yard) -> None:
    """The gate asked, the approve task failed: nobody approved, so what served before serves again."""
    yard.promote(yard.candidate(1.0))
    run = yard.switched(yard.package(yard.candidate(2.0)))
    assert run.task("gate") == "approve"
    record = yard.desk.store.get(Rollout, run.task("restore"))
    assert record.reason == "approval of ring canary broke down and gave no answer"
    assert serving(site, yard) == dict.fromkeys(EVERY, "1")


def test_a_gate_that_broke_down_restores(site: Site, yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store went away while the ring was watched: nothing was judged, and what served before serves again."""
    yard.promote(yard.candidate(1.0))
    new = yard.candidate(2.0)
    run = yard.switched(yard.package(new))

    def away(*_: object, **__: object) -> None:
        raise UnreachableError("edgeloop_private does not answer")

    with monkeypatch.context() as broken:
        broken.setattr("edgeloop.rollout.history.saw", away)
        with pytest.raises(UnreachableError):
            run.task("gate")
    record = yard.desk.store.get(Rollout, run.task("restore"))
    assert record.reason == "the gate of ring canary broke down and gave no verdict"
    assert serving(site, yard) == dict.fromkeys(EVERY, "1")
    standing = registry.current(yard.desk.store)
    assert (new.id in standing.rejected, new.id in standing.quarantined) == (True, False)
    assert run.task("restore") == record.id


def test_a_restore_without_a_verdict_skips(yard: Yard) -> None:
    """The gate was skipped or failed: nothing of this ring was switched, and no model is taken out for it."""
    model = yard.candidate(1.0)
    run = yard.run(yard.package(model))
    with pytest.raises(AirflowSkipException, match="no verdict"):
        run.task("restore")
    run.states["gate"] = "failed"
    with pytest.raises(AirflowSkipException, match="no device of this ring"):
        run.task("restore")
    assert registry.current(yard.desk.store).candidate == model.id


def test_a_superseded_candidate_is_not_rolled_out(yard: Yard) -> None:
    """A newer candidate came: the older one's ring is skipped with the reason."""
    key = yard.package(yard.candidate(1.0))
    yard.candidate(2.0)
    with pytest.raises(AirflowSkipException, match="no longer the candidate"):
        yard.run(key).task("prefetch")


@pytest.mark.parametrize(("option", "skipped", "user"), [("Approve", "restore", "oncall"), ("Reject", "advance", None)])
def test_an_answer_and_who_gave_it_are_kept(option: str, skipped: str, user: str | None) -> None:
    """Approve goes on, reject restores; an answer by time-out is nobody's."""
    from datetime import UTC, datetime

    from airflow.sdk import DAG, BaseOperator

    with DAG("asks", schedule=None):
        task = ApproveOperator(task_id="approve", subject="?")
        task >> [BaseOperator(task_id="advance"), BaseOperator(task_id="restore")]
    xcom: dict[tuple[str, str], str] = {}
    ti = Ti(xcom, "approve")
    ti.task, ti.map_index = task, -1  # type: ignore[attr-defined]
    event = {
        "chosen_options": [option],
        "params_input": {},
        "responded_at": datetime.now(UTC),
        "responded_by_user": {"id": "7", "name": user} if user else None,
    }
    with pytest.raises(DownstreamTasksSkipped) as skips:
        task.execute_complete({"ti": ti}, event)  # type: ignore[arg-type,typeddict-item]
    assert [one if isinstance(one, str) else one[0] for one in skips.value.tasks] == [skipped]
    assert xcom["approve", ANSWER] == option
    assert xcom["approve", ANSWERED_BY] == (user or "nobody, in time")


def test_a_candidate_that_was_compared_with_a_former_champion_goes_no_further(site: Site, yard: Yard) -> None:
    """Another was promoted since: nothing is switched, it holds up no training, and a reason brings it back."""
    store = yard.desk.store
    early = yard.candidate(1.0)
    late = yard.candidate(2.0)
    key = yard.package(late)
    registry.promote(store, early.id, by="oncall", why="by hand", evidence="", expected_champion="")

    with pytest.raises(AirflowSkipException, match="compared with no champion, and version 1 is champion by now"):
        yard.run(key).task("prefetch")

    standing = registry.current(store)
    assert (standing.champion, standing.candidate, standing.rejected) == (early.id, "", {late.id})
    assert serving(site, yard) == dict.fromkeys(EVERY, "")
    yard.run(key).task("prefetch", force="compared by hand")
    assert registry.current(store).basis(late.id) == early.id


def test_a_promotion_whose_basis_changed_is_refused(yard: Yard) -> None:
    """Champion changed while the last ring was watched: the error names what serves where and the way on by reason."""
    store = yard.desk.store
    late = yard.candidate(2.0)
    canary = yard.switched(yard.package(late))
    canary.task("gate")
    canary.answer("Approve", "oncall")
    canary.task("advance")
    rest = yard.switched(canary.announced[0])
    rest.task("gate")
    other = yard.candidate(3.0)
    registry.promote(store, other.id, by="oncall", why="by hand", evidence="", expected_champion="")

    with pytest.raises(AirflowFailException, match=r"(?s)version 1 does not become champion.*Left.*R80736.*'force'"):
        rest.task("advance")
    standing = registry.current(store)
    assert (standing.champion, standing.rejected) == (other.id, {late.id})

    again = yard.run(rest.key)
    again.task("prefetch", force="it serves well everywhere")
    again.task("switch")
    again.task("gate")
    with pytest.raises(AirflowSkipException, match="version 1 is champion"):
        again.task("advance")
    override = next(one.body for one in store.ledger("promotions") if one.body.get("override"))
    assert (override["model"], override["override"]) == (late.id, "it serves well everywhere")


def test_a_model_quarantined_while_its_ring_waits_does_not_pass(yard: Yard) -> None:
    """Approved too late: no next ring is minted, and the error names the device that it is on."""
    model = yard.candidate(1.0)
    run = yard.switched(yard.package(model))
    run.task("gate")
    run.answer("Approve", "oncall")
    registry.quarantine(yard.desk.store, model.id, by="oncall", why="smells")
    with pytest.raises(AirflowFailException, match=r"(?s)quarantined on .* by oncall: smells.*R80711"):
        run.task("advance")
    assert run.announced == []
