"""Ask for a training when script, image or parameters changed, when the clock says so, and for those that waited."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSkipException

from edgeloop.errors import ConfigurationError, EngineError, NotFoundError, UnreachableError
from edgeloop.origin import Origin
from edgeloop.share import Right
from edgeloop.share.emission import Emissions
from edgeloop.training import compute, retrain
from edgeloop.training.recipe import Recipe
from edgeloop.training.waiting import Waiting
from edgeloop_airflow import hooks
from edgeloop_airflow.assets import dag_id
from edgeloop_airflow.discreet import discreet
from edgeloop_airflow.emission import fate_of, holder, listens, runs_open
from edgeloop_airflow.origin import send
from edgeloop_airflow.residency import training_vm

if TYPE_CHECKING:
    from airflow.sdk import Context

    from edgeloop.training.retrain import Request
    from edgeloop_airflow.hooks import Desk

LOOKED = "heads/trainer_image.json"
LOOK_EVERY = timedelta(hours=1)
NAME = "retrains"


class MintRetrainOperator(BaseOperator):
    """Mints a partition on its outlets for every training that something but new data and drift asks for.

    Args:
        pipeline: The pipeline's name.

    That is a changed Python file, parameter, trainer image, requirements file, feature, column or domain
    (``code-<digest>``); a tick of ``schedules.retrain`` (``cron-<tick>``); and keys whose runs gave way to later ones
    that then trained nothing (``waiting-<digest>``). Which image the VM has is looked at once an hour. What was asked
    for is written down before it is announced, and announced by the next run if this one dies. Returns the keys;
    skipped with the reason when nothing is asked for, and while the train DAG is paused, when Airflow would drop it.
    """

    def __init__(self, *, pipeline: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline

    @discreet
    def execute(self, context: Context) -> list[str]:
        """Look, write down, and mint; raises ``AirflowSkipException``."""
        desk, now = hooks.desk(self.pipeline), datetime.now(UTC)
        train = dag_id(self.pipeline, "train")
        due = self._undelivered(desk, self._requests(desk, context, train, now), context)
        if not due:
            raise AirflowSkipException("Nothing but new data and drift asks for a training.")
        told = "; ".join(f"{one.key} ({one.why})" for one in due)
        if not listens(context, train):
            raise AirflowSkipException(
                f"A training is asked for and waits: {told}. {train} is paused or not loaded, and Airflow would drop "
                f"what it is told. Unpause it (`airflow dags unpause {train} -y`); the next sweep asks again."
            )
        for one in due:
            desk.store.fix(retrain.REASONS, one.key, one.why)
        self.log.info("Asked for: %s", told)
        # By hand or by cron it looks at what is due now, so the training is a live one.
        send(context, self.outlets, [one.key for one in due], Origin())
        return [one.key for one in due]

    def _requests(self, desk: Desk, context: Context, train: str, now: datetime) -> list[Request]:
        """What is asked for today, whether it was told before or not."""
        data = next(iter(desk.store.objects.list("records/certificate/")), None) is not None
        asks = data and desk.snapshot.spec.training.retrain_on_change
        today = Recipe.of(desk.snapshot, self._image(desk, now) if asks else "")
        found = [retrain.note_recipe(desk.store, today, now=now, asks=asks)]
        # The clock of a new schedule starts here, with data or without.
        ticked = retrain.tick(desk.store, desk.snapshot.spec.schedules.retrain, now)
        found += [ticked if data else None]
        waiting = Waiting(desk.store)
        if waiting.keys() and not runs_open(context, train):
            found.append(retrain.overdue(waiting))
        return [one for one in found if one is not None]

    def _undelivered(self, desk: Desk, requests: list[Request], context: Context) -> list[Request]:
        rights = Emissions(desk.store, NAME)
        me, fate = holder(context), fate_of(context)
        return [one for one in requests if rights.ask(one.key, me, fate) is Right.MINE]

    def _image(self, desk: Desk, now: datetime) -> str:
        """The id of the image that trains, as it was seen within the last hour; "" while nobody could look."""
        name = desk.snapshot.spec.training.image
        try:
            seen = json.loads(desk.blobs.get(LOOKED))
        except NotFoundError:
            seen = {}
        if seen.get("name") != name:
            seen = {"name": name, "id": ""}
        elif now - datetime.fromisoformat(seen["at"]) < LOOK_EVERY:
            return str(seen["id"])
        found = self._look(desk) or seen["id"]
        desk.blobs.put(LOOKED, json.dumps(seen | {"id": found, "at": now.isoformat()}).encode())
        return str(found)

    def _look(self, desk: Desk) -> str:
        """The image's id now; "" if who has it does not answer, which the next hour's look may find otherwise."""
        spec = desk.snapshot.spec
        if spec.training.backend != "vm":
            return ""
        try:
            with compute.connected(training_vm(spec)) as vm:
                return vm.image_id(spec.training.image)
        except (UnreachableError, ConfigurationError, EngineError, AirflowNotFoundException) as error:
            self.log.warning("Whether the trainer image changed is not known this hour: %s", error)
            return ""
