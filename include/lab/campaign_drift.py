"""Work of the drift stage: an interval with few predictions is judged again, because there are more of them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from edgeloop import registry
from edgeloop.drift.certified import evidence
from edgeloop.records import Certificate, DriftVerdict
from lab import proof
from lab.campaign_unit import START_SECONDS, Unit, hold, patiently

if TYPE_CHECKING:
    from random import Random

    from lab.campaign_site import Ground

JUDGED = "2014-02"
"""A month before the champion's, in which nothing was predicted but what is made up here."""
MOST = 20
"""Predictions in a round: below pipeline.yaml's minimum_rows, so that more of them are a question of their own."""


class Drift:
    """A verdict on a month of which another log was carried up; it asks for no retraining."""

    name = "drift"
    tasks = (("judge", 4.0), ("request_retrain", 1.0))

    def begin(self, ground: Ground, rng: Random, serial: str) -> Unit:
        """Make sure of the month's labels, carry up a log, and ask for the verdict."""
        loop = ground.loop
        loop.export(ground.extracts(JUDGED))

        def labelled() -> bool:
            return any(one.group == JUDGED for one in loop.store.all(Certificate))

        patiently(labelled, seconds=2 * START_SECONDS, what=f"the labels of {JUDGED}")
        champion = registry.champion(loop.store)
        assert champion is not None, "the campaign makes sure of a champion"
        site = rng.choice(loop.spec.sites).name
        known = sorted(proof.labels(ground.site, loop.spec, site, JUDGED).items())
        lines = [
            {
                "site": site, "event_time": instant, "model": loop.spec.name, "version": str(champion.version),
                "sha256": champion.sha256, "y": label,
            }
            for instant, label in rng.sample(known, rng.randint(1, MOST))
        ]  # fmt: skip
        text = "".join(json.dumps(one) + "\n" for one in lines)
        loop.predictions.put_new(f"{site}/predictions/{JUDGED}/fault-{serial}.jsonl", text.encode())
        since = time.time()
        run = loop.admin.trigger(loop.dag("drift"), partition_key=JUDGED, run_id=f"fault-{serial}")
        return Unit(work=self.name, dag_id=run.dag_id, key=JUDGED, subject=champion.id, since=since, run_id=run.run_id)


def judged_once(ground: Ground, unit: Unit) -> None:
    """There is one verdict on the logs that there are, and it is what they and the labels say."""
    loop = ground.loop
    prefixes = [f"{one.name}/predictions/{JUDGED}/" for one in loop.spec.sites]
    logs = [item for prefix in prefixes for item in loop.predictions.list(prefix)]
    mark = f"+{evidence(logs)[:16]}"
    found = [one for one in loop.store.all(DriftVerdict) if one.interval == JUDGED and one.watermark.endswith(mark)]
    hold(len(found) == 1, f"{len(found)} verdicts on {len(logs)} logs of {JUDGED}")
    champion = registry.champion(loop.store)
    hold(champion is not None and champion.id == found[0].model == unit.subject, "another model was judged")
    assert champion is not None
    proof.verdict(ground.site, loop.spec, loop.predictions, found[0], champion)
