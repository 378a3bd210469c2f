"""A trigger that ends the work it follows, but only when its task was really given up.

Airflow 3.3.2 calls ``on_kill`` when a task that waits was cleared, marked or deleted, and also when it hands the
trigger to another triggerer; the task is still deferred then, and the work must live. And it cancels the hook again
with every sync, about once a second, until the hook has ended: so the work has a task of its own.
"""

from __future__ import annotations

import asyncio
from typing import Any

from airflow.triggers.base import BaseTrigger

DEFERRED = "deferred"
STATE_SECONDS = 120.0
_AT_WORK: set[asyncio.Task[None]] = set()
"""The event loop only holds tasks weakly."""


class GivesUp(BaseTrigger):
    """Base of triggers that follow work elsewhere; a subclass says what the work is and how it is ended."""

    @property
    def work(self) -> str:
        """What is followed, as the log names it."""
        raise AssertionError("a subclass says what it follows")

    async def succeeded(self) -> bool:
        """Whether a later try of the same task follows the work by now.

        A clear can be so quick that the next try is parked before anybody tells this trigger: ``deferred`` is then
        that try's state, and what was cleared would never be ended.
        """
        return False

    async def stop(self, reason: str) -> None:
        """End the work; raises what it may, the log says so."""
        raise AssertionError(f"a subclass says how its work is ended: {reason}")

    async def on_kill(self) -> None:
        """End the work if the task really left ``deferred``."""
        ending = asyncio.get_running_loop().create_task(self._give_up(), name=f"give up {self.work}")
        _AT_WORK.add(ending)
        ending.add_done_callback(_AT_WORK.discard)
        await asyncio.shield(ending)

    async def _give_up(self) -> None:
        try:
            state = await self._task_state()
            still = state == DEFERRED and not await self.succeeded()
        except Exception as error:  # noqa: BLE001 - whatever keeps the answer away, an unconfirmed kill ends nothing
            self.log.warning("Nobody says what became of the task, %s goes on: %s", self.work, error)
            return
        if still:
            self.log.info("The task is still deferred: %s goes on under another triggerer", self.work)
            return
        try:
            await self.stop(f"it was given up, it is {state or 'cleared'} now")
        except Exception as error:  # noqa: BLE001 - the log is all that is left to tell
            self.log.warning("%s may still go on: %s", self.work, error)

    async def _task_state(self) -> str | None:
        """The task's state now; None when it has none (cleared) or is gone.

        In a thread: Airflow calls this hook in a task that its synchronous calls cannot be bridged from.
        """
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        one = self.task_instance
        if one is None:
            return DEFERRED
        states = await asyncio.wait_for(
            asyncio.to_thread(
                RuntimeTaskInstance.get_task_states,
                one.dag_id,
                map_index=one.map_index,
                task_ids=[one.task_id],
                run_ids=[one.run_id],
            ),
            STATE_SECONDS,
        )
        known: dict[str, Any] = states.get(one.run_id) or {}
        return next(iter(known.values()), None)
