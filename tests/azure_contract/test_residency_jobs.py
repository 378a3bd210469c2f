"""What a pipeline that Azure ML trains may not do with its data, found out at run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.azure_contract.test_job_training import KEY, cloud, ti  # noqa: F401 - cloud is a fixture
from tests.edgeloop_airflow.conftest import floor  # noqa: F401 - a fixture

from edgeloop.errors import ConfigurationError, ResidencyError
from edgeloop.records import Dataset
from edgeloop_airflow.azure_ml_training import PrepareComputeOperator

if TYPE_CHECKING:
    from tests.azure_contract.test_job_training import Cloud


def test_a_datastore_that_leads_elsewhere_is_refused(cloud: Cloud) -> None:  # noqa: F811 - the fixture
    """There is one copy of the data, in the pipeline's own account; nothing is submitted to read or write another."""
    cloud.floor.edit("pipeline.yaml", "datastore: edge_data", "datastore: workspaceblobstore")
    task = PrepareComputeOperator(task_id="attach_compute", pipeline="tiny_power", key=KEY)
    for run in (task.execute, cloud.operator().execute):
        with pytest.raises(ConfigurationError, match="leads to edgemlstore/azureml-blobstore"):
            run({"ti": ti(), "dag_run": None})
    assert cloud.azure.log("PUT", "/jobs/") == []


def test_an_on_premises_pipeline_needs_its_permit_again_at_run(cloud: Cloud) -> None:  # noqa: F811 - the fixture
    """Marked on_premises after the batch was claimed: nothing is asked of Azure, unless the permit is there."""
    cloud.parked()
    before = len(cloud.azure.log())
    cloud.desk.store.fix("training_configs", KEY, cloud.desk.store.get(Dataset, cloud.dataset).config)
    cloud.floor.edit("pipeline.yaml", "residency: cloud", "residency: on_premises")
    with pytest.raises(ResidencyError, match=r"\[azure_ml_outputs\]"):
        cloud.operator().execute({"ti": ti(), "dag_run": None})
    assert len(cloud.azure.log()) == before
