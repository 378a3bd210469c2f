"""Run an `edgeloop` command inside a site: `python -m lab.edgeloop_cli [--site demo] lineage R80711`.

As :mod:`lab.airflow_cli`: the same database, keys, connections and pipelines that the site's Airflow has.
"""

from __future__ import annotations

import sys

from lab import airflow_cli

if __name__ == "__main__":
    sys.exit(airflow_cli.main(sys.argv[1:], "edgeloop"))
