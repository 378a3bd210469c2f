"""An Airflow DAG file that does not load, on purpose: the import error must reach the REST client."""

from __future__ import annotations

message = "lab_broken never loads"
raise ValueError(message)
