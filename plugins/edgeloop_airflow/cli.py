"""`edgeloop`: the questions that somebody asks at a terminal, answered with the connections that Airflow has.

Each verb is a module of its own beside this one that adds its arguments and runs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING

from edgeloop.errors import EdgeloopError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VERBS: tuple[str, ...] = ("cli_lineage", "cli_reconcile", "cli_registry")
"""Modules of this package with ``add(subparsers)``; each sets ``run``, which takes the parsed arguments."""
REFUSED = 2
CONTEXT = "_AIRFLOW_PROCESS_CONTEXT"


def parser() -> argparse.ArgumentParser:
    """The command line with all its verbs."""
    made = argparse.ArgumentParser(prog="edgeloop", description="Ask and mend what Edgeloop has written down.")
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name in VERBS:
        importlib.import_module(f"edgeloop_airflow.{name}").add(verbs)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns 0 if all is well, 1 if what was asked shows a fault, 2 if it could not be answered."""
    # Outside a task Airflow 3.3.2 looks for connections in the environment only, unless told that this is a server:
    # its own `airflow connections get` says the same of itself.
    os.environ.setdefault(CONTEXT, "server")
    asked = parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = asked.run
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return run(asked)
    except EdgeloopError as error:
        sys.stderr.write(f"{error}\n")
    except AirflowNotFoundException as error:
        sys.stderr.write(
            f"Airflow has no such connection: {error}\n"
            "Next: add it (`airflow connections add`, or AIRFLOW_CONN_<ID> in the environment), or run this where "
            "Airflow runs: `docker compose exec scheduler edgeloop ...`.\n"
        )
    return REFUSED


if __name__ == "__main__":
    sys.exit(main())
