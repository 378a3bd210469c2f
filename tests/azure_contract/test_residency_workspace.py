"""What a pipeline that is on_premises tells its workspace, and what it does not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.azure_contract.bench import finished, mirror_run
from tests.proven import proven

from edgeloop.errors import ResidencyError

if TYPE_CHECKING:
    from edgeloop_airflow.hooks import Desk


def test_metrics_that_hold_rows_are_told_to_nobody(azure: Any, mlflow: Any, bench: Desk) -> None:
    """What may not become a label of an image may not become a figure in the cloud."""
    run = finished(bench, '{"accuracy":0.9,"worst":[[1.5,2.5,3.5]]}')
    with pytest.raises(ResidencyError, match="worst is a list"):
        mirror_run(finished=run.id)
    assert mlflow.runs == {}


def test_figures_of_parity_are_told_and_no_text_or_count_beside_them(azure: Any, mlflow: Any, bench: Desk) -> None:
    """What every train.py writes passes; the digest that binds it and the counts of single days stay."""
    metrics = proven(b"model", {"accuracy": 0.9, "paired": {"both": 5, "blocks": [[17, 4], [3, 2]]}})
    mirror_run(finished=finished(bench, json.dumps(metrics)).id)
    sent = json.dumps([one["request_body"] for one in azure.log() if one["request_body"]])
    (run,) = mlflow.runs.values()
    assert "parity/largest_difference" in json.dumps(run, default=str)
    assert metrics["parity"]["sha256"] not in sent
    assert "[17, 4]" not in sent


def test_all_that_an_on_premises_pipeline_tells_its_workspace(azure: Any, mlflow: Any, bench: Desk) -> None:
    """Every word that goes to Azure: no file name, no time of a row, no text parameter, no key."""
    run = finished(bench)
    assert bench.snapshot.spec.residency == "on_premises"
    mirror_run(finished=run.id)
    sent = json.dumps([one["request_body"] for one in azure.log() if one["request_body"]])
    assert run.id in sent
    for word in ("R1_2014-01", "parquet", "00:10:03", "words of ours", "PRIVATE KEY", "AccountKey", "sig="):
        assert word not in sent, word
