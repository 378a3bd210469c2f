"""What the stage files in dags/ share: which pipelines to build, default arguments, and the ``force`` parameter.

A stage file never raises: one exception in a file that loops over pipelines turns every DAG of that file stale, and
Airflow then stops looking at their running runs (tried on 3.3.2).
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, ExceptionRetryPolicy, Param, RetryAction, RetryRule, get_parsing_context

from edgeloop import catalog
from edgeloop.origin import PROMOTE
from edgeloop_airflow.assets import dag_id
from edgeloop_airflow.tags import Tag, pipeline_tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeloop.pipeline import Pipeline

log = logging.getLogger(__name__)

FINAL = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception="edgeloop.errors.TrainingInterruptedError",
            action=RetryAction.RETRY,
            reason="the next try goes on from the checkpoint",
        ),
        RetryRule(
            exception=[
                "edgeloop.errors.ConfigurationError",
                "edgeloop.errors.LeakError",
                "edgeloop.errors.ProofFailedError",
                "edgeloop.errors.ResidencyError",
                "edgeloop.errors.TrainingFailedError",
                "edgeloop.errors.ValidationBlockedError",
            ],
            action=RetryAction.FAIL,
            reason="the same would happen again",
        ),
    ]
)
"""A wrong setting or a refused batch is told at once instead of after every retry's back-off."""

FORCE = "{{ params.force }}"
"""Templated into every stage operator: a non-empty reason redoes what an earlier run finished."""

PROMOTE_FIELD = Param(
    "",
    type="string",
    title="Promote",
    description="Why the model of this run may go to the devices; empty registers it and leaves it there.",
)


def each(stage: str, build: Callable[[Pipeline], DAG]) -> dict[str, DAG]:
    """The DAGs of a stage, by id; at task start only the DAG that the task belongs to.

    A pipeline whose DAG cannot be built is logged and left out; the other pipelines keep theirs.
    """
    wanted = get_parsing_context().dag_id
    dags: dict[str, DAG] = {}
    for snapshot in catalog.load().pipelines:
        name = dag_id(snapshot.spec.name, stage)
        if wanted not in (None, name):
            continue
        try:
            dags[name] = build(snapshot.spec)
        except Exception:
            log.exception("DAG %s cannot be built; the other pipelines keep theirs", name)
    return dags


def settings(
    spec: Pipeline, stage: str, tag: Tag, *, runbook: str, more_tags: tuple[Tag, ...] = (), promote: bool = False
) -> dict[str, Any]:
    """The arguments every stage's DAG has in common; with ``promote`` its form asks whether a model may go out.

    Retries are on every task: Airflow 3.3.2 marks some tasks failed that resume within seconds of parking.
    """
    return {
        "dag_id": dag_id(spec.name, stage),
        "dag_display_name": f"{spec.name}: {stage.replace('_', ' ')}",
        "description": f"{spec.title}: {stage.replace('_', ' ')}",
        "doc_md": runbook.format(pipeline=spec.name, dag=dag_id(spec.name, stage)),
        "catchup": False,
        "auto_register": False,
        "tags": [Tag.EDGELOOP.value, tag.value, *(one.value for one in more_tags), pipeline_tag(spec.name)],
        "default_args": {
            "owner": spec.owner,
            "retries": 3,
            "retry_policy": FINAL,
            "retry_delay": timedelta(seconds=5),
            "retry_exponential_backoff": True,
            "max_retry_delay": timedelta(minutes=2),
            "execution_timeout": timedelta(minutes=30),
        },
        "params": {
            "force": Param(
                "",
                type="string",
                title="Force",
                description="Why a finished result should be made again; empty uses what is there.",
            )
        }
        | ({PROMOTE: PROMOTE_FIELD} if promote else {}),
    }
