from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from lab import campaign_arrivals, faults
from lab.campaign_arrival_checks import BLOCK_SENT, certified_once, in_one_batch
from lab.campaign_outside import SeenBatch, SeenCertificate
from lab.campaign_unit import NotHeldError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lab.campaign_outside import Content, Outside
    from lab.campaign_site import Ground
    from lab.campaign_unit import Unit
    from lab.site import Site


@dataclass
class Seen:
    """What somebody saw of a share and a container."""

    lying: dict[str, frozenset[Content]] = field(default_factory=dict)
    claimed: list[SeenBatch] = field(default_factory=list)
    certified: list[SeenCertificate] = field(default_factory=list)

    def on_share(self, prefix: str = "") -> dict[str, frozenset[Content]]:
        """The files."""
        return self.lying

    def batches(self, prefix: str = "") -> list[SeenBatch]:
        """The batches."""
        return self.claimed

    def certificates(self, batches: Iterable[str]) -> list[SeenCertificate]:
        """The certificates."""
        return self.certified

    @property
    def outside(self) -> Outside:
        """As what it stands for."""
        return cast("Outside", self)


def files(*names: str) -> frozenset[Content]:
    """Files of those names."""
    return frozenset((name, f"sha256 of {name}") for name in names)


def batch(batch_id: str, *names: str, group: str = "g") -> SeenBatch:
    """A batch of those files."""
    return SeenBatch(id=batch_id, group=group, files=files(*names))


def certificate(batch_id: str, number: int = 1, *set_aside: str) -> SeenCertificate:
    """A certificate of that batch."""
    return SeenCertificate(id=f"{batch_id}{number}", batch=batch_id, suite="s", files=frozenset(), set_aside=set_aside)


def test_what_lies_there_is_the_newest_batch() -> None:
    """A revision stands for its group; earlier ones may hold less."""
    in_one_batch(Seen(lying={"g": files("a", "b")}, claimed=[batch("1", "a"), batch("2", "a", "b")]).outside, "")


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (Seen(), "no file"),
        (Seen(lying={"g": files("a")}), "not what lies"),
        (Seen(lying={"g": files("a", "b")}, claimed=[batch("1", "a")]), "not what lies"),
        (Seen(lying={"g": files("a")}, claimed=[batch("1", "a"), batch("2", "a", "b")]), "not what lies"),
        (Seen(lying={"g": files("a")}, claimed=[batch("1", "a"), batch("2", group="h")]), "not what lies"),
        (Seen(lying={"g": files("a")}, claimed=[batch("1", "a"), batch("2", "a")]), "in two batches"),
    ],
    ids=["nothing", "unclaimed", "half claimed", "shrunk", "foreign", "twice"],
)
def test_a_file_that_is_lost_or_claimed_twice_is_noticed(seen: Seen, why: str) -> None:
    """Each way to lose or double a file breaks the check."""
    with pytest.raises(NotHeldError, match=why):
        in_one_batch(seen.outside, "")


@pytest.mark.parametrize(
    ("certified", "why"),
    [
        ([], "have no certificate"),
        ([certificate("2"), certificate("2", 2)], "several certificates"),
        ([certificate("1"), certificate("2", 1, "a: gone from the share since the claim")], "set aside"),
        ([certificate("2", 1, "a: changed since the claim; the next intake claims it anew")], "set aside"),
    ],
    ids=["none", "two", "a file lost", "a file that changed, in the batch that stands"],
)
def test_a_batch_certified_twice_or_without_a_file_is_noticed(certified: list[SeenCertificate], why: str) -> None:
    """The batch that stands for its group has one certificate, over all its files."""
    with pytest.raises(NotHeldError, match=why):
        certified_once(Seen(claimed=[batch("1", "a"), batch("2", "a", "b")], certified=certified).outside, "")


def test_a_revision_may_lack_what_was_rewritten_since() -> None:
    """An earlier batch whose file changed before it was read is none of the newest's."""
    certified = [certificate("1", 1, "a: changed since the claim; the next intake claims it anew"), certificate("2")]
    certified_once(Seen(claimed=[batch("1", "a", "b"), batch("2", "a", "b")], certified=certified).outside, "")


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        ('"PUT /stackhub/c/data/b/f.parquet?comp=block&blockid=MDA%3D HTTP/1.1" 201 -', ("/f.parquet", "MDA%3D")),
        ('"PUT /stackhub/c/data/b/f.parquet?blockid=MDA%3D&comp=block HTTP/1.1" 201 -', ("/f.parquet", "MDA%3D")),
        ('"PUT /stackhub/c/data/b/f.parquet?comp=block&blockid=MDA%3D HTTP/1.1" 500 -', None),
        ('"PUT /stackhub/c/data/b/f.parquet?comp=blocklist HTTP/1.1" 201 -', None),
    ],
)
def test_blocks_that_were_taken_are_found_in_the_servers_log(line: str, sent: tuple[str, str] | None) -> None:
    """Only what Azurite answered with 201 counts as there."""
    found = BLOCK_SENT.search(f"10.77.1.1 - - [22/Nov/2026:05:01:20 +0000] {line}")
    assert (sent is None) == (found is None)
    if found and sent:
        assert found["blob"].endswith(sent[0])
        assert found["id"] == sent[1]


def test_small_files_of_a_burst_share_no_instant_of_a_site() -> None:
    """So that nothing of one file is quarantined for another's sake; one cold row of each is."""
    sites = [SimpleNamespace(name=name) for name in ("N", "S", "W")]
    ground = cast("Ground", SimpleNamespace(bulk=SimpleNamespace(spec=SimpleNamespace(sites=sites))))
    drops = campaign_arrivals.small(ground, cast("Unit", SimpleNamespace(subject="0123abcd")), Random(1), 3, 50)
    rows = [line.split(",") for one in drops for line in one.content.decode().splitlines()[1:]]
    assert len({one.name for one in drops}) == 50
    assert {one.name.rpartition("_")[2] for one in drops} == {f"0123abcd-{group}.csv" for group in range(3)}
    assert len({(row[0], row[1]) for row in rows}) == len(rows) == 50 * campaign_arrivals.SMALL_ROWS
    assert sum(row[6] == campaign_arrivals.COLD for row in rows) == 50


@pytest.mark.parametrize("mount_point", [False, True])
def test_a_share_that_goes_comes_back_as_it_was(tmp_path: Path, *, mount_point: bool) -> None:
    """Inside the block there is no file, and no folder unless the mount point stays; after it all is there."""
    root = tmp_path / "share"
    (root / "in").mkdir(parents=True)
    (root / "in" / "a.csv").write_text("x")
    site = cast("Site", SimpleNamespace(share=SimpleNamespace(path=root)))
    with faults.without_share(site, mount_point=mount_point):
        assert root.exists() == mount_point
        assert not (root / "in").exists()
    assert (root / "in" / "a.csv").read_text() == "x"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["share"]
