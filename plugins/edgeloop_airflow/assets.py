"""The assets of a pipeline: the names under which one stage tells the next that something is ready.

Every one but ``arrivals`` carries partitions; a partition key is one unit of work.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow.sdk import Asset


def dag_id(pipeline: str, stage: str) -> str:
    """The id of a stage's DAG, sorted by pipeline in the UI."""
    return f"{pipeline}_{stage}"


@dataclass(frozen=True, slots=True)
class Assets:
    """The assets of one pipeline."""

    pipeline: str

    def _asset(self, name: str) -> Asset:
        return Asset(name=f"{self.pipeline}_{name}", uri=f"x-edgeloop://{self.pipeline}/{name}", group="edgeloop")

    @property
    def batch(self) -> Asset:
        """A settled, claimed batch; key ``<group>@<batch id, 16 digits>``."""
        return self._asset("batch")

    @property
    def dataset(self) -> Asset:
        """A certified, transferred and verified batch; the batch's key."""
        return self._asset("dataset")

    @property
    def labels(self) -> Asset:
        """An interval of event time whose labels are complete; key is the interval, ``2014-11``."""
        return self._asset("labels")

    @property
    def retrain(self) -> Asset:
        """A request to train again; key ``<reason>-<what asked, 16 digits>``."""
        return self._asset("retrain")

    @property
    def model(self) -> Asset:
        """A registered model that beat the champion; key ``v<version>@<model id, 16 digits>``."""
        return self._asset("model")

    @property
    def ring(self) -> Asset:
        """A ring that may start; key ``<image key>@ring<n>``."""
        return self._asset("ring")
