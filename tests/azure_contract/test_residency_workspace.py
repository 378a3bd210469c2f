"""What a pipeline that is on_premises tells its workspace, and what it does not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.azure_contract.bench import finished, mirror_run

from edgeloop.errors import ResidencyError

if TYPE_CHECKING:
    from edgeloop_airflow.hooks import Desk


def test_metrics_that_hold_rows_are_told_to_nobody(azure: Any, mlflow: Any, bench: Desk) -> None:
    """What may not become a label of an image may not become a figure in the cloud."""
    run = finished(bench, '{"accuracy":0.9,"worst":[[1.5,2.5,3.5]]}')
    with pytest.raises(ResidencyError, match="worst is a list"):
        mirror_run(finished=run.id)
    assert mlflow.runs == {}


def test_all_that_an_on_premises_pipeline_tells_its_workspace(azure: Any, mlflow: Any, bench: Desk) -> None:
    """Every word that goes to Azure: no file name, no time of a row, no text parameter, no key."""
    run = finished(bench)
    assert bench.snapshot.spec.residency == "on_premises"
    mirror_run(finished=run.id)
    sent = json.dumps([one["request_body"] for one in azure.log() if one["request_body"]])
    assert run.id in sent
    for word in ("R1_2014-01", "parquet", "00:10:03", "words of ours", "PRIVATE KEY", "AccountKey", "sig="):
        assert word not in sent, word
