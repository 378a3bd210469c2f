"""The note that a run carries in Airflow's lists and grid: why it trains, or why not.

The task SDK writes none (3.3.2), so it goes through the connection ``edgeloop_airflow``. It is a courtesy: the same
stands in the task's log and in the record, and nothing fails where it cannot be written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeloop_airflow.pools import CONNECTION
from edgeloop_airflow.rest import AirflowRest, endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

SECONDS = 5.0
TRAINED, LEFT = "Trained because: ", "Not trained: "
"""How a note of ours begins; any other is a person's."""


def leave(context: Context, text: str, say: Callable[[str], None]) -> None:
    """Put a note on this task's run, unless a person wrote one; ``say`` hears of one that could not be put there."""
    ti: Any = context["ti"]
    try:
        with AirflowRest(endpoint(CONNECTION), whole_seconds=SECONDS) as rest:
            there = rest.note(ti.dag_id, ti.run_id)
            if there == text:
                return
            if there and not there.startswith((TRAINED, LEFT)):
                say("The run has a note that somebody wrote; it stays")
                return
            rest.put_note(ti.dag_id, ti.run_id, text)
    except Exception as error:  # noqa: BLE001 - whatever it is, no training fails over its note
        say(f"The run carries no note of this: {getattr(error, 'what', error)}")
