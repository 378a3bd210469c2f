"""`make demo`: the whole loop on this machine, on real parts and real data, ending in a table of proof.

What it does: three months of historian exports train a first model, which reaches three edge devices ring by ring;
the devices predict the months that follow; the winter of 2014 breaks the model; the loop notices, retrains, rolls out
and recovers. A second run finds every result and starts nothing again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from edgeloop import catalog
from edgeloop.errors import EdgeloopError
from lab import plant, proof
from lab.loop import Found, Loop
from lab.story import Row, Story

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeloop.records import Certificate, ModelImage, ModelVersion
    from lab.airflow_site import AirflowSite
    from lab.site import Site

PIPELINE = "wind_power"
FIRST = ("2014-01", "2014-02", "2014-03")
CALM = ("2014-04",)
FALL = ("2014-10", "2014-11", "2014-12")
AFTER = ("2015-01", "2015-02", "2015-03")
BROKEN = "R80790_2014-02.csv"
WIDE = 170
"""Columns of a log file, which would otherwise get 80 and fold the table into ribbons."""
PLOT = Path("build") / "accuracy.png"


def main(argv: list[str] | None = None) -> int:
    """Run the demo; 0 only if every line of proof was checked against the outside part itself."""
    parser = argparse.ArgumentParser(prog="python -m lab.demo", description=__doc__)
    parser.add_argument("--site", default="demo", help="name of the lab site (default: demo)")
    parser.add_argument("verb", nargs="?", choices=("run", "down"), default="run")
    options = parser.parse_args(argv)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    if options.verb == "down":
        return stop(options.site, console)
    began = time.monotonic()
    try:
        with Story(console) as story:
            airflow = run(options.site, story)
    except EdgeloopError as error:
        console.print(f"\n[bold red]The demo stopped.[/]\n{error}", highlight=False)
        return 1
    story.print_table()
    finish(airflow, console, time.monotonic() - began)
    return 0


def run(name: str, story: Story) -> AirflowSite:
    """Bring everything up and drive the loop to its end, adding rows of proof to the story."""
    site, airflow, data = start(name, story)
    spec = catalog.load().find(PIPELINE).spec
    with airflow.api("admin") as admin, airflow.api("oncall") as oncall:
        loop = Loop(site, spec, admin, oncall, tick=story.tick)
        if healed := loop.heal():
            story.say(f"cleared {healed} runs that had failed before")
        first = serve(loop, data, story, FIRST, broken=True)
        watch(loop, data, story, CALM, first)
        watch(loop, data, story, FALL, first)
        second = serve(loop, data, story, (), beyond=first)
        watch(loop, data, story, AFTER, second)
        plant.accuracy(loop, data, story, replaced=first, months=AFTER, picture=PLOT)
    return airflow


def start(name: str, story: Story) -> tuple[Site, AirflowSite, Path]:
    """The data, the lab and Airflow: found when they are up."""
    import lab
    from lab import data
    from lab.airflow_site import AirflowSite, plan_for
    from lab.connections import environment
    from lab.progress import Screen
    from lab.site import cache_root

    folder = story.timed("data", lambda: data.ensure(cache_root(), story.say))
    with story.paused(), Screen(f"lab site {name}", story.console) as screen:
        site = lab.up(name, progress=screen)
    airflow = AirflowSite(plan_for(site, connections=environment(site)), say=story.say)
    story.say("starting Airflow on PostgreSQL")
    began = airflow.start()
    story.say(f"Airflow: {'found' if began.found else f'up in {began.seconds:.0f} s'} at {began.url}")
    return site, airflow, folder


def serve(
    loop: Loop,
    data: Path,
    story: Story,
    months: Iterable[str],
    *,
    beyond: ModelVersion | None = None,
    broken: bool = False,
) -> ModelVersion:
    """From exported months (or a retraining already asked for) to a new model that answers on every device."""
    if months:
        ingest(loop, data, story, months, broken=broken)
    model, how = loop.model(beyond)
    story.add(
        Row(
            stage="train",
            went_in=f"dataset up to {model.window_end[:10]}",
            came_out=f"v{model.version}, hold-out accuracy {plant.holdout_accuracy(model):.3f}",
            ids=model.sha256[:12],
            how=how,
            checked=f"{proof.model(loop.blobs, model)}; {proof.vm_clean(loop.site)}",
        )
    )
    image, how = loop.image(model)
    story.add(
        Row(
            stage="package",
            went_in=f"v{model.version}",
            came_out=image.reference.split("@")[0],
            ids=image.digest[:19],
            how=how,
            checked=proof.image(loop.site, image, model),
        )
    )
    roll_out(loop, story, model, image)
    return model


def roll_out(loop: Loop, story: Story, model: ModelVersion, image: ModelImage) -> None:
    """Approve the canary as on-call, wait for the last ring, and ask each device."""
    by, asked = loop.answer(image, model, "Approve")
    how = loop.champion(model)
    onnx = loop.blobs.get(model.blob)
    if plant.current(loop, model):
        seen = [proof.device(one, loop.spec, image, onnx) for one in loop.site.devices]
    else:
        seen = [proof.served(loop.predictions, loop.spec, model)]
    story.add(
        Row(
            stage="rollout",
            went_in=f"v{model.version}, {len(loop.spec.rollout.rings)} rings, approved by {by or 'an earlier run'}",
            came_out=f"serves on {len(loop.site.devices)} devices",
            ids=image.digest[:19],
            how=Found(seconds=asked.seconds + how.seconds, found=asked.found and how.found),
            checked="; ".join(seen),
        )
    )


def ingest(loop: Loop, data: Path, story: Story, months: Iterable[str], *, broken: bool = False) -> list[Certificate]:
    """Export months (and, once, a file that is no CSV) and wait until each is certified."""
    files = {month: [data / f"{site.name}_{month}.csv" for site in loop.spec.sites] for month in months}
    if broken:
        files["2014-02"].append(plant.broken_file(loop.site.state, BROKEN))
    exported = loop.export(file for some in files.values() for file in some)
    certificates, batches, seconds, found = [], [], 0.0, not exported.written
    for month, some in files.items():
        certificate, batch, how = loop.certificate(month, some)
        certificates.append(certificate)
        batches.append(batch)
        seconds, found = seconds + how.seconds, found and how.found
    how = Found(seconds=seconds, found=found)
    names = f"{min(files)} to {max(files)}" if len(files) > 1 else next(iter(files))
    total = sum(len(some) for some in files.values())
    story.add(
        Row(
            stage="intake",
            went_in=f"{total} files of {names}",
            came_out=f"{len(batches)} batches",
            ids=" ".join(batch.id[:8] for batch in batches),
            how=how,
            checked=proof.share(loop.site, loop.spec, batches),
        )
    )
    aside = sum(len(one.set_aside) for one in certificates)
    story.add(
        Row(
            stage="ingest",
            went_in=f"{len(batches)} batches",
            came_out=f"{sum(one.rows for one in certificates)} rows certified, "
            f"{sum(one.quarantined for one in certificates)} quarantined, {aside} files set aside",
            ids=" ".join(one.id[:8] for one in certificates),
            how=how,
            checked=proof.certified(loop.blobs, certificates),
        )
    )
    return certificates


def watch(loop: Loop, data: Path, story: Story, months: Iterable[str], model: ModelVersion) -> None:
    """Let the plant run for some months, carry up what was predicted, export the labels, and wait for the verdicts."""
    months = tuple(months)
    plant.play(loop, data, story, months)
    ingest(loop, data, story, months)
    for month in months:
        verdict, how = loop.verdict(month, model)
        story.add(
            Row(
                stage="drift",
                went_in=f"{verdict.rows} predictions of {month} and their labels",
                came_out=f"accuracy {verdict.accuracy:.3f} against {verdict.reference:.3f}: {verdict.verdict}",
                ids=verdict.id[:12],
                how=how,
                checked=proof.verdict(loop.site, loop.spec, loop.predictions, verdict, model),
            )
        )


def finish(airflow: AirflowSite, console: Console, seconds: float) -> None:
    """Where to look now."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("Airflow", f"{airflow.plan.url}")
    for user in ("admin", "oncall"):
        table.add_row(f"login {user}", airflow.secrets.passwords[user])
    table.add_row("plot", str(PLOT))
    table.add_row("stop all of it", "make down")
    console.print(table)
    console.print(f"[bold green]Every line was checked against the part itself.[/] {seconds:.0f} s", highlight=False)


def stop(name: str, console: Console) -> int:
    """Stop Airflow and the lab; state stays, so the next demo finds it."""
    import lab
    from lab.airflow_site import AirflowSite, plan_for
    from lab.errors import LabError
    from lab.progress import Screen
    from lab.site import load, state_of

    try:
        AirflowSite(plan_for(load(state_of(name)))).stop()
    except LabError as error:
        console.print(f"{error}", highlight=False)
    with Screen(f"lab site {name}", console) as screen:
        lab.down(name, progress=screen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
