"""What must hold of files that arrived, whatever was broken meanwhile: asked of the parts themselves, from outside.

Every file as it lies on the share is in the newest batch of its group and no two batches hold the same; every batch
went through ingest once and has one certificate under its suite; and what its certificate names, and all else that is
stored of it, is byte for byte what an ingest of the same files makes that nothing disturbed.
"""

from __future__ import annotations

import base64
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from edgeloop import catalog
from edgeloop.records import Batch
from edgeloop.share import Folder
from edgeloop.store import Store
from edgeloop.validation import Certification
from lab import campaign_arrivals, campaign_outside
from lab.campaign_site import BULK
from lab.campaign_unit import hold

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.campaign_outside import Content, Outside, SeenBatch, SeenCertificate
    from lab.campaign_site import Ground
    from lab.campaign_unit import Unit

CHANGED = "changed since the claim"
PAPERS = ("records/", "edges/", "keys/", "ledgers/", "configs/")
"""Prefixes of what the store itself keeps; all else that carries a batch's id is made of the batch's files."""
SAME_BYTES = ("data/", "quarantine/", "set_aside/")
"""What holds rows; of other things (docs, say, which tell the time) only the names are compared."""
BLOCK_SENT = re.compile(r'"PUT (?P<blob>\S+?)\?(?=\S*comp=block[& ])\S*?blockid=(?P<id>[^&\s"]+)\S* HTTP/[\d.]+" 201')


def arrived(ground: Ground, unit: Unit) -> tuple[Callable[[], object], ...]:
    """The checks of a unit of arrivals, each to be called."""
    outside = campaign_outside.of_bulk(ground)
    return (
        lambda: in_one_batch(outside, unit.subject),
        lambda: announced_once(ground, outside, unit),
        lambda: certified_once(outside, unit.subject),
        lambda: stored_as_undisturbed(ground, outside, unit.subject),
        lambda: sent_once(ground, outside, unit.subject),
    )


def settled(ground: Ground) -> None:
    """Every file the bulk pipeline ever got is in the newest batch of its group."""
    in_one_batch(campaign_outside.of_bulk(ground), "", some=False)


def in_one_batch(outside: Outside, subject: str, *, some: bool = True) -> None:
    """The newest batch of every group is what lies on the share, and no two batches are of the same files."""
    lying, batches = outside.on_share(subject), outside.batches(subject)
    hold(lying or not some, f"no file of {subject} lies on the share")
    newest = {one.group: one.files for one in batches}
    wrong = sorted(group for group in lying | newest if newest.get(group) != lying.get(group))
    hold(not wrong, f"the newest batches of {wrong} are not what lies on the share")
    twice = [files for files, count in Counter((one.group, one.files) for one in batches).items() if count > 1]
    hold(not twice, f"{len(twice)} sets of files are in two batches: {sorted(group for group, _ in twice)}")


def announced_once(ground: Ground, outside: Outside, unit: Unit) -> None:
    """Every batch has one run of ingest, a successful one, and there is no other."""
    told = Counter(run.partition_key for run in campaign_arrivals.runs(ground, unit) if run.state == "success")
    every = Counter(run.partition_key for run in campaign_arrivals.runs(ground, unit))
    wanted = {one.key for one in outside.batches(unit.subject)}
    hold(
        set(every) == wanted,
        f"batches without a run: {wanted - set(every)}; runs without a batch: {set(every) - wanted}",
    )
    wrong = {key: (told[key], every[key]) for key in wanted if (told[key], every[key]) != (1, 1)}
    hold(not wrong, f"successful and all runs of a batch: {wrong}")


def certified_once(outside: Outside, subject: str) -> None:
    """No batch has two certificates of one suite; one that stands for its group has a certificate, and no file lost."""
    batches = outside.batches(subject)
    certificates = outside.certificates(one.id for one in batches)
    several = [key for key, count in Counter((one.batch, one.suite) for one in certificates).items() if count > 1]
    hold(not several, f"several certificates of one batch and suite: {several}")
    has = {one.batch for one in certificates}
    newest = {one.group: one.id for one in batches}
    bare = sorted(group for group, batch in newest.items() if batch not in has)
    hold(not bare, f"the newest batches of {bare} have no certificate")
    stand = set(newest.values())
    lost = [why for one in certificates for why in one.set_aside if CHANGED not in why or one.batch in stand]
    hold(not lost, f"whole files were set aside: {lost}")


def stored_as_undisturbed(ground: Ground, outside: Outside, subject: str) -> None:
    """What is stored of a batch is what its certificate names and an undisturbed ingest of the same files makes."""
    batches = {one.id: one for one in outside.batches(subject)}
    everything = outside.names()
    certificates = outside.certificates(batches)
    for one in certificates:
        mine = [name for name in everything if one.batch in name and not name.startswith(PAPERS)]
        found = {name: outside.sha256(name) for name in mine if name.startswith(SAME_BYTES)}
        named = dict(one.files)
        data = {name: digest for name, digest in found.items() if name.startswith("data/")}
        hold(data == named, f"certificate {one.id[:16]} names {named}, stored are {data}")
        names, bytes_ = undisturbed(ground, batches[one.batch], one)
        hold(found == bytes_, f"of batch {one.batch[:16]} are stored {found}, undisturbed it is {bytes_}")
        hold(mine == names, f"of batch {one.batch[:16]} are stored {mine}, undisturbed it is {names}")
        waiting = outside.under_way(f"data/{one.batch}/")
        hold(not waiting, f"blocks of {sorted(waiting)} were sent and never made a blob")
    bare = set(batches) - {one.batch for one in certificates}
    left = [name for name in everything if name.startswith(SAME_BYTES) and any(one in name for one in bare)]
    hold(not left, f"blobs that no certificate names: {left}")


def undisturbed(ground: Ground, batch: SeenBatch, certificate: SeenCertificate) -> tuple[list[str], dict[str, str]]:
    """The names of what an ingest of the batch's files stores, and the sha256 of those that hold rows.

    It runs here, on copies of the files as they were dropped and a container of its own, which is removed again.
    """
    account = ground.bulk.account
    blobs = account.container(f"undisturbed-{batch.id[:16]}")
    record = Store(ground.bulk.blobs).get(Batch, batch.id)
    snapshot = catalog.load(ground.pipelines, ground.site.state / "last_valid").find(BULK)
    with tempfile.TemporaryDirectory() as root:
        for path, sha256 in batch.files:
            content = (ground.site.state / campaign_arrivals.KEPT / sha256).read_bytes()
            if any(path in why for why in certificate.set_aside):
                content = b"something else\n"
            (Path(root) / path).write_bytes(content)
        folder = Folder(
            connection="copies", root=Path(root), below="", pattern=snapshot.spec.source.pattern, exclude=()
        )
        outside = campaign_outside.container(ground, blobs.name, Path(root))
        try:
            Certification(record, snapshot, folder, blobs).certify()
            names = [name for name in outside.names() if not name.startswith(PAPERS)]
            return names, {name: outside.sha256(name) for name in names if name.startswith(SAME_BYTES)}
        finally:
            outside.client.delete_container()


def sent_once(ground: Ground, outside: Outside, subject: str) -> None:
    """Of every block that a certified blob is made of, the account said once that it has it: none was sent again."""
    sent: Counter[Content] = Counter()
    for line in (ground.site.state / "logs" / "blob.log").read_text(errors="replace").splitlines():
        if found := BLOCK_SENT.search(line):
            # The SDK tells ids as text, and what travels is their base64.
            sent[unquote(found["blob"]), base64.b64decode(unquote(found["id"])).decode()] += 1
    for one in outside.certificates(batch.id for batch in outside.batches(subject)):
        for name, _ in one.files:
            blob = f"/{outside.client.account_name}/{outside.client.container_name}/{name}"
            wrong = [block for block in outside.blocks(name) if sent[blob, block] != 1]
            hold(not wrong, f"{len(wrong)} of {len(outside.blocks(name))} blocks of {name} were not sent just once")
