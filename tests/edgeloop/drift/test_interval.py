from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from edgeloop import registry
from edgeloop.drift.interval import examine, ground_of, known_verdict, settle, unjudged
from edgeloop.drift.retrain import refusal, request_key
from edgeloop.errors import NotFoundError
from edgeloop.records import DriftVerdict

if TYPE_CHECKING:
    from tests.edgeloop.drift.conftest import Plant

    from edgeloop.records import ModelVersion

SITES = ("R80711", "R80721", "R80736")


def _judge(plant: Plant, champion: ModelVersion, month: str = "2014-11", *, force: str = "") -> DriftVerdict:
    ground = ground_of(plant.bench, month)
    return settle(plant.bench, ground, examine(plant.bench, ground), champion, force=force)


def _predict_everywhere(plant: Plant, model: ModelVersion, y: float, month: str = "2014-11") -> None:
    for site in SITES:
        plant.predict(month, model, y, site=site)


def test_a_model_that_predicts_well_is_good(plant: Plant) -> None:
    """600 rows of three sites within tolerance: the verdict names rows, shares and error, and is stored."""
    champion = plant.promote(plant.model(1))
    certificate = plant.certify("2014-11")
    _predict_everywhere(plant, champion, 110.0)

    verdict = _judge(plant, champion)

    assert (verdict.verdict, verdict.rows, verdict.accuracy, verdict.mae) == ("good", 600, 1.0, 10.0)
    assert (verdict.model, verdict.reference) == (champion.id, 0.9)
    assert verdict.per_site == '{"R80711":1.0,"R80721":1.0,"R80736":1.0}'
    ground = ground_of(plant.bench, "2014-11")
    assert ground.certificates == (certificate,)
    assert known_verdict(plant.bench, ground, champion.id) == verdict
    assert plant.bench.store.children(champion.id, DriftVerdict) == [verdict]


def test_a_model_that_is_wrong_has_fallen_and_asks_once(plant: Plant) -> None:
    """The request's key comes from the verdict; once its dataset is fixed it is not asked again."""
    champion = plant.promote(plant.model(1))
    plant.certify("2014-11")
    _predict_everywhere(plant, champion, 300.0)

    verdict = _judge(plant, champion)

    assert verdict.verdict == "fallen"
    assert refusal(plant.bench.store, verdict) == ""
    assert request_key(verdict) == f"drift-{verdict.id[:16]}"
    plant.bench.store.fix("datasets", request_key(verdict), "d" * 64)
    assert "was asked for already; its dataset is dddddddddddddddd" in refusal(plant.bench.store, verdict)


def test_judging_again_gives_the_verdict_that_is_there(plant: Plant) -> None:
    """The same labels and model are one verdict; with force another one, which says so in its identity."""
    champion = plant.promote(plant.model(1))
    plant.certify("2014-11")
    _predict_everywhere(plant, champion, 110.0)

    first = _judge(plant, champion)
    forced = _judge(plant, champion, force="the clock was wrong")

    assert _judge(plant, champion) == first
    assert forced.id != first.id
    assert len(plant.bench.store.all(DriftVerdict)) == 2


def test_a_late_file_gives_another_watermark_and_replaces_the_labels(plant: Plant) -> None:
    """Only the newest certificate of a group counts, and the interval is judged anew."""
    champion = plant.promote(plant.model(1))
    plant.certify("2014-11", label=500.0)
    _predict_everywhere(plant, champion, 110.0)
    assert _judge(plant, champion).verdict == "fallen"

    late = plant.certify("2014-11", label=100.0, claimed="2")

    assert unjudged(plant.bench) == ["2014-11"]
    assert ground_of(plant.bench, "2014-11").certificates == (late,)
    assert _judge(plant, champion).verdict == "good"
    assert unjudged(plant.bench) == []


def test_predictions_carried_up_later_are_judged(plant: Plant) -> None:
    """Too few rows decide nothing for now: when more logs arrive, the interval is due again and gets its verdict."""
    champion = plant.promote(plant.model(1))
    plant.certify("2014-11")
    plant.predict("2014-11", champion, 300.0)
    few = _judge(plant, champion)
    assert few.verdict == "inconclusive"
    assert unjudged(plant.bench) == []

    _predict_everywhere(plant, champion, 300.0)

    assert unjudged(plant.bench) == ["2014-11"]
    verdict = _judge(plant, champion)
    assert (verdict.verdict, verdict.rows) == ("fallen", 600)
    assert verdict.id != few.id


def test_a_damaged_log_is_read_as_far_as_it_goes(plant: Plant) -> None:
    """A torn last line and foreign bytes are counted; the rows around them are judged."""
    champion = plant.promote(plant.model(1))
    plant.certify("2014-11")
    _predict_everywhere(plant, champion, 110.0)
    name = plant.predict("2014-11", champion, 110.0)
    plant.bench.predictions.put(name, b"\xff\x00 rubbish\n" + plant.bench.predictions.get(name)[:-20])

    seen = examine(plant.bench, ground_of(plant.bench, "2014-11"))

    assert seen.malformed == 2
    assert sum(one.rows for one in seen.tallies) == 599


def test_a_replayed_month_counts_once_with_its_last_answers(plant: Plant) -> None:
    """The container's second start answers the same rows again; the first answers are gone."""
    champion = plant.promote(plant.model(1))
    plant.certify("2014-11")
    plant.predict("2014-11", champion, 300.0, start="20261122T100000Z-ffffff")
    plant.predict("2014-11", champion, 110.0, start="20261122T110000Z-000000")

    seen = examine(plant.bench, ground_of(plant.bench, "2014-11"))

    assert [(one.rows, one.right) for one in seen.tallies] == [(200, 200)]
    assert seen.repeated == 200


def test_an_interval_waits_for_every_site(plant: Plant) -> None:
    """The sites without certified rows are named, and the sweep leaves the interval alone."""
    champion = plant.promote(plant.model(1))
    plant.certify("2014-11", SITES[:2])
    _predict_everywhere(plant, champion, 110.0)

    assert ground_of(plant.bench, "2014-11").missing == ("R80736",)
    assert unjudged(plant.bench) == []


def test_an_interval_without_predictions_is_not_due(plant: Plant) -> None:
    """The months a model was trained on were never predicted; nor is anything due before the first champion."""
    model = plant.model(1)
    plant.certify("2014-10")
    plant.certify("2014-11")
    _predict_everywhere(plant, model, 110.0)
    assert unjudged(plant.bench) == []

    plant.promote(model)

    assert unjudged(plant.bench) == ["2014-11"]


def test_the_model_that_predicted_is_judged(plant: Plant) -> None:
    """A champion promoted after the month has no rows in it: its predecessor's fall asks for nothing any more."""
    old = plant.promote(plant.model(1))
    new = plant.promote(plant.model(2))
    plant.certify("2014-11")
    _predict_everywhere(plant, old, 300.0)

    verdict = _judge(plant, new)

    assert (verdict.model, verdict.verdict) == (old.id, "fallen")
    assert refusal(plant.bench.store, verdict) == ("the model that fell in 2014-11, version 1, is champion no more")
    assert unjudged(plant.bench) == []


def test_a_champion_whose_logs_come_late_is_judged_after_its_predecessor(plant: Plant) -> None:
    """Its predecessor had the most rows and got the verdict; that one ends nothing when the champion's rows arrive."""
    old = plant.promote(plant.model(1))
    new = plant.promote(plant.model(2))
    plant.certify("2014-11")
    for site in SITES:
        plant.predict("2014-11", old, 110.0, site=site)
    assert _judge(plant, new).model == old.id
    assert unjudged(plant.bench) == []

    for site in SITES:
        plant.predict("2014-11", new, 300.0, site=site, start="b")

    assert unjudged(plant.bench) == ["2014-11"]
    verdict = _judge(plant, new)
    assert (verdict.model, verdict.verdict) == (new.id, "fallen")
    assert refusal(plant.bench.store, verdict) == ""


def test_an_unregistered_models_rows_are_not_judged(plant: Plant) -> None:
    """What somebody ran by hand on a device is no evidence against the champion, however much of it there is."""
    champion = plant.promote(plant.model(1))
    plant.certify("2014-11")
    stranger = dataclasses.replace(champion, sha256="9" * 64)
    _predict_everywhere(plant, stranger, 300.0)

    verdict = _judge(plant, champion)

    assert (verdict.model, verdict.verdict, verdict.rows) == (champion.id, "inconclusive", 0)


def test_no_retraining_while_a_candidate_is_on_its_way(plant: Plant) -> None:
    """It is asked for when the candidate does not make it: the sweep finds the unheard verdict again."""
    champion, candidate = plant.promote(plant.model(1)), plant.model(2)
    plant.certify("2014-11")
    _predict_everywhere(plant, champion, 300.0)
    registry.nominate(plant.bench.store, candidate, by="train", why="better")
    verdict = _judge(plant, champion)

    assert "version 2 is on its way" in refusal(plant.bench.store, verdict)
    assert unjudged(plant.bench) == []

    registry.reject(plant.bench.store, candidate.id, by="oncall", why="not today")

    assert refusal(plant.bench.store, verdict) == ""
    assert unjudged(plant.bench) == ["2014-11"]


def test_a_candidate_that_goes_no_further_holds_up_no_retraining(plant: Plant) -> None:
    """It was compared with a champion of the past, and no rollout will take it."""
    plant.promote(plant.model(1))
    late, champion = plant.model(2), plant.model(3)
    registry.nominate(plant.bench.store, late, by="train", why="better")
    plant.promote(champion)
    plant.certify("2014-11")
    _predict_everywhere(plant, champion, 300.0)

    assert refusal(plant.bench.store, _judge(plant, champion)) == ""


def test_a_certified_file_that_is_gone_is_an_error(plant: Plant) -> None:
    """Labels that vanished are not passed over in silence."""
    champion = plant.promote(plant.model(1))
    certificate = plant.certify("2014-11")
    _predict_everywhere(plant, champion, 110.0)
    plant.bench.blobs.delete(certificate.files[0].path)

    with pytest.raises(NotFoundError, match=certificate.files[0].path):
        _judge(plant, champion)
