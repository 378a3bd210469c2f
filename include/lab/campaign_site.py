"""The ground that whole-loop tests and the fault campaign stand on: the sample pipeline made small, and its loop.

The extracts in tests/data hold two days of a month, so a loop over them takes a minute or two where the demo takes ten.
"""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop import catalog, registry
from edgeloop.errors import ConfigurationError
from lab.airflow_site import REPO, AirflowSite, plan_for
from lab.connections import environment
from lab.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from edgeloop.records import ModelVersion
    from lab.site import Site

PIPELINE = "wind_power"
SAMPLE = REPO / "include" / "pipelines" / PIPELINE
EXTRACTS = REPO / "tests" / "data" / PIPELINE
FOLDER = "pipelines"
"""Below the site's state: what its Airflow reads instead of include/pipelines."""

MONTHS = ("2014-11", "2014-12")
"""What a champion is trained on where there is none: later than all that the campaign revises."""

SMALL = (
    ("quiet_seconds: 2", "quiet_seconds: 1", "the historian renames whole files; a second is no guess here"),
    ("window_months: 3", "window_months: 2", "the extracts hold two months before the fall and two after it"),
    ("holdout_days: 14", "minimum_months: 2\n  holdout_days: 1", "each month is two days"),
    ("minimum_gain: 0.0", "minimum_gain: 0.0\n  block_hours: 3", "a hold-out of one day has one block of a day"),
    (
        "retrain_on: drift",
        "retrain_on: drift\n  retrain_on_change: false",
        "tests change parameters to have other models",
    ),
    ("max_iter: 200", "max_iter: 20", "few, so that a second training of the same months can be better"),
    (
        "base: edgeloop/scorer-base",
        "base: edgeloop/scorer-base\n  audit: false",
        "every packaging would ask the internet",
    ),
    ("soak_seconds: 5", "soak_seconds: 1", "nobody learns anything from a longer soak in a test"),
    ('sweep: "*/10 * * * *"', 'sweep: "17 * * * *"', "a test sees the watcher's work, not the sweep's"),
)
"""What the small pipeline.yaml says otherwise: text, text instead, why (kept as a comment in the file)."""

BULK = "wind_bulk"
BULK_DIFFERS = (
    ("name: wind_power", f"name: {BULK}"),
    ("folder: wind_power", f"folder: {BULK}"),
    ("group: '_(\\d{4}-\\d{2})\\.csv$'", "group: '_([0-9a-f]{8}-\\d+)\\.csv$'"),
    ("container: wind-power", "container: wind-bulk"),
    ("quiet_seconds: 2", "quiet_seconds: 1"),
    ('sweep: "*/10 * * * *"', 'sweep: "47 * * * *"'),
)
BULK_SLOW = "\ntransfer:\n  limit_mbit: {mbit:g}   # an upload that is over in a blink cannot be struck\n"
BULK_MBIT = 24.0
BULK_STAGES = ("train", "package", "rollout", "drift", "drift_sweep")
"""Stages that the bulk pipeline's traffic would wake for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A site that is up with its Airflow, the folder its pipelines are in, and the loop on it."""

    site: Site
    airflow: AirflowSite
    pipelines: Path
    loop: Loop
    bulk: Loop
    """That of the second pipeline, whose files come in any number and size and train nothing."""

    @property
    def spec_file(self) -> Path:
        """The pipeline.yaml that the site reads."""
        return self.pipelines / PIPELINE / catalog.SPEC

    def extracts(self, *months: str) -> list[Path]:
        """The extract of every site of these months."""
        return [EXTRACTS / f"{one.name}_{month}.csv" for month in months for one in self.loop.spec.sites]


def small_pipeline(folder: Path) -> Path:
    """Copy the sample pipeline below ``folder``, made small; returns its pipeline.yaml.

    Raises:
        ConfigurationError: The sample no longer holds a text that is replaced here.
    """
    home = folder / PIPELINE
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(SAMPLE, home, ignore=shutil.ignore_patterns("__pycache__"))
    spec = home / catalog.SPEC
    for old, new, why in SMALL:
        edit(spec, old, new, why)
    return spec


def bulk_pipeline(folder: Path) -> Path:
    """Copy the sample below ``folder`` once more, to take files of any group and size; returns its pipeline.yaml."""
    home = folder / BULK
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(SAMPLE, home, ignore=shutil.ignore_patterns("__pycache__"))
    spec = home / catalog.SPEC
    for old, new in BULK_DIFFERS:
        edit(spec, old, new)
    write(spec, spec.read_text(encoding="utf-8") + BULK_SLOW.format(mbit=BULK_MBIT))
    edit(home / catalog.SUITE, '"max_value": 10000\n', '"max_value": 10000000\n')
    return spec


def edit(spec: Path, old: str, new: str, why: str = "") -> None:
    """Replace the one place of ``old`` in a file, with ``why`` as a comment above its line.

    Raises:
        ConfigurationError: It is not there, or more than once.
    """
    text = spec.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise ConfigurationError(
            f"{spec} holds {old!r} {text.count(old)} times, not once.",
            left="the file as it is",
            next="correct SMALL in include/lab/campaign_site.py to what the sample pipeline says now",
        )
    start = text.rindex("\n", 0, text.index(old)) + 1
    indent = re.match(r"[ -]*", text[start:])
    comment = f"{(indent[0] if indent else '').replace('-', ' ')}# {why}\n" if why else ""
    write(spec, text[:start] + comment + text[start:].replace(old, new, 1))


def retune(spec: Path, iterations: int, *, gain: float = 0.0) -> None:
    """Let the next training have ``iterations`` boosting steps: other parameters are another training and model.

    With a ``gain`` of 1 no model is ever better enough, so that it is registered and goes no further.
    """
    text = spec.read_text(encoding="utf-8")
    text = re.sub(r"max_iter: \d+", f"max_iter: {iterations}", text)
    write(spec, re.sub(r"minimum_gain: [\d.]+", f"minimum_gain: {gain}", text))


def write(path: Path, text: str) -> None:
    """Replace a file at once: the dag-processor and every task read it at any moment."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def airflow_for(site: Site, folder: Path, say: Callable[[str], None] | None = None) -> AirflowSite:
    """The site's Airflow with shortened time-outs, reading its pipelines from ``folder``."""
    extra = {"EDGELOOP_PIPELINES": str(folder)}
    return AirflowSite(plan_for(site, fast=True, connections=environment(site), extra=extra), say=say)


@contextmanager
def ground_of(
    airflow: AirflowSite, site: Site, folder: Path, tick: Callable[[str, float], None] | None = None
) -> Iterator[Ground]:
    """The ground of an Airflow that is up."""
    loaded = catalog.load(folder, site.state / "last_valid")
    with airflow.api("admin") as admin, airflow.api("oncall") as oncall:
        loop, bulk = (Loop(site, loaded.find(one).spec, admin, oncall, tick=tick) for one in (PIPELINE, BULK))
        yield Ground(site=site, airflow=airflow, pipelines=folder, loop=loop, bulk=bulk)


def ensure_champion(ground: Ground, months: Iterable[str]) -> ModelVersion:
    """The champion; where there is none yet, the one that these months make, rolled out to every ring."""
    loop = ground.loop
    if (champion := registry.champion(loop.store)) is not None:
        return champion
    for month in months:
        files = ground.extracts(month)
        loop.export(files)
        loop.certificate(month, files)
    model, _ = loop.model()
    image, _ = loop.image(model)
    loop.answer(image, model, "Approve")
    loop.champion(model)
    return model
