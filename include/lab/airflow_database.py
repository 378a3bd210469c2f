"""Whether a site's metadata database is migrated, asked of the database itself: `airflow db migrate` takes 10 s."""

from __future__ import annotations

import json
from contextlib import closing
from importlib.metadata import version
from typing import TYPE_CHECKING

from edgeloop.errors import UnreachableError

if TYPE_CHECKING:
    from pathlib import Path

    from lab.airflow_env import AirflowPlan

FILE = "migrated.json"
CONNECT_S = 5


def migrated(plan: AirflowPlan) -> bool:
    """Whether the database stands at the revision that the last migration by this Airflow version left."""
    try:
        remembered = json.loads(_file(plan).read_text())
    except (FileNotFoundError, ValueError):
        return False
    return bool(remembered == {"airflow": version("apache-airflow-core"), "head": head(plan)})


def remember_migration(plan: AirflowPlan) -> None:
    """Note, after `airflow db migrate`, at which revision the database stands."""
    _file(plan).write_text(json.dumps({"airflow": version("apache-airflow-core"), "head": head(plan)}))


def head(plan: AirflowPlan) -> str | None:
    """The database's revision, None when it was never migrated.

    Raises:
        UnreachableError: The database does not answer.
    """
    import psycopg2

    uri = plan.sync_uri.replace("postgresql+psycopg2://", "postgresql://", 1)
    try:
        opened = psycopg2.connect(uri, connect_timeout=CONNECT_S)
    except psycopg2.OperationalError as error:
        raise UnreachableError(
            f"PostgreSQL of site {plan.name} does not answer: {error}",
            left="No part of Airflow was started.",
            next=f"start the site first: python -m lab up --site {plan.name}",
        ) from error
    with closing(opened) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('alembic_version')")
        if cursor.fetchone() == (None,):
            return None
        cursor.execute("SELECT version_num FROM alembic_version")
        row = cursor.fetchone()
        return str(row[0]) if row else None


def _file(plan: AirflowPlan) -> Path:
    return plan.home / FILE
