"""What happens at the plant while the demo runs: turbines feed their devices, and a broken export turns up."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from edgeloop import registry
from edgeloop.errors import EdgeloopError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from edgeloop.drift.report import Row
    from edgeloop.records import ModelVersion
    from lab.loop import Loop
    from lab.site import Device
    from lab.story import Story

PLAY_SECONDS = 600


class PlantError(EdgeloopError):
    """A player could not feed its device."""


def holdout_accuracy(model: ModelVersion) -> float:
    """The share of hold-out rows within tolerance, as training measured it."""
    return float(json.loads(model.metrics)["accuracy"])


def current(loop: Loop, model: ModelVersion) -> bool:
    """Whether ``model`` is the champion now."""
    champion = registry.champion(loop.store)
    return champion is not None and champion.id == model.id


def broken_file(folder: Path, name: str) -> Path:
    """An export that is no CSV, with the same bytes at every call."""
    path = folder / name
    path.write_bytes(bytes(range(256)) * 8)
    return path


def play(loop: Loop, data: Path, story: Story, months: Sequence[str]) -> None:
    """Feed each device the signals of its turbine for these months, and wait until its log is in blob storage.

    A month that any version has answered is not played again: the hours of a plant do not come back.
    """
    from lab import carrier

    began = time.monotonic()
    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(lambda one: _play(loop, one, data, months), loop.site.devices))
    carrier.carry_once(loop.site)
    names = f"{months[0]} to {months[-1]}" if len(months) > 1 else months[0]
    told = f"{sum(rows)} rows in {time.monotonic() - began:.0f} s" if sum(rows) else "found"
    story.say(f"[bold]plant[/]: {names} on {len(rows)} devices [cyan]({told})[/]")


def accuracy(
    loop: Loop, data: Path, story: Story, *, replaced: ModelVersion, months: Iterable[str], picture: Path
) -> None:
    """Accuracy before and after, counted anew from the devices' logs: a table, and a plot at ``picture``.

    Beside it, what the ``replaced`` model would have done in ``months`` that its successor served.
    """
    from edgeloop.drift import report
    from edgeloop.drift.interval import Bench

    bench = Bench(spec=loop.spec, store=loop.store, blobs=loop.blobs, predictions=loop.predictions)
    rows = report.rows(bench)
    stayed = [had_it_stayed(loop, data, replaced, month) for month in months]
    title = f"{loop.spec.title}: accuracy on the devices"
    report.plot(rows, picture, beside=stayed, title=title, unit="2.5 % of rated power")
    with story.paused():
        story.console.print("\n[bold]Accuracy of what the devices predicted, before and after[/]")
        lines = sorted([*rows, *stayed], key=lambda row: (row.interval, row.version))
        story.console.print(report.table(lines), highlight=False)
        for one in report.comparisons(bench):
            if one.champion is not None:
                story.console.print(
                    f"v{one.version} on its hold-out: {one.accuracy:.3f}, the champion before it: {one.champion:.3f}",
                    highlight=False,
                )


def had_it_stayed(loop: Loop, data: Path, model: ModelVersion, month: str) -> Row:
    """What ``model`` answers to the plant's signals of a month, judged by the same labels; nothing of it was served."""
    import numpy as np
    import onnxruntime as ort

    from edgeloop.drift.report import Row
    from lab import player, proof

    session = ort.InferenceSession(loop.blobs.get(model.blob), providers=["CPUExecutionProvider"])
    errors: list[float] = []
    for place in loop.spec.sites:
        rows = player.read(data / f"{place.name}_{month}.csv", loop.spec.name)
        labels = proof.labels(loop.site, loop.spec, place.name, month)
        answers = np.asarray(session.run(None, {session.get_inputs()[0].name: rows.x})[0]).ravel()
        known = {when.isoformat(): float(y) for when, y in zip(rows.times, answers, strict=True)}
        errors += [abs(y - labels[when]) for when, y in known.items() if when in labels]
    return Row(
        interval=month,
        version=model.version,
        rows=len(errors),
        accuracy=sum(error < loop.spec.model.tolerance for error in errors) / len(errors),
        reference=holdout_accuracy(model),
        mae=sum(errors) / len(errors),
        verdict="had it stayed",
    )


def _play(loop: Loop, device: Device, data: Path, months: Iterable[str]) -> int:
    """One player, in the device's own network namespace; returns the rows that were answered."""
    site = loop.site
    argv = [
        *("nsenter", f"--net=/run/netns/{site.netns(device.name)}"),
        *(sys.executable, "-m", "lab.player", "--site", site.name, "--device", device.name),
        *("--months", ",".join(months), "--once", "--data", str(data)),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PLAY_SECONDS, check=False)
    if done.returncode:
        raise PlantError(
            f"The player of {device.name} ended with {done.returncode}: {done.stderr.strip()[-500:]}",
            left="what was answered is in the device's log",
            next="run the demo again: it goes on where the player stopped",
        )
    return int(json.loads(done.stdout.splitlines()[-1])["rows"])
