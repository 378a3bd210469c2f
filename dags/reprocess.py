"""Reprocess: the one Airflow DAG of on-call, which runs failed or chosen partitions of any pipeline's stage again."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, get_parsing_context

from edgeloop import catalog
from edgeloop.reprocess import STAGES
from edgeloop_airflow.dagkit import FINAL
from edgeloop_airflow.reprocess import ListPartitionsOperator, RerunPartitionsOperator
from edgeloop_airflow.tags import Tag

DAG_ID = "reprocess"
RUNBOOK = """
### Purpose
Runs partitions of a stage again: the failed ones of a range of event time, those that failed on one day, or, by
force, any. `list` says in its log what would run again, with event time, state and last error, and what is not touched;
`rerun` then does exactly that. It is a dry run unless you switch that off. Runs that are cleared go on as what they
were; runs that are started here never send a model to the devices, unless *Promote* is on.

### When it fails
`list`: a field is wrong, or nothing lies in the range; the error says what to type. `rerun`: Airflow's API did not
answer or refused; what was cleared before stays cleared.

### Rerun
`airflow dags trigger reprocess --conf '{"pipeline": "NAME", "stage": "ingest", "from": "2014-11-01", "to":
"2014-11-30", "dry_run": true}'`. Safe at any time: what runs or is done is left alone. Runbooks: rerun-one-batch,
rerun-a-range, rerun-failed-of-a-day in docs/runbooks.
"""

DAY = {"type": ["null", "string"], "format": "date"}


def fields(pipelines: list[str]) -> dict[str, Param]:
    """The form."""
    return {
        "pipeline": Param(pipelines[0], type="string", enum=pipelines, title="Pipeline"),
        "stage": Param(STAGES[0], type="string", enum=list(STAGES), title="Stage"),
        "from": Param(None, **DAY, title="From", description="First day of event time, UTC: when the data happened."),
        "to": Param(None, **DAY, title="To", description="Last day of event time, itself included."),
        "failed_on": Param(
            None, **DAY, title="Failed on", description="The day by the clock (UTC) on which the runs failed."
        ),
        "only_failed": Param(True, type="boolean", title="Only failed", description="Leave alone what never ran."),
        "dry_run": Param(True, type="boolean", title="Dry run", description="Only list what would run again."),
        "force": Param(False, type="boolean", title="Force", description="Do again what is done. Needs a reason."),
        "promote": Param(
            False, type="boolean", title="Promote", description="Models of these runs may go out. Needs a reason."
        ),
        "reason": Param("", type="string", maxLength=500, title="Reason", description="Kept with every run."),
    }


def build(pipelines: list[str]) -> DAG:
    """The DAG; its form knows the pipelines that there are."""
    with DAG(
        dag_id=DAG_ID,
        description="Runs failed or chosen partitions of a stage again",
        schedule=None,
        catchup=False,
        max_active_runs=1,
        auto_register=False,
        doc_md=RUNBOOK,
        tags=[Tag.EDGELOOP.value, Tag.REPROCESS.value],
        params=fields(pipelines),
        default_args={
            "owner": "edgeloop",
            "retries": 3,
            "retry_policy": FINAL,
            "retry_delay": timedelta(seconds=5),
            "execution_timeout": timedelta(minutes=30),
        },
    ) as dag:
        ListPartitionsOperator(task_id="list") >> RerunPartitionsOperator(task_id="rerun", listed="list")
    return dag


if get_parsing_context().dag_id in (None, DAG_ID):
    names = sorted(one.spec.name for one in catalog.load().pipelines)
    # Without a pipeline there is nothing to ask for; a form with an empty choice does not load.
    reprocess = build(names) if names else None
