"""Every kind of fault of the campaign, by name."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lab import faults
from lab.campaign_intake import INTAKE_KINDS
from lab.campaign_moments import after_export, anywhere, at_task, while_training
from lab.campaign_strikes import DeviceLinkCut, Outage, WorkerKilled
from lab.campaign_training import TRAINING_KINDS
from lab.campaign_work import OF_THE_LOOP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from lab.campaign_site import Ground
    from lab.campaign_strikes import Kind

BLINK, MOMENTS, HANG = (0.0, 3.0), (2.0, 8.0), (3.0, 15.0)
"""Seconds that something is gone: started again at once, stopped for a while, silent for longer than some time-outs."""


def _airflow(part: str) -> Callable[[Ground], AbstractContextManager[None]]:
    """A part of Airflow killed, all its children with it, and started again."""

    @contextmanager
    def killed(ground: Ground) -> Iterator[None]:
        ground.airflow.kill(part)
        try:
            yield
        finally:
            ground.airflow.restart(part)

    return killed


KINDS: tuple[Kind, ...] = (
    *(WorkerKilled(name=f"worker_killed_in_{work}", work=work) for work in OF_THE_LOOP),
    Outage(name="triggerer_killed", work="train", moment=while_training, outage=_airflow("triggerer"), gone=BLINK),
    Outage(name="scheduler_killed", work="", moment=anywhere, outage=_airflow("scheduler"), gone=BLINK),
    Outage(name="api-server_killed", work="", moment=anywhere, outage=_airflow("api-server"), gone=BLINK),
    Outage(
        name="blob_stopped",
        work="ingest",
        moment=after_export,
        outage=lambda ground: faults.stopped(ground.site, "blob"),
        gone=MOMENTS,
    ),
    Outage(
        name="registry_stopped",
        work="package",
        moment=at_task,
        outage=lambda ground: faults.stopped(ground.site, "registry"),
        gone=MOMENTS,
    ),
    # Connections hang, they are not refused; weighted, for the training is most of it.
    Outage(
        name="vm_link_cut",
        work="train",
        moment=lambda ground, unit, rng: at_task(ground, unit, rng, "attach_compute", "train", "train", "train"),
        outage=lambda ground: faults.cut(ground.site, "vm"),
        gone=HANG,
        word="dark",
    ),
    Outage(
        name="vm_power_cut",
        work="train",
        moment=while_training,
        outage=lambda ground: faults.powered_off(ground.site, "vm"),
        gone=(0.5, 4.0),
        word="off with its boot",
        retrains=True,
    ),
    Outage(
        name="sshd_restarted",
        work="train",
        moment=lambda ground, unit, rng: at_task(ground, unit, rng, "train"),
        outage=lambda ground: faults.without_sshd(ground.site),
        gone=BLINK,
        word="away",
    ),
    DeviceLinkCut(),
    *INTAKE_KINDS,
    *TRAINING_KINDS,
)
"""Every kind; an empty ``work`` strikes any of the loop's. PostgreSQL is Airflow's own affair and stays up."""
