"""Reports every invalid pipeline as one import error in the Airflow UI; holds no DAG of its own.

Stage files skip what does not validate and keep its last valid configuration running, so this file alone speaks up.
"""

from __future__ import annotations

from edgeloop import catalog
from edgeloop.errors import ConfigurationError

if problems := catalog.load().problems:
    raise ConfigurationError(
        f"{len(problems)} problem{'s' * (len(problems) > 1)} in the pipelines:\n" + "\n".join(map(str, problems)),
        left="the other pipelines, and these ones as they last were valid",
        next="Correct the lines above; this error goes away by itself within a minute.",
    )
