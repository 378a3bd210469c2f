from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeloop import catalog
from edgeloop.errors import ConfigurationError
from lab import campaign, campaign_site
from lab.campaign import Result
from lab.campaign_kinds import KINDS
from lab.campaign_unit import broken, hold
from lab.campaign_work import WORKS
from lab.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path


def result(kind: str, how: str, *reasons: str, missed: int = 0) -> Result:
    """A round."""
    return Result(kind=kind, work="train", point="then", how=how, broken=reasons, seconds=1.5, missed=missed)


def test_the_small_pipeline_is_the_sample_but_for_what_is_said_to_differ(tmp_path: Path) -> None:
    """The copy validates, keeps script and suite, and gives a reason above every line that it changes."""
    spec = campaign_site.small_pipeline(tmp_path)
    loaded = catalog.load(tmp_path, tmp_path / "last_valid")
    assert loaded.problems == ()
    sample = catalog.load(campaign_site.SAMPLE.parent, tmp_path / "last_valid").find(campaign_site.PIPELINE)
    assert loaded.find(campaign_site.PIPELINE).code_digest == sample.code_digest
    text = spec.read_text(encoding="utf-8")
    for old, new, why in campaign_site.SMALL:
        assert old not in text.replace(new, "")
        before = text.splitlines()[text[: text.index(new)].count("\n") - 1]
        assert before.strip() == f"# {why}"


def test_a_line_that_the_sample_no_longer_holds_is_named(tmp_path: Path) -> None:
    """An edit that finds nothing to replace says what and changes nothing."""
    file = tmp_path / "pipeline.yaml"
    file.write_text("name: x\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="soak_seconds: 5"):
        campaign_site.edit(file, "soak_seconds: 5", "soak_seconds: 1")
    assert file.read_text(encoding="utf-8") == "name: x\n"


def test_other_iterations_are_another_configuration(tmp_path: Path) -> None:
    """`retune` changes the parameters and the gain that is asked for, and nothing else."""
    spec = campaign_site.small_pipeline(tmp_path)
    campaign_site.retune(spec, 77, gain=1.0)
    read, problems = catalog.read(spec.parent)
    assert problems == []
    assert read is not None
    assert (read.spec.training.parameters, read.spec.registry.minimum_gain) == ({"max_iter": 77}, 1.0)


def test_every_kind_has_a_name_of_its_own_and_work_to_strike() -> None:
    """A kind without a fixed work strikes any."""
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert {kind.work for kind in KINDS} == {"", *WORKS}


def test_kinds_are_chosen_by_name() -> None:
    """None named is all of them, in their order; a name that is none starts nothing and tells the others."""
    assert campaign.chosen("") == KINDS
    assert [kind.name for kind in campaign.chosen(" vm_power_cut,vm_link_cut")] == ["vm_link_cut", "vm_power_cut"]
    with pytest.raises(LabError, match="no such kind of fault: power") as caught:
        campaign.chosen("power,vm_link_cut")
    assert "vm_power_cut" in str(caught.value)


def test_the_report_counts_what_held_and_names_what_did_not() -> None:
    """Per kind: tried, held, by itself, after a clear, restored; a broken round with its reasons."""
    rounds = [
        result("a", "by itself"),
        result("a", "after clear", missed=1),
        result("a", "broken", "two containers"),
        result("b", "restored"),
    ]
    told = campaign.report(rounds, seed=7)
    assert (told["seed"], told["number"], told["held"]) == (7, 4, 3)
    assert told["kinds"] == {
        "a": {"tried": 3, "held": 2, "by_itself": 1, "after_clear": 1, "restored": 0, "missed": 1},
        "b": {"tried": 1, "held": 1, "by_itself": 0, "after_clear": 0, "restored": 1, "missed": 0},
    }
    assert told["broken"] == [{"kind": "a", "work": "train", "point": "then", "reasons": ["two containers"]}]


def test_a_check_that_does_not_hold_is_a_sentence_and_stops_no_other() -> None:
    """Every check is asked; those that raise are told in order."""
    asked = []

    def check(name: str, *, good: bool) -> None:
        asked.append(name)
        hold(good, f"{name} is wrong")

    said = broken(
        (lambda: check("one", good=False), lambda: check("two", good=True), lambda: check("three", good=False))
    )
    assert said == ["one is wrong", "three is wrong"]
    assert asked == ["one", "two", "three"]
