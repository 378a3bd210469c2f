"""Run an `airflow` command inside a site: `python -m lab.airflow_cli [--site demo] dags clear ...`.

What the runbooks say to type is typed here behind that prefix: database, keys and connections are the site's own.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from lab.airflow_site import AirflowSite, plan_for
from lab.connections import environment
from lab.errors import LabError
from lab.site import load, state_of

if TYPE_CHECKING:
    from collections.abc import Sequence


def split(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The site's name, and the words for `airflow`."""
    if argv[:1] == ["--site"]:
        return argv[1], list(argv[2:])
    return "demo", list(argv)


def main(argv: Sequence[str], command: str = "airflow") -> int:
    """Run `airflow`, or another command beside it, in the site's environment; its exit status, 1 if no site is up."""
    name, words = split(argv)
    try:
        site = load(state_of(name))
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    airflow = AirflowSite(plan_for(site, connections=environment(site)))
    program = str(airflow.plan.bin / command)
    return os.spawnve(os.P_WAIT, program, [program, *words], airflow.environment())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
